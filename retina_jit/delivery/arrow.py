"""Columns as Arrow arrays; needs pyarrow (`pip install 'retina-jit[arrow]'`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from retina_jit.datatypes.column import Column, columns
from retina_jit.delivery.columns import Columns, Lists, Texts
from retina_jit.errors import ConfigError


def pyarrow() -> Any:
    """Return the module.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as fault:
        raise ConfigError("Arrow and Parquet need pyarrow, which is not installed: pip install 'retina-jit[arrow]'") from fault
    return pa


def to_arrow(table: Columns) -> Any:
    """Return a struct array with the columns that JSON shows.

    Capture times are timestamps [ns, UTC], durations are exact [ns]; what only its own code can write is JSON text.
    """
    shown = [c for c in columns(table.type) if c.shown]
    arrays = [_array(table, c) for c in shown]
    return pyarrow().StructArray.from_arrays(arrays, [c.name for c in shown])


def _array(table: Columns, c: Column) -> Any:
    pa = pyarrow()
    null = table.null(c.name)
    if c.kind == "object":
        inner = to_arrow(table[c.name])
        fields = [inner.field(n) for n in range(inner.type.num_fields)]
        return pa.StructArray.from_arrays(fields, fields=list(inner.type), mask=None if null is None else pa.array(null))
    if c.kind == "seconds":
        return pa.array(table.nanoseconds(c.name), pa.duration("ns"), mask=null)
    values = table[c.name]
    if isinstance(values, Texts):
        kind = pa.large_binary() if c.kind == "bytes" else pa.large_string()
        return _texts(values, kind, null)
    if isinstance(values, Lists):
        return _list(values, null)
    is_time = c.kind == "number" and c.unit == "ns" and c.place.code == "i8"
    return pa.array(values, pa.timestamp("ns", tz="UTC") if is_time else None, mask=null)


def _validity(null: Any) -> Any:
    return None if null is None else pyarrow().py_buffer(np.packbits(~null, bitorder="little").tobytes())


def _texts(values: Texts, kind: Any, null: Any) -> Any:
    pa = pyarrow()
    return pa.Array.from_buffers(kind, len(values), [_validity(null), pa.py_buffer(values.offsets), pa.py_buffer(values.data)])


def _list(values: Lists, null: Any) -> Any:
    pa = pyarrow()
    if isinstance(values.items, Columns):
        items = to_arrow(values.items)
    elif isinstance(values.items, Texts):
        items = _texts(values.items, pa.large_string(), None)
    else:
        items = pa.array(values.items)
    offsets = pa.py_buffer(np.ascontiguousarray(values.offsets, np.int64))
    return pa.Array.from_buffers(pa.large_list(items.type), len(values), [_validity(null), offsets], children=[items])
