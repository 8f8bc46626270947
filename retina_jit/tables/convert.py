"""Rows as what other libraries are made of: each takes batch after batch, and keeps of it only what it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from retina_jit.delivery.capsules import ArrowBatch
from retina_jit.delivery.growing import Growing
from retina_jit.delivery.vectors import (
    BOOL,
    BYTES,
    LIST,
    NUMBERS,
    STRUCT,
    TEXT,
    TIME,
    Array,
    Field,
    Vector,
    object_array,
    struct,
)
from retina_jit.delivery.views import with_views
from retina_jit.errors import MissingExtraError
from retina_jit.extras import library
from retina_jit.sinks.gather import Batch


class Making(Protocol):
    """Something that is made of batches."""

    def add(self, batch: Batch) -> None:
        """Take rows."""

    def made(self) -> Any:
        """Return what was made of all rows."""


class Objects:
    """A column of Python's objects: texts that come again within lists are one object."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._known: dict[bytes, str] = {}

    def add(self, v: Vector) -> None:
        """Take the values of a vector."""
        self._values += v.to_list(known=self._known if v.field.format == LIST else None)

    def taken(self) -> Array:
        """Return all of them; the column is used up."""
        values, self._values = self._values, []
        return object_array(values)


class Column:
    """A column of arrays, of whatever kind."""

    def __init__(self, field: Field) -> None:
        self._kept = Objects() if field.format in (TEXT, BYTES, LIST, STRUCT) else Growing(field)

    def add(self, v: Vector) -> None:
        """Take the values of a vector."""
        self._kept.add(v)

    def taken(self) -> Array:
        """Return all of them, as `Vector.to_numpy`; the column is used up."""
        values = self._kept.taken()
        return values.to_numpy() if isinstance(values, Vector) else values


class Arrays:
    """A dict of NumPy's arrays."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._columns = {f.name: Column(f) for f in fields}

    def add(self, batch: Batch) -> None:  # noqa: D102 - see Making
        for column, v in zip(self._columns.values(), batch, strict=True):
            column.add(v)

    def made(self) -> dict[str, Array]:  # noqa: D102
        return {name: self._columns.pop(name).taken() for name in list(self._columns)}


class Polars:
    """A DataFrame of polars.

    It gets the layout that it keeps. What it has to convert it would have twice: all of a batch that was given is kept as long
    as any of it is used.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self._polars = library("polars", "to_polars", "polars")
        self._fields = fields
        self._frames: list[Any] = []

    def add(self, batch: Batch) -> None:  # noqa: D102 - see Making
        self._frames.append(self._polars.DataFrame(ArrowBatch(struct("", [with_views(v) for v in batch]))))

    def made(self) -> Any:  # noqa: D102
        if not self._frames:
            self.add(tuple(Growing(f).taken() for f in self._fields))
        return self._polars.concat(self._frames, rechunk=False)


class Pandas:
    """A DataFrame of pandas; texts stay in Arrow's layout where there is pyarrow."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self._pandas = library("pandas", "to_pandas", "pandas")
        self._fields = fields
        try:
            self._pyarrow = library("pyarrow", "texts of pandas", "arrow")
        except MissingExtraError:
            self._pyarrow = None
        self._texts: dict[str, list[Any]] = {f.name: [] for f in fields if f.format == TEXT and self._pyarrow}
        self._columns = {f.name: Column(f) for f in fields if f.name not in self._texts}

    def add(self, batch: Batch) -> None:  # noqa: D102 - see Making
        for v in batch:
            if v.field.name in self._texts:
                self._texts[v.field.name].append(self._pyarrow.array(ArrowBatch(v)))
            else:
                self._columns[v.field.name].add(v)

    def made(self) -> Any:  # noqa: D102
        made = {}
        for field in self._fields:
            if field.name in self._texts:
                chunks = self._pyarrow.chunked_array(self._texts.pop(field.name), self._pyarrow.large_string())
                made[field.name] = self._pandas.Series(chunks, dtype=self._text())
            else:
                made[field.name] = self._series(field, self._columns.pop(field.name).taken())
        # Nobody else has these columns.
        return self._pandas.DataFrame(made, copy=False)

    def _text(self) -> str:
        return "str" if int(self._pandas.__version__.partition(".")[0]) >= 3 else "string"

    def _series(self, field: Field, values: Array) -> Any:
        if field.format == TIME:
            return self._pandas.Series(values, copy=False).dt.tz_localize("UTC")
        if field.format == TEXT:
            return self._pandas.Series(values, dtype=self._text())
        if field.nullable and (field.format == BOOL or field.format in NUMBERS.values()):
            array = self._pandas.arrays.BooleanArray if field.format == BOOL else self._pandas.arrays.IntegerArray
            return self._pandas.Series(array(np.ma.getdata(values), np.ma.getmaskarray(values)), copy=False)
        return self._pandas.Series(values, copy=False)
