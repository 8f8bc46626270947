"""Two session protocols for tests, "zz_a" and "zz_b": what a byte decides is plain to see (`oracle.talk` says the same).

First byte: "A" zz_a is sure, zz_b is not; "B" the other way round; "U" neither is; anything else is neither's. Second byte, to
the parser: "!" not zz_a's, "?" not zz_b's; "R" a session is complete; "S" and nothing more comes. Each keeps what it is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from retina_jit import memory, objects
from retina_jit.datatypes import base
from retina_jit.datatypes.base import DataType
from retina_jit.delivery.event import CONTEXT_AT, put_bytes
from retina_jit.jit import entry, kernel
from retina_jit.memory import copy, load8, store64
from retina_jit.parsers import protocol as registry
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.state.arena import allocate
from retina_jit.state.arena import release as give_back
from retina_jit.state.layout import INPUT

ROOM = 8192
STATE = np.dtype([("block", "i8"), ("used", "i8"), ("done", "i8")])
RECORD = np.dtype([("log", "i8")])
STATE_AT, INPUT_AT, RECORD_AT = memory.at(STATE), memory.at(INPUT), memory.at(RECORD)
HEAD = 16  # direction, length
PROBE_LIMIT = 1


@kernel
def _look(address, length, sure, unsure):
    if length < 1:
        return 0
    byte = load8(address)
    if byte == sure:
        return 1
    return 0 if byte == unsure or byte == 85 else 2


@entry
def probe(address, length, direction, transport):
    return _look(address, length, 65, 66)


@entry
def probe_b(address, length, direction, transport):
    return _look(address, length, 66, 65)


@kernel
def _parse(state, input_at, refused):
    s, i = STATE_AT(state), INPUT_AT(input_at)
    length = i.length - i.at
    if length == 0:
        return 0
    if s.block == 0:
        s.block = allocate(i.arena, ROOM)
    if s.used + HEAD + length > ROOM:
        i.at = i.length
        return 0
    at = s.block + s.used
    store64(at, i.direction)
    store64(at + 8, length)
    copy(at + HEAD, i.address + i.at, length)
    s.used += HEAD + length
    i.at = i.length
    i.lost = 0
    second = load8(at + HEAD + 1) if length > 1 else 0
    if second == refused:
        return NOT_OURS
    if second == 82:
        return READY
    return READY | STOP if second == 83 else 0


@entry
def parse(state, input_at):
    return _parse(state, input_at, 33)


@entry
def parse_b(state, input_at):
    return _parse(state, input_at, 63)


@entry
def finish(state, arena):
    s = STATE_AT(state)
    if s.done or s.used == 0:
        return 0
    s.done = 1
    return READY


@entry
def release(state, arena):
    s = STATE_AT(state)
    give_back(arena, s.block, ROOM)
    s.block, s.used = 0, 0
    return 0


@entry
def project(context):
    c = CONTEXT_AT(context)
    s = STATE_AT(c.session)
    RECORD_AT(c.out).log = put_bytes(context, s.block, s.used)
    return 0


class TalkA(DataType):
    """What zz_a was given."""

    __slots__ = ()
    LEVEL = "session"
    RECORD = RECORD
    PROJECT = f"{__file__}:project"
    SERVICE = "zz_a"

    def log(self) -> list[tuple[int, bytes]]:
        """Side and bytes of each input."""
        data, at, found = self._slice(0), 0, []
        while at < len(data):
            side, length = np.frombuffer(data, "<i8", 2, at).tolist()
            found.append((side, data[at + HEAD : at + HEAD + length]))
            at += HEAD + length
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the log."""
        return {"log": [(side, data.hex()) for side, data in self.log()]}


class TalkB(TalkA):
    """What zz_b was given."""

    __slots__ = ()
    SERVICE = "zz_b"


@contextlib.contextmanager
def declared() -> Iterator[None]:
    """Have the two protocols and their data types in the registries meanwhile."""
    for name in ("zz_a", "zz_b"):
        made = registry.Protocol(name, name, "session", ("tcp", "udp"), {}, __file__)
        registry._registry[name] = made
    for t in (TalkA, TalkB):
        base._types[t.__name__] = t
    try:
        yield
    finally:
        for name in ("zz_a", "zz_b"):
            registry._registry.pop(name, None)
        for t in (TalkA, TalkB):
            base._types.pop(t.__name__, None)


def install(program: Any) -> None:
    """Let zz_b probe and parse in its own way."""
    number = program.sessions["zz_b"].number
    for name in ("probe", "parse"):
        if program.services[number][name]:
            program.services[number][name] = objects.address(f"{__file__}:{name}_b")
