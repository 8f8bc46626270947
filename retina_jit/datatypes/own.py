"""Data types of the user's own: `@data_type` on a class with a record and functions that compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from retina_jit.datatypes import column
from retina_jit.datatypes.base import DataType, data_types, register
from retina_jit.errors import SubscriptionError

_NUMBERS = {"u1", "u2", "u4", "i4", "i8", "u8", "f8"}


class OwnType(DataType):
    """Base of the data types that `data_type` makes.

    Attributes
    ----------
    STATE : dtype
        The record as the user has declared it.
    FUNCTIONS : dict
        Those of new, update, clear that the user has written.
    """

    __slots__ = ()
    LEVEL = "connection"
    PROJECT = "retina_jit.pipeline.user:project"
    STATE: ClassVar[np.dtype[Any]]
    FUNCTIONS: ClassVar[dict[str, Callable[..., Any]]] = {}


def data_type(cls: type[Any]) -> type[OwnType]:
    """Make a connection-level data type of a class (decorator), in a file, an app or a notebook cell.

    The class has

    - `state`: a numpy dtype of numbers, one record per connection, zero at first;
    - `update(state, packet)`: called with every packet of the connection;
    - `new(state, packet)`, optional: called before the first `update`, with the same packet;
    - `clear(state)`, optional: called after each call of a streaming subscription, so that it is given what has happened since.

    They are compiled in nopython mode and may be closures. `packet` has ts [ns], length, caplen, payload_len, captured_len,
    direction (0 from the originator), src_port, dst_port, protocol, tcp_flags, seq, ack, window. Callbacks read the record's fields
    as attributes; other attributes and properties of the class are theirs, too.

    Raises
    ------
    SubscriptionError
        The class lacks something, or its record holds something else than numbers.
    """
    where = f"data type {cls.__name__}"
    if not hasattr(cls, "state"):
        raise SubscriptionError(f"{where}: no `state`; write e.g. state = np.dtype([('packets', 'i8')])")
    state = np.dtype(cls.state)
    if not state.names:
        raise SubscriptionError(f"{where}: state has no fields; write e.g. np.dtype([('packets', 'i8')])")
    for name in state.names:
        if state[name].str[1:] not in _NUMBERS:
            raise SubscriptionError(f"{where}: field {name!r} is {state[name]}; one of {', '.join(sorted(_NUMBERS))} is needed")
    functions = {name: vars(cls)[name] for name in ("new", "update", "clear") if name in vars(cls)}
    functions = {name: f.__func__ if isinstance(f, staticmethod) else f for name, f in functions.items()}
    if "update" not in functions:
        raise SubscriptionError(f"{where}: no `update(state, packet)`")
    known = data_types().get(cls.__name__)
    if known is not None and not issubclass(known, OwnType):
        raise SubscriptionError(f"{where}: the name is taken; choose another one")
    record = _padded(state)
    inside = {k: v for k, v in vars(cls).items() if k not in ("state", "new", "update", "clear", "__dict__", "__weakref__")}
    inside |= {name: column.number(record, name, f"{name}, as `update` has left it.") for name in state.names}
    inside |= {"__slots__": (), "RECORD": record, "STATE": state, "FUNCTIONS": functions}
    return register(type(cls.__name__, (OwnType,), inside))  # type: ignore[return-value]


def _padded(state: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype with a size that is a multiple of 8, without alignment."""
    fields = state.fields
    assert fields is not None and state.names is not None
    layout = {
        "names": list(state.names),
        "formats": [fields[n][0] for n in state.names],
        "offsets": [fields[n][1] for n in state.names],
        "itemsize": -(-state.itemsize // 8) * 8,
    }
    return np.dtype(layout)  # type: ignore[call-overload,no-any-return]
