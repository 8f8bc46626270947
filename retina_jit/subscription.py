"""`@subscribe`: filter + data types + callback = subscription."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from retina_jit.datatypes.base import DataType, data_types
from retina_jit.datatypes.sessions import items_of, list_of, optional
from retina_jit.errors import SubscriptionError

TIERS = ("each", "batch", "jit", "sink")
MOST_TYPES = 8

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Every:
    """How often a streaming subscription is called.

    Attributes
    ----------
    unit : str
        "packets", "bytes" (of whole frames) or "seconds" (of capture time).
    interval : int
        How many; seconds in ns.
    at_end : bool
        Whether a last call is made at the end of the connection.
    """

    unit: str
    interval: int
    at_end: bool = False


@dataclass
class Subscription:
    """What is wanted: which traffic (filter), as what (data types), to whom (callback).

    Attributes
    ----------
    filter : str
        See the filter language; empty: everything.
    types : tuple of DataType classes
        What the callback gets, in its parameters' order.
    callback : callable
        Called once per event (`each`), with columns (`batch`), or compiled (`jit`); not at all when a sink takes the events.
    deliver : str
        One of `TIERS`.
    state : array or None
        `jit` only: one record per worker, the callback's last parameter.
    merge : callable or None
        `jit` only: makes one result of the workers' states: `merge(list of records)`.
    folder : str
        Where relative paths in the filter begin: that of the app, or of the TOML file.
    sink : Sink, str or None
        `sink` only: where the events are written without Python (see `retina_jit.sinks.base`), or the path of the file.
    rotate : str
        `sink` only: when its file is closed and another begun, "100M" or "10min"; empty: never.
    every : Every or None
        How often it is called while a connection lives; None: it is no streaming subscription.
    where : str
        How error messages call it; empty: by its name.
    """

    filter: str
    types: tuple[type[DataType], ...]
    callback: Callable[..., Any]
    deliver: str = "each"
    state: np.ndarray[Any, Any] | None = None
    merge: Callable[..., Any] | None = None
    name: str = ""
    folder: str = ""
    sink: Any = None
    every: Every | None = None
    where: str = ""
    rotate: str = ""
    result: Any = None
    workers: list[np.ndarray[Any, Any]] = field(default_factory=list)

    @property
    def level(self) -> str:
        """When it fires: at the latest level among its data types."""
        if self.every is not None:
            return "streaming"
        levels = {t.LEVEL for t in self.types}
        return next(x for x in ("connection", "session", "packet", "static") if x in levels)

    @property
    def services(self) -> frozenset[str]:
        """Session protocols that its data types come from."""
        return frozenset(i.SERVICE for t in self.types for i in (t, *items_of(t)) if i.SERVICE)

    @property
    def must_services(self) -> frozenset[str]:
        """Session protocols without a session of which it is never called: those of plain session types."""
        return frozenset(t.SERVICE for t in self.types if t.SERVICE)

    def check(self) -> None:
        """Refuse a combination that can never work.

        Raises
        ------
        SubscriptionError
            With the reason.
        """
        where = self.where or f"subscription {self.name!r}"
        if not self.types:
            raise SubscriptionError(f"{where}: the callback asks for no data type; known: {', '.join(sorted(data_types()))}")
        if len(self.types) > MOST_TYPES:
            raise SubscriptionError(f"{where}: {len(self.types)} data types, at most {MOST_TYPES}")
        names = [t.__name__ for t in self.types]
        packet = [t.__name__ for t in self.types if t.LEVEL == "packet"]
        other = [t.__name__ for t in self.types if t.LEVEL in ("session", "connection")]
        if packet and other:
            raise SubscriptionError(
                f"{where}: {packet[0]} is delivered for each packet, {other[0]} later; take two subscriptions"
            )
        if len(packet) > 1:
            raise SubscriptionError(f"{where}: one packet data type at most, not {' and '.join(packet)}")
        sessions = [t.__name__ for t in self.types if t.LEVEL == "session"]
        if len(self.must_services) > 1:
            raise SubscriptionError(
                f"{where}: a connection has one session protocol, not {' and '.join(sorted(self.must_services))}; "
                f"write {sessions[-1]} | None, or list[{sessions[-1]}], for sessions that may be there or not"
            )
        if len(sessions) > 1:
            raise SubscriptionError(f"{where}: one session at a time, not {' and '.join(sessions)}")
        if len(set(names)) < len(names):
            raise SubscriptionError(f"{where}: the same data type twice: {', '.join(names)}")
        if self.deliver not in TIERS:
            raise SubscriptionError(f"{where}: deliver={self.deliver!r} is none of {', '.join(TIERS)}")
        if packet and self.every is not None:
            raise SubscriptionError(f"{where}: {packet[0]} is delivered for each packet; every_... is for what a connection amounts to so far")
        if self.state is not None and self.deliver != "jit":
            raise SubscriptionError(f"{where}: state= belongs to deliver='jit'; a Python callback keeps state as it likes")


_MARK = "__retina_jit_subscriptions__"
_collected: list[Subscription] = []


def take_collected() -> list[Subscription]:
    """Return the subscriptions that `@subscribe` has made since the last call."""
    taken = list(_collected)
    _collected.clear()
    return taken


_LIST = re.compile(r"list\[(\w+)\]")
_OPTIONAL = re.compile(r"(\w+)\s*\|\s*None|Optional\[(\w+)\]")


def _of_sessions(make: Callable[..., type[DataType]], item: type[DataType], where: str) -> type[DataType]:
    if item.LEVEL != "session":
        raise SubscriptionError(f"{where}: {item.__name__} is no session: there is one per callback; write {item.__name__}")
    return make(item)


def _resolve(name: str, value: Any, where: str) -> type[DataType]:
    if isinstance(value, type) and issubclass(value, DataType) and value is not DataType:
        return value
    known = data_types()
    origin, arguments = typing.get_origin(value), typing.get_args(value)
    if isinstance(value, str):
        value = value.strip()
        if value in known:
            return known[value]
        if spelled := _LIST.fullmatch(value):
            return _of_sessions(list_of, _resolve(name, spelled[1], where), where)
        if spelled := _OPTIONAL.fullmatch(value):
            return _of_sessions(optional, _resolve(name, spelled[1] or spelled[2], where), where)
        # A protocol, or a field of one: its sessions.
        of_protocol = {t.SERVICE: n for n, t in reversed(known.items()) if t.LEVEL == "session"}
        near = [of_protocol[head]] if (head := value.partition(".")[0].lower()) in of_protocol else difflib.get_close_matches(value, known, 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"
        raise SubscriptionError(f"{where}: no data type {value!r}{hint}")
    if origin is list and len(arguments) == 1:
        return _of_sessions(list_of, _resolve(name, arguments[0], where), where)
    if origin in (typing.Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
        return _of_sessions(optional, _resolve(name, next(a for a in arguments if a is not type(None)), where), where)
    raise SubscriptionError(f"{where}: parameter {name!r} is annotated {value!r}, which is no data type")


def _annotated(callback: Callable[..., Any], where: str, skip_last: bool) -> tuple[type[DataType], ...]:
    try:
        hints = typing.get_type_hints(callback)
    except NameError as fault:
        raise SubscriptionError(f"{where}: an annotation names something unknown: {fault}") from fault
    parameters = list(inspect.signature(callback).parameters.values())
    if skip_last:
        parameters = parameters[:-1]
    found = []
    for p in parameters:
        if p.name not in hints:
            raise SubscriptionError(
                f"{where}: parameter {p.name!r} has no annotation; write the data type that it shall get, e.g. {p.name}: ConnRecord"
            )
        found.append(_resolve(p.name, hints[p.name], where))
    return tuple(found)


def subscribe(
    filter: str = "",  # noqa: A002 - the word of the field
    *datatypes: type[DataType] | str,
    deliver: str = "each",
    state: Any = None,
    merge: Callable[..., Any] | None = None,
    every_packets: int | None = None,
    every_bytes: int | None = None,
    every_seconds: float | None = None,
    at_end: bool = False,
    sink: str | None = None,
    rotate: str = "",
) -> Callable[[F], F]:
    """Subscribe a function to traffic.

    Parameters
    ----------
    filter : str
        Which traffic; empty: all of it.
    *datatypes : data types or their names
        What the function gets; taken from its annotations when left out.
    deliver : {"each", "batch", "jit"}
        One call per event; one call per some thousand events, with columns; or compiled into the worker.
    state : dtype, record or array of one record, optional
        `jit` only: a record per worker, passed as the last argument.
    merge : callable, optional
        `jit` only: gets the workers' records (structured arrays of one), its result is the subscription's `result`.
    every_packets, every_bytes, every_seconds : number, optional
        At most one: call again and again while the connection lives, first with the packet that completes the match. A
        function that returns False is not called again for that connection. See docs/levels.md.
    at_end : bool
        With one of them: also call at the end of the connection.
    sink : str, optional
        Write the events to a file instead of calling the function: "x.jsonl", .csv, .arrow, .parquet, .pcap, .pcapng by its ending,
        "zeek:FOLDER" or "zeek-json:FOLDER". Subscriptions may share a file of JSON lines.
    rotate : str, optional
        Close the file and begin another, x.00000.jsonl, x.00001.jsonl and so on: when it has "100M", every "10min", or both with a comma between.

    Raises
    ------
    SubscriptionError
        Data types that are unknown or do not go together.
    """
    if callable(filter):
        raise SubscriptionError(f"{getattr(filter, '__name__', filter)}: @subscribe needs parentheses: @subscribe(\"tls\"), or @subscribe() for all traffic")
    every = every_of({"every_packets": every_packets, "every_bytes": every_bytes, "every_seconds": every_seconds}, at_end)

    def decorate(callback: F) -> F:
        name = getattr(callback, "__name__", "callback")
        where = f"subscription {name!r}"
        if datatypes:
            resolved = tuple(_resolve(f"#{n}", t, where) for n, t in enumerate(datatypes, 1))
        else:
            resolved = _annotated(callback, where, skip_last=state is not None)
        if sink is not None and deliver not in ("each", "sink"):
            raise SubscriptionError(f"{where}: sink={sink!r} takes the events; it does not go with deliver={deliver!r}")
        if deliver == "sink" and sink is None:
            raise SubscriptionError(f"{where}: deliver='sink' needs a file, sink='x.jsonl'")
        tier = deliver if sink is None else "sink"
        made = Subscription(filter, resolved, callback, tier, _state(state), merge, name, _folder(callback), sink=sink, every=every, rotate=rotate)
        made.check()
        _collected.append(made)
        with contextlib.suppress(AttributeError):  # a builtin has no attributes of its own
            vars(callback).setdefault(_MARK, []).append(made)
        return callback

    return decorate


def subscriptions_of(given: Subscription | Callable[..., Any]) -> list[Subscription]:
    """Return the subscriptions of a function decorated with `subscribe`; a Subscription is its own.

    Raises
    ------
    SubscriptionError
        It is neither.
    """
    found = [given] if isinstance(given, Subscription) else getattr(given, _MARK, [])
    if not found:
        raise SubscriptionError(f"{getattr(given, '__name__', given)!s} is not subscribed to anything; decorate it with @subscribe(filter)")
    return list(found)


def _folder(callback: Callable[..., Any]) -> str:
    """Folder of the file that a function is written in; empty in a notebook."""
    file = getattr(getattr(callback, "__code__", None), "co_filename", "")
    return str(Path(file).resolve().parent) if Path(file).is_file() else ""


def every_of(given: Mapping[str, Any], at_end: bool, where: str = "subscribe") -> Every | None:
    """Make an `Every` of the values of every_packets, every_bytes and every_seconds.

    Raises
    ------
    SubscriptionError
        More than one is given, or one that is no positive number.
    """
    chosen = {k: v for k, v in given.items() if v is not None}
    if len(chosen) > 1:
        raise SubscriptionError(f"{where}: {' and '.join(chosen)} together; take one of them")
    if not chosen:
        if at_end:
            raise SubscriptionError(f"{where}: at_end goes with every_packets, every_bytes or every_seconds; ConnRecord comes at the end anyway")
        return None
    ((name, value),) = chosen.items()
    unit = name.removeprefix("every_")
    if isinstance(value, bool) or not isinstance(value, int | float) or (unit != "seconds" and value != int(value)):
        raise SubscriptionError(f"{where}: {name}={value!r} is no {'number' if unit == 'seconds' else 'whole number'}")
    interval = round(value * 10**9) if unit == "seconds" else int(value)
    if not 0 < interval < 1 << 62:
        raise SubscriptionError(f"{where}: {name}={value!r}: must be more than 0")
    return Every(unit, interval, at_end)


def _state(state: Any) -> np.ndarray[Any, Any] | None:
    if state is None:
        return None
    if isinstance(state, np.ndarray):
        return state.reshape(1).copy()
    if isinstance(state, np.void):
        return np.array([state])
    return np.zeros(1, np.dtype(state))


EVERY_KEYS = ("every_packets", "every_bytes", "every_seconds")
SPEC_KEYS = ("filter", "datatypes", "callback", "deliver", *EVERY_KEYS, "at_end", "streaming")


def _streaming(spec: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Retina's spelling: `streaming = { packets = 10 }`."""
    given = spec.get("streaming")
    if given is None:
        return {}
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)).lower() not in ("packets", "bytes", "seconds"):
        raise SubscriptionError(f"{where}: streaming = {given!r}: write {{ packets = N }}, {{ bytes = N }} or {{ seconds = N }}")
    ((unit, value),) = given.items()
    return {f"every_{unit.lower()}": value}


