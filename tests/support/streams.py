"""A session parser for tests: it keeps what it is given, and delivers it when the connection ends.

It takes the place of TLS in a program (`install`), so a subscription to `StreamLog` shows which bytes a parser sees, in
which order, and where it is told that some are missing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retina_jit import memory, objects
from retina_jit.datatypes.base import DataType
from retina_jit.delivery.event import CONTEXT_AT, put_bytes
from retina_jit.jit import entry
from retina_jit.memory import copy, load8, store64
from retina_jit.parsers.session.contract import READY
from retina_jit.state.arena import capacity, enlarge
from retina_jit.state.arena import release as give_back
from retina_jit.state.layout import INPUT

STATE = np.dtype([("block", "i8"), ("used", "i8"), ("size", "i8"), ("told", "i8")])
RECORD = np.dtype([("log", "i8"), ("spare", "i8")])
STATE_AT, INPUT_AT, RECORD_AT = memory.at(STATE), memory.at(INPUT), memory.at(RECORD)
HEAD = 24  # direction, lost, length


@entry
def probe(address, length, direction, transport):
    if length < 4:
        return 0
    return 2 if load8(address) == 78 else 1  # "N" is not ours


@entry
def parse(state, input_at):
    s, i = STATE_AT(state), INPUT_AT(input_at)
    length = i.length - i.at
    if i.lost == 0 and length == 0:
        return 0
    need = s.used + HEAD + length
    if need > s.size:
        block = enlarge(i.arena, s.block, s.used, s.size, need)
        if block == 0:
            return 2
        s.block = block
        s.size = capacity(need)
    at = s.block + s.used
    store64(at, i.direction)
    store64(at + 8, i.lost)
    store64(at + 16, length)
    copy(at + HEAD, i.address + i.at, length)
    s.used = need
    i.at = i.length
    i.lost = 0
    return 0


@entry
def finish(state, arena):
    s = STATE_AT(state)
    if s.used == 0 or s.told:
        return 0
    s.told = 1
    return READY


@entry
def release(state, arena):
    s = STATE_AT(state)
    if s.block:
        give_back(arena, s.block, s.size)
    s.block, s.used, s.size = 0, 0, 0
    return 0


@entry
def project(context):
    c = CONTEXT_AT(context)
    s, r = STATE_AT(c.session), RECORD_AT(c.out)
    r.spare = 0
    r.log = put_bytes(context, s.block, s.used)
    return 0


class StreamLog(DataType):
    """What the parser was given."""

    __slots__ = ()
    LEVEL = "session"
    RECORD = RECORD
    PROJECT = f"{__file__}:project"
    SERVICE = "tls"

    def tokens(self) -> tuple[list[bytes | int], list[bytes | int]]:
        """Per direction: bytes, and numbers of missing bytes."""
        from oracle.tracker import put

        log, at = self._slice(0), 0
        found: tuple[list[bytes | int], list[bytes | int]] = ([], [])
        while at < len(log):
            direction, lost, length = np.frombuffer(log, "<i8", 3, at).tolist()
            put(found[direction], lost)
            put(found[direction], log[at + HEAD : at + HEAD + length])
            at += HEAD + length
        return found


def install(program: Any) -> None:
    """Let a program run this parser instead of the one of TLS."""
    record = program.services[program.sessions["tls"].number]
    for name in ("probe", "parse", "finish", "release"):
        record[name] = objects.address(f"{__file__}:{name}")
    record["state_size"] = STATE.itemsize
