"""The compiled decoder against the plain one, on synthesised and damaged frames of every link type."""

from __future__ import annotations

import sys

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import decode as oracle
from support.decoding import decode_frames, frames


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(frames(), min_size=1, max_size=20))
def test_decoder_agrees_with_plain_decoder(cases):
    got = decode_frames(cases)
    for (data, link, length), row in zip(cases, got):
        want = oracle.decode(data, link, length)
        assert row == want, (data.hex(), link, length, {k: (row[k], want[k]) for k in want if row[k] != want[k]})


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.binary(max_size=120), st.sampled_from([0, 1, 9, 51, 101, 104, 113, 229, 276])), min_size=1, max_size=40))
def test_decoder_agrees_on_any_bytes(cases):
    cases = [(data, link, len(data)) for data, link in cases]
    for (data, link, length), row in zip(cases, decode_frames(cases)):
        assert row == oracle.decode(data, link, length), (data.hex(), link, sys.byteorder)
