"""What a plan says: which stages exist, who is decided where, what is refused for a level."""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from ipaddress import ip_network

import pytest
from support.filters import Runner

from retina_jit.app import load
from retina_jit.errors import FilterError
from retina_jit.filters import FilterSpec, compile_filters


@pytest.mark.parametrize(
    ("specs", "stages", "direct", "services"),
    [
        ([], [], set(), set()),
        ([("tcp", "packet")], ["packet"], {0}, set()),
        ([("", "packet")], ["packet"], {0}, set()),
        ([("tcp", "connection")], ["packet", "connection"], set(), set()),
        ([("", "session")], ["packet", "connection"], set(), set()),
        ([("tls", "connection")], ["packet", "connection", "protocol"], set(), {"tls"}),
        ([("tls.sni = 'x'", "static")], ["packet", "connection", "protocol", "session"], set(), {"tls"}),
        ([("tcp.syn", "packet"), ("tls", "packet")], ["packet", "connection", "protocol"], {0}, {"tls"}),
        ([("tls and tcp.syn", "packet")], ["packet", "connection", "protocol", "packet_deliver"], set(), {"tls"}),
    ],
)
def test_stages(specs, stages, direct, services):
    plan = compile_filters([FilterSpec(*s) for s in specs])
    assert list(plan.stages) == stages
    assert [u for u in plan.units if "." not in u] == stages
    assert plan.direct == direct
    assert plan.services == services
    assert plan.words == -(-len(specs) // 64)


@pytest.mark.parametrize(
    ("text", "level", "reason"),
    [
        ("not ipv4 and not ipv6", "connection", ""),
        ("icmp", "connection", "connections are tracked for TCP and UDP"),
        ("icmp.type = 8 or not tcp and not udp", "session", "connections are tracked for TCP and UDP"),
        ("not tcp and not udp", "connection", "connections are tracked for TCP and UDP"),
        ("tcp", "flow", "there is no level 'flow'"),
    ],
)
def test_refused_for_a_level(text, level, reason):
    with pytest.raises(FilterError, match=reason or "tracked"):
        compile_filters([FilterSpec(text, level)])


def test_another_literal_needs_no_compilation():
    one = compile_filters([FilterSpec("tls.sni contains 'netflix' or tls.sni ~ 'x'", "session")])
    two = compile_filters([FilterSpec("tls.sni contains 'youtube' or tls.sni ~ 'a+b'", "session")])
    assert one.units == two.units
    assert [t.tobytes() for t in one.data] != [t.tobytes() for t in two.data]


def test_the_same_filters_give_the_same_units():
    specs = [FilterSpec("tcp.port = 80 and ipv4", "packet"), FilterSpec("tls.sni ~ 'x' or not tls", "connection")]
    assert compile_filters(specs).units == compile_filters(specs).units


@pytest.mark.parametrize("level", ["packet", "connection"])
def test_twenty_factors_do_not_explode(level):
    text = " and ".join(f"(tcp.src_port = {n} or ipv4.src_addr = 10.0.0.{n})" for n in range(20))
    begin = time.thread_time()
    plan = compile_filters([FilterSpec(text, level)])
    assert time.thread_time() - begin < 1
    assert sum(len(stage.source) for stage in plan.stages.values()) < 20_000


def test_long_lists_become_tables():
    ports = compile_filters([FilterSpec(" or ".join(f"tcp.port = {n}" for n in range(0, 4000, 2)), "packet")])
    assert ports.stages["packet"].source.count("\n") < 50
    assert Runner(ports).plan is ports


def test_a_set_in_a_file(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("# names\nexample.com\n\nexample.org  # with a comment\n")
    plan = compile_filters([FilterSpec(f"tls.sni in @{file}", "session")])
    assert plan.terms[0].value == (b"example.com", b"example.org")
    file.write_text("10.0.0.0/8\n2001:db8::/32\n")
    both = compile_filters([FilterSpec(f"ip.src in @'{file}'", "packet")])
    assert {t.protocol for t in both.terms[0].terms} == {"ipv4", "ipv6"}
    for text, fault in (
        ("ipv4.src_addr", "'2001:db8::/32': ipv4.src_addr is an IPv4 address; this value belongs to ipv6.src_addr"),
        ("ipv4.addr", "'2001:db8::/32': ipv4.addr is an IPv4 address; this value belongs to ipv6.addr"),
        ("tcp.port", "'10.0.0.0/8': tcp.port takes a number"),
    ):
        with pytest.raises(FilterError) as caught:
            compile_filters([FilterSpec(f"{text} in @{file}", "packet")])
        assert caught.value.reason.startswith(f"{file}, {fault}")
    file.write_text("10.0.0.1\nlocalhost\n")
    with pytest.raises(FilterError, match="'localhost': this is no IP address"):
        compile_filters([FilterSpec(f"ip.src in @{file}", "packet")])
    file.write_text("# nothing\n")
    with pytest.raises(FilterError, match="holds no value"):
        compile_filters([FilterSpec(f"tls.sni in @{file}", "session")])


def test_a_relative_path_begins_at_the_folder_of_the_app(tmp_path):
    (tmp_path / "ports.txt").write_text("80\n443\n8000..8100\n")
    plan = compile_filters([FilterSpec("tcp.port in @ports.txt", "packet", str(tmp_path))])
    assert plan.terms == compile_filters([FilterSpec("tcp.port in {80, 443, 8000..8100}", "packet")]).terms
    app = tmp_path / "app.py"
    app.write_text("from retina_jit import ConnRecord, subscribe\n\n@subscribe('tcp.port in @ports.txt')\ndef f(conn: ConnRecord): ...\n")
    assert load(str(app))[0][0].folder == str(tmp_path)


def test_a_hundred_thousand_networks(tmp_path):
    """IPv4 and IPv6 in one list; looked up as sorted ranges, the longest prefix being covered by any other."""
    rng = random.Random(4)
    lines = [f"{rng.getrandbits(8)}.{rng.getrandbits(8)}.{rng.getrandbits(8)}.0/{rng.randint(20, 32)}" for _ in range(80_000)]
    lines += [f"2001:{rng.getrandbits(16):x}:{rng.getrandbits(16):x}::/{rng.randint(33, 64)}" for _ in range(20_000)]
    (tmp_path / "nets.txt").write_text("\n".join(lines))
    begin = time.thread_time()
    plan = compile_filters([FilterSpec("ip.src in @nets.txt", "packet", str(tmp_path))])
    assert time.thread_time() - begin < 3
    assert plan.stages["packet"].source.count("\n") < 60
    four = next(t for t in plan.terms[0].terms if t.protocol == "ipv4")
    wanted = sorted((int(n.network_address), int(n.broadcast_address)) for n in (ip_network(x, strict=False) for x in lines[:2000]))
    starts = [low for low, _ in four.value]
    for low, high in wanted:
        n = bisect_right(starts, low) - 1
        assert four.value[n][0] <= low
        assert high <= four.value[n][1]


def test_which_sessions_a_filter_can_meet():
    """A callback for TLS behind `udp` or `not tls` never fires: that is said when the program is loaded."""
    texts = ["", "tls", "not tls", "udp", "tcp.port = 80", "udp or tls.sni = 'x'"]
    plan = compile_filters([FilterSpec(t, "session") for t in texts])
    assert ["tls" in found for found in plan.meets] == [True, True, False, False, True, True]


def test_parts_of_filters_that_mix_packets_and_sessions():
    texts = ["tls and tcp.port = 443", "tls and tcp.dst_port = 443", "(tls.sni = 'a' and tcp.syn) or (tls.sni = 'b' and tcp.psh)"]
    plan = compile_filters([FilterSpec(t, "packet") for t in texts])
    assert plan.per_packet == {1, 2}, "either side of a port says the same of every packet of a connection"
    assert plan.owners == (0, 1, 2, 2)
    many = " and ".join(f"(tls.sni = '{n}' or frame.len = {n})" for n in range(12))
    with pytest.raises(FilterError, match="more than 32 ways"):
        compile_filters([FilterSpec(many, "packet")])
