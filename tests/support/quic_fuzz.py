"""Damaged QUIC in checked mode: a process of its own, `python -m support.quic_fuzz COUNT SEED`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def _held(data: bytes) -> np.ndarray:
    return np.frombuffer(bytearray(data), np.uint8)


def fuzz(count: int, seed: int) -> str:
    """Run `count` damaged conversations of both kinds; returns a line on what was found."""
    from retina_jit import objects, stamp
    from retina_jit.parsers.quic.examples import EXAMPLES
    from retina_jit.parsers.quic.state import STATE
    from retina_jit.parsers.session import quic
    from retina_jit.state.layout import INPUT
    from support.quic_plain import CLIENT_FRAMES, SERVER_FRAMES
    from support.sessions import parser

    assert stamp.CHECKED
    kernels = Path(__file__).with_name("quic_kernels.py")
    driver = parser("quic")
    state, given, scratch = np.zeros(1, STATE), np.zeros(1, INPUT), np.zeros(1 << 16, np.uint8)
    base = [int(state.ctypes.data), driver.arena_address, int(scratch.ctypes.data)]
    plain = [_held(CLIENT_FRAMES), _held(SERVER_FRAMES)]
    words = np.array(base + [w for p in plain for w in (p.ctypes.data, p.size)], np.int64)
    hellos = objects.function(f"{kernels}:damage_frames")(int(words.ctypes.data), count, seed)
    opened = 0
    for n, example in enumerate(EXAMPLES):
        held = [(direction, _held(data)) for direction, data in example.segments]
        words = np.array(
            [*base, given.ctypes.data, driver.crypto.address, len(held), *[w for d, h in held for w in (d, h.ctypes.data, h.size)]], np.int64
        )
        opened += objects.function(f"{kernels}:damage_datagrams")(int(words.ctypes.data), count // len(EXAMPLES), seed + n)
    assert driver.used == 0, "memory was not given back"
    assert quic.STATE is STATE
    return f"{count} plaintexts, {hellos} hellos; {count} conversations, {opened} sessions"


def run(count: int, seed: int) -> str:
    """Run it in a process of its own, in checked mode."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "support.quic_fuzz", str(count), str(seed)],
        env={**os.environ, "RETINA_JIT_CHECKED": "1", "PYTHONPATH": path}, cwd=ROOT / "tests", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


if __name__ == "__main__":
    print(fuzz(int(sys.argv[1]), int(sys.argv[2])))
