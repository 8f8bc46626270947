"""Damaged conversations of a session protocol in checked mode, where a read outside a span raises.

`python -m support.damaged_sessions PROTOCOL COUNT SEED` runs so many of them, made from the protocol's examples, in a process
of its own, and prints how many sessions were delivered.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np

from retina_jit import objects
from retina_jit.delivery.event import CONTEXT
from retina_jit.parsers.protocol import SessionExample, protocols
from retina_jit.state.layout import INPUT
from support.sessions import Parser

ROOT = Path(__file__).resolve().parents[2]
BATCH = 2000
SECOND = 10**9

Segment = tuple[int, bytes, int, int]
"""Direction, bytes, how many are missing before them, how many behind them."""


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes changed, doubled, left out, cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 6))):
        if not out:
            return rng.randbytes(rng.randint(0, 40))
        at, kind = rng.randrange(len(out)), rng.random()
        if kind < 0.3:
            out[at] ^= 1 << rng.randrange(8)
        elif kind < 0.55:
            out[at] = rng.choice((0, 1, 0x0C, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF, rng.randrange(256)))
        elif kind < 0.7:
            out[at : at + 2] = rng.choice((0, 1, 12, 255, 0xC00C, 0xFFFF, len(out), len(out) - at, rng.randrange(65536))).to_bytes(2, "big")
        elif kind < 0.8:
            del out[at:]
        elif kind < 0.9:
            out[at:at] = out[at : at + rng.randint(1, 40)]
        else:
            del out[at : at + rng.randint(1, 12)]
    return bytes(out)


def conversation(rng: random.Random, examples: tuple[SessionExample, ...]) -> tuple[int, list[Segment]]:
    """A transport and segments."""
    example = rng.choice(examples)
    other = rng.choice(examples)
    pieces = [*example.segments, *(other.segments if rng.random() < 0.2 and other.transport == example.transport else ())]
    found: list[Segment] = []
    for direction, data in pieces:
        if rng.random() < 0.6:
            data = damaged(rng, data)
        if rng.random() < 0.05:
            data, direction = rng.randbytes(rng.randint(0, 200)), 1 - direction
        places = sorted(rng.randint(0, len(data)) for _ in range(rng.choice((0, 0, 1, 3)) if example.transport == 6 else 0))
        for a, b in zip([0, *places], [*places, len(data)]):
            cut = rng.choice((0, 0, 0, 0, 1, 60)) if example.transport == 17 else 0
            lost = rng.choice((0, 0, 0, 0, 0, 1, 30, 2000)) if example.transport == 6 else 0
            found.append((direction, data[a:b], lost, cut))
    if rng.random() < 0.1:
        rng.shuffle(found)
    return example.transport, found


def packed(transport: int, segments: list[Segment], rng: random.Random) -> bytes:
    """A conversation as `fuzz_kernels` reads it."""
    out, ts = [np.int64(len(segments)).tobytes()], 0
    for direction, data, lost, cut in segments:
        ts += rng.choice((1, SECOND, 20 * SECOND))
        out.append(np.array([direction, transport, lost, cut, ts, len(data)], np.int64).tobytes())
        out.append(data + bytes(-len(data) % 8))
    return b"".join(out)


FOUND: dict[str, list[list[tuple[int, bytes]]]] = {
    # A line that is read again stood at the end of the bytes, where the first byte of TLS was looked for.
    "smtp": [[(0, b"MAIL FROM:<a>\r\nSTARTTLS\r\nMAIL FROM:<b>\r\n")]],
}
"""What such runs have found: run first, every time (over TCP)."""

KINDS = {"ints": 1, "texts": 2}
"""How a reader says how long its list is: as fuzz_kernels.py knows it; 0: it is no list."""


class Player:
    """Runs conversations through a parser, many in one call; all that a session shows is asked for."""

    def __init__(self, name: str) -> None:
        parser = self._parser = Parser(name, arena_size=8 << 20)
        unit = f"{Path(__file__).with_name('fuzz_kernels.py')}:conversations"
        entries = [f"{parser.protocol.module}:{n}" for n in ("probe", "parse", "finish", "release")]
        entries.append(parser.types[0].PROJECT)
        entries.append(f"{parser.reader_file}:read")
        readers = [parser.order[n] | KINDS.get(f.kind, 0) << 32 for n, f in parser.protocol.fields.items() if not f.keyed]
        objects.ensure([unit, *entries])
        self._table = np.array([*map(objects.address, entries), *readers], np.int64)
        self._readers = len(readers)
        self._state, self._given, self._context = np.zeros(1, parser.module.STATE), np.zeros(1, INPUT), np.zeros(1, CONTEXT)
        self._given["arena"], self._given["crypto"] = parser.arena_address, parser.crypto.address
        self._room = np.zeros(8 + (1 << 20) + 64, np.uint8)
        self._room[:8].view(np.int64)[0] = parser.types[0].RECORD.itemsize
        self._work = objects.function(unit)

    def play(self, conversations: bytes, count: int, every_item: bool = False) -> int:
        """Run `count` conversations that `packed` has made, one behind the other; ask for every item of lists, or for two.

        Returns how many sessions were delivered, or -1 - n if the n-th conversation keeps memory.
        """
        batch = np.frombuffer(conversations + bytes(8), np.uint8)
        address = [int(a.ctypes.data) for a in (batch, self._table, self._state, self._given, self._context, self._room)]
        readers = self._readers | int(every_item) << 32
        return self._work(address[0], count, address[1], readers, address[2], self._state.nbytes, address[3], address[4], address[5] + 8)


def run(name: str, count: int, seed: int) -> int:
    """Run damaged conversations of a protocol in this process. Returns how many sessions were delivered."""
    player = Player(name)
    rng, delivered, done = random.Random(seed), 0, 0
    examples = tuple(protocols()[name].examples)
    for segments in FOUND.get(name, []):
        assert player.play(packed(6, [(*s, 0, 0) for s in segments], rng), 1) >= 0
    while done < count:
        n = min(BATCH, count - done)
        found = player.play(b"".join(packed(*conversation(rng, examples), rng) for _ in range(n)), n)
        if found < 0:
            raise AssertionError(f"{name}, seed {seed}: conversation {done - found - 1} keeps memory")
        delivered += found
        done += n
    return delivered


def fuzz(name: str, count: int, seed: int) -> int:
    """Run them in checked mode, in a process of its own. Returns how many sessions were delivered."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "support.damaged_sessions", name, str(count), str(seed)],
        env={**os.environ, "RETINA_JIT_CHECKED": "1", "PYTHONPATH": path}, cwd=ROOT / "tests", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"{name}, seed {seed}: {ran.stderr[-2000:]}"
    return int(ran.stdout)


if __name__ == "__main__":
    assert protocols()[sys.argv[1]].level == "session"
    print(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
