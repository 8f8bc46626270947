"""Data types that follow from the fields of a session protocol: one column per field, under the field's name.

A protocol whose file says nothing about a data type has one all the same (`derived`); one that wants more accessors makes
a class of its own on top (`SshHandshake`). The record holds a word per number, a packed word per text and list, and one
bit per bool; the kernel that writes it is generated from the fields.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retina_jit.datatypes import column
from retina_jit.datatypes.base import DataType, register, registered, unregister
from retina_jit.errors import ProtocolError
from retina_jit.parsers.protocol import Field, Protocol, protocols
from retina_jit.stamp import keep_source

MOST_FLAGS = 63


def record_of(protocol: Protocol) -> np.dtype[Any]:
    """Return the record of a protocol's sessions."""
    flags = [("flags", "i8")] if _bools(protocol) else []
    return np.dtype([*flags, *((f.name, "i8") for f in _kept(protocol) if f.kind != "bool")])


def _kept(protocol: Protocol) -> list[Field]:
    """Return the fields that a record can hold: a keyed one has no value of its own."""
    return [f for f in protocol.fields.values() if not f.keyed]


def _bools(protocol: Protocol) -> list[str]:
    return [f.name for f in _kept(protocol) if f.kind == "bool"]


# ------------------------------------------------------------------------------------------------------------ the kernel

_HEAD = '''"""Generated: how a session of {title} is written into an event."""

from retina_jit.delivery.event import CONTEXT_AT, packed, put_bytes, put_item, reserve_bytes
from retina_jit.jit import entry, kernel
from retina_jit.memory import store64
{imports}
'''

_TEXTS = '''

@kernel
def put_{name}(context, session):
    start = CONTEXT_AT(context).cursor + 0
    for n in range({name}(session, -1)[1]):
        span = {name}(session, n)
        put_item(context, span[0], span[1])
    length = CONTEXT_AT(context).cursor - start
    return packed(context, start, length) if length else 0
'''

_INTS = '''

@kernel
def put_{name}(context, session):
    count = {name}(session, -1)
    start = reserve_bytes(context, 8 * count)
    if start == 0 or count <= 0:
        return 0
    for n in range(count):
        store64(start + 8 * n, {name}(session, n))
    return packed(context, start, 8 * count)
'''

_TEXT = '''

@kernel
def put_{name}(context, session):
    span = {name}(session)
    return put_bytes(context, span[0], span[1])
'''

_PUT = {"texts": _TEXTS, "ints": _INTS, "text": _TEXT, "bytes": _TEXT}


def kernel_source(protocol: Protocol) -> str:
    """Return the source of the entry `project` of a protocol."""
    fields, record = _kept(protocol), record_of(protocol)
    at = {name: record.fields[name][1] for name in record.names or ()}  # type: ignore[index]
    imports = "\n".join(f"from {protocol.module} import {f.name}" for f in fields)
    source = _HEAD.format(title=protocol.title, imports=imports)
    body = ["    c = CONTEXT_AT(context)", "    session, out = c.session + 0, c.out + 0"]
    bits = _bools(protocol)
    if bits:
        body.append("    flags = 0")
    for f in fields:
        if f.kind in _PUT:
            source += _PUT[f.kind].format(name=f.name)
            body.append(f"    store64(out + {at[f.name]}, put_{f.name}(context, session))")
        elif f.kind == "bool":
            body += [f"    if {f.name}(session):", f"        flags |= {1 << bits.index(f.name)}"]
        else:
            body.append(f"    store64(out + {at[f.name]}, {f.name}(session))")
    if bits:
        body.append(f"    store64(out + {at['flags']}, flags)")
    return source + "\n\n@entry\ndef project(context):\n" + "\n".join(body) + "\n    return 0\n"


class _Project:
    """`PROJECT` of a derived data type: its source is written when it is first asked for."""

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol

    def __get__(self, view: object, owner: type) -> str:
        return f"{keep_source('datatypes', kernel_source(protocols()[self._protocol]))}:project"


# -------------------------------------------------------------------------------------------------------------- the view


def _column(record: np.dtype[Any], f: Field, bits: list[str]) -> Any:
    if f.kind == "bool":
        return column.flag(record, "flags", 1 << bits.index(f.name), f.doc, shown=f.shown)
    if f.kind == "text":
        return column.text(record, f.name, f.doc, shown=f.shown)
    if f.kind == "bytes":
        return column.raw(record, f.name, f.doc, shown=f.shown)
    if f.kind == "texts":
        return column.texts(record, f.name, f.doc, shown=f.shown)
    if f.kind == "ints":
        return column.numbers(record, f.name, f.doc, item=8, order="little", unit=f.unit, shown=f.shown)
    null = column.ZERO if f.absent == 0 else None
    return column.number(record, f.name, f.doc, null=null, absent=0 if null else None, unit=f.unit, shown=f.shown)


def derived(protocol: Protocol) -> type[DataType]:
    """Make the data type of a session protocol from its fields; not registered yet.

    Raises
    ------
    ProtocolError
        More than 63 bool fields, or one that stands for an absent number other than 0.
    """
    bits = _bools(protocol)
    if len(bits) > MOST_FLAGS:
        raise ProtocolError(f"{protocol.name}: {len(bits)} bool fields, {MOST_FLAGS} at most")
    record = record_of(protocol)
    space: dict[str, Any] = {
        "__slots__": (),
        "__doc__": f"A session of {protocol.title}; one attribute per field of `{protocol.name}`.",
        "__module__": __name__,
        "LEVEL": "session",
        "RECORD": record,
        "PROJECT": _Project(protocol.name),
        "SERVICE": protocol.name,
    }
    for f in _kept(protocol):
        if f.absent not in (None, 0):
            raise ProtocolError(f"{protocol.name}.{f.name}: absent={f.absent}; only 0 can stand for an absent number")
        space[f.name] = _column(record, f, bits)
    return type(protocol.data_type, (DataType,), space)


_made: dict[str, tuple[dict[str, Field], type[DataType]]] = {}


def complete() -> None:
    """Register a derived data type for every session protocol that no data type shows; anew if its fields have changed."""
    known = protocols()
    for name, (fields, data_type) in list(_made.items()):
        if name not in known or known[name].fields != fields:
            unregister(data_type)
            del _made[name]
    shown = {t.SERVICE for t in registered()}
    for protocol in known.values():
        if protocol.level == "session" and protocol.name not in shown:
            _made[protocol.name] = protocol.fields, register(derived(protocol))
