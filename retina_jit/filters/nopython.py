"""The user's predicates compiled: each call of one becomes entries that the pipeline and the stages call by address.

Here, unlike in kernels, texts are str and may be cut into pieces, so Numba's reference counts are on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from retina_jit import objects
from retina_jit.errors import PredicateError
from retina_jit.filters.predicates import Call, Predicate
from retina_jit.own import DoesNotCompile, OwnEntry
from retina_jit.parsers.protocol import Protocol
from retina_jit.state.layout import PACKET

TEXTS = ("text", "bytes")


def own_entries(call: Call, protocol: Protocol | None) -> dict[str, OwnEntry]:
    """Return the entries of a call, not compiled yet. `protocol`: the one whose fields a predicate of sessions takes.

    Returns
    -------
    dict of str to OwnEntry
        "call" of (row or session, n, out), as readers of session fields are; of a connection "update" and "new" of
        (state, row), and "clear" of (state).
    """
    p = call.predicate
    if p.kind == "packet":
        return {"call": _wrap(p, "call", "row, n, out", "1 if user(packet_at(row), {values}) else 0", {"packet": PACKET}, call.arguments)}
    if p.kind == "session":
        assert protocol is not None
        return {"call": _of_session(p, protocol, call.arguments)}
    assert p.state is not None
    records: dict[str, Any] = {"packet": PACKET, "state": padded(p.state)}
    made = {"update": _wrap(p, "update", "state, row", "verdict(user(state_at(state), packet_at(row), {values}))", records, call.arguments)}
    if "new" in p.functions:
        body = "0 if user(state_at(state), packet_at(row), {values}) is None else 0"
        made["new"] = _wrap(p, "new", "state, row", body, records, call.arguments)
    if "clear" in p.functions:
        made["clear"] = _wrap(p, "clear", "state", "0 if user(state_at(state), {values}) is None else 0", records, call.arguments)
    return made


def entries(call: Call, own: dict[str, OwnEntry]) -> dict[str, objects.Entry]:
    """Return the entries that `own_entries` gave for the call, compiled.

    Raises
    ------
    PredicateError
        One does not compile in nopython mode; shows the user's line.
    """
    return {name: _compiled(call.predicate, name, one) for name, one in own.items()}


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


def _of_session(p: Predicate, protocol: Protocol, arguments: tuple[Any, ...]) -> OwnEntry:
    of_connection = protocol.level == "connection"
    imports, taken, given = [("retina_jit.strings", "text_at")], [], []
    for k, name in enumerate(p.fields):
        imports.append((protocol.module, f"{name} as read{k}"))
        text = protocol.fields[name].kind in TEXTS
        source = "session, n" if of_connection else "session"
        # A text of a connection is written to a place that the reader is given.
        taken.append(f"v{k} = read{k}({source}{f', out + {16 + 16 * k}' if text and of_connection else ''})")
        given.append(f"text_at(v{k}[0], v{k}[1])" if text else f"v{k} != 0" if protocol.fields[name].kind == "bool" else f"np.int64(v{k})")
    return _wrap(p, "call", "session, n, out", f"1 if user({', '.join(given)}, {{values}}) else 0", {}, arguments, taken, imports)


def _wrap(
    p: Predicate, name: str, parameters: str, body: str, records: dict[str, Any], arguments: tuple[Any, ...],
    before: Sequence[str] = (), imports: Sequence[tuple[str, str]] = (),
) -> OwnEntry:  # fmt: skip
    function = p.functions[name]
    takes = len(arguments) if name in ("call", "update") else _takes(function, 2 if name == "new" else 1)
    values = {f"value{k}": v for k, v in enumerate(arguments[:takes])}
    text = body.format(values=", ".join(values)).replace(", )", ")")
    own = [("retina_jit.own", "verdict")] if name == "update" else []
    return OwnEntry(f"predicate {p.name}: {name}", function, parameters, [*before, f"return {text}"], [*imports, *own], {**records, **values})


def _compiled(p: Predicate, name: str, own: OwnEntry) -> objects.Entry:
    function = p.functions[name]
    try:
        return own.entry()
    except KeyError as fault:
        known = f"a packet has {', '.join(PACKET.names or ())}"
        if p.state is not None:
            known = f"the state has {', '.join(p.state.names or ())}, {known}"
        raise PredicateError(f"{own.where} asks for {fault}; {known}") from fault
    except DoesNotCompile as fault:
        results = sorted(own.results) if name == "update" else []
        if results and not all(r.startswith(("int", "uint", "Literal[int]")) for r in results):
            reason = f"gives {', '.join(results)}; it must give ACCEPT, DROP or CONTINUE on every way"
            raise PredicateError(f"{own.where} ({_place(function)}) {reason}") from fault
        raise PredicateError(f"{own.where} ({_place(function)}) does not compile in nopython mode:\n{fault}") from fault


def _takes(function: Callable[..., Any], least: int) -> int:
    return int(function.__code__.co_argcount) - least


def _place(function: Callable[..., Any]) -> str:
    code = function.__code__
    return f"{code.co_filename}, line {code.co_firstlineno}"
