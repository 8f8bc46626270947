"""Predicates of the user's own: `@predicate` on a function or a class, called by name in filters.

This is what a filter knows of them: name, what they are asked of, parameters. `retina_jit.filters.nopython` compiles them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retina_jit.errors import PredicateError
from retina_jit.parsers.protocol import Protocol, protocols

CONTINUE, ACCEPT, DROP = range(3)
"""What `update` of a predicate of connections gives: ask again with the next packet, it holds, it does not hold."""

WATCHED = "(watched)"
"""In terms: the protocol of what is found out about a connection packet by packet. No filter can write it."""

KINDS = ("packet", "session", "connection")
READABLE = ("int", "bool", "text", "bytes", "mac", "ipv4")
"""Kinds of fields that a predicate of sessions can take."""
_NUMBERS = {"u1", "u2", "u4", "i4", "i8", "u8", "f8"}
_RESERVED = ("not", "and", "or", "in", "eq", "ne", "ge", "le", "gt", "lt", "contains", "matches")


@dataclass(frozen=True, eq=False)
class Predicate:
    """One predicate.

    Attributes
    ----------
    name : str
        The filter's word.
    kind : str
        What it is asked of: "packet", "session" (also of the connection at its end), or "connection", packet by packet.
    protocol : str
        Kind "session": whose fields it takes; "conn" at the end of the connection.
    fields : tuple of str
        Kind "session": the fields, its first parameters.
    parameters : tuple of inspect.Parameter
        What filters write in parentheses.
    functions : dict
        "call", or, of a connection, "update" and, if there, "new" and "clear".
    state : dtype or None
        Kind "connection": what is kept per connection.
    """

    name: str
    kind: str
    functions: dict[str, Callable[..., Any]]
    parameters: tuple[inspect.Parameter, ...] = ()
    protocol: str = ""
    fields: tuple[str, ...] = ()
    state: np.dtype[Any] | None = None

    def bind(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the values of all parameters; what is left out has its default.

        Raises
        ------
        PredicateError
            There are too few or too many.
        """
        least = sum(p.default is p.empty for p in self.parameters)
        if not least <= len(arguments) <= len(self.parameters):
            wanted = f"{least}" if least == len(self.parameters) else f"{least} to {len(self.parameters)}"
            names = ", ".join(p.name for p in self.parameters)
            raise PredicateError(f"{self.name} takes {wanted} value{'s' * (wanted != '1')}{f' ({names})' if names else ''}, not {len(arguments)}")
        return (*arguments, *(p.default for p in self.parameters[len(arguments) :]))


@dataclass(frozen=True)
class Call:
    """A predicate as a filter calls it, with its values."""

    predicate: Predicate = field(compare=False)
    name: str
    arguments: tuple[Any, ...]

    @property
    def label(self) -> str:
        """Return it as a filter writes it."""
        return f"{self.name}({', '.join(repr(a) for a in self.arguments)})"


_known: dict[str, Predicate] = {}


def predicates() -> dict[str, Predicate]:
    """Return every predicate by name."""
    return dict(_known)


def forget_predicates(*names: str) -> None:
    """Take predicates out of the registry."""
    for name in names:
        _known.pop(name, None)


def predicate(what: Any = None) -> Any:
    """Make a filter predicate of a function or a class (decorator), in a file, an app or a notebook cell.

    It is compiled in nopython mode, may be a closure, and filters call it by name: `tcp and long_lived(10)`. Values in
    parentheses (numbers, texts) go to its last parameters; with defaults for all of them the bare name is enough.

    - `@predicate` on a function `f(packet, ...)`: asked of each packet. `packet` has ts [ns], length, caplen, payload_len,
      captured_len, direction, src_port, dst_port, protocol, tcp_flags, seq, ack, window.
    - `@predicate("tls")` on a function `f(sni, version, ...)`: asked of each session; its first parameters are fields of
      the protocol. Numbers come as integers, texts and bytes as str (a character per byte). `@predicate("conn")`: asked of
      the connection at its end.
    - `@predicate` on a class with `state` (a numpy dtype, one record per connection, zero at first) and
      `update(state, packet, ...)`: asked of a connection, packet by packet, until it says ACCEPT or DROP instead of CONTINUE.
      Optional: `new(state, packet, ...)`, called before the first `update`, and `clear(state)`, called once when nothing more is
      asked. What is undecided at the end of the connection does not hold.

    Raises
    ------
    PredicateError
        Its shape is none of these; names what is missing.
    """
    if isinstance(what, str):
        return lambda function: _register(_of_session(function, what))
    if what is None:
        return predicate
    return _register(_of_connection(what) if isinstance(what, type) else _of_packet(what))


