"""`conn` fields: the connection as a whole, tested when it ends."""

from __future__ import annotations

import pytest
from support.running import collect, run_frames
from traffic import SERVER, TcpConversation

from retina_jit.errors import FilterError
from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.parsers.protocol import protocols


def _conversations():
    """Five connections to port 80 that differ in what each side sends, one closed by a reset."""
    frames = []
    for n in range(5):
        talk = TcpConversation((f"192.0.2.{n + 1}", 40000 + n), ("198.51.100.20", 80))
        talk.open()
        for _ in range(n):
            talk.to_server(b"x" * 100)
        talk.to_client(b"y" * 1000 * n)
        talk.close(by=SERVER)
        frames += talk.frames
    return frames


def _ports(found):
    return sorted(r.five_tuple.orig_port - 40000 for r in found)


FILTERS = {
    "conn.orig_payload_bytes >= 200": lambda r: r.orig.nb_payload_bytes >= 200,
    "conn.resp_payload_bytes in 1..2000 and tcp.port = 80": lambda r: 1 <= r.resp.nb_payload_bytes <= 2000,
    "not conn.packets > 9": lambda r: r.orig.nb_pkts + r.resp.nb_pkts <= 9,
    "conn.bytes > 3000 or ipv4.src_addr = 192.0.2.1": lambda r: r.orig.nb_pkt_bytes + r.resp.nb_pkt_bytes > 3000 or r.five_tuple.orig_port == 40000,
    "conn.history contains 'F'": lambda r: "F" in r.history,
    "conn.history ~ '^ShA' and conn.duration < 100 and conn.duration_ms >= 0": lambda r: r.history.startswith("ShA"),
    "conn.payload_bytes = 0": lambda r: r.orig.nb_payload_bytes + r.resp.nb_payload_bytes == 0,
}


def test_each_filter_says_which_connections_it_wants():
    everything, all_records = collect("ConnRecord")
    made = {text: collect("ConnRecord", text) for text in FILTERS}
    static, first = collect("FiveTuple", "conn.packets > 9")
    run_frames([everything, *(s for s, _ in made.values()), static], _conversations())
    assert len(all_records) == 5
    for text, holds in FILTERS.items():
        want = [r for r in all_records if holds(r)]
        assert _ports(made[text][1]) == _ports(want), text
        assert 0 < len(want) <= 5
    assert sorted(t.orig_port for t in first) == sorted(
        r.five_tuple.orig_port for r in all_records if r.orig.nb_pkts + r.resp.nb_pkts > 9
    ), "a subscription that would fire at once fires at the end"


def test_sessions_and_the_whole_connection():
    talk = TcpConversation(("192.0.2.1", 40001), ("198.51.100.20", 443))
    talk.open()
    example = next(e for e in protocols()["tls"].examples if e.transport == 6 and e.sessions and e.sessions[0].get("sni"))
    name = example.sessions[0]["sni"]
    for side, data in example.segments:
        (talk.to_client if side else talk.to_server)(data)
    talk.close()
    texts = [f"tls.sni = '{name}' and conn.packets > 3", "tls.sni = 'nobody' or conn.packets > 3", "tls.sni = 'nobody' and conn.packets > 3",
             f"tls.sni = '{name}' and conn.packets > 3000", "(tls.sni = 'nobody' and conn.packets > 3) or (tls and conn.packets < 3)"]  # fmt: skip
    made = [collect("ConnRecord", t) for t in texts]
    run_frames([s for s, _ in made], talk.frames)
    assert [len(found) for _, found in made] == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("level", ["packet", "session", "streaming"])
def test_what_fires_before_the_end_cannot_ask(level):
    with pytest.raises(FilterError, match=r"conn\.bytes is known when the connection ends"):
        compile_filters([FilterSpec("tls and conn.bytes > 5", level)])


def test_what_can_match_no_more_is_not_followed():
    """Same events, fewer packets kept: what only grows is watched while the connection lives."""
    long, short = TcpConversation(("192.0.2.1", 40000), ("198.51.100.20", 80)), TcpConversation(("192.0.2.2", 40001), ("198.51.100.20", 80))
    for talk, count in ((long, 40), (short, 1)):
        talk.open()
        for _ in range(count):
            talk.to_server(b"x" * 100)
        talk.close(by=SERVER)
    total = {n: len(t.frames) for n, t in enumerate((long, short))}
    assert total[1] < 20 < total[0]
    texts = {"conn.packets <= 20": [1], "not conn.orig_bytes > 3000": [1], "conn.bytes in 1..3000 or conn.packets = 5": [1], "conn.packets > 20": [0],
             "conn.resp_packets < 1000 and tcp.port = 80": [0, 1], "conn.packets <= 20 or conn.history contains 'z'": [1]}  # fmt: skip
    unwanted = {}
    for text, want in texts.items():
        s, found = collect("ConnRecord", text)
        result = run_frames([s], [*long.frames, *short.frames])
        assert _ports(found) == want, text
        unwanted[text] = result.counters["unwanted"]
    assert unwanted["conn.packets <= 20"] == total[0] - 21
    assert unwanted["not conn.orig_bytes > 3000"] > 5 < unwanted["conn.bytes in 1..3000 or conn.packets = 5"]
    # What becomes true stays wanted, and so does what something else may still decide.
    assert not any(unwanted[t] for t in list(texts)[3:])


def test_conn_alone_says_nothing():
    with pytest.raises(FilterError, match="a field follows"):
        compile_filters([FilterSpec("conn", "connection")])
