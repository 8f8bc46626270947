"""Columns that grow batch by batch in one piece of memory each, so that no batch must be kept until all are there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retina_jit.delivery.vectors import (
    BOOL,
    BYTES,
    LIST,
    STRUCT,
    TEXT,
    Array,
    Field,
    Vector,
    dtype_of,
    packed,
    unpacked,
)


class _Run:
    """Values of one kind, one after the other."""

    def __init__(self, dtype: np.dtype[np.generic], first: Array | None = None) -> None:
        self._values: Array = np.zeros(0, dtype) if first is None else first.astype(dtype)
        self._count = len(self._values)

    def add(self, more: Array) -> None:
        begin, self._count = self._count, self._count + len(more)
        if self._count > len(self._values):
            # What resize adds it writes to: by an eighth, so that little of it is never used.
            self._values.resize(self._count + self._count // 8, refcheck=False)
        self._values[begin : self._count] = more

    def taken(self) -> Array:
        """The values; the run has none afterwards."""
        values, self._values = self._values, np.zeros(0, self._values.dtype)
        values.resize(self._count, refcheck=False)
        self._count = 0
        return values


class Growing:
    """A column to which vectors are added; what it holds is its own."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._length = 0
        self._valid: _Run | None = None
        self._data: tuple[_Run, ...] = ()
        self._children: tuple[Growing, ...] = tuple(map(Growing, field.children))
        if field.format in (TEXT, BYTES, LIST):
            self._data = (_Run(np.dtype(np.int64), np.zeros(1, np.int64)), *[_Run(np.dtype(np.uint8))] * (field.format != LIST))
        elif field.format != STRUCT:
            self._data = (_Run(dtype_of(field)),)
        self._end = 0

    def add(self, v: Vector) -> None:
        """Take the values of a vector of the same field."""
        code = self._field.format
        if v.valid is not None and self._valid is None:
            self._valid = _Run(np.dtype(bool), np.ones(self._length, bool))
        if self._valid is not None:
            self._valid.add(np.ones(v.length, bool) if v.valid is None else unpacked(v.valid, v.length))
        self._length += v.length
        if code == STRUCT:
            for growing, child in zip(self._children, v.children, strict=True):
                growing.add(child)
        elif code == BOOL:
            self._data[0].add(unpacked(v.data[0], v.length))
        elif code in (TEXT, BYTES, LIST):
            begin, end = int(v.data[0][0]), int(v.data[0][-1])
            self._data[0].add(v.data[0][1:] + (self._end - begin))
            self._end += end - begin
            if code == LIST:
                self._children[0].add(v.children[0].slice(begin, end))
            else:
                self._data[1].add(v.data[1][begin:end])
        else:
            self._data[0].add(v.data[0])

    def taken(self) -> Vector:
        """Return all as one vector; the column is used up."""
        valid = None if self._valid is None else packed(self._valid.taken())
        data = tuple(d.taken() for d in self._data)
        if self._field.format == BOOL:
            data = (packed(data[0]),)
        return Vector(self._field, self._length, valid, data, tuple(c.taken() for c in self._children))


def concat(parts: Sequence[Vector]) -> Vector:
    """Return vectors of the same field as one."""
    if len(parts) == 1:
        return parts[0]
    made = Growing(parts[0].field)
    for p in parts:
        made.add(p)
    return made.taken()
