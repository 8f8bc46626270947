"""What two aioquic ends say to one another, against what they report of it themselves."""

from __future__ import annotations

import itertools
import random

import pytest
from support.quic_stacks import cases
from support.sessions import parser

from retina_jit.datatypes.quic_stream import QuicStream


@pytest.mark.parametrize("name", cases())
def test_the_stack_agrees(name: str) -> None:
    case = cases()[name]
    with parser("quic").run(case.segments, transport=17) as session:
        assert (session.delivered, session.stopped) == (1, True)
        found = session.fields()
        shown = QuicStream(*session.event())
    tls = case.client.tls
    assert found["sni"] == (case.client.configuration.server_name or "").encode() or found["sni"] is None
    assert (found["sni"] is None) == (case.client.configuration.server_name is None)
    assert found["client_random"] == tls.client_random.hex().encode()
    assert found["server_random"] == case.server.tls.server_random.hex().encode()
    assert found["cipher_suite"] == int(tls.key_schedule.cipher_suite)
    assert found["version"] == case.client._version
    assert found["alpn"] == [b"h3", b"hq-interop"]
    assert found["retry"] == ("retry" in case.marks)
    assert found["version_negotiation"] == ("negotiated" in case.marks)
    assert found["is_resumption"] == tls.session_resumed == ("resumed" in case.marks)
    assert found["max_idle_timeout"] == 1000 * case.client.configuration.idle_timeout
    assert found["initial_max_data"] == case.client.configuration.max_data
    assert (found["scid"] or b"") == case.client._local_initial_source_connection_id.hex().encode()
    assert (found["server_scid"] or b"") == case.server._local_initial_source_connection_id.hex().encode()
    if "negotiated" not in case.marks:
        assert (found["dcid"] or b"") == case.client.original_destination_connection_id.hex().encode()
    assert next(p.sender for p in shown.packets) == "client"
    assert shown.tls.version == 0x0304


@pytest.mark.parametrize("name", [n for n, c in cases().items() if not c.marks & {"retry", "negotiated"}])
def test_the_order_of_the_first_flight_does_not_matter(name: str) -> None:
    """A big hello comes in two datagrams; whichever is first, the same is found."""
    case = cases()[name]
    first = list(itertools.takewhile(lambda s: s[0] == 0, case.segments))
    rest = case.segments[len(first) :]
    with parser("quic").run(case.segments, transport=17) as session:
        expected = session.fields()
    for seed in range(3):
        mixed = random.Random(seed).sample(first, len(first))
        with parser("quic").run(mixed + rest, transport=17) as session:
            assert session.fields() == expected


def test_a_big_hello_needs_more_than_one_datagram() -> None:
    case = cases()["big hello"]
    with parser("quic").run(case.segments[:1], transport=17) as session:
        assert QuicStream(*session.event()).incomplete
