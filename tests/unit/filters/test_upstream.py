"""Filters of Retina's own documentation, examples and tests, literally; and what it says of broken ones."""

from __future__ import annotations

import pytest

from retina_jit.errors import FilterError
from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.filters.parse import parse
from retina_jit.parsers.protocol import protocols

PACKETS = [
    "ipv4 and tcp.port >= 100", "ipv4.addr = 127.0.0.1", "udp.dst_port != 53", "tcp.port >= 1024", "ipv4.time_to_live > 64",
    "ipv6.payload_length < 500", "ipv4.src_addr in 1.2.3.4/16", "udp.port = 19 and udp.port = 7",
    "tcp.dst_port in 135..139 and tcp.urg = 1", "tcp.syn = 1 and tcp.seq_no = 1958810375",
    "udp and udp.dst_port = 1434 and udp.length > 100", "udp and ipv4.total_length = 0 and udp.dst_port = 161",
    "ipv4.protocol = 1 and ipv4.src_addr = 3.3.3.3/32",
    "ipv4.dst_addr = 255.255.255.255 and (udp.dst_port = 161 or udp.dst_port = 162)", "", "tcp", "udp", "ipv4", "ipv6",
]  # fmt: skip
SESSIONS = [
    "tls.sni ~ 'netflix'", r"tls.sni ~ '^.*\.com$'", "(http.user_agent = '/mm.jpg') and (tcp.dst_port = 80 or tcp.dst_port = 8080)",
    "tls.version <= 771", r"ssh.protocol_version_ctos ~b '(?-u)^\x32\.\x30$'", "ssh.protocol_version_ctos = |32 2E 30|",
    "ssh.key_exchange_cookie_stoc contains |15 A1|", r"ssh.key_exchange_cookie_stoc ~b '(?-u)^\x15\x1A.+\x78$'",
    "ssh.software_version_ctos not contains 'OpenSSH'", "http.method = 'GET' or http.method = 'POST'",
    "dns and ((tcp and tcp.port != 53) or (udp and udp.port != 53))", "http and tcp and tcp.port != 80 and tcp.port != 8080",
    "tls and tcp.port != 52152", "dns and udp", "dns and tcp", "http", "tls", "dns", "ssh",
    "(tcp.port = 447 or tcp.port = 449) and (tls.sni ~ '.*f2tee4.*' or tls.sni ~ '.*rvgvtfdf.*')",
    r"tls.sni ~ '^.*\.net$'", r"tls.sni ~ '^.*\.edu$'",
]  # fmt: skip
QUIC = ["quic and udp.port != 443", "quic"]


@pytest.mark.parametrize("text", PACKETS)
def test_packet_filters(text):
    assert compile_filters([FilterSpec(text, "packet")]).direct == {0}


@pytest.mark.parametrize("text", SESSIONS)
def test_session_filters(text):
    for level in ("session", "connection", "packet", "static", "streaming"):
        assert compile_filters([FilterSpec(text, level)]).services


@pytest.mark.parametrize("text", QUIC)
def test_quic_filters(text):
    assert parse(text) is not None
    if "quic" in protocols():
        assert compile_filters([FilterSpec(text, "session")]).services == {"quic"}


def test_all_of_them_in_one_program():
    specs = [FilterSpec(t, "packet") for t in PACKETS] + [FilterSpec(t, "session") for t in SESSIONS]
    plan = compile_filters(specs)
    assert len(plan.terms) == len(specs)
    assert set(plan.stages) == {"packet", "connection", "protocol", "session"}


