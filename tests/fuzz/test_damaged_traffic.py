"""Traffic mixes, fragmented, tunnelled and damaged, in checked mode, with caps so low that each of them is reached."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from support.checked import Checked

PACKETS, EACH = 100_000, 5000


def test_state_under_damaged_traffic():
    process = Checked()
    total: Counter[str] = Counter()
    for seed in range(-(-PACKETS // EACH)):
        # The ledger, payload and memory are looked at after each run.
        total.update(process.do(Path("mixed"), "state", seed=seed, count=EACH))
    process.close()
    assert total["frames"] >= PACKETS
    assert [name for name, n in total.items() if n == 0] == []
