"""Real captures, whole, cut and damaged, in checked mode: no read outside a packet, no crash, and the ledger holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.checked import Checked
from support.running import SAMPLES, SHARED

FOREIGN = sorted((SHARED / "pcaps").glob("*")) if SHARED.exists() else []
CAPTURES = [*sorted(SAMPLES.glob("*.pcap")), *FOREIGN]
SMALL = [p for p in CAPTURES if p.stat().st_size < 300_000]
MUTATED = 100_000


@pytest.fixture(scope="module")
def checked() -> Iterator[Checked]:
    process = Checked()
    yield process
    process.close()


def some(paths: list[Path], n: int) -> list[Path]:
    return paths[:: max(1, len(paths) // n)][:n] if len(paths) > n else paths


def test_whole_captures(checked: Checked):
    for path in CAPTURES:
        assert checked.do(path, "whole")["frames"] > 0


def test_prefixes_cut_anywhere(checked: Checked):
    for seed, path in enumerate(some(SMALL, 10)):
        checked.do(path, "prefixes", seed=seed, count=20)


def test_mutated_packets(checked: Checked):
    each = 1 + MUTATED // len(SMALL)
    frames = sum(checked.do(path, "mutated", seed=seed, count=each)["frames"] for seed, path in enumerate(SMALL))
    assert frames >= MUTATED