EVERY_FIELD = {
    "ipv4": """src_addr dst_addr addr version ihl version_ihl dscp ecn dscp_ecn type_of_service flags time_to_live protocol total_length
        identification flags_to_fragment_offset fragment_offset header_checksum rf df mf""",
    "ipv6": "src_addr dst_addr addr version dscp ecn traffic_class next_header hop_limit payload_length flow_label version_to_flow_label",
    "tcp": """src_port dst_port port seq_no ack_no data_offset reserved data_offset_to_ns flags window checksum urgent_pointer ns cwr ece urg
        ack psh rst syn fin synack""",
    "udp": "src_port dst_port port length checksum",
    "tls": """client_version server_version version compression_alg sni client_random server_random cipher ja3_str ja3s_str ja3_hash ja3s_hash
        client_compression_algs client_ciphers client_alpn_protocols client_signature_algs client_extensions server_extensions cipher_suite""",
    "http": """method uri request_version user_agent cookie host request_content_type request_transfer_encoding response_version status_msg
        response_content_type response_transfer_encoding status_code request_content_length response_content_length""",
    "dns": "query_domain answers nameservers additionals response",
    "ssh": """protocol_version_ctos protocol_version_stoc software_version_ctos software_version_stoc comments_ctos comments_stoc
        key_exchange_cookie_stoc kex_algs_stoc server_host_key_algs_stoc encryption_algs_ctos encryption_algs_stoc mac_algs_ctos mac_algs_stoc
        compression_algs_ctos compression_algs_stoc languages_ctos languages_stoc""",
}
VALUES = {"ipv4": "1.2.3.4", "ipv6": "::1", "int": "1", "ints": "1", "bool": "1", "text": "'x'", "texts": "'x'", "bytes": "|15|"}


@pytest.mark.parametrize("protocol", EVERY_FIELD)
def test_every_field_can_be_asked(protocol):
    """Also those that Retina cannot filter by: bools, lists, `cipher_suite`."""
    fields = protocols()[protocol].fields
    missing = []
    for name in EVERY_FIELD[protocol].split():
        declared = fields.get(name) or fields.get(f"src_{name}")
        if declared is None:
            missing.append(name)
            continue
        level = "packet" if protocols()[protocol].level == "packet" else "session"
        assert compile_filters([FilterSpec(f"{protocol}.{name} = {VALUES[declared.kind]}", level)]).stages
    assert not missing


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tcp.port in 90..80", "this range is empty"),
        ("ipv4.addr = 1.2.3.4/33", "prefix length"),
        ("ipv6.addr = 1::/129", "prefix length"),
        ("ipv4.addr = 1.2.3.400", "no IPv4 address"),
        ("ipv4.addr = 01.02.03.04", "no IPv4 address"),
        ("ipv6.addr = zzzz::1", "no IPv6 address"),
        ("ipv6.addr = 1:2", "no IPv6 address"),
        ("tcp.seq_no = 99999999999999999999", "out of range"),
        ("tcp.port = 70000", "out of range"),
        ("ssh.key_exchange_cookie_stoc = |15 1|", "pairs of hex digits"),
        ("ssh.key_exchange_cookie_stoc = |zz|", "pairs of hex digits"),
        ("ssh.key_exchange_cookie_stoc = ||", "pairs of hex digits"),
        ("foo", "there is no protocol foo"),
        ("TCP", "lower case"),
        ("order", "there is no protocol order"),
        ("ipv4.port = 5", "ipv4 has no field port"),
        ("tls.x = 1", "tls has no field x"),
        ("ipv4 and ipv6", "exclude each other"),
        ("tcp and udp", "exclude each other"),
        ("http and udp", "does not run over"),
        ("http.uri = 'x' and tls.sni = 'y'", "exclude each other"),
        ("tls.sni ~ '['", "regular expression"),
    ],
)
def test_broken_filters_are_explained(text, reason):
    """What Retina answers with a panic, a bare message, or a fault of the Rust compiler."""
    with pytest.raises(FilterError, match=reason) as caught:
        compile_filters([FilterSpec(text, "session")])
    line, carets = str(caught.value).splitlines()[:2]
    assert line.strip() == text
    assert "^" in carets


def test_bytes_need_no_spaces():
    """`|151A|` passes Retina's grammar and panics."""
    one = compile_filters([FilterSpec("ssh.key_exchange_cookie_stoc = |151A|", "session")])
    assert one.terms == compile_filters([FilterSpec("ssh.key_exchange_cookie_stoc = |15 1A|", "session")]).terms
