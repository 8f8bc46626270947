"""Damaged conversations that turn to TLS, through the whole pipeline in checked mode.

`python -m support.damaged_turns COUNT SEED` runs so many of them in a process of its own, and prints how many TLS sessions
were delivered, how many connections turned, and how many were given up.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

from traffic import Frame, TcpConversation

from support import tls_stacks
from support.damaged_sessions import ROOT, damaged
from support.running import collect, run_frames

BATCH = 1000
ASK = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
HEAD = b"<?xml version='1.0'?><stream:stream to='x' version='1.0'>"
OUTER: list[list[tuple[int, bytes]]] = [
    [(1, b"220 mx ESMTP\r\n"), (0, b"EHLO c\r\n"), (1, b"250-mx\r\n250 STARTTLS\r\n"), (0, b"STARTTLS\r\n"), (1, b"220 go\r\n")],
    [(1, b"220 mx ESMTP\r\n"), (0, b"EHLO c\r\nMAIL FROM:<a@b>\r\nRSET\r\nSTARTTLS\r\n"), (1, b"250 a\r\n250 b\r\n250 c\r\n220 go\r\n")],
    [(1, b"* OK ready\r\n"), (0, b"a1 STARTTLS\r\n"), (1, b"a1 OK begin\r\n")],
    [(1, b"+OK ready\r\n"), (0, b"CAPA\r\n"), (1, b"+OK\r\nSTLS\r\n.\r\n"), (0, b"STLS\r\n"), (1, b"+OK\r\n")],
    [(1, b"220-ftp\r\n220 ready\r\n"), (0, b"AUTH TLS\r\n"), (1, b"234 ok\r\n")],
    [(0, HEAD), (1, HEAD + b"<stream:features>" + ASK + b"</stream:features>"), (0, ASK), (1, b"<proceed/>")],
]


def conversation(rng: random.Random, port: int) -> list[Frame]:
    """A conversation, most of them damaged: bytes changed, cut anew, segments lost, doubled or out of order."""
    inner = rng.choice([*tls_stacks.cases().values()]).segments
    segments = [*rng.choice(OUTER), *(inner if rng.random() < 0.8 else rng.choice(OUTER))]
    talk = TcpConversation(("192.0.2.1", port), ("198.51.100.1", 25), mss=rng.choice((100, 536, 1460, 1460)))
    talk.open()
    for side, data in segments:
        if rng.random() < 0.25:
            data = damaged(rng, data)
        if rng.random() < 0.02:
            data = rng.choice((b"\x16\x03\x01", b"\r\n", b"STARTTLS\r\n", b">", rng.randbytes(700)))
        if data:
            talk.send(side, data[:3000], ack=rng.random() < 0.3)
    talk.close()
    frames = talk.frames
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        at = rng.randrange(3, len(frames))
        kind = rng.random()
        if kind < 0.4:
            del frames[at]
        elif kind < 0.6:
            frames.insert(at, frames[at])
        else:
            frames[at - 1], frames[at] = frames[at], frames[at - 1]
    return frames


def run(count: int, seed: int) -> tuple[int, int, int]:
    """Run damaged conversations in this process; each program and each batch has to balance its books."""
    rng = random.Random(seed)
    totals = [0, 0, 0]
    for start in range(0, count, BATCH):
        frames = [f for n in range(min(BATCH, count - start)) for f in conversation(rng, 20000 + n)]
        sessions, rows = collect("TlsHandshake", "tls")
        wanted = [sessions, collect("ConnRecord", "not tls.sni = 'x'")[0]]
        if rng.random() < 0.5:
            wanted += [collect("SmtpSession")[0], collect("list[DnsTransaction],ConnRecord")[0]]
        counters = run_frames(wanted, frames).counters
        for tls in rows:
            tls.to_dict()
        for n, value in enumerate((len(rows), counters["turned"], counters["turn_given_up"])):
            totals[n] += value
    return totals[0], totals[1], totals[2]


def fuzz(count: int, seed: int) -> tuple[int, int, int]:
    """Run them in checked mode, in a process of its own."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "support.damaged_turns", str(count), str(seed)],
        env={**os.environ, "RETINA_JIT_CHECKED": "1", "PYTHONPATH": path}, cwd=ROOT / "tests", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, f"seed {seed}: {ran.stderr[-2000:]}"
    sessions, turned, given_up = map(int, ran.stdout.split())
    return sessions, turned, given_up


if __name__ == "__main__":
    print(*run(int(sys.argv[1]), int(sys.argv[2])))
