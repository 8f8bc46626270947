"""Damaged conversations of every session protocol, in checked mode: no read outside the bytes, no memory kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from retina_jit.parsers.protocol import protocols

TESTS = Path(__file__).resolve().parents[1]
NAMES = sorted(n for n, p in protocols().items() if p.level == "session" and p.examples)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_conversations(name: str) -> None:
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "support.session_fuzz", name, "0", "2000"],
        env={**os.environ, "RETINA_JIT_CHECKED": "1", "PYTHONPATH": path}, cwd=TESTS, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "'conversations': 2000" in done.stdout
