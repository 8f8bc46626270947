"""Real captures against the plain twins of tracking, reassembly and fragments: every record, every byte of every stream."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from oracle.captures import read_capture
from oracle.tracker import Settings
from support.running import SAMPLES, SHARED
from support.tracking import compare
from traffic import Frame

CAPTURES = [*sorted(SAMPLES.glob("*.pcap")), *(sorted((SHARED / "pcaps").glob("*")) if SHARED.exists() else [])]
SEEN: Counter[str] = Counter()


def by_link(path: Path) -> dict[int, list[Frame]]:
    """Frames in the order of their times: with a clock that goes back, a timer and a look at the next packet differ."""
    found: dict[int, list[Frame]] = {}
    for f in read_capture(path.read_bytes()).frames:
        if f.data and 0 <= f.ts < 2**32 * 10**9:
            found.setdefault(f.link, []).append(Frame(f.ts, f.data, max(f.length, len(f.data))))
    return {link: sorted(frames, key=lambda f: f.ts_ns) for link, frames in found.items()}


@pytest.mark.parametrize("path", CAPTURES, ids=lambda p: p.name)
def test_capture_agrees_with_the_twins(path: Path) -> None:
    for link, frames in by_link(path).items():
        for settings in (Settings(parse=True, midstream=True), Settings(tcp_inactivity=3000, udp_inactivity=1000)):
            SEEN.update(compare(frames, settings, link=link))


def test_captures_have_reached_what_is_compared() -> None:
    if len(CAPTURES) < 50 or SEEN["frames"] < 100_000:
        pytest.skip("only where the captures of others are, and were all read")
    assert [n for n in ("segments_held", "holes", "overlap", "ended_closed", "ended_expired", "ended_drained", "acks_unseen") if not SEEN[n]] == []