def _register(made: Predicate) -> Any:
    where = f"predicate {made.name}"
    if made.name.lower().startswith("not") or made.name in _RESERVED:
        raise PredicateError(f"{where}: filters would read `not` or an operator; choose another name")
    known = protocols()
    if made.name in known or any(made.name in p.aliases for p in known.values()):
        raise PredicateError(f"{where}: the name is a protocol's; choose another one")
    for p in made.parameters:
        if p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            raise PredicateError(f"{where}: parameter {p.name!r}: write plain parameters, with defaults if you like")
        if p.default is not p.empty and not isinstance(p.default, bool | int | float | str):
            raise PredicateError(f"{where}: the default of {p.name!r} is {p.default!r}; a number or a text is needed")
    _known[made.name] = made
    return next(iter(made.functions.values())) if made.kind != "connection" else made


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def _of_packet(function: Callable[..., Any]) -> Predicate:
    if not callable(function):
        raise PredicateError(f"@predicate on {function!r}: a function or a class is needed")
    name = function.__name__
    found = _parameters(function)
    if not found or found[0].name != "packet":
        raise PredicateError(
            f"predicate {name}: its first parameter is not `packet`; for fields of sessions name the protocol: @predicate(\"tls\")"
        )
    return Predicate(name, "packet", {"call": function}, tuple(found[1:]))


def _of_session(function: Callable[..., Any], word: str) -> Predicate:
    name = getattr(function, "__name__", "")
    where = f"predicate {name}"
    if isinstance(function, type) or not callable(function):
        raise PredicateError(f"{where}: @predicate({word!r}) goes with a function; a class is asked of connections: @predicate")
    known = protocols()
    protocol = known.get(word) or next((p for p in known.values() if word in p.aliases), None)
    if protocol is None or protocol.level == "packet":
        sessions = ", ".join(p.name for p in known.values() if p.level != "packet")
        raise PredicateError(f"{where}: {word!r} is no session protocol; there are {sessions}")
    found = _parameters(function)
    fields = []
    for p in found:
        if p.name not in protocol.fields or p.default is not p.empty:
            break
        fields.append(_readable(where, protocol, p.name))
    rest = tuple(found[len(fields) :])
    if not fields:
        raise PredicateError(f"{where}: its first parameter is no field of {protocol.name}; see `retina-jit fields {protocol.name}`")
    late = [p.name for p in rest if p.name in protocol.fields]
    if late:
        raise PredicateError(f"{where}: the field {late[0]!r} stands behind values of the filter; fields come first, without defaults")
    return Predicate(name, "session", {"call": function}, rest, protocol.name, tuple(fields))


def _readable(where: str, protocol: Protocol, name: str) -> str:
    declared = protocol.fields[name]
    if declared.keyed or declared.kind not in READABLE:
        what = "needs a key" if declared.keyed else "is a list"
        raise PredicateError(f"{where}: {protocol.name}.{name} {what}, which a predicate cannot take; ask for it in the filter beside it")
    return name


def state_of(where: str, given: Any) -> np.dtype[Any]:
    """Return the dtype of a record per connection.

    Raises
    ------
    PredicateError
        It holds something else than numbers.
    """
    state = np.dtype(given)
    if not state.names:
        raise PredicateError(f"{where}: state has no fields; write e.g. np.dtype([('packets', 'i8')])")
    for name in state.names:
        if state[name].str[1:] not in _NUMBERS:
            raise PredicateError(f"{where}: field {name!r} is {state[name]}; one of {', '.join(sorted(_NUMBERS))} is needed")
    return state


def _of_connection(cls: type[Any]) -> Predicate:
    where = f"predicate {cls.__name__}"
    functions = {name: vars(cls)[name] for name in ("update", "new", "clear") if name in vars(cls)}
    functions = {name: f.__func__ if isinstance(f, staticmethod) else f for name, f in functions.items()}
    if "update" not in functions:
        raise PredicateError(f"{where}: no `update(state, packet)`")
    state = state_of(where, cls.state) if hasattr(cls, "state") else np.dtype([("spare", "i8")])
    found = _parameters(functions["update"])
    if len(found) < 2:
        raise PredicateError(f"{where}: update takes (state, packet, ...), not ({', '.join(p.name for p in found)})")
    values = tuple(found[2:])
    for name, least in (("new", 2), ("clear", 1)):
        given = _parameters(functions[name])[least:] if name in functions else []
        if (name in functions and len(_parameters(functions[name])) < least) or [p.name for p in given] not in ([], [p.name for p in values]):
            shape = "state, packet" if least == 2 else "state"
            raise PredicateError(f"{where}: {name} takes ({shape}), and either none or all of the other parameters of update")
    return Predicate(cls.__name__, "connection", functions, values, state=state)