def _agree(callback: Callable[..., Any], wanted: tuple[type[DataType], ...], where: str) -> None:
    """Compare the data types of a file with the callback's parameters, and with their annotations if it has any."""
    parameters = [p for p in inspect.signature(callback).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_any = any(p.kind == p.VAR_POSITIONAL for p in inspect.signature(callback).parameters.values())
    name = getattr(callback, "__name__", "callback")
    least = sum(p.default is p.empty for p in parameters)
    if not takes_any and not least <= len(wanted) <= len(parameters):
        raise SubscriptionError(f"{where}: {name} takes {len(parameters)} parameters, datatypes names {len(wanted)}")
    hints = typing.get_type_hints(callback)
    for p, t in zip(parameters, wanted, strict=False):
        if p.name in hints and hints[p.name] is not typing.Any:
            annotated = _resolve(p.name, hints[p.name], where)
            if annotated is not t:
                raise SubscriptionError(f"{where}: {name} wants {annotated.__name__} as {p.name!r}, datatypes says {t.__name__}")


def load_subscriptions(path: str | Path, callbacks: Mapping[str, Callable[..., Any]]) -> list[Subscription]:
    """Read subscriptions from a TOML file: `[[subscriptions]]` with filter, datatypes, callback (Retina's format).

    Further keys, all optional: deliver; every_packets, every_bytes or every_seconds (or Retina's `streaming`), at_end.

    Parameters
    ----------
    path : str or Path
        The file.
    callbacks : mapping
        Functions by name, e.g. `globals()`.

    Raises
    ------
    SubscriptionError
        With the number of the entry and what is wrong with it.
    """
    try:
        content = tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError) as fault:
        raise SubscriptionError(f"{path}: {fault}") from fault
    made = []
    listed = content.get("subscriptions", [])
    if unknown_parts := sorted(set(content) - {"subscriptions"}):
        raise SubscriptionError(f"{path}: unknown table {unknown_parts[0]!r}; write [[subscriptions]]")
    if not isinstance(listed, list) or not all(isinstance(spec, dict) for spec in listed):
        raise SubscriptionError(f"{path}: subscriptions is no array of tables; write [[subscriptions]] above each entry")
    for n, spec in enumerate(listed, 1):
        where = f"{path}: subscription {n}"
        unknown = sorted(set(spec) - set(SPEC_KEYS))
        if unknown:
            near = difflib.get_close_matches(unknown[0], SPEC_KEYS, 1, 0.5)
            raise SubscriptionError(f"{where}: unknown key {unknown[0]!r}; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(SPEC_KEYS)}"))
        missing = [k for k in ("filter", "datatypes", "callback") if k not in spec]
        if missing:
            raise SubscriptionError(f"{where}: {missing[0]!r} is missing")
        for key in ("filter", "callback", "deliver"):
            if not isinstance(spec.get(key, ""), str):
                raise SubscriptionError(f"{where}: {key} = {spec[key]!r} is no text")
        callback = callbacks.get(spec["callback"])
        if not callable(callback):
            near = difflib.get_close_matches(spec["callback"], [k for k, v in callbacks.items() if callable(v)], 1)
            raise SubscriptionError(f"{where}: no function {spec['callback']!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        names = spec["datatypes"] if isinstance(spec["datatypes"], list) else [spec["datatypes"]]
        wanted = tuple(_resolve(f"#{k}", name, where) for k, name in enumerate(names, 1))
        _agree(callback, wanted, where)
        every = every_of({k: spec.get(k) for k in EVERY_KEYS} | _streaming(spec, where), bool(spec.get("at_end", False)), where)
        one = Subscription(spec["filter"], wanted, callback, spec.get("deliver", "each"), name=spec["callback"], every=every, where=where)
        one.folder = str(Path(path).resolve().parent)
        one.check()
        made.append(one)
    return made


def resolved(what: Iterable[type[DataType] | str], where: str) -> tuple[type[DataType], ...]:
    """Return data types, given as they are or by name.

    Raises
    ------
    SubscriptionError
        No such data type.
    """
    return tuple(_resolve(f"#{n}", x, where) for n, x in enumerate(what, 1))


def named(names: Iterable[type[DataType] | str], text: str, callback: Callable[..., Any], deliver: str) -> Subscription:
    """Make a subscription from names of data types (the command line)."""
    names = list(names)
    label = ",".join(n if isinstance(n, str) else n.__name__ for n in names)
    wanted = resolved(names, "log")
    made = Subscription(text, wanted, callback, deliver, name=label)
    made.check()
    return made
