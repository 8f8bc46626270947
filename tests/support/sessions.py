"""Drives a session parser from Python: bytes in, flags, fields and events out."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from retina_jit import objects, stamp
from retina_jit.datatypes import data_types
from retina_jit.delivery.event import CONTEXT, EVENT
from retina_jit.memory import Region
from retina_jit.parsers.crypto.library import Crypto
from retina_jit.parsers.protocol import protocols
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.stamp import cache_dir
from retina_jit.state.arena import ARENA
from retina_jit.state.layout import INPUT

Segment = tuple[int, bytes]
"""Direction and bytes."""
Gap = tuple[int, bytes, int]
"""Direction, bytes, and how many bytes are missing before them."""
Timed = tuple[int, int, bytes]
"""Time [s], direction and bytes."""
Shown = dict[str, Any]
"""Every field of a session, and under its data types' names their `to_dict`."""

_READ = {
    "int": "    store64(out, {call}(session))",
    "bool": "    store64(out, 1 if {call}(session) else 0)",
    "text": "    span = {call}(session)\n    store64(out, span[0])\n    store64(out + 8, span[1])",
    "ints": "    store64(out, {call}(session, n))",
    "texts": "    span = {call}(session, n)\n    store64(out, span[0])\n    store64(out + 8, span[1])",
}
_READ["bytes"] = _READ["text"]
_READ_KEYED = "    span = {call}(session, (load64(n), load64(n + 8)))\n    store64(out, span[0])\n    store64(out + 8, span[1])"
SOME_KEYS = ("Host", "no-such-key", "")
"""What `Session.fields` asks a keyed field for."""
SECOND = 10**9


class Parser:
    """The entries of one session protocol, and memory for its sessions."""

    def __init__(self, name: str, arena_size: int = 32 << 20) -> None:
        self.protocol = protocols()[name]
        self.module = importlib.import_module(self.protocol.module)
        shown = [t for t in data_types().values() if (t.SERVICE, t.LEVEL) == (name, "session")]
        self.types = [t for t in shown if t.PROJECT == shown[0].PROJECT]
        self.order = {field: n for n, field in enumerate(self.protocol.fields)}
        self.reader_file = cache_dir() / f"test_reader_{name}.py"
        units = {n: f"{self.protocol.module}:{n}" for n in ("probe", "parse", "finish", "release")}
        units["project"] = self.types[0].PROJECT
        units["read"] = f"{self.reader_file}:read"
        self._write_readers()
        objects.ensure(units.values())
        self._entries: dict[str, Callable[..., int]] = {n: objects.function(u) for n, u in units.items()}
        self._arena_memory = Region(arena_size)
        self._arena = np.zeros(1, ARENA)
        self.arena_address = int(self._arena.ctypes.data)
        self.reset_arena(arena_size)
        self.crypto = Crypto()

    def reset_arena(self, size: int) -> None:
        """Forget all that was allocated; from now on there are `size` bytes."""
        self._arena[:] = 0
        self._arena["top"] = self._arena_memory.address
        self._arena["end"] = self._arena_memory.address + size

    @property
    def used(self) -> int:
        """Bytes of the arena that are out."""
        return int(self._arena["used"][0])

    def call(self, name: str, *words: int) -> int:
        """Call an entry."""
        return self._entries[name](*words)

    def probe(self, data: bytes, direction: int = 0, transport: int = 6) -> int:
        """Ask the prober."""
        held = ctypes.create_string_buffer(data, len(data) or 1)
        return self.call("probe", ctypes.addressof(held), len(data), direction, transport)

    def session(self, transport: int = 6) -> Session:
        """Begin a connection over TCP (6) or UDP (17)."""
        return Session(self, transport)

    def run(self, segments: Iterable[Segment | Gap], transport: int = 6) -> Session:
        """Feed a connection to its end; what is delivered last is left for reading."""
        session = self.session(transport)
        for segment in segments:
            session.feed(*segment)
            if session.stopped:
                break
        session.finish()
        return session

    def conversation(
        self, segments: Iterable[Timed], transport: int = 6, keys: Iterable[str] = ()
    ) -> tuple[list[Shown], list[Shown]]:
        """What each session shows when it is delivered: those that came while bytes came, and those at the end.

        Keyed fields are asked for `keys`.
        """
        with self.session(transport) as session:
            session.keys = (*keys,) or SOME_KEYS
            session.shown = []
            for seconds, direction, data in segments:
                session.feed(direction, data, ts=seconds * SECOND)
                if session.stopped:
                    break
            parsed = len(session.shown)
            session.finish()
            return session.shown[:parsed], session.shown[parsed:]

    def _write_readers(self) -> None:
        lines = [
            "from retina_jit.jit import entry, kernel",
            "from retina_jit.memory import load64, store64",
            f"from {self.protocol.module} import {', '.join(self.protocol.fields)}",
        ]
        for name, field in self.protocol.fields.items():
            body = (_READ_KEYED if field.keyed else _READ[field.kind]).format(call=name)
            lines += ["", "", "@kernel", f"def read_{name}(session, n, out):", body]
        # One entry for all: what readers share is compiled once.
        lines += ["", "", "@entry", "def read(session, which, n, out):"]
        for which, name in enumerate(self.protocol.fields):
            lines += [f"    if which == {which}:", f"        read_{name}(session, n, out)"]
        lines += ["    return 0"]
        text = "\n".join(lines) + "\n"
        if not self.reader_file.exists() or self.reader_file.read_text() != text:
            self.reader_file.write_text(text)
            stamp.forget_sources()


