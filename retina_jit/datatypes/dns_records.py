"""DNS messages as Python sees them: questions, records and EDNS, decoded when they are asked for.

What the data of a record type consists of is said in `retina_jit.parsers.dns.rdata`; the compiled writer of JSON follows
the same table (`retina_jit.parsers.dns.render`), and both must say the same.
"""

from __future__ import annotations

import socket
from base64 import b32hexencode, b64encode
from functools import cached_property
from typing import Any, NamedTuple

from retina_jit.datatypes.column import decoded
from retina_jit.parsers.dns import message as wire
from retina_jit.parsers.dns import rdata
from retina_jit.parsers.iana import dns as iana

_CONTROL = {n: f"\\{n:03}".encode() for n in (*range(32), 127)} | {46: b"\\.", 92: b"\\\\"}
_PLAIN = frozenset(range(256)) - _CONTROL.keys()


class Question(NamedTuple):
    """A question."""

    name: str
    qtype: int
    qclass: int
    """As sent; multicast DNS's top bit asks for an answer to the asker alone."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows."""
        return {"name": self.name, "type": iana.type_name(self.qtype), "class": _class_name(self.qclass)}


class ResourceRecord(NamedTuple):
    """A resource record."""

    name: str
    rtype: int
    rclass: int
    """As sent; multicast DNS's top bit tells to forget what was known."""
    ttl: int
    rdata: bytes
    """As sent."""
    data: Any
    """Decoded: a text, a list of texts, a dict; None if it is empty."""

    @property
    def type_name(self) -> str:
        """Name of the type."""
        return iana.type_name(self.rtype)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows."""
        return {"name": self.name, "type": self.type_name, "class": _class_name(self.rclass), "ttl": self.ttl, "data": self.data}


class EdnsOption(NamedTuple):
    """An option of EDNS."""

    code: int
    data: bytes

    @property
    def name(self) -> str:
        """Name of the code."""
        return iana.EDNS_OPTIONS.get(self.code) or f"OPT{self.code}"

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows."""
        return {"code": self.code, "name": self.name, "data": self.data.hex()}


