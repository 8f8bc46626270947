"""Running compiled filters from Python, and the facts that their interpreter asks for."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from retina_jit import memory, objects, stamp
from retina_jit.errors import FilterError
from retina_jit.filters import FilterSpec, Plan, compile_filters
from retina_jit.filters.conditions import ROOM
from retina_jit.parsers.protocol import Field, protocols
from retina_jit.stamp import cache_dir
from retina_jit.state import layout
from retina_jit.state.layout import CONTINUE, PACKET

DECODE = "retina_jit.parsers.packet.decode:decode_rows"
FrameCase = tuple[bytes, int, int]


class Rows:
    """Decoded frames, in memory that lives as long as this."""

    def __init__(self, frames: Sequence[FrameCase]) -> None:
        self.frames = frames
        self._rows = memory.Region(max(1, len(frames)) * PACKET.itemsize)
        self.array: Any = self._rows.array(PACKET, len(frames))
        self._bytes = memory.Region(sum(len(f[0]) for f in frames) + 1)
        held, at = self._bytes.array(np.uint8), 0
        for n, (row, (data, link, length)) in enumerate(zip(self.array, frames), 1):
            held[at : at + len(data)] = np.frombuffer(data, np.uint8)
            row["frame"], row["caplen"], row["length"], row["link"] = self._bytes.address + at, len(data), length, link
            row["number"], row["ts"] = n, 1_700_000_000_000_000_000 + n
            at += len(data)
        objects.function(DECODE)(self._rows.address, len(frames))

    @property
    def address(self) -> int:
        return self._rows.address

    def at(self, n: int) -> int:
        """Address of a row."""
        return self._rows.address + n * PACKET.itemsize


class Runner:
    """The stages of a plan, callable: all, or those that are named."""

    def __init__(self, plan: Plan, stages: Iterable[str] | None = None) -> None:
        self.plan = plan
        wanted = set(plan.stages) if stages is None else set(stages)
        objects.ensure(unit for name, unit in plan.units.items() if name in wanted or name not in plan.stages)
        self._tables = plan.tables
        self._addresses = np.array([t.ctypes.data for t in self._tables] or [0], np.int64)
        self._stages = {name: objects.function(plan.units[name]) for name in plan.stages if name in wanted}

    @property
    def tables(self) -> int:
        return int(self._addresses.ctypes.data)

    def packets(self, rows: Rows) -> tuple[list[tuple[int, int]], list[bool]]:
        """Return (row, subscription) pairs in the order of delivery, and which rows go on to the connections."""
        count = len(rows.array)
        rows.array["verdict"] &= 0x7F
        room = np.zeros(max(1, count * len(self.plan.specs)), np.int64)
        found = self._stages["packet"](self.tables, rows.address, count, int(room.ctypes.data))
        pairs = [(int(w) >> 32, int(w) & 0xFFFFFFFF) for w in room[:found]]
        return pairs, [bool(v & CONTINUE) for v in rows.array["verdict"]]

    def decide(self, stage: str, *words: int, alive: set[int] | None = None) -> tuple[set[int], set[int]]:
        """Return (matched, maybe) of a later stage."""
        sets = np.full(3 * self.plan.words + ROOM, -1, np.int64)
        asked = set(range(len(self.plan.owners))) if alive is None else alive
        for w in range(self.plan.words):
            mask = sum(1 << n % 64 for n in asked if n // 64 == w)
            sets[w] = mask - (1 << 64) if mask >> 63 else mask
        if stage in self._stages:
            self._stages[stage](self.tables, *words, int(sets.ctypes.data))
        else:
            sets[self.plan.words : 3 * self.plan.words] = 0
        words_ = self.plan.words
        return _members(sets[words_ : 2 * words_]), _members(sets[2 * words_ : 3 * words_])


def _members(words: Any) -> set[int]:
    return {64 * w + bit for w, word in enumerate(words) for bit in range(64) if int(word) >> bit & 1}


def refusal(text: str, level: str) -> FilterError | None:
    """The error that a filter ends in, or None."""
    try:
        compile_filters([FilterSpec(text, level)])
    except FilterError as error:
        return error
    return None


# ------------------------------------------------------------------------------------------------------------- facts

_AT = {"ethernet": "0", "ipv4": "np.int64(row.l3)", "ipv6": "np.int64(row.l3)"}
_TYPE_AT = {113: (14, 16), 276: (0, 20)}
_TAGS = (0x8100, 0x88A8, 0x9100)


@cache
def _reading() -> tuple[Any, dict[tuple[str, str], int]]:
    """An entry that reads every header field through its reader, and where it puts each: (address of row, out)."""
    lines = [
        "import numpy as np", "from retina_jit.jit import entry", "from retina_jit.memory import at, store64",
        "from retina_jit.state.layout import PACKET",
    ]  # fmt: skip
    body = ["@entry", "def read_fields(row_at, vlan_at, out):", "    row = ROW_AT(row_at)", "    layers = np.int64(row.layers)"]
    body += ["    span = (row.frame, np.int64(row.caplen))"]
    places: dict[tuple[str, str], int] = {}
    for p in protocols().values():
        if p.level != "packet" or p.name == "frame":
            continue
        bit = getattr(layout, p.name.upper())
        later = layout.LATER_FRAGMENT if p.name not in ("ethernet", "vlan", "ipv4", "ipv6") else 0
        body.append(f"    if layers & {bit} != 0 and layers & {later} == 0:")
        body.append(f"        at_{p.name} = {'vlan_at' if p.name == 'vlan' else _AT.get(p.name, 'np.int64(row.l4)')}")
        for name, f in p.fields.items():
            place = places[(p.name, name)] = len(places)
            lines.append(f"from {p.module} import {name} as {p.name}_{name}")
            body.append(f"        value = {p.name}_{name}(span, at_{p.name})".replace("value =", f"{p.name}_{name}_v ="))
            v = f"{p.name}_{name}_v"
            if f.kind == "ipv6":
                body += [f"        store64(out + {16 * place}, {v}[0])", f"        store64(out + {16 * place + 8}, {v}[1])"]
            else:
                body.append(f"        store64(out + {16 * place}, np.int64({v}))")
    text = "\n".join([*lines, "", "ROW_AT = at(PACKET)", "", "", *body, "    return 0", ""])
    file = cache_dir() / "test_read_fields.py"
    if not file.exists() or file.read_text() != text:
        file.write_text(text)
        stamp.forget_sources()
    return objects.function(f"{file}:read_fields"), places


@dataclass
class RowFacts:
    """What a packet says, read field by field from its bytes."""

    rows: Rows
    n: int
    turned: bool = False
    session_known: bool = False
    service: str = ""
    session: Any = None
    """Field values of the session, once it is parsed."""

    def __post_init__(self) -> None:
        self.row = self.rows.array[self.n]
        read, self._places = _reading()
        self._out = np.zeros(2 * len(self._places), np.int64)
        read(self.rows.at(self.n), self._vlan_at(), int(self._out.ctypes.data))

    def _vlan_at(self) -> int:
        kind, at = _TYPE_AT.get(int(self.row["link"]), (12, 14))
        frame = self.rows.frames[self.n][0]
        return at if int.from_bytes(frame[kind : kind + 2], "big") in _TAGS else at + 8

    def present(self, protocol: str) -> bool | None:
        declared = protocols()[protocol]
        if declared.level == "session":
            if self.session_known:
                return protocol == self.service
            return None if any(self.present(t) for t in declared.within) else False
        if protocol == "frame":
            return True
        layers = int(self.row["layers"])
        if protocol in ("tcp", "udp", "icmp", "icmpv6") and layers & layout.LATER_FRAGMENT:
            return False
        return bool(layers & getattr(layout, protocol.upper()))

    def value(self, protocol: str, field: str) -> Any:
        declared = protocols()[protocol]
        if declared.level == "session":
            if self.session is None:
                return None
            found = self.session[field]
            return b"" if found is None else found
        if (protocol, field) == ("frame", "payload"):
            at = int(self.row["payload"])
            return self.rows.frames[self.n][0][at : at + int(self.row["captured_len"])]
        if protocol == "frame":
            return int(self.row[declared.fields[field].column])
        if protocol == "vlan" and (shape := declared.fields[field]).column:  # a tag may stand behind other shims
            return int(self.row["vlan_tci"]) >> shape.shift & (1 << shape.bits) - 1
        if self.turned and declared.fields[field].side:
            field = {"src": "dst", "dst": "src"}[field[:3]] + field[3:]
        place = self._places[(protocol, field)]
        high, low = int(self._out[2 * place]), int(self._out[2 * place + 1])
        if declared.fields[field].kind == "ipv6":
            return (high & (1 << 64) - 1) << 64 | low & (1 << 64) - 1
        return high


# ----------------------------------------------------------------------------------------------------- random filters


class Writer:
    """Writes random filters over declared fields; `pool` gives values that occur, so that they match now and then."""

    def __init__(self, seed: int, fields: Sequence[Field], presence: Sequence[str], pool: dict[tuple[str, str], list[Any]] | None = None) -> None:
        self.rng = random.Random(seed)
        self.fields, self.presence, self.pool = fields, presence, pool or {}

    def filter(self, depth: int = 0) -> str:
        r = self.rng.random()
        if depth > 3 or r < 0.35:
            return self.predicate()
        if r < 0.5:
            return f"not ({self.filter(depth + 1)})"
        word = " and " if r < 0.75 else " or "
        return "(" + word.join(self.filter(depth + 1) for _ in range(self.rng.choice((2, 2, 3)))) + ")"

    def predicate(self) -> str:
        if self.rng.random() < 0.25:
            return self.rng.choice(self.presence)
        f = self.rng.choice(self.fields)
        name = f"{f.protocol}.{f.name}"
        if f.side and self.rng.random() < 0.4:
            name = f"{f.protocol}.{f.name[4:]}"
        if f.kind == "bool" and self.rng.random() < 0.5:
            return name
        if f.kind in ("int", "bool", "ints"):
            return f"{name} {self.number(f)}"
        if f.kind in ("ipv4", "ipv6"):
            return f"{name} {self.address(f)}"
        if f.kind == "mac":
            values = [self.mac() for _ in range(3)]
            return f"{name} " + self.rng.choice([f"= {values[0]}", f"!= {values[0]}", f"in {{{', '.join(values)}}}"])
        return f"{name} {self.text(f)}"

    def one(self, f: Field) -> int:
        known = self.pool.get((f.protocol, f.name))
        if known and self.rng.random() < 0.7:
            return int(self.rng.choice(known))
        top = (1 << min(f.bits or 16, 62)) - 1
        return self.rng.choice([0, 1, top, self.rng.randint(0, top), self.rng.randint(0, min(top, 255))])

    def number(self, f: Field) -> str:
        a, b = sorted((self.one(f), self.one(f)))
        largest = 1 if f.kind == "bool" else (1 << min(f.bits or 62, 62)) - 1
        choices = [f"= {a}", f"!= {a}", f">= {a}", f"<= {b}", f"in {a}..{b}", f"not in {a}..{b}", f"in {{{a}, {b}, {self.one(f)}}}"]
        choices.append("in {" + ", ".join(str(self.one(f)) for _ in range(9)) + "}")
        if a < largest:
            choices.append(f"> {a}")
        if b > 0:
            choices.append(f"< {b}")
        return self.rng.choice(choices)

    def address(self, f: Field) -> str:
        from ipaddress import IPv4Address, IPv6Address

        kind, bits = (IPv4Address, 32) if f.kind == "ipv4" else (IPv6Address, 128)

        def item() -> str:
            known = self.pool.get((f.protocol, f.name))
            number = self.rng.choice(known) if known and self.rng.random() < 0.7 else self.rng.getrandbits(bits)
            text = str(kind(number))
            return f"{text}/{self.rng.randint(0, bits)}" if self.rng.random() < 0.6 else text

        many = ", ".join(item() for _ in range(self.rng.choice((2, 12))))
        return self.rng.choice([f"= {item()}", f"!= {item()}", f"in {item()}", f"in {{{many}}}", f"not in {{{many}}}"])

    def mac(self) -> str:
        known = self.pool.get(("ethernet", "dst"))
        number = self.rng.choice(known) if known and self.rng.random() < 0.7 else self.rng.getrandbits(48)
        return number.to_bytes(6, "big").hex(":")

    def text(self, f: Field) -> str:
        def item() -> bytes:
            known = [v for v in self.pool.get((f.protocol, f.name), []) if v is not None]
            return self.rng.choice(known) if known and self.rng.random() < 0.8 else b"example.com"

        def quoted(value: bytes) -> str:
            return f"|{value.hex(' ')}|" if value else "''"

        whole = item() or b"x"
        start = self.rng.randrange(len(whole))
        piece = whole[start : start + self.rng.randint(1, 4)]
        safe = "".join(chr(b) if chr(b).isalnum() else f"\\x{b:02x}" for b in piece)
        many = ", ".join(quoted(item()) for _ in range(self.rng.choice((2, 7))))
        return self.rng.choice(
            [
                f"= {quoted(item())}", f"!= {quoted(item())}", f"contains {quoted(piece)}", f"not contains {quoted(piece)}",
                f"in {{{many}}}", f"not in {{{many}}}", f"~b '{safe}'", f"~b '^{safe}'", f"~b '{safe}.*$'", f"~ '^.*{safe}' " if piece.isascii() else f"~b '{safe}'",
            ]
        )  # fmt: skip
