"""How long it takes until something happens: whole processes, as a user starts them."""

from __future__ import annotations

import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import measure

SAMPLE = measure.ROOT / "retina_jit" / "samples" / "tls.pcap"
APP = """
import os

from retina_jit import ConnRecord, TlsHandshake, ZcFrame, subscribe


@subscribe({filter!r})
def handshake(tls: TlsHandshake, conn: ConnRecord) -> None:
    print(tls.sni, conn.duration)


@subscribe("")
def first(frame: ZcFrame) -> None:
    os.write(1, b"first packet")
    os._exit(0)
"""


@dataclass
class App:
    """An app that ends with its first packet."""

    path: Path

    def write(self, text: str) -> None:
        """Put another filter into it."""
        self.path.write_text(APP.format(filter=text))

    def until_first_packet(self, **changes: str) -> float:
        """Start it. Returns the seconds until its first packet is there."""
        command = [sys.executable, "-m", "retina_jit", "run", str(self.path), "-q", "-r", str(SAMPLE)]
        cost = measure.once(command, **changes)
        assert cost.out == "first packet", cost.out + cost.err
        return cost.seconds


def new_filter() -> str:
    """Return a filter that nobody has compiled yet: it looks at the server name and at the port."""
    n = random.randrange(1 << 40)
    return f"tls.sni ~ '^h{n:x}[.].*[.]com$' or (tls and tcp.port != {n % 60000 + 1024})"


def help_text() -> float:
    """Seconds that `--help` takes."""
    return measure.once([sys.executable, "-m", "retina_jit", "--help"]).seconds


def nothing() -> float:
    """Seconds that Python takes to start and to do nothing."""
    return measure.once([sys.executable, "-c", ""]).seconds


def cold() -> tuple[float, int]:
    """Seconds until the first packet with an empty cache, and how many kernels were compiled."""
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch) / "cache"
        app = App(Path(scratch) / "app.py")
        app.write("tls")
        seconds = app.until_first_packet(RETINA_JIT_CACHE=str(cache))
        return seconds, len(list(cache.glob("*.o")))


def all_figures(rounds: int, *, with_cold: bool) -> dict[str, float]:
    """Return the best of some rounds of each [s]."""
    figures = {"python alone": min(nothing() for _ in range(rounds)), "--help": min(help_text() for _ in range(rounds))}
    with tempfile.TemporaryDirectory() as scratch:
        app = App(Path(scratch) / "app.py")
        app.write("tls")
        app.until_first_packet()
        figures["second start"] = min(app.until_first_packet() for _ in range(rounds))
        edited = []
        for _ in range(rounds):
            app.write(new_filter())
            edited.append(app.until_first_packet())
        figures["edited filter"] = min(edited)
    if with_cold:
        figures["cold start"], kernels = cold()
        figures["kernels compiled"] = kernels
    return figures
