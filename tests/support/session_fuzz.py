"""Damaged conversations for session parsers, in checked mode, where a read outside the bytes raises.

`RETINA_JIT_CHECKED=1 python -m support.session_fuzz http 3 10000` runs 10 000 conversations made of the protocol's declared
examples from seed 3, and prints what it has done. The process dies, or raises, at the first one that is not survived; the
seed and the number say which.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from retina_jit.parsers.protocol import SessionExample, protocols
from support.sessions import parser

Piece = list[Any]
"""Direction, bytes, lost, cut."""


def _words(examples: list[SessionExample]) -> list[bytes]:
    """Pieces that mean something to the protocol: runs of bytes of its examples."""
    rng = random.Random(0)
    streams = [data for e in examples for _, data in e.segments]
    found = [b"\r\n", b"\r\n\r\n", b"\0", b"\xff" * 4, b"\0\0\0\0"]
    for data in streams:
        for _ in range(12):
            at = rng.randrange(len(data))
            found.append(data[at : at + rng.choice((1, 2, 4, 8, 16, 60))])
    return found


def damage(rng: random.Random, segments: list[Piece], words: list[bytes]) -> None:
    """Change a conversation in one way."""
    if not segments:
        segments.append([rng.randint(0, 1), rng.randbytes(rng.randint(1, 80)), 0, 0])
        return
    n = rng.randrange(len(segments))
    data = bytearray(segments[n][1])
    at = rng.randint(0, len(data))
    kind = rng.randrange(12)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = rng.choice((0, 1, 0x0A, 0x0D, 0x20, 0x7F, 0x80, 0xFF))
    elif kind in (2, 3):
        data[at:at] = rng.choice(words)
    elif kind == 4:
        word = rng.choice(words)
        data[at : at + len(word)] = word
    elif kind == 5:
        del data[at : at + rng.choice((1, 2, 4, 20, 400))]
    elif kind == 6:
        del data[at:]
    elif kind == 7:
        segments.insert(rng.randint(0, len(segments)), list(segments[n]))
    elif kind == 8:
        segments[n][0] ^= 1
    elif kind == 9:
        segments[n][2] = rng.choice((1, 2, 7, 100, 1460, 1 << 20))
    elif kind == 10:
        segments[n][3] = rng.choice((1, 2, 7, 100, 1460))
    else:
        other = rng.randrange(len(segments))
        segments[n], segments[other] = segments[other], segments[n]
        return
    segments[n][1] = bytes(data)


def conversation(rng: random.Random, examples: list[SessionExample], words: list[bytes]) -> tuple[list[Piece], int]:
    """One or two examples after one another, damaged and cut."""
    first = rng.choice(examples)
    segments: list[Piece] = [[d, data, 0, 0] for d, data in first.segments]
    if rng.random() < 0.3:
        second = rng.choice(examples)
        if second.transport == first.transport:
            segments += [[d, data, 0, 0] for d, data in second.segments]
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        damage(rng, segments, words)
    if first.transport == 6 and rng.random() < 0.5:
        pieces: list[Piece] = []
        for direction, data, lost, cut in segments:
            size = rng.choice((1, 3, 10, 50, 1000))
            parts = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
            pieces += [[direction, p, 0, 0] for p in parts]
            pieces[-len(parts)][2], pieces[-1][3] = lost, cut
        segments = pieces
    return segments, first.transport


def run(name: str, seed: int, count: int) -> dict[str, int]:
    """Give conversations to a parser, read every field of every session, and see that all memory comes back."""
    under_test = parser(name)
    examples = [e for e in protocols()[name].examples if isinstance(e, SessionExample)]
    words = _words(examples)
    sessions = 0
    for n in range(seed, seed + count):
        rng = random.Random(n)
        segments, transport = conversation(rng, examples, words)
        shown = rng.random() < 0.2  # reading every field is most of the time
        with under_test.session(transport) as session:
            if shown:
                session.shown = []
            for k, (direction, data, lost, cut) in enumerate(segments):
                if transport == 17:
                    lost = 0
                session.feed(direction, data, lost, cut, ts=k)
                if session.stopped:
                    break
                if cut and transport == 6:
                    session.feed(direction, b"", cut)
                    if session.stopped:
                        break
            session.finish()
            sessions += session.delivered
        assert under_test.used == 0, f"{name} {n}: memory was not given back"
    return {"conversations": count, "sessions": sessions}


if __name__ == "__main__":
    print(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
