"""TLS: ns per handshake, from the bytes of both hellos to the session, and to the event that Python gets."""

from __future__ import annotations

import conversations
import measure
import pytest
from session_jobs import SessionJob

ROUNDS, TIMES = 7, 2000


STREAMS = {
    "whole": conversations.tls(),
    "in_pieces": [(side, data[n : n + 100]) for side, data in conversations.tls()[:4] for n in range(0, len(data), 100)],
}


@pytest.mark.benchmark(group="tls")
@pytest.mark.parametrize("what", ["parse", "parse_and_project"])
@pytest.mark.parametrize("stream", STREAMS)
def test_handshake(benchmark, stream, what):
    job = SessionJob("tls", STREAMS[stream], project=what != "parse")
    assert job.run(1) == 1
    benchmark.pedantic(lambda: job.run(TIMES), rounds=ROUNDS, warmup_rounds=1)
    assert job.leaked == 0
    measure.note(benchmark, TIMES, "handshake", segments=len(STREAMS[stream]))
