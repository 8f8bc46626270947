"""How a protocol declares itself, and the registry of those that did.

A protocol is one file. It declares fields (readers with a name, a sentence and a type), a gate or a parser, and the
protocols that it may sit on. Filter names, `retina-jit fields`, reference pages, dispatch and generic tests follow from
that; no other file names it. Nothing here imports Numba.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from retina_jit.errors import ProtocolError
from retina_jit.jit import Kernel
from retina_jit.parsers import wire

KINDS = ("int", "bool", "ipv4", "ipv6", "mac", "text", "bytes", "ints", "texts")


@dataclass(frozen=True)
class Field:
    """What a filter can ask for.

    Attributes
    ----------
    name : str
        The RFC's word in snake case; set by `declare` from the variable's name.
    kind : str
        One of `KINDS`. "ints" and "texts" are lists: a comparison holds if it holds for any element.
    doc : str
        One sentence.
    bits : int
        Width of a number; 0 where it has none.
    unit : str
        "byte", "ns", "32-bit word", ...; empty for a plain number.
    aliases : tuple of str
        Other full spellings, e.g. Wireshark's "tcp.srcport".
    column : str
        Column of the decoded packet row that already holds the value, or empty. For kind "ipv6" it is the stem of a
        pair of columns: "src" means `src_hi` and `src_lo`.
    shift : int
        The value is bits `shift` to `shift + bits - 1` of the column.
    side : str
        "src" or "dst" for the parts of the five-tuple, which are known of a whole connection; else empty.
    enum : dict
        Names that a filter may write instead of the number.
    keyed : bool
        A filter names a key as well, `http.headers['Host']`. Session protocols only, kinds "text" and "bytes".
    needs : str
        Bool field of the same protocol that says whether there is a value: without one no comparison holds.
    absent : int or None
        Sessions: the number that means that there is none; JSON then shows null.
    shown : bool
        Sessions: whether JSON output has it, where the data type is derived from the fields.
    """

    kind: str
    doc: str
    bits: int = 0
    unit: str = ""
    aliases: tuple[str, ...] = ()
    column: str = ""
    shift: int = 0
    side: str = ""
    enum: dict[str, int] = field(default_factory=dict, hash=False)
    keyed: bool = False
    needs: str = ""
    absent: int | None = None
    shown: bool = True
    name: str = ""
    protocol: str = ""


class Reader(Kernel):
    """A compiled reader that carries the declaration of its field.

    Header protocols: `reader(span, at)`, `at` being where the header begins. Session protocols: `reader(session)`,
    `session` being the address of the parser's state; numbers come back as a word, text and bytes as a span; lists
    take a second argument, `reader(session, n)`, and `reader(session, -1)` is their length. The second argument of a
    keyed field is the key, a span: `reader(session, key)`.
    """

    def __init__(self, function: Callable[..., Any], declaration: Field) -> None:
        super().__init__(function, role="leaf")
        self.field = declaration

    def __call__(self, *arguments: Any) -> Any:
        """Seen by type checkers only: kernels call the compiled reader, and Python cannot."""
        return super().__call__(*arguments)


def _header_reader(width: int, offset: int, declaration: Field, shift: int = 0, mask: int = -1) -> Reader:
    load = {1: wire.u8, 2: wire.u16, 3: wire.u24, 4: wire.u32, 8: wire.u64}[width]
    if mask == -1:

        def read(span: Any, at: Any) -> Any:
            return load(span, at + offset)
    else:

        def read(span: Any, at: Any) -> Any:
            return (load(span, at + offset) >> shift) & mask

    return Reader(read, declaration)


def u8(offset: int, doc: str, **more: Any) -> Reader:
    """Declare a byte of a header."""
    return _header_reader(1, offset, Field("int", doc, bits=8, **more))


def u16(offset: int, doc: str, **more: Any) -> Reader:
    """Declare a 16-bit number of a header, in network order."""
    return _header_reader(2, offset, Field("int", doc, bits=16, **more))


def u32(offset: int, doc: str, **more: Any) -> Reader:
    """Declare a 32-bit number of a header, in network order."""
    return _header_reader(4, offset, Field("int", doc, bits=32, **more))


def bits(offset: int, width: int, high: int, low: int, doc: str, **more: Any) -> Reader:
    """Declare bits `high` to `low` (from the least significant, which is 0) of the `width`-byte word at `offset`."""
    size = high - low + 1
    return _header_reader(width, offset, Field("int", doc, bits=size, **more), low, (1 << size) - 1)


def flag(offset: int, width: int, bit: int, doc: str, **more: Any) -> Reader:
    """Declare one bit as a bool field; a filter may also compare it with 0 and 1."""
    return _header_reader(width, offset, Field("bool", doc, bits=1, **more), bit, 1)


def ipv4(offset: int, doc: str, **more: Any) -> Reader:
    """Declare an IPv4 address."""
    return _header_reader(4, offset, Field("ipv4", doc, bits=32, **more))


def mac(offset: int, doc: str, **more: Any) -> Reader:
    """Declare a link-layer address, a number of 48 bits."""

    def read(span: Any, at: Any) -> Any:
        return (wire.u16(span, at + offset) << 32) | wire.u32(span, at + offset + 2)

    return Reader(read, Field("mac", doc, bits=48, **more))


def ipv6(offset: int, doc: str, **more: Any) -> Reader:
    """Declare an IPv6 address; its reader gives the pair (first eight bytes, last eight bytes)."""

    def read(span: Any, at: Any) -> Any:
        return wire.u64(span, at + offset), wire.u64(span, at + offset + 8)

    return Reader(read, Field("ipv6", doc, bits=128, **more))


def column(kind: str, name: str, doc: str, **more: Any) -> Reader:
    """Declare a field that only the decoded packet row holds (`PACKET` in `retina_jit.state.layout`)."""

    def read(row: Any) -> Any:
        raise ProtocolError(f"{name} is read from the packet row")

    return Reader(read, Field(kind, doc, column=name, **more))


def session_field(kind: str, doc: str, **more: Any) -> Callable[[Callable[..., Any]], Reader]:
    """Declare a field of a session protocol: decorates `reader(session)`, see `Reader`."""

    def declare_reader(function: Callable[..., Any]) -> Reader:
        return Reader(function, Field(kind, doc, **more))

    return declare_reader


@dataclass(frozen=True)
class Example:
    """Bytes and what they mean; run by the generic tests."""

    name: str
    hex: str
    payload_at: int
    fields: dict[str, int]


@dataclass(frozen=True)
class SessionExample:
    """A conversation and what its sessions hold; run by the generic tests.

    Attributes
    ----------
    name : str
        What it shows.
    segments : tuple of (int, bytes)
        Direction (0: from the originator) and bytes, in the order of their arrival. TCP: pieces of the streams, which
        the tests cut anew as they like; UDP: datagrams. Segment n arrives n + 1 seconds after the epoch.
    sessions : tuple of dict
        For each session, in the order of delivery, fields and what they must give: a number, a bool, bytes or a str, None
        for absent text, a list for a list. A keyed field has a dict: key to value.
    transport : int
        6, TCP, or 17, UDP.
    """

    name: str
    segments: tuple[tuple[int, bytes], ...]
    sessions: tuple[dict[str, Any], ...]
    transport: int = 6


@dataclass(frozen=True)
class Protocol:
    """One declared protocol.

    Attributes
    ----------
    name : str
        The filter's word, and the name of the file.
    level : str
        "packet" (a header) or "session" (a conversation over a transport).
    within : tuple
        Header protocols: (field of the parent, value) pairs. Session protocols: names of transports.
    fields : dict of str to Field
        What a filter can ask for.
    module : str
        Where the readers are found, by their names, and a session protocol's entries.
    number : int
        Session protocols: position in the registry plus one, the `service` word of a connection.
    data_type : str
        Session protocols: name of the data type that is derived from the fields, unless a file in
        `retina_jit/datatypes` brings one.
    ports : tuple of int
        Session protocols: it is found only where an endpoint has one of these ports; empty: on any port. An endpoint with a
        system port (below 1024) speaks for itself: the other one's port was then taken at random.
    like : str
        Session protocols: the one whose messages these are too. On `ports` it is this protocol, elsewhere the other.
    declared_in : str
        Module that called `declare`: `module`, but for a protocol that is like another.
    """

    name: str
    title: str
    level: str
    within: tuple[Any, ...]
    fields: dict[str, Field]
    module: str
    examples: tuple[Any, ...] = ()
    aliases: tuple[str, ...] = ()
    number: int = 0
    data_type: str = ""
    ports: tuple[int, ...] = ()
    like: str = ""
    declared_in: str = ""


_registry: dict[str, Protocol] = {}


def declare(
    name: str,
    title: str,
    *,
    level: str,
    within: Sequence[Any],
    examples: Iterable[Any] = (),
    aliases: Sequence[str] = (),
    data_type: str = "",
    ports: Sequence[int] = (),
    like: Protocol | None = None,
) -> Protocol:
    """Enter the calling module's protocol in the registry, with every reader that the module holds.

    With `like` and `ports` it is another protocol's parser and fields under a name of its own, for what is spoken on these
    ports.

    Raises
    ------
    ProtocolError
        The name is taken by another module, a field has no known kind, a key where there can be none, or `like` without
        `ports`.
    """
    module = sys._getframe(1).f_globals
    if like is not None:
        if not ports:
            raise ProtocolError(f"{name} is like {like.name}: say on which ports it is spoken, ports=[…]")
        return _enter(Protocol(
            name, title, level, tuple(within), _same_fields(like, name), like.module, tuple(examples), tuple(aliases),
            data_type=data_type or f"{name.capitalize()}Session", ports=tuple(ports), like=like.name, declared_in=module["__name__"],
        ))  # fmt: skip
    fields = {}
    for word, reader in module.items():
        if isinstance(reader, Reader):
            if reader.field.kind not in KINDS:
                raise ProtocolError(f"{name}.{word}: kind {reader.field.kind!r} is none of {', '.join(KINDS)}")
            if reader.field.keyed and (level != "session" or reader.field.kind not in ("text", "bytes")):
                raise ProtocolError(f"{name}.{word}: only text and bytes of a session can have a key")
            fields[word] = replace(reader.field, name=word, protocol=name)
            reader.field = fields[word]
            reader.__name__ = word
    return _enter(Protocol(
        name, title, level, tuple(within), fields, module["__name__"], tuple(examples), tuple(aliases),
        data_type=data_type or f"{name.capitalize()}Session", ports=tuple(ports), declared_in=module["__name__"],
    ))  # fmt: skip


def _enter(made: Protocol) -> Protocol:
    known = _registry.get(made.name)
    if known is not None and known.declared_in != made.declared_in:
        raise ProtocolError(f"protocol {made.name!r} is declared by {known.declared_in} and by {made.declared_in}")
    _registry[made.name] = made
    return made


def _same_fields(other: Protocol, name: str) -> dict[str, Field]:
    """Return the fields of another protocol as this one's; of their other spellings those that begin with its name."""
    head = f"{other.name}."
    return {
        word: replace(f, protocol=name, aliases=tuple(f"{name}.{a.removeprefix(head)}" for a in f.aliases if a.startswith(head)))
        for word, f in other.fields.items()
    }