class Edns(NamedTuple):
    """The OPT record (RFC 6891)."""

    udp_size: int
    version: int
    do: bool
    """The sender understands DNSSEC."""
    extended_response_code: int
    """The upper eight bits of the response code."""
    options: tuple[EdnsOption, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows."""
        return self._asdict() | {"options": [o.to_dict() for o in self.options]}


def _class_name(number: int) -> str:
    plain = number & ~wire.UNICAST
    return iana.class_name(plain if plain in iana.CLASSES else number)


# --------------------------------------------------------------------------------------------------------------- names


def _escaped(label: bytes) -> bytes:
    if _PLAIN.issuperset(label):
        return label
    return b"".join(_CONTROL.get(c) or bytes([c]) for c in label)


def _text(data: bytes) -> str:
    return decoded(data)


def read_name(message: bytes, at: int) -> tuple[str, int]:
    """Return the name at `at` and the position behind it, which is -1 for one that breaks a rule or is cut."""
    labels: list[bytes] = []
    end, start, place, length, jumps = 0, at, at, 0, 0
    while place < len(message):
        size = message[place]
        if size == 0:
            return _text(b".".join(labels)) or ".", end or place + 1
        if size >= 0xC0:
            target = int.from_bytes(message[place : place + 2], "big") & 0x3FFF
            jumps += 1
            if place + 2 > len(message) or not wire.HEADER <= target < start:
                return _text(b".".join(labels)), end or -1
            end = end or place + 2
            if jumps > wire.MOST_JUMPS:
                break
            start = place = target
            continue
        length += 1 + size
        if size > 63 or length >= wire.LONGEST_NAME or place + 1 + size > len(message):
            break
        labels.append(_escaped(message[place + 1 : place + 1 + size]))
        place += 1 + size
    return _text(b".".join(labels)), end or -1


# ---------------------------------------------------------------------------------------------------------------- data


class _UnfitError(Exception):
    """The data does not fit the description of its type."""


class _Cursor:
    """Reads the fields of a record's data, which is message[at:end]."""

    def __init__(self, message: bytes, at: int, end: int) -> None:
        self.message, self.at, self.end = message, at, end

    def take(self, size: int) -> bytes:
        if size > self.end - self.at:
            raise _UnfitError
        self.at += size
        return self.message[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def rest(self) -> bytes:
        return self.take(self.end - self.at)

    def name(self) -> str:
        text, behind = read_name(self.message, self.at)
        if not 0 <= behind <= self.end:
            raise _UnfitError
        self.at = behind
        return text

    def texts(self) -> list[str]:
        found = []
        while self.at < self.end:
            found.append(_text(self.take(self.number(1))))
        return found

    def types(self) -> list[str]:
        found = []
        while self.at < self.end:
            window, size = self.number(1), self.number(1)
            if not 0 < size <= 32:
                raise _UnfitError
            bits = self.take(size)
            found += [iana.type_name(256 * window + n) for n in range(8 * size) if bits[n >> 3] >> (7 - n % 8) & 1]
        return found

    def params(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        last = -1
        while self.at < self.end:
            key, size = self.number(2), self.number(2)
            if key <= last or size > self.end - self.at:
                raise _UnfitError
            value = _Cursor(self.message, self.at, self.at + size)
            found[_param_name(key)] = value.param(key)
            if value.at != value.end:
                raise _UnfitError
            self.at += size
            last = key
        return found

    def param(self, key: int) -> Any:
        if key == rdata.PARAM_MANDATORY:
            return [_param_name(self.number(2)) for _ in range(-(-(self.end - self.at) // 2))]
        if key == rdata.PARAM_ALPN:
            return self.texts()
        if key == rdata.PARAM_NO_DEFAULT_ALPN:
            return True
        if key == rdata.PARAM_PORT:
            return self.number(2)
        if key == rdata.PARAM_IPV4HINT:
            return [self.ipv4() for _ in range(-(-(self.end - self.at) // 4))]
        if key == rdata.PARAM_IPV6HINT:
            return [self.ipv6() for _ in range(-(-(self.end - self.at) // 16))]
        if key == rdata.PARAM_ECH:
            return b64encode(self.rest()).decode()
        return _text(self.rest()) if key == rdata.PARAM_DOHPATH else self.rest().hex()

    def ipv4(self) -> str:
        return socket.inet_ntop(socket.AF_INET, self.take(4))

    def ipv6(self) -> str:
        return socket.inet_ntop(socket.AF_INET6, self.take(16))


def _param_name(key: int) -> str:
    return iana.SVC_PARAMS.get(key) or f"key{key}"


_READ: dict[int, Any] = {
    rdata.U8: lambda c: c.number(1),
    rdata.U16: lambda c: c.number(2),
    rdata.U32: lambda c: c.number(4),
    rdata.IPV4: _Cursor.ipv4,
    rdata.IPV6: _Cursor.ipv6,
    rdata.NAME: _Cursor.name,
    rdata.KIND: lambda c: iana.type_name(c.number(2)),
    rdata.TEXT: lambda c: _text(c.take(c.number(1))),
    rdata.TEXTS: _Cursor.texts,
    rdata.LINE: lambda c: _text(c.rest()),
    rdata.HEX: lambda c: c.rest().hex(),
    rdata.BASE64: lambda c: b64encode(c.rest()).decode(),
    rdata.SALT: lambda c: c.take(c.number(1)).hex(),
    rdata.HASH: lambda c: b32hexencode(c.take(c.number(1))).decode().lower().rstrip("="),
    rdata.TYPES: _Cursor.types,
    rdata.PARAMS: _Cursor.params,
    rdata.MAC: lambda c: c.take(6).hex("-"),
}


def read_data(message: bytes, at: int, end: int, rtype: int) -> Any:
    """Return the data of a record of a type: a text, a list of texts, a dict; None if it is empty."""
    if at == end:
        return None
    fields = rdata.SCHEMAS.get(iana.TYPES.get(rtype, ""))
    if fields:
        cursor = _Cursor(message, at, end)
        try:
            found = {key: _READ[kind](cursor) for key, kind in fields}
            if cursor.at == end:
                return found[""] if "" in found else found
        except _UnfitError:
            pass
    return f"\\# {end - at} {message[at:end].hex()}"


# ------------------------------------------------------------------------------------------------------------- message


class DnsMessage:
    """A query or a response, read from its bytes. Lists end where the bytes end or break a rule."""

    def __init__(self, message: bytes) -> None:
        self.message = message

    @cached_property
    def _head(self) -> tuple[int, ...]:
        head = self.message[: wire.HEADER].ljust(wire.HEADER, b"\0") if len(self.message) >= wire.HEADER else bytes(wire.HEADER)
        return tuple(int.from_bytes(head[n : n + 2], "big") for n in range(0, wire.HEADER, 2))

    @property
    def transaction_id(self) -> int:
        """Id of the query and its response."""
        return self._head[0]

    @property
    def flags(self) -> int:
        """Second word of the header."""
        return self._head[1]

    @property
    def opcode(self) -> str:
        """Kind of query: QUERY, NOTIFY, UPDATE, ..."""
        return iana.opcode_name(self.flags >> 11 & 0xF)

    @property
    def authoritative(self) -> bool:
        """AA: whether the server has authority over the name."""
        return bool(self.flags & wire.AA)

    @property
    def truncated(self) -> bool:
        """TC: whether the message did not fit into a datagram; of multicast DNS: whether more follows."""
        return bool(self.flags & wire.TC)

    @property
    def recursion_desired(self) -> bool:
        """RD: whether the asker wants recursion."""
        return bool(self.flags & wire.RD)

    @property
    def recursion_available(self) -> bool:
        """RA: whether the server offers recursion."""
        return bool(self.flags & wire.RA)

    @property
    def authenticated_data(self) -> bool:
        """AD: whether the server has verified the data."""
        return bool(self.flags & wire.AD)

    @property
    def checking_disabled(self) -> bool:
        """CD: whether the asker takes data that is not verified."""
        return bool(self.flags & wire.CD)

    @property
    def num_questions(self) -> int:
        """How many questions the header promises."""
        return self._head[2]

    @property
    def num_answers(self) -> int:
        """How many answers the header promises."""
        return self._head[3]

    @property
    def num_nameservers(self) -> int:
        """How many records of authority the header promises."""
        return self._head[4]

    @property
    def num_additional(self) -> int:
        """How many additional records the header promises, EDNS's among them."""
        return self._head[5]

    @cached_property
    def _sections(self) -> tuple[tuple[Question, ...], list[tuple[ResourceRecord, ...]], Edns | None]:
        message, at = self.message, wire.HEADER
        questions = []
        for _ in range(self.num_questions):
            name, tail = read_name(message, at)
            if tail < 0 or tail + wire.QUESTION_TAIL > len(message):
                at = -1
                break
            questions.append(Question(name, *(int.from_bytes(message[n : n + 2], "big") for n in (tail, tail + 2))))
            at = tail + wire.QUESTION_TAIL
        edns: Edns | None = None
        sections = []
        for count in self._head[3:]:
            records = []
            for _ in range(count if at >= 0 else 0):
                name, tail = read_name(message, at)
                data = tail + wire.RECORD_TAIL
                if tail < 0 or data > len(message):
                    at = -1
                    break
                at = data + int.from_bytes(message[data - 2 : data], "big")
                if at > len(message):
                    at = -1
                    break
                rtype, rclass = (int.from_bytes(message[n : n + 2], "big") for n in (tail, tail + 2))
                ttl = int.from_bytes(message[tail + 4 : tail + 8], "big")
                if rtype == wire.OPT:
                    edns = _read_edns(rclass, ttl, message[data:at])
                else:
                    records.append(ResourceRecord(name, rtype, rclass, ttl, message[data:at], read_data(message, data, at, rtype)))
            sections.append(tuple(records))
        return tuple(questions), sections, edns

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions."""
        return self._sections[0]

    @property
    def queries(self) -> tuple[str, ...]:
        """Names of the questions."""
        return tuple(q.name for q in self.questions)

    @property
    def answers(self) -> tuple[ResourceRecord, ...]:
        """Records of the answer section."""
        return self._sections[1][0]

    @property
    def nameservers(self) -> tuple[ResourceRecord, ...]:
        """Records of the authority section; of an update: what is to be changed."""
        return self._sections[1][1]

    @property
    def additionals(self) -> tuple[ResourceRecord, ...]:
        """Additional records, without that of EDNS."""
        return self._sections[1][2]

    @property
    def edns(self) -> Edns | None:
        """What the OPT record says."""
        return self._sections[2]

    def _shown(self, *names: str) -> dict[str, Any]:
        return {name: [r.to_dict() for r in getattr(self, name)] for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.to_dict().items())})"


_SECTIONS = ("answers", "nameservers", "additionals")


class DnsQuery(DnsMessage):
    """A query."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows: sections with records (of an update, say) only where there are any."""
        names = ("num_questions", "recursion_desired", "authenticated_data", "checking_disabled")
        shown = {name: getattr(self, name) for name in names} | self._shown("questions")
        shown |= {name: records for name, records in self._shown(*_SECTIONS).items() if records}
        return shown | {"edns": self.edns.to_dict() if self.edns else None}


class DnsResponse(DnsMessage):
    """A response."""

    @property
    def response_code(self) -> str:
        """Name of the response code in the header: NOERROR, NXDOMAIN, ..."""
        return iana.rcode_name(self.flags & wire.RCODE)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON shows."""
        names = (
            *("response_code", "authoritative", "truncated", "recursion_available", "authenticated_data", "checking_disabled"),
            *("num_answers", "num_nameservers", "num_additional"),
        )
        shown = {name: getattr(self, name) for name in names} | self._shown(*_SECTIONS)
        return shown | {"edns": self.edns.to_dict() if self.edns else None}


def _read_edns(rclass: int, ttl: int, data: bytes) -> Edns:
    options, at = [], 0
    while at + 4 <= len(data):
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data):
            break
        options.append(EdnsOption(int.from_bytes(data[at : at + 2], "big"), data[at + 4 : end]))
        at = end
    return Edns(rclass, ttl >> 16 & 0xFF, bool(ttl & 0x8000), ttl >> 24, tuple(options))