class Session:
    """One connection."""

    def __init__(self, parser: Parser, transport: int = 6) -> None:
        self.parser = parser
        self.transport = transport
        self._state = np.zeros(1, parser.module.STATE)
        self._input = np.zeros(1, INPUT)
        self._out = np.zeros(2, np.int64)
        self.address = int(self._state.ctypes.data)
        self.delivered = 0
        self.stopped = False
        self.not_ours = False
        self.taken = [0, 0]
        self.keys: tuple[str, ...] = SOME_KEYS
        """What keyed fields are asked for."""
        self.shown: list[Shown] | None = None
        """Set to [] to be filled with what each session shows when it is delivered."""
        self.events: list[tuple[bytes, int, int]] = []
        """The same as events, for the views of data types."""
        self.on_delivery: Callable[[], object] | None = None
        """Called when a session is delivered; what it gives can be read then, and is gone with the next call."""

    def feed(self, direction: int, data: bytes, lost: int = 0, cut: int = 0, ts: int = 0) -> int:
        """Give bytes of one direction, `cut` more of which were not captured, captured at `ts` [ns]; returns the flags of the last call."""
        held = ctypes.create_string_buffer(data, len(data) or 1)
        given = self._input
        given[:] = 0
        given["address"], given["length"], given["direction"] = ctypes.addressof(held), len(data), direction
        given["lost"], given["cut"], given["arena"] = lost, cut, self.parser.arena_address
        given["transport"], given["ts"], given["crypto"] = self.transport, ts, self.parser.crypto.address
        flags = READY
        while flags & READY and not self.stopped:
            before = int(given["at"][0])
            flags = self.parser.call("parse", self.address, int(given.ctypes.data))
            after = int(given["at"][0])
            assert before <= after <= len(data)
            assert flags or after == len(data), "bytes were left over"
            self.taken[direction] += after - before
            if flags & READY:
                self._deliver()
            self.stopped = bool(flags & (STOP | NOT_OURS))
            self.not_ours |= bool(flags & NOT_OURS)
        return flags

    def finish(self) -> int:
        """End the connection."""
        first = flags = self.parser.call("finish", self.address, self.parser.arena_address)
        while flags & READY:
            self._deliver()
            flags = self.parser.call("finish", self.address, self.parser.arena_address)
        return first

    def _deliver(self) -> None:
        self.delivered += 1
        if self.on_delivery is not None:
            self.on_delivery()
        if self.shown is not None:
            event = self.event(room=1 << 17)
            self.events.append(event)
            views = {t.__name__: t(*event).to_dict() for t in self.parser.types}
            self.shown.append(self.fields() | views)

    def release(self) -> None:
        """Free what the parser holds."""
        self.parser.call("release", self.address, self.parser.arena_address)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _read(self, name: str, n: int = 0) -> tuple[int, int]:
        self._out[:] = 0
        self.parser.call("read", self.address, self.parser.order[name], n, int(self._out.ctypes.data))
        return int(self._out[0]), int(self._out[1])

    def keyed(self, name: str, key: str) -> bytes | None:
        """The value of a keyed field for one key."""
        held = key.encode()
        span = np.array([0, len(held)], np.int64)
        data = ctypes.create_string_buffer(held, len(held) or 1)
        span[0] = ctypes.addressof(data)
        address, length = self._read(name, int(span.ctypes.data))
        return ctypes.string_at(address, length) if address else None

    def __getitem__(self, name: str) -> Any:
        """The value of a field: int, bool, bytes, or a list; None for absent text; of a keyed field some of its keys'."""
        if self.parser.protocol.fields[name].keyed:
            return {key: self.keyed(name, key) for key in self.keys}
        kind = self.parser.protocol.fields[name].kind
        if kind in ("int", "bool"):
            value = self._read(name)[0]
            return bool(value) if kind == "bool" else value
        if kind == "ints":
            return [self._read(name, n)[0] for n in range(self._read(name, -1)[0])]
        if kind == "texts":
            return [ctypes.string_at(*self._read(name, n)) for n in range(self._read(name, -1)[1])]
        address, length = self._read(name)
        return ctypes.string_at(address, length) if address else None

    def fields(self) -> dict[str, Any]:
        """Every field."""
        return {name: self[name] for name in self.parser.protocol.fields}

    def event(self, room: int = 1 << 20) -> tuple[bytes, int, int]:
        """Project the session: bytes of an event, where it begins, where the record begins."""
        record = self.parser.types[0].RECORD.itemsize
        before = 40  # so that nothing depends on an event beginning at 0
        memory = np.zeros(before + EVENT.itemsize + record + room, np.uint8)
        start = int(memory.ctypes.data) + before
        context = np.zeros(1, CONTEXT)
        context["event"], context["out"] = start, start + EVENT.itemsize
        context["cursor"] = start + EVENT.itemsize + record
        context["limit"] = start + EVENT.itemsize + record + room
        context["session"] = self.address
        assert self.parser.call("project", int(context.ctypes.data)) == 0
        used = int(context["cursor"][0]) - int(memory.ctypes.data)
        assert used <= memory.size
        return memory[:used].tobytes(), before, before + EVENT.itemsize


@cache
def parser(name: str) -> Parser:
    """The parser of a protocol, one for all tests of the process. Each gives back what its sessions hold."""
    return Parser(name)


@cache
def keeper(name: str) -> Parser:
    """A parser of a protocol for sessions that are kept: their memory is not counted by other tests."""
    return Parser(name)
