"""Rows as what other libraries are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from retina_jit.delivery.capsules import ArrowBatch
from retina_jit.delivery.vectors import (
    BOOL,
    DURATION,
    NUMBERS,
    TEXT,
    TIME,
    Field,
    Vector,
    concat,
    empty,
    struct,
)
from retina_jit.errors import MissingExtraError
from retina_jit.extras import library
from retina_jit.sinks.gather import Batch


def joined(fields: Sequence[Field], batches: list[Batch]) -> Iterator[tuple[Field, Vector]]:
    """Give the columns one after the other; a column's part of a batch is let go when it was given."""
    parts = [list(b) for b in batches]
    batches.clear()
    for n, field in enumerate(fields):
        listed = [p[n] for p in parts]
        made = concat(listed) if listed else empty(field)
        del listed
        for p in parts:
            p[n] = None  # type: ignore[call-overload]
        yield field, made


def to_pandas(fields: Sequence[Field], batches: list[Batch]) -> Any:
    """Return a pandas.DataFrame."""
    pandas = library("pandas", "to_pandas", "pandas")
    text = "str" if int(pandas.__version__.partition(".")[0]) >= 3 else "string"
    made = {}
    for field, v in joined(fields, batches):
        values = _texts(v) if field.format == TEXT else v.to_numpy()
        if field.format == TIME:
            made[field.name] = pandas.Series(values).dt.tz_localize("UTC")
        elif field.format == TEXT:
            made[field.name] = pandas.Series(values, dtype=text)
        elif field.nullable and (field.format == BOOL or field.format in NUMBERS.values()):
            array = pandas.arrays.BooleanArray if field.format == BOOL else pandas.arrays.IntegerArray
            made[field.name] = pandas.Series(array(np.ma.getdata(values).copy(), np.ma.getmaskarray(values).copy()))
        else:
            assert field.format != DURATION or values.dtype.kind == "m"
            made[field.name] = pandas.Series(values, copy=True)
        del values, v
    # Each column has been copied already; nobody else has it.
    return pandas.DataFrame(made, copy=False)


def _texts(v: Vector) -> Any:
    """The texts as pyarrow has them, which pandas takes as they are; without it as objects."""
    try:
        pyarrow = library("pyarrow", "texts of pandas", "arrow")
    except MissingExtraError:
        return v.to_numpy()
    return pyarrow.record_batch(ArrowBatch(struct("", (v,)))).column(0)
