"""What `select` takes: data types, or names of single columns."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from retina_jit.datatypes.base import DataType, data_types, snake
from retina_jit.datatypes.column import Column, columns
from retina_jit.errors import SubscriptionError
from retina_jit.parsers.protocol import protocols
from retina_jit.sinks.gather import HEAD, Choice, Head
from retina_jit.subscription import resolved

_WORD = re.compile(r"[a-z]\w*")

SIDES = {
    "ip.src": "orig_addr", "ip.dst": "resp_addr", "ipv6.src": "orig_addr", "ipv6.dst": "resp_addr",
    "tcp.srcport": "orig_port", "tcp.dstport": "resp_port", "udp.srcport": "orig_port", "udp.dstport": "resp_port",
}  # fmt: skip
"""Wireshark's names of a packet's two sides; of a connection or session, the originator is the source."""
PEERS = {
    **{name: f"five_tuple.{column}" for name, column in SIDES.items()},
    "id.orig_h": "five_tuple.orig_addr", "id.orig_p": "five_tuple.orig_port",
    "id.resp_h": "five_tuple.resp_addr", "id.resp_p": "five_tuple.resp_port",
    "frame.time_epoch": "ts", "frame.time": "ts", "frame.len": "zc_frame.length", "frame.cap_len": "zc_frame.caplen",
    "frame.number": "zc_frame.number", "tcp.payload": "payload.data", "udp.payload": "payload.data", "communityid": "community_id.community_id",
    "eth.src": "eth_addr.src", "eth.dst": "eth_addr.dst",
}  # fmt: skip
"""Wireshark's and Zeek's names of what is no field of a session protocol."""

Path = tuple[Column, ...]
Wanted = tuple[str, type[DataType] | None, Path]
"""Name in the table, data type (None: the event's head), where in it."""


def leaves(view: type, *, hidden: bool = False) -> Iterator[Path]:
    """Give the paths to the values of a view, through nested objects."""
    for c in columns(view):
        if c.shown or hidden:
            if c.kind == "object":
                for rest in leaves(c.options["type"], hidden=hidden):
                    yield (c, *rest)
            else:
                yield (c,)


def dotted(path: Path) -> str:
    """Return "orig.nb_pkts"."""
    return ".".join(c.name for c in path)


def choose(what: Sequence[Any], addresses: str, text: str = "") -> tuple[tuple[type[DataType], ...], tuple[Choice, ...]]:
    """Find out which data types are needed, and the columns of the table.

    The capture time `ts` comes first, unless a data type has a column of that name or single columns were asked for.

    Parameters
    ----------
    what : sequence of data types, their names, or names of columns
        A column by its name ("sni"), or with its data type, protocol or object before it: "tls_handshake.sni",
        "tls.sni", "conn_record.orig.nb_pkts", "five_tuple.orig_addr". Wireshark's names too: those of fields of session
        protocols, and PEERS.
    addresses : {"str", "int", "bytes"}
    text : str
        The filter: of several data types that have a column, those of the protocols that it names are meant.

    Raises
    ------
    SubscriptionError
        No such column, or one that several data types have.
    """
    known = data_types()
    types: list[type[DataType]] = []
    wanted: list[Wanted] = []

    def need(t: type[DataType]) -> None:
        if t not in types:
            types.append(t)

    is_type = [isinstance(w, type) or (isinstance(w, str) and (w in known or w[:1].isupper())) for w in what]
    if not what or any(is_type):
        for t in resolved([w for w, is_one in zip(what, is_type, strict=True) if is_one] or ["FiveTuple"], "select"):
            need(t)
        listed = [(t, path) for t in types for path in leaves(t)]
        if not any(dotted(path) == "ts" for _, path in listed):
            wanted.append(("ts", None, _head()))
        wanted += [(dotted(path), t, path) for t, path in listed]
    for w, is_one in zip(what, is_type, strict=True):
        if not is_one:
            found = _column(str(w), types, frozenset(_WORD.findall(text)))
            if found[1] is not None:
                need(found[1])
            wanted.append(found)
    _refuse_sides([str(w) for w in what], types, text)
    return tuple(types) or resolved(["FiveTuple"], "select"), _numbered(wanted, types, addresses)


def _refuse_sides(what: Sequence[str], types: Sequence[type[DataType]], text: str) -> None:
    """Refuse names of a packet's sides where packets are delivered as those of a connection: FiveTuple tells of that then."""
    sides = [w for w in what if w in SIDES]
    sessions = {p.name for p in protocols().values() if p.level == "session"}
    if sides and any(t.LEVEL == "packet" for t in types) and sessions & set(_WORD.findall(text)):
        raise SubscriptionError(
            f"select: {sides[0]} is the source or destination of each packet, and with a filter on sessions packets are told of by their connection: "
            f"write five_tuple.{SIDES[sides[0]]}, the connection's"
        )


def _head() -> Path:
    return columns(Head)


def _numbered(wanted: Iterable[Wanted], types: Sequence[type[DataType]], addresses: str) -> tuple[Choice, ...]:
    """Make the choices; a name that is there twice gets its data type's before it."""
    made: dict[str, Choice] = {}
    for name, owner, path in wanted:
        position = HEAD if owner is None else types.index(owner)
        if name in made and made[name].path == path and made[name].position == position:
            continue
        if name in made:
            name = f"{snake(owner.__name__) if owner is not None else 'event'}.{name}"
        made[name] = Choice(name, position, path, addresses)
    return tuple(made.values())


def _column(asked: str, types: Sequence[type[DataType]], words: frozenset[str]) -> Wanted:
    """Find a column by name: with what stands before it, or in the data types that are there, or in just one of all."""
    name = PEERS.get(asked) or _aliases().get(asked, asked)
    if name == "ts":
        return asked, None, _head()
    known = data_types()
    owner, _, rest = name.partition(".")
    exact = [t for t in known.values() if rest and owner in (snake(t.__name__), t.SERVICE or None)]
    for t in exact:
        path = _path(t, rest)
        if path is not None:
            return asked, t, path
    if exact:
        raise SubscriptionError(f"select: {exact[0].__name__} has no column {rest!r}{_near(rest, [dotted(p) for p in leaves(exact[0], hidden=True)])}")
    rest_of = [t for t in known.values() if t not in types]
    for group in (types, [t for t in rest_of if t.SERVICE in words], rest_of):
        found = [(t, path) for t in group if (path := _path(t, name)) is not None]
        if len(found) == 1:
            return asked, *found[0]
        if found:
            raise SubscriptionError(f"select: {asked!r} is a column of {', '.join(t.__name__ for t, _ in found)}; write {snake(found[0][0].__name__)}.{name}")
    everything = {dotted(p) for t in known.values() for p in leaves(t, hidden=True)}
    qualified = {f"{t.SERVICE or snake(t.__name__)}.{dotted(p)}" for t in known.values() for p in leaves(t, hidden=True)}
    raise SubscriptionError(f"select: no data type and no column {asked!r}{_near(asked, [*everything, *qualified])}")


def _path(view: type[DataType], name: str) -> Path | None:
    for path in leaves(view, hidden=True):
        if dotted(path) == name:
            return path
    return None


def _near(name: str, known: Iterable[str]) -> str:
    listed = list(known)
    near = difflib.get_close_matches(name, listed, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(listed)}" if len(listed) < 60 else ""


def _aliases() -> dict[str, str]:
    """Other spellings of the fields of session protocols."""
    return {a: f"{p.name}.{f.name}" for p in protocols().values() if p.level == "session" for f in p.fields.values() for a in f.aliases}
