"""Columns in the layout that polars keeps: of what is handed over nothing is converted, nothing is left over."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from retina_jit import objects
from retina_jit.delivery.vectors import BYTES, TEXT, Array, Field, Vector
from retina_jit.delivery.view_kernels import KNOWN_BITS

VIEWS = "retina_jit.delivery.view_kernels:views_of"
BYTES_VIEW, TEXT_VIEW = "vz", "vu"
_entry = cache(objects.function)
_FORMATS = {TEXT: TEXT_VIEW, BYTES: BYTES_VIEW}


def with_views(v: Vector) -> Vector:
    """Return a vector whose texts and bytes, also those within lists and structs, are views.

    Of a batch only: a view says in 31 bits where its bytes begin.
    """
    field = _viewed(v.field)
    if v.field.format not in _FORMATS:
        return replace(v, field=field, children=tuple(map(with_views, v.children)))
    offsets, data = (np.ascontiguousarray(d) for d in v.data)
    views, kept, known = np.empty((v.length, 2), np.int64), np.empty(len(data), np.uint8), np.zeros(1 << KNOWN_BITS, np.int64)
    used = _entry(VIEWS)(_at(offsets), v.length, _at(data), _at(views), _at(kept), _at(known))
    # The last buffer of a column of views says how long those are that its views point to.
    return replace(v, field=field, data=(views, kept[:used].copy(), np.array([used])) if used else (views, np.zeros(0, np.int64)))


def _viewed(field: Field) -> Field:
    return replace(field, format=_FORMATS.get(field.format, field.format), children=tuple(map(_viewed, field.children)))


def _at(array: Array) -> int:
    return array.ctypes.data
