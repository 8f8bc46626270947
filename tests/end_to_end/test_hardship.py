"""A run over an interface in hard times: callbacks that are too slow or raise, an interface that goes down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.namespaces import ALONE, needs_veth

TESTS = Path(__file__).parents[1]


def hardship(*job: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    done = subprocess.run(
        [*ALONE, sys.executable, "-m", "support.hardship", *job], env=environment, cwd=TESTS, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {**json.loads(done.stdout.splitlines()[-1]), "stderr": done.stderr}


@needs_veth
def test_a_callback_that_is_too_slow_loses_events_and_counts_them_all() -> None:
    got = hardship("overload", "4")
    counters, memory = got["counters"], got["memory"]
    assert got["calls"] > 500 and got["interrupted"]
    assert counters["events_lost"] > 10_000, "that was no overload"
    # Every frame is for the callback: called with it, or lost.
    assert sum(got["ledger"].values()) == counters["frames"] == got["ledger"]["delivered"] == got["calls"] + counters["events_lost"]
    assert max(memory[len(memory) // 2 :]) - memory[len(memory) // 4] < 4 << 20, memory
    assert got["stop"] < 10, "it stopped, however busy the machine; a second is the aim"


@needs_veth
def test_an_interface_may_go_down_and_come_up_again() -> None:
    got = hardship("down")
    assert got["frames"] == 150 and got["outages"] == 1
    assert got["ports"]["rj1"]["link_down"] == 1
    assert "rj1: the interface is down; waiting until it is up again" in got["stderr"]


@needs_veth
def test_a_callback_that_raises_ends_the_run_by_its_name() -> None:
    got = hardship("raise")
    assert "raised ValueError: of the callback" in got["text"]
    assert got["alive"] == [False] and got["took"] < 30
