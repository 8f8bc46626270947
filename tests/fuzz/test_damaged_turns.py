"""Damaged STARTTLS through the whole pipeline in checked mode: no read outside a span, no memory kept, books in balance."""

from __future__ import annotations

from support.damaged_turns import fuzz


def test_damaged_turns() -> None:
    sessions, turned, _ = fuzz(3000, seed=1)
    assert sessions > 1000
    assert turned > 1000
