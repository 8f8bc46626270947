"""The user's functions as entries of a program: callbacks, and the functions of data types of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retina_jit import objects
from retina_jit.datatypes.own import OwnType
from retina_jit.errors import SubscriptionError
from retina_jit.own import DoesNotCompile, OwnEntry
from retina_jit.state.layout import PACKET
from retina_jit.subscription import Subscription


def own_function(t: type[OwnType], name: str) -> OwnEntry:
    """Wrap a function of a data type of the user's own as an entry (state, row), or (state) for `clear`."""
    where, values = f"data type {t.__name__}: {name}", {"state": t.RECORD, "packet": PACKET}
    if name == "clear":
        return OwnEntry(where, t.FUNCTIONS[name], "state", ["user(state_at(state))", "return 0"], values=values)
    return OwnEntry(where, t.FUNCTIONS[name], "state, row", ["user(state_at(state), packet_at(row))", "return 0"], values=values)


def compile_own(t: type[OwnType], own: OwnEntry) -> objects.Entry:
    """Compile a function of a data type of the user's own."""
    try:
        return own.entry()
    except KeyError as fault:
        known = f"the state has {', '.join(t.STATE.names or ())}, a packet {', '.join(PACKET.names or ())}"
        raise SubscriptionError(f"{own.where} asks for {fault}; {known}") from fault
    except DoesNotCompile as fault:
        raise SubscriptionError(f"{own.where} does not compile in nopython mode:\n{fault}") from fault


def own_callback(s: Subscription, views: Sequence[tuple[Any, int]], texts: Sequence[int]) -> OwnEntry:
    """Wrap a user's function as an entry `callback(place, state)`.

    Parameters
    ----------
    views : sequence of (dtype, int)
        Of each parameter the dtype and the offset from `place`.
    texts : sequence of int
        Offsets of packed words of texts, which `retina_jit.text` shall read.
    """
    values = {f"view{n}": dtype for n, (dtype, _) in enumerate(views)}
    arguments = [f"view{n}_at(place + {offset})" for n, (_, offset) in enumerate(views)]
    if s.state is not None:
        values["record"] = s.state.dtype
        arguments.append("record_at(state)")
    call = f"user({', '.join(arguments)})"
    # False: no more of this connection.
    end = [f"return goes_on({call})"] if s.level == "streaming" else [call, "return 0"]
    imports = [("retina_jit.own", "goes_on"), ("retina_jit.strings", "make_absolute")]
    lines = [*(f"make_absolute(place, place + {at})" for at in texts), *end]
    return OwnEntry(f"callback {s.name}", s.callback, "place, state", lines, imports, values)


def compile_callback(s: Subscription, own: OwnEntry) -> objects.Entry:
    """Compile a user's function."""
    try:
        return own.entry()
    except KeyError as fault:
        known = ", ".join(sorted({n for t in s.types for n in t.RECORD.names or ()} | set(s.state.dtype.names or () if s.state is not None else ())))
        raise SubscriptionError(f"subscription {s.name!r}: the callback asks a record for {fault}; there are: {known}") from fault
    except DoesNotCompile as fault:
        raise SubscriptionError(f"subscription {s.name!r}: the callback does not compile in nopython mode:\n{fault}") from fault