def forget(module: str, *instead: Protocol) -> list[Protocol]:
    """Take what a module has declared out of the registry, and enter other protocols. Returns what was taken out."""
    taken = [p for p in _registry.values() if p.declared_in == module]
    for p in taken:
        del _registry[p.name]
    _registry.update({p.name: p for p in instead})
    return taken


@cache
def _discover() -> None:
    for package in ("retina_jit.parsers.packet", "retina_jit.parsers.connection", "retina_jit.parsers.session"):
        folder = importlib.import_module(package)
        for found in pkgutil.iter_modules(folder.__path__):
            importlib.import_module(f"{package}.{found.name}")


_looked_for_installed = False


def _discover_installed() -> None:
    global _looked_for_installed
    if not _looked_for_installed:
        _looked_for_installed = True
        importlib.import_module("retina_jit.parsers.user").load_installed()


def protocols() -> dict[str, Protocol]:
    """Return every declared protocol by name; header protocols first, session protocols numbered from 1 by name.

    Between them stands what a connection says of itself at its end (level "connection").
    """
    _discover()
    _discover_installed()
    packet = {n: p for level in ("packet", "connection") for n, p in sorted(_registry.items()) if p.level == level}
    session = [p for _, p in sorted(_registry.items()) if p.level == "session"]
    return packet | {p.name: replace(p, number=k) for k, p in enumerate(session, 1)}
