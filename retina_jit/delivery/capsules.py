"""The Arrow C data interface, written by hand: polars, duckdb, pandas, pyarrow take our columns over as they are.

Structures and rules are those of https://arrow.apache.org/docs/format/CDataInterface.html. A structure that was given away
keeps what it points to alive in `_kept` until its consumer calls `release`; its children may be released apart from it.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
from collections.abc import Callable, Iterator, Sequence
from ctypes import c_char_p, c_int64, c_void_p
from typing import Any

from retina_jit.delivery.vectors import STRUCT, Field, Vector

NULLABLE = 2


class _Schema(ctypes.Structure):
    _fields_ = [
        ("format", c_char_p), ("name", c_char_p), ("metadata", c_char_p), ("flags", c_int64), ("n_children", c_int64),
        ("children", c_void_p), ("dictionary", c_void_p), ("release", c_void_p), ("private_data", c_void_p),
    ]  # fmt: skip


class _Array(ctypes.Structure):
    _fields_ = [
        ("length", c_int64), ("null_count", c_int64), ("offset", c_int64), ("n_buffers", c_int64), ("n_children", c_int64),
        ("buffers", c_void_p), ("children", c_void_p), ("dictionary", c_void_p), ("release", c_void_p), ("private_data", c_void_p),
    ]  # fmt: skip


class _Stream(ctypes.Structure):
    _fields_ = [("get_schema", c_void_p), ("get_next", c_void_p), ("get_last_error", c_void_p), ("release", c_void_p), ("private_data", c_void_p)]


_Release = ctypes.CFUNCTYPE(None, c_void_p)
_Give = ctypes.CFUNCTYPE(ctypes.c_int, c_void_p, c_void_p)
_Tell = ctypes.CFUNCTYPE(c_void_p, c_void_p)
_kept: dict[int, Any] = {}
_keys = itertools.count(1)


def _keep(*things: Any) -> int:
    key = next(_keys)
    _kept[key] = things
    return key


def _let_go(kind: Any, address: int) -> None:
    """Release a structure and those of its children that were not released apart from it."""
    s = kind.from_address(address)
    if not s.release:
        return
    children = (c_void_p * getattr(s, "n_children", 0)).from_address(s.children) if getattr(s, "children", None) else ()
    for child in children:
        _let_go(kind, child or 0)  # of ours: it has the same release function as its parent
    s.release = None
    _kept.pop(s.private_data, None)


_release_schema = _Release(lambda address: _let_go(_Schema, address))
_release_array = _Release(lambda address: _let_go(_Array, address))
_release_stream = _Release(lambda address: _let_go(_Stream, address))


def _address(function: Any) -> int:
    return ctypes.cast(function, c_void_p).value or 0


def _fill_children(kind: Any, fill: Callable[[int, Any], None], parts: Sequence[Any]) -> tuple[Any, Any]:
    made = (kind * len(parts))()
    pointers = (c_void_p * len(parts))(*[ctypes.addressof(m) for m in made])
    for pointer, part in zip(pointers, parts, strict=True):
        fill(pointer, part)  # type: ignore[arg-type]
    return made, pointers


def fill_schema(address: int, field: Field) -> None:
    """Write an ArrowSchema at an address."""
    made, pointers = _fill_children(_Schema, fill_schema, field.children)
    texts = field.format.encode(), field.name.encode()
    s = _Schema.from_address(address)
    s.format, s.name, s.metadata, s.flags = *texts, None, NULLABLE * field.nullable
    s.n_children, s.children, s.dictionary = len(field.children), ctypes.addressof(pointers) if field.children else None, None
    s.release, s.private_data = _address(_release_schema), _keep(made, pointers, texts)


def fill_array(address: int, vector: Vector) -> None:
    """Write an ArrowArray at an address."""
    made, pointers = _fill_children(_Array, fill_array, vector.children)
    parts = [] if vector.valid is None else [vector.valid]
    buffers = [None if vector.valid is None else vector.valid.ctypes.data, *[d.ctypes.data for d in vector.data]]
    listed = (c_void_p * len(buffers))(*buffers)
    a = _Array.from_address(address)
    a.length, a.null_count, a.offset = vector.length, vector.null_count, 0
    a.n_buffers, a.buffers = len(buffers), ctypes.addressof(listed)
    a.n_children, a.children, a.dictionary = len(vector.children), ctypes.addressof(pointers) if vector.children else None, None
    a.release, a.private_data = _address(_release_array), _keep(made, pointers, listed, parts, vector.data)


class _Giving:
    """State of a stream: what is given next, and what went wrong."""

    def __init__(self, field: Field, vectors: Iterator[Vector]) -> None:
        self.field, self.vectors = field, vectors
        self.error = ctypes.create_string_buffer(b"")

    def failed(self, error: BaseException) -> int:
        self.error = ctypes.create_string_buffer(f"{type(error).__name__}: {error}".encode())
        return errno.EIO


def _giving(stream: int) -> _Giving:
    found: _Giving = _kept[_Stream.from_address(stream).private_data][0]
    return found


def _get_schema(stream: int, out: int) -> int:
    giving = _giving(stream)
    try:
        fill_schema(out, giving.field)
    except BaseException as error:  # noqa: BLE001 - nothing may be raised into the consumer's code
        return giving.failed(error)
    return 0


def _get_next(stream: int, out: int) -> int:
    giving = _giving(stream)
    _Array.from_address(out).release = None  # what the end of a stream looks like
    try:
        found = next(giving.vectors, None)
        if found is not None:
            fill_array(out, found)
    except BaseException as error:  # noqa: BLE001 - as above; Ctrl-C ends the stream as an error
        return giving.failed(error)
    return 0


_get_schema_c, _get_next_c = _Give(_get_schema), _Give(_get_next)
_last_error_c = _Tell(lambda stream: ctypes.addressof(_giving(stream).error))

# ------------------------------------------------------------------------------------------------------------ capsules

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [c_void_p, c_char_p, c_void_p]
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
# The capsule by address: as an object it would be referred to again while it is being deleted.
_pointer.restype, _pointer.argtypes = c_void_p, [c_void_p, c_char_p]
_structures: dict[int, Any] = {}


def _capsule(kind: Any, name: bytes, made: Any) -> Any:
    address = ctypes.addressof(made)
    _structures[address] = made
    return _new(address, name, _address(_deleters[name]))


def _deleter(kind: Any, name: bytes) -> Any:
    def delete(capsule: int) -> None:
        address = _pointer(capsule, name)
        _let_go(kind, address)  # not if a consumer has taken it: it is marked as released then
        _structures.pop(address, None)

    return _Release(delete)


_SCHEMA, _ARRAY, _STREAM = b"arrow_schema", b"arrow_array", b"arrow_array_stream"
_deleters = {_SCHEMA: _deleter(_Schema, _SCHEMA), _ARRAY: _deleter(_Array, _ARRAY), _STREAM: _deleter(_Stream, _STREAM)}


def schema_capsule(field: Field) -> Any:
    """Return a PyCapsule "arrow_schema"."""
    made = _Schema()
    fill_schema(ctypes.addressof(made), field)
    return _capsule(_Schema, _SCHEMA, made)


def array_capsules(vector: Vector) -> tuple[Any, Any]:
    """Return PyCapsules "arrow_schema" and "arrow_array"."""
    made = _Array()
    fill_array(ctypes.addressof(made), vector)
    return schema_capsule(vector.field), _capsule(_Array, _ARRAY, made)


def stream_capsule(field: Field, vectors: Iterator[Vector]) -> Any:
    """Return a PyCapsule "arrow_array_stream" of structs; the vectors are asked for when the consumer wants them."""
    made = _Stream()
    made.get_schema, made.get_next, made.get_last_error = _address(_get_schema_c), _address(_get_next_c), _address(_last_error_c)
    made.release, made.private_data = _address(_release_stream), _keep(_Giving(field, vectors))
    return _capsule(_Stream, _STREAM, made)


class ArrowRows:
    """Rows of a table as other libraries take them: an object with `__arrow_c_stream__`, to be taken once."""

    def __init__(self, fields: Sequence[Field], vectors: Iterator[Vector]) -> None:
        self._field = Field("", STRUCT, False, tuple(fields))
        self._vectors = vectors

    def __arrow_c_schema__(self) -> Any:
        return schema_capsule(self._field)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return stream_capsule(self._field, self._vectors)


class ArrowBatch:
    """One batch as other libraries take it: an object with `__arrow_c_array__`."""

    def __init__(self, vector: Vector) -> None:
        self._vector = vector

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return array_capsules(self._vector)
