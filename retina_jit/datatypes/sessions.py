"""Several sessions of a connection in one callback: `list[TlsHandshake]`, `TlsHandshake | None`, SessionList."""

from __future__ import annotations

import gc
import weakref
from functools import cache
from struct import Struct
from typing import Any, ClassVar

from retina_jit.datatypes.base import DataType, data_types, register
from retina_jit.errors import SubscriptionError
from retina_jit.pipeline.layout import ITEM, LISTED, MOST_KINDS

_WORD = Struct("<q").unpack_from
_HEAD = Struct("<II").unpack_from
_ITEM = ITEM.itemsize

_kinds: list[type[DataType] | None] = []


def kind_of(item: type[DataType]) -> int:
    """Return the number by which items of a data type are known in this process.

    A protocol that is edited and loaded again brings another data type each time; the numbers of those that nothing uses any more are
    given anew when there are no others.
    """
    if item in _kinds:
        return _kinds.index(item)
    if len(_kinds) == MOST_KINDS and None not in _kinds:
        _forget()
    if None in _kinds:
        free = _kinds.index(None)
        _kinds[free] = item
        return free
    if len(_kinds) == MOST_KINDS:
        raise SubscriptionError(f"more than {MOST_KINDS} data types of sessions in lists")
    _kinds.append(item)
    return len(_kinds) - 1


def _forget() -> None:
    """Leave out what no program and no registry refers to."""
    known = [weakref.ref(kind) for kind in _kinds if kind is not None]
    _kinds.clear()
    gc.collect()
    _kinds.extend(kind() for kind in known)


class Sessions(list[Any]):
    """The sessions of a connection, in the order in which they were complete."""

    def to_dict(self) -> list[dict[str, Any]]:
        """Return what JSON output shows."""
        return [s.to_dict() for s in self]


def _items(buffer: bytes, event: int, at: int) -> Sessions:
    word = _WORD(buffer, at)[0]
    start = event + (word >> 32)
    end = start + (word & 0xFFFFFFFF)
    found = Sessions()
    while start < end:
        size, kind = _HEAD(buffer, start)
        made = _kinds[kind]
        assert made is not None  # an event is taken apart when it is delivered: its program is there, and holds the data types
        found.append(made(buffer, start, start + _ITEM))
        start += size
    return found


class Listed(DataType):
    """Base of the list types: callbacks get a list of views, not one of these.

    Attributes
    ----------
    ITEMS : tuple of DataType classes
        What the list is made of; empty: every session.
    OPTIONAL : bool
        At most one, the first that matches; callbacks get it or None.
    """

    __slots__ = ()
    LEVEL = "connection"
    RECORD = LISTED
    PROJECT = "retina_jit.pipeline.keeping:project_list"
    ITEMS: ClassVar[tuple[type[DataType], ...]] = ()
    OPTIONAL: ClassVar[bool] = False

    def __new__(cls, buffer: bytes, event: int, at: int) -> Any:  # noqa: D102
        found = _items(buffer, event, at)
        return found if not cls.OPTIONAL else found[0] if found else None


@register
class SessionList(Listed):
    """Every session of the connection that any known protocol finds and the filter leaves possible, in order."""

    __slots__ = ()


@cache
def list_of(item: type[DataType]) -> type[Listed]:
    """Return the data type of `list[item]`."""
    return type(f"list[{item.__name__}]", (Listed,), {"__slots__": (), "ITEMS": (item,), "__doc__": f"All {item.__name__} of a connection."})


@cache
def optional(item: type[DataType]) -> type[Listed]:
    """Return the data type of `item | None`."""
    inside = {"__slots__": (), "ITEMS": (item,), "OPTIONAL": True, "PROJECT": "retina_jit.pipeline.keeping:project_optional"}
    return type(f"{item.__name__} | None", (Listed,), {**inside, "__doc__": f"The first {item.__name__} of a connection that matches, or None."})


def items_of(t: type[DataType]) -> tuple[type[DataType], ...]:
    """Return the data types of the sessions that a list type holds; of any other, nothing."""
    if not issubclass(t, Listed):
        return ()
    if t.ITEMS:
        return t.ITEMS
    of_service: dict[str, type[DataType]] = {}
    for known in data_types().values():
        if known.LEVEL == "session":
            of_service.setdefault(known.SERVICE, known)
    return tuple(of_service.values())
