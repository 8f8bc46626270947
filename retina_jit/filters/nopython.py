"""The user's predicates compiled: each call of one becomes entries that the pipeline and the stages call by address.

They compile in this process, for they may be closures or stand in notebook cells. Here, unlike in kernels, texts are str
and may be cut into pieces, so Numba's reference counts are on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from retina_jit import jit, memory
from retina_jit.errors import PredicateError
from retina_jit.filters.predicates import Call, Predicate
from retina_jit.parsers.protocol import Protocol
from retina_jit.state.layout import PACKET
from retina_jit.strings import text_at

TEXTS = ("text", "bytes")


def entries(call: Call, protocol: Protocol | None) -> dict[str, jit.Entry]:
    """Compile a call. `protocol`: the one whose fields a predicate of sessions takes.

    Returns
    -------
    dict of str to Entry
        "call" of (row or session, n, out), as readers of session fields are; of a connection "update" and "new" of
        (state, row), and "clear" of (state).

    Raises
    ------
    PredicateError
        It does not compile in nopython mode; shows the user's line.
    """
    p = call.predicate
    if p.kind == "packet":
        body, scope = "1 if user(packet_at(row), {values}) else 0", {"packet_at": memory.at(PACKET)}
        return {"call": _compile(p, "call", "row, n, out", body, scope, call.arguments)}
    if p.kind == "session":
        assert protocol is not None
        return {"call": _of_session(p, protocol, call.arguments)}
    assert p.state is not None
    scope = {"packet_at": memory.at(PACKET), "state_at": memory.at(padded(p.state))}
    made = {"update": _compile(p, "update", "state, row", "user(state_at(state), packet_at(row), {values})", scope, call.arguments)}
    if "new" in p.functions:
        body = "0 if user(state_at(state), packet_at(row), {values}) is None else 0"
        made["new"] = _compile(p, "new", "state, row", body, scope, call.arguments)
    if "clear" in p.functions:
        made["clear"] = _compile(p, "clear", "state", "0 if user(state_at(state), {values}) is None else 0", scope, call.arguments)
    return made


def padded(state: np.dtype[Any]) -> np.dtype[Any]:
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


def _of_session(p: Predicate, protocol: Protocol, arguments: tuple[Any, ...]) -> jit.Entry:
    module = jit.load_module(protocol.module)
    of_connection = protocol.level == "connection"
    scope: dict[str, Any] = {"text_at": text_at}
    taken, given = [], []
    for k, name in enumerate(p.fields):
        scope[f"read{k}"] = getattr(module, name)
        text = protocol.fields[name].kind in TEXTS
        source = "session, n" if of_connection else "session"
        # A text of a connection is written to a place that the reader is given.
        taken.append(f"    v{k} = read{k}({source}{f', out + {16 + 16 * k}' if text and of_connection else ''})")
        given.append(f"text_at(v{k}[0], v{k}[1])" if text else f"v{k} != 0" if protocol.fields[name].kind == "bool" else f"int64(v{k})")
    scope["int64"] = np.int64
    return _compile(p, "call", "session, n, out", f"1 if user({', '.join(given)}, {{values}}) else 0", scope, arguments, taken)


def _compile(
    p: Predicate, name: str, parameters: str, body: str, scope: dict[str, Any], arguments: tuple[Any, ...], before: list[str] | None = None
) -> jit.Entry:
    import numba

    function = p.functions[name]
    takes = len(arguments) if name in ("call", "update") else _takes(function, 2 if name == "new" else 1)
    values = [f"value{k}" for k in range(takes)]
    scope = {**scope, "user": numba.njit(nogil=True, error_model="numpy")(function), **dict(zip(values, arguments))}
    text = body.format(values=", ".join(values)).replace(", )", ")")
    lines = "\n".join(before or [])
    exec(f"def call({parameters}):\n{lines}\n    return {text}\n", scope)  # noqa: S102
    where = f"predicate {p.name}: {name}"
    try:
        made = jit.adopt(jit.own_kernel(scope["call"]), where)
    except KeyError as fault:
        known = f"a packet has {', '.join(PACKET.names or ())}"
        if p.state is not None:
            known = f"the state has {', '.join(p.state.names or ())}, {known}"
        raise PredicateError(f"{where} asks for {fault}; {known}") from fault
    except numba.core.errors.NumbaError as fault:
        raise PredicateError(f"{where} ({_place(function)}) does not compile in nopython mode:\n{fault}") from fault
    if name == "update":
        results = {str(s.return_type) for s in scope["user"].nopython_signatures}
        if not all(r.startswith(("int", "uint", "Literal[int]")) for r in results):
            raise PredicateError(f"{where} ({_place(function)}) gives {', '.join(sorted(results))}; it must give ACCEPT, DROP or CONTINUE on every way")
    return made


def _takes(function: Callable[..., Any], least: int) -> int:
    return int(function.__code__.co_argcount) - least


def _place(function: Callable[..., Any]) -> str:
    code = function.__code__
    return f"{code.co_filename}, line {code.co_firstlineno}"
