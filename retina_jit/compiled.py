"""The user's functions compiled in this process: callbacks, and the functions of data types of their own.

They may be closures or stand in notebook cells, so no file says what they are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retina_jit import jit, memory
from retina_jit.datatypes.own import OwnType
from retina_jit.errors import SubscriptionError
from retina_jit.state.layout import PACKET
from retina_jit.strings import make_absolute
from retina_jit.subscription import Subscription


def compile_own(t: type[OwnType], name: str) -> jit.Entry:
    """Wrap a function of a data type of the user's own as an entry (state, row), or (state) for `clear`."""
    import numba

    where = f"data type {t.__name__}: {name}"
    scope: dict[str, Any] = {"user": numba.njit(nogil=True, error_model="numpy")(t.FUNCTIONS[name])}
    scope["state_at"], scope["packet_at"] = memory.at(t.RECORD), memory.at(PACKET)
    if name == "clear":
        exec("def call(state):\n    user(state_at(state))\n    return 0", scope)  # noqa: S102
    else:
        exec("def call(state, row):\n    user(state_at(state), packet_at(row))\n    return 0", scope)  # noqa: S102
    try:
        return jit.adopt(jit.own_kernel(scope["call"]), where)
    except KeyError as fault:
        known = f"the state has {', '.join(t.STATE.names or ())}, a packet {', '.join(PACKET.names or ())}"
        raise SubscriptionError(f"{where} asks for {fault}; {known}") from fault
    except numba.core.errors.NumbaError as fault:
        raise SubscriptionError(f"{where} does not compile in nopython mode:\n{fault}") from fault


def _adopt(s: Subscription, body: str, scope: dict[str, Any]) -> jit.Entry:
    exec(f"def callback(place, state):\n{body}", scope)  # noqa: S102
    return jit.adopt(jit.own_kernel(scope["callback"]), f"callback {s.name}")


def compile_callback(s: Subscription, views: Sequence[tuple[Any, int]], texts: Sequence[int]) -> jit.Entry:
    """Wrap a user's function as an entry `callback(place, state)`.

    Parameters
    ----------
    views : sequence of (dtype, int)
        Of each parameter the dtype and the offset from `place`.
    texts : sequence of int
        Offsets of packed words of texts, which `retina_jit.text` shall read.
    """
    import numba

    scope: dict[str, Any] = {"user": numba.njit(nogil=True, error_model="numpy")(s.callback)}
    scope["make_absolute"] = make_absolute
    before = "".join(f"    make_absolute(place, place + {at})\n" for at in texts)
    arguments = []
    for n, (dtype, offset) in enumerate(views):
        scope[f"at{n}"] = memory.at(dtype)
        arguments.append(f"at{n}(place + {offset})")
    if s.state is not None:
        scope["state_at"] = memory.at(s.state.dtype)
        arguments.append("state_at(state)")
    call = f"user({', '.join(arguments)})"
    try:
        if s.level == "streaming":
            # False: no more of this connection. One that gives nothing goes on, as in Python.
            made = _adopt(s, f"{before}    return 0 if {call} else 1", scope)
            results = {str(signature.return_type) for signature in scope["user"].nopython_signatures}
            if results != {"none"}:
                return made
        return _adopt(s, f"{before}    {call}\n    return 0", scope)
    except KeyError as fault:
        known = ", ".join(sorted({n for t in s.types for n in t.RECORD.names or ()} | set(s.state.dtype.names or () if s.state is not None else ())))
        raise SubscriptionError(f"subscription {s.name!r}: the callback asks a record for {fault}; there are: {known}") from fault
    except numba.core.errors.NumbaError as fault:
        raise SubscriptionError(f"subscription {s.name!r}: the callback does not compile in nopython mode:\n{fault}") from fault
