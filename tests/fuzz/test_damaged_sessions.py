"""Damaged conversations of every session protocol in checked mode: no read outside a span, no memory kept."""

from __future__ import annotations

import pytest
from support.damaged_sessions import fuzz

from retina_jit.parsers.protocol import protocols

NAMES = sorted(n for n, p in protocols().items() if p.level == "session" and p.examples)
COUNT = 20_000


@pytest.mark.parametrize("name", NAMES)
def test_damaged_conversations(name: str) -> None:
    assert fuzz(name, COUNT, seed=1) > COUNT // 50
