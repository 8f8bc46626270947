"""Text to tree: what is accepted, where errors point, that nothing crashes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.filters import refusal

from retina_jit.errors import FilterError
from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.filters.parse import parse
from retina_jit.filters.syntax import Group, Octets, Predicate, Quoted, SetOf, Word

# Every filter text in Retina's documentation, examples and tests.
RETINA = [
    "ipv4 and tcp.port >= 100",
    "tls.sni ~ 'netflix'",
    r"tls.sni ~ '^.*\.com$'",
    "(http.user_agent = '/mm.jpg') and (tcp.dst_port = 80 or tcp.dst_port = 8080)",
    "ipv4.addr = 127.0.0.1",
    "udp.dst_port != 53",
    "tcp.port >= 1024",
    "tls.version <= 771",
    "ipv4.time_to_live > 64",
    "ipv6.payload_length < 500",
    "ipv4.src_addr in 1.2.3.4/16",
    r"ssh.protocol_version_ctos ~b '(?-u)^\x32\.\x30$'",
    "ssh.protocol_version_ctos = |32 2E 30|",
    "ssh.key_exchange_cookie_stoc contains |15 A1|",
    r"ssh.key_exchange_cookie_stoc ~b '(?-u)^\x15\x1A.+\x78$'",
    "ssh.software_version_ctos not contains 'OpenSSH'",
    "http.method = 'GET' or http.method = 'POST'",
    "dns and ((tcp and tcp.port != 53) or (udp and udp.port != 53))",
    "http and tcp and tcp.port != 80 and tcp.port != 8080",
    "quic and udp.port != 443",
    "tls and tcp.port != 52152",
    "udp.port = 19 and udp.port = 7",
    "tcp.dst_port in 135..139 and tcp.urg = 1",
    "tcp.syn = 1 and tcp.seq_no = 1958810375",
    "udp and udp.dst_port = 1434 and udp.length > 100",
    "udp and ipv4.total_length = 0 and udp.dst_port = 161",
    "ipv4.protocol = 1 and ipv4.src_addr = 3.3.3.3/32",
    "ipv4.dst_addr = 255.255.255.255 and (udp.dst_port = 161 or udp.dst_port = 162)",
    "(tcp.port = 447 or tcp.port = 449) and (tls.sni ~ '.*f2tee4.*' or tls.sni ~ '.*rvgvtfdf.*')",
]


@pytest.mark.parametrize("text", RETINA)
def test_retinas_own_filters(text):
    assert parse(text) is not None
    assert refusal(text, "packet") is None


def test_and_binds_tighter_than_or():
    tree = parse("a or b and not c or d")
    assert isinstance(tree, Group)
    assert (tree.word, [p.word if isinstance(p, Group) else p.path for p in tree.parts]) == ("or", ["a", "and", "d"])


def test_values_stand_as_they_are_written():
    def value(text):
        tree = parse(f"a.b = {text}")
        assert isinstance(tree, Predicate)
        return tree.value

    quoted = value(r"'^.*\.com$'")
    assert isinstance(quoted, Quoted)
    assert quoted.text == r"^.*\.com$"
    spaced = value("'  x '")  # Retina drops the leading blanks; verbatim means verbatim
    assert isinstance(spaced, Quoted)
    assert spaced.text == "  x "
    for text in ("|48 54|", "|4854|", "| 48 54 |"):
        octets = value(text)
        assert isinstance(octets, Octets)
        assert octets.value == b"HT"
    many = value("{80, 443, 1..5,}")
    assert isinstance(many, SetOf)
    assert [i.text for i in many.items if isinstance(i, Word)] == ["80", "443", "1..5"]


@pytest.mark.parametrize(
    ("written", "means"),
    [(r'"a\"b"', b'a"b'), (r'"\x41\u00e9\n"', b"A\xc3\xa9\n"), (r'"\.\d"', rb"\.\d"), (r'"\\"', b"\\"), (r"'\x41'", rb"\x41")],
)
def test_escapes_in_strings(written, means):
    plan = compile_filters([FilterSpec(f"tls.sni = {written}", "session")])
    assert plan.terms[0].value == (means,)


@pytest.mark.parametrize(("written", "pattern"), [(r'"^.*\.com$"', r"^.*\.com$"), (r'"\x2e\""', r"\x2e" + '"'), (r"'\x2e'", r"\x2e")])
def test_escapes_in_patterns_are_the_patterns_own(written, pattern):
    plan = compile_filters([FilterSpec(f"tls.sni ~ {written}", "session")])
    assert plan.terms[0].value == (pattern, False)


@pytest.mark.parametrize(
    ("text", "caret"),
    [
        ("tcp and tcp.port = 70000 or udp", "70000"),
        ("tcp.prot = 5", "tcp.prot"),
        ("udp and\n  tcp.port in 5", "5"),
        ("tcp and udp", "tcp and udp"),
        ("tls.sni ~ 'ab(?=c)'", "("),
        ("ipv4 or tcp.port ~ 'x'", "~"),
        ("tcp.port = 80 or 443", "443"),
    ],
)
def test_where_errors_point(text, caret):
    with pytest.raises(FilterError) as caught:
        compile_filters([FilterSpec(text, "packet")])
    error = caught.value
    assert text[error.start : error.end] == caret
    line, mark = str(error).split("\n")
    assert line in text.split("\n")
    assert mark.index("^") == error.start - (text.rfind("\n", 0, error.start) + 1)


def test_deep_nesting():
    assert parse("(" * 5000 + "tcp" + ")" * 5000) == Predicate("tcp", parse(" " * 5000 + "tcp").span)
    with pytest.raises(FilterError, match="100 levels"):
        parse("not (udp or " * 60 + "tcp" + ")" * 60)


_pieces = st.sampled_from(
    ["tcp", "udp.port", "tls.sni", " ", "and", "or", "not", "(", ")", "{", "}", "=", "!=", "~", "in", "contains", "'a", "'", '"', "|", "4f", "80", "1..2",
     "10.0.0.0/8", "::1", "@/x", ",", "#", "\n", "\t", "\\", "&&", "||", "!", "é", "\0", ".", "ip.addr", "-1", "9" * 30]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(_pieces, max_size=12).map("".join) | st.text(max_size=20))
def test_any_text_compiles_or_is_refused(text):
    for level in ("packet", "connection"):
        error = refusal(text, level)
        if error is not None:
            assert error.reason
            assert 0 <= error.start <= max(len(text), error.end)
