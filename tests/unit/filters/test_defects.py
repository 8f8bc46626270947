"""Faults of Retina's filter compiler that must not come back here; numbers are sections of the notes on Retina."""

from __future__ import annotations

import pytest
from support.filters import Rows, Runner
from traffic import packets

from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.filters.interpret import evaluate
from retina_jit.parsers.protocol import protocols

TCP4 = ("tcp", "10.0.0.1", "1.2.3.4", 5000, 80)


def _rows(*shapes):
    frames = []
    for kind, src, dst, sport, dport in shapes:
        make, number = (packets.tcp, 6) if kind == "tcp" else (packets.udp, 17)
        wrap = packets.ipv6 if ":" in src else packets.ipv4
        frames.append(wrap(src, dst, number, make(src, dst, sport, dport, b"")))
    return Rows([(f, 101, len(f)) for f in frames])


def _connections(filters, *shapes):
    """For each first packet the subscriptions that match at the connection stage."""
    runner, rows = Runner(compile_filters([FilterSpec(f, "connection") for f in filters])), _rows(*shapes)
    return [runner.decide("connection", rows.at(n))[0] for n in range(len(shapes))]


@pytest.mark.parametrize(
    ("wide", "narrow", "outside"),
    [
        ("tcp", "tcp.dst_port = 80", ("tcp", "10.0.0.1", "1.2.3.4", 5000, 81)),
        ("ipv4", "ipv4 and tcp", ("udp", "10.0.0.1", "1.2.3.4", 5000, 80)),
        ("", "tcp", ("udp", "10.0.0.1", "1.2.3.4", 5000, 80)),
        ("ipv4", "ipv4.dst_addr = 1.2.3.4", ("tcp", "10.0.0.1", "1.2.3.5", 5000, 80)),
    ],
)
def test_a_narrow_subscription_is_not_widened_by_a_wide_one(wide, narrow, outside):
    """2.5-2: the splice of single branches delivered the narrow subscription for everything."""
    assert _connections([wide, narrow], TCP4, outside) == [{0, 1}, {0}]


def test_a_connection_matches_once_however_many_ways_lead_there():
    """2.5, duplicate delivery: source and destination both match, another subscription lies under one of them."""
    runner = Runner(compile_filters([FilterSpec("ipv4.addr = 10.0.0.0/8", "packet"), FilterSpec("ipv4.src_addr = 10.0.0.1", "packet")]))
    pairs, _ = runner.packets(_rows(("tcp", "10.0.0.1", "10.0.0.2", 1, 2)))
    assert pairs == [(0, 0), (0, 1)]


def test_overlapping_ranges_exclude_nobody():
    """2.5-5b: an else-if chain made 105 miss the third range."""
    filters = ["tcp.dst_port >= 100", "tcp.dst_port = 5", "tcp.dst_port in 90..110", "tcp.dst_port != 7"]
    shapes = [("tcp", "10.0.0.1", "1.2.3.4", 5000, port) for port in (105, 5, 95, 7)]
    assert _connections(filters, *shapes) == [{0, 2, 3}, {1, 3}, {2, 3}, set()]


def test_text_predicates_exclude_nobody():
    """2.5-5a: `not contains 'abc'` and `= 'xyz'` were held exclusive, so the second callback was skipped."""
    filters = ["tls.sni not contains 'abc'", "tls.sni = 'xyz'", "tls.sni contains 'xyz'", "tls.sni ~b '^x'", "tls.sni != 'abc'"]
    plan = compile_filters([FilterSpec(f, "session") for f in filters])
    assert [evaluate(t, _Tls(b"xyz")) for t in plan.terms] == [True] * 5
    assert [evaluate(t, _Tls(b"abc")) for t in plan.terms] == [False] * 5
    tree = [line for line in plan.explain().splitlines() if "  → match" in line]
    assert len(tree) == 5, "each has its own branch"
    assert "elif" not in plan.explain()
    assert "else" not in plan.explain()


def test_a_session_branch_does_not_hang_on_a_port():
    """2.5, session code: `tls` became the else of the port tests before it, so TLS on port 80 was missed."""
    filters = ["tcp.dst_port = 80 and tls", "tls", "tcp.src_port = 80 or tls"]
    runner, rows = Runner(compile_filters([FilterSpec(f, "connection") for f in filters])), _rows(TCP4)
    matched, maybe = runner.decide("connection", rows.at(0))
    assert (matched, maybe) == (set(), {0, 1, 2})
    assert runner.decide("protocol", rows.at(0), protocols()["tls"].number, alive=maybe) == ({0, 1, 2}, set())
    assert runner.decide("protocol", rows.at(0), 0, alive=maybe) == (set(), set())


def test_equal_networks_written_differently_are_one_predicate():
    """1.2: `1.2.3.4/24` and `1.2.3.0/24` were different keys."""
    one, two = (compile_filters([FilterSpec(f"ipv4.src_addr = 1.2.3.{n}/24", "packet")]).terms[0] for n in (4, 0))
    assert one == two


def test_first_stage_passes_all_that_an_inner_node_wants():
    """2.7: inner nodes with an effect were lost where deeper ones existed."""
    runner = Runner(compile_filters([FilterSpec("ipv4", "connection"), FilterSpec("ipv4 and tcp", "packet")]))
    pairs, kept = runner.packets(_rows(TCP4, ("udp", "10.0.0.1", "1.2.3.4", 5000, 80), ("tcp", "::1", "::2", 5, 6)))
    assert pairs == [(0, 1)]
    assert kept == [True, True, False]


def test_bytes_need_no_spaces_and_no_pattern_crashes():
    """1.3: a panic each."""
    plan = compile_filters([FilterSpec("tls.sni = |7878|", "session")])
    assert plan.terms == compile_filters([FilterSpec("tls.sni = 'xx'", "session")]).terms


def test_a_protocol_named_in_a_literal_is_not_asked_for():
    """3.6: `tls.sni = 'https.x'` loaded the parser of HTTP as well, its name being part of the text."""
    assert compile_filters([FilterSpec("tls.sni = 'https.ssh.dns'", "session")]).services == {"tls"}


def test_blanks_in_strings_stay():
    """1.1: blanks at the front of a string were lost, those at its end were not."""
    plan = compile_filters([FilterSpec("tls.sni = '  x '", "session")])
    assert [evaluate(plan.terms[0], _Tls(name)) for name in (b"  x ", b"x ", b"x")] == [True, False, False]


class _Tls:
    """A TLS connection whose session is parsed."""

    def __init__(self, sni: bytes) -> None:
        self.sni = sni

    def present(self, protocol: str) -> bool:
        return protocol in ("tls", "tcp", "ipv4")

    def value(self, protocol: str, field: str) -> bytes:
        return self.sni
