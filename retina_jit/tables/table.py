"""Tables: rows of a capture, read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from retina_jit.delivery.capsules import ArrowBatch, ArrowRows, schema_capsule
from retina_jit.delivery.growing import concat
from retina_jit.delivery.vectors import STRUCT, Field, Vector, empty, struct
from retina_jit.extras import library
from retina_jit.runtime import Result
from retina_jit.sinks.gather import Batch
from retina_jit.tables import convert, files, show
from retina_jit.tables.plots import Plots

Rows = Callable[[], Iterator[Batch]]
Take = Callable[[Batch], None]
Some = Callable[[Take, int | None], Result]


class Table:
    """Rows of a capture, one per event, in columns.

    Nothing is read before it is asked for. `len`, slices, columns and the picture in a notebook keep the rows (as
    `collect` does); iteration, `batches`, `head` and everything that is called `to_...` leave nothing behind, and hold no
    more than some ten thousand rows at a time where what they make allows it.

    Parameters
    ----------
    fields : sequence of Field
    batches : list of batches, or None
        The rows, if they are there already.
    """

    def __init__(self, fields: Sequence[Field], batches: list[Batch] | None = None, *, stream: Rows | None = None, collect: Some | None = None, label: str = "") -> None:
        self._fields = tuple(fields)
        self._batches = batches
        self._stream, self._collect = stream, collect
        self._label = label
        self.result: Result | None = None
        """What the run that has read the rows says of itself: counters, problems."""

    # --------------------------------------------------------------------------------------------------------- shape

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return [f.name for f in self._fields]

    @property
    def schema(self) -> dict[str, str]:
        """Names and types of the columns."""
        return {f.name: f.readable + (" or null" if f.nullable else "") for f in self._fields}

    def describe(self) -> dict[str, str]:
        """Return what each column means."""
        return {f.name: f.doc for f in self._fields}

    def collect(self) -> Table:
        """Read the rows and keep them. Returns the table itself."""
        self._rows()
        return self

    @property
    def nbytes(self) -> int:
        """Memory of the rows [byte]; reads them."""
        return sum(v.nbytes for batch in self._rows() for v in batch)

    def _rows(self) -> list[Batch]:
        if self._batches is None:
            found: list[Batch] = []
            self._give(found.append)
            self._batches = found
        return self._batches

    def _each(self) -> Iterator[Batch]:
        if self._batches is not None:
            return iter(self._batches)
        assert self._stream is not None
        return self._stream()

    def _give(self, take: Take) -> None:
        """Give all batches, as they are read; what is not collected is not kept."""
        if self._batches is not None:
            for batch in self._batches:
                take(batch)
            return
        assert self._collect is not None
        self.result = self._collect(take, None)

    def _made(self, made: convert.Making) -> Any:
        self._give(made.add)
        return made.made()

    def __len__(self) -> int:
        return sum(len(b[0]) for b in self._rows())

    def __bool__(self) -> bool:
        return len(self) > 0

    # ---------------------------------------------------------------------------------------------------------- rows

    def batches(self) -> Iterator[Table]:
        """Give the rows as tables of some ten thousand rows, as they are read."""
        for batch in self._each():
            yield Table(self._fields, [batch])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._each():
            yield from self._dicts(batch, shown=False)

    def _dicts(self, batch: Batch, *, shown: bool) -> Iterator[dict[str, Any]]:
        names = self.columns
        for values in zip(*(v.to_list(shown=shown) for v in batch), strict=True):
            yield dict(zip(names, values, strict=True))

    def head(self, n: int = 10) -> Table:
        """Return the first rows; of a capture no more is read than that takes."""
        if self._batches is None and self._collect is not None:
            found: list[Batch] = []
            self._collect(found.append, n)
            return Table(self._fields, _cut(found, 0, n))
        return self[:n]

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: str) -> np.ndarray[Any, Any]: ...
    @overload
    def __getitem__(self, key: slice | list[str]) -> Table: ...
    def __getitem__(self, key: Any) -> Any:
        """Return a row by number, rows by a slice, a column by its name, columns by a list of names."""
        if isinstance(key, str):
            return self.vector(key).to_numpy()
        if isinstance(key, list):
            places = [self._place(name) for name in key]
            return Table([self._fields[p] for p in places], [tuple(b[p] for p in places) for b in self._rows()])
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step != 1:
                raise ValueError(f"rows {start}:{stop}:{step}: a table is cut into runs of rows; take every n-th in polars or pandas")
            return Table(self._fields, _cut(self._rows(), start, stop))
        n = range(len(self))[key]
        return next(iter(Table(self._fields, _cut(self._rows(), n, n + 1))))

    def _place(self, name: str) -> int:
        if name not in self.columns:
            raise KeyError(f"no column {name!r}; there are: {', '.join(self.columns)}")
        return self.columns.index(name)

    def vector(self, name: str) -> Vector:
        """Return a column in Arrow's layout."""
        place = self._place(name)
        parts = [b[place] for b in self._rows()]
        return concat(parts) if parts else empty(self._fields[place])

    # ---------------------------------------------------------------------------------------------- other libraries

    def __arrow_c_schema__(self) -> Any:
        return schema_capsule(Field("", STRUCT, False, self._fields))

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Give the rows to a library that speaks Arrow; what is not collected is read while it asks."""
        return ArrowRows(self._fields, (struct("", b) for b in self._each())).__arrow_c_stream__()

    def to_arrow(self) -> Any:
        """Return a pyarrow.Table (extra `[arrow]`)."""
        pyarrow = library("pyarrow", "to_arrow", "arrow")
        found: list[Any] = []
        self._give(lambda batch: found.append(pyarrow.record_batch(ArrowBatch(struct("", batch)))))
        return pyarrow.Table.from_batches(found, pyarrow.schema(self))

    def to_polars(self) -> Any:
        """Return a polars.DataFrame (extra `[polars]`)."""
        return self._made(convert.Polars(self._fields))

    def to_pandas(self) -> Any:
        """Return a pandas.DataFrame (extra `[pandas]`).

        Numbers and truth values that may be absent have pandas' nullable types, so that they stay what they are.
        """
        return self._made(convert.Pandas(self._fields))

    def to_numpy(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return an array per column: times are datetime64[ns], durations timedelta64[ns], text and lists objects.

        What is absent is NaT, None, or masked (numbers and truth values).
        """
        found: dict[str, np.ndarray[Any, Any]] = self._made(convert.Arrays(self._fields))
        return found

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dict per row, times and durations in nanoseconds, None for what is absent."""
        return list(self)

    # --------------------------------------------------------------------------------------------------------- files

    def to_parquet(self, path: str | os.PathLike[str]) -> int:
        """Write a Parquet file (extra `[arrow]`), batch by batch. Returns how many rows."""
        return files.to_parquet(path, self._fields, self._each())

    def to_csv(self, path: str | os.PathLike[str]) -> int:
        """Write comma-separated values (RFC 4180) with a header, batch by batch: durations in seconds, times in ns since
        1970, bytes in hexadecimal, lists as JSON, nothing for what is absent. Returns how many rows.
        """
        return files.to_csv(path, self._fields, self._each())

    def to_jsonl(self, path: str | os.PathLike[str]) -> int:
        """Write a JSON object per row, batch by batch; values as in `to_csv`. Returns how many rows."""
        return files.to_jsonl(path, self._fields, self._each())

    # ------------------------------------------------------------------------------------------------------- display

    @property
    def plot(self) -> Plots:
        """Pictures: `table.plot.traffic()`, `.talkers()`, `.cdf()`, `.sequence()`; each returns matplotlib's Axes (extra `[plot]`)."""
        return Plots(self)

    def _repr_html_(self) -> str:
        return show.html(self._fields, list(self[: show.ROWS]._dicts_shown()), len(self), self._label)

    def _dicts_shown(self) -> Iterator[dict[str, Any]]:
        for batch in self._each():
            yield from self._dicts(batch, shown=True)

    def __repr__(self) -> str:
        if self._batches is None:
            return f"<Table of {self._label}: {len(self._fields)} columns, not read yet; .collect(), .head(), .to_polars() read it>"
        return show.text(self._fields, list(self[: show.ROWS]._dicts_shown()), len(self))


def _cut(batches: Sequence[Batch], start: int, stop: int) -> list[Batch]:
    found: list[Batch] = []
    at = 0
    for batch in batches:
        n = len(batch[0])
        first, last = max(start - at, 0), min(stop - at, n)
        if first < last:
            found.append(batch if last - first == n else tuple(v.slice(first, last) for v in batch))
        at += n
    return found
