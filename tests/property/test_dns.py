"""DNS messages that dnspython has made, random ones and damaged ones: Python's view, JSON and dnspython agree."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rrset
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import dns_records as oracle
from support.sessions import parser

from retina_jit import objects
from retina_jit.datatypes.dns_transaction import DnsTransaction

UDP = 17
settings.register_profile("dns", deadline=None, suppress_health_check=list(HealthCheck))
_ROOM = 1 << 20
_out = np.zeros(_ROOM, np.uint8)


def views(query: bytes, response: bytes) -> list[DnsTransaction]:
    """What the parser makes of a query and its response: one transaction, or, damaged, two or none."""
    seen: list[DnsTransaction] = []
    with parser("dns").session(UDP) as session:
        session.on_delivery = lambda: seen.append(DnsTransaction(*session.event()))
        session.feed(0, query, ts=10**9)
        session.feed(1, response, ts=10**9 + 5)
        session.finish()
    return seen


def view(query: bytes, response: bytes) -> DnsTransaction:
    """The transaction of an undamaged query and its response."""
    (seen,) = views(query, response)
    return seen


def as_json(seen: DnsTransaction) -> tuple[Any, Any]:
    """Query and response as the compiled writer shows them."""
    held = np.frombuffer(seen._buffer, np.uint8)
    start, out = int(held.ctypes.data), int(_out.ctypes.data)
    shown = []
    for name in ("write_query", "write_response"):
        write = objects.function(f"retina_jit.parsers.dns.objects:{name}")
        end = write(start + seen._at, start + seen._event, out, out + _ROOM)
        assert end
        shown.append(json.loads(_out[: end - out].tobytes()))
    return shown[0], shown[1]


# ------------------------------------------------------------------------------------------------------ every known type

RECORDS = {
    "A": ["192.0.2.1", "255.255.255.255", "0.0.0.0"],
    "AAAA": ["2001:db8::1", "::", "::ffff:192.0.2.1", "2001:db8:0:1:1:1:1:1", "fe80::1:0:0:1"],
    "CNAME": ["www.example.com.", "."],
    "NS": ["ns.example.com."],
    "PTR": ["a\\.b.example.com."],
    "DNAME": ["other.example."],
    "MX": ["10 mail.example.com.", "0 ."],
    "SOA": ["ns.example.com. host\\.master.example.com. 4294967295 7200 900 1209600 300"],
    "SRV": ["1 2 65535 srv.example.com."],
    "TXT": ['"a b" "c\\"d" ""', '"v=spf1 -all"', '"\\195\\164 \\255 \\000"'],
    "SPF": ['"v=spf1 -all"'],
    "HINFO": ['"cpu" "os"'],
    "CAA": ['128 issue "ca.example.net; policy=ev"'],
    "DS": ["60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118"],
    "CDS": ["0 0 0 00"],
    "DNSKEY": ["256 3 5 AQPSKmynfzW4kyBv015MUG2DeIQ3Cbl+BBZH4b/0PY1kxkmvHjcZc8nokfzj31GajIQKY+5CptLr3buXA10hWqTkF7H6RfoRqXQ="],
    "CDNSKEY": ["257 3 8 AQPSKmynfzW4"],
    "RRSIG": ["A 5 3 86400 20300322173103 20030220173103 2642 example.com. oJB1W6WNGv+ldvQ3WDG0MQkg5IEhjRip8WTrPYGv07h108dUKGMeDPKijVCH"],
    "NSEC": ["host.example.com. A MX RRSIG NSEC TYPE1234 CAA"],
    "NSEC3": ["1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG", "1 0 0 - 2vptu5timamqttgl4luu9kg21e0aor3s"],
    "SVCB": ["2 svc.example.com. mandatory=alpn alpn=h2 key667=x", "0 alias.example."],
    "HTTPS": ['1 . alpn="h2,h3" no-default-alpn port=443 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1'],
    "TLSA": ["3 1 0 0123456789abcdef"],
    "SSHFP": ["2 1 123456789abcdef67890123456789abcdef67890"],
    "NAPTR": ['100 50 "s" "z3950+I2L+I2C" "" _z3950._tcp.example.com.'],
    "URI": ['10 1 "ftp://ftp1.example.com/public"'],
    "EUI48": ["00-00-5e-00-53-2a"],
    "LOC": ["51 30 12.748 N 0 7 39.612 W 0.00m"],
    "TYPE4242": ["\\# 3 010203"],
}


@pytest.mark.parametrize("kind", RECORDS)
def test_every_record_type_is_what_dnspython_says(kind: str) -> None:
    query = dns.message.make_query("example.com.", kind, use_edns=0, payload=1232, want_dnssec=True)
    response = dns.message.make_response(query)
    answers = dns.rrset.from_text_list("Example.com.", 300, "IN", kind, RECORDS[kind])
    response.answer.append(answers)
    response.authority.append(dns.rrset.from_text("example.com.", 3600, "IN", "NS", "ns.example.com."))
    response.additional.append(dns.rrset.from_text("ns.example.com.", 60, "CH", "TXT", '"x"'))
    response.use_edns(0, dns.flags.DO, 4096, options=[dns.edns.GenericOption(10, b"cookies!"), dns.edns.GenericOption(65001, b"")])
    seen = view(query.to_wire(), response.to_wire())
    assert (seen.query_domain, seen.qtype, seen.rtt) == ("example.com", int(answers.rdtype), 5e-9)
    assert seen.query is not None
    assert seen.response is not None
    assert sorted(json.dumps(r.data) for r in seen.response.answers) == sorted(json.dumps(oracle.data(r)) for r in answers)
    for r in seen.response.answers:
        assert (r.name.lower(), r.type_name, r.ttl) == ("example.com", oracle.kind(answers.rdtype), 300)
    assert [r.to_dict() for r in seen.response.additionals] == [
        {"name": "ns.example.com", "type": "TXT", "class": "CH", "ttl": 60, "data": ["x"]}
    ]
    assert seen.response.edns is not None
    assert seen.response.edns.to_dict() == {
        "udp_size": 4096, "version": 0, "do": True, "extended_response_code": 0,
        "options": [{"code": 10, "name": "COOKIE", "data": b"cookies!".hex()}, {"code": 65001, "name": "OPT65001", "data": ""}],
    }  # fmt: skip
    assert as_json(seen) == (seen.query.to_dict(), seen.response.to_dict())


def test_plain_text_of_records() -> None:
    query = dns.message.make_query("example.com.", "ANY")
    response = dns.message.make_response(query)
    shown = {
        "A": ("192.0.2.1", b"192.0.2.1"),
        "MX": ("10 mail.example.com.", b"10 mail.example.com"),
        "TXT": ('"a b" "c"', b'"a b" "c"'),
        "HTTPS": ("1 . alpn=h2,h3 port=443", b"1 . alpn=h2,h3 port=443"),
        "NSEC": ("host.example.com. A MX", b"host.example.com A MX"),
        "DS": ("1 2 2 " + "ab" * 32, b"1 2 2 " + b"ab" * 32),
        "DNSKEY": ("256 3 8 AQPS", b"256 3 8 AQPS"),
        "TYPE4242": ("\\# 3 010203", b"\\# 3 010203"),
    }
    for kind, (text, _) in shown.items():
        response.answer.append(dns.rrset.from_text("example.com.", 300, "IN", kind, text))
    response.authority.append(dns.rrset.from_text_list("example.com.", 300, "IN", "TXT", ['"' + "x" * 250 + '" ' * 1] * 1))
    response.additional.append(dns.rrset.from_text("big.example.com.", 1, "IN", "TXT", " ".join(['"' + "y" * 250 + '"'] * 60)))
    found: list[Any] = []
    fields = ("answers", "answer_types", "nameservers", "additionals", "response")
    with parser("dns").session(UDP) as session:
        session.on_delivery = lambda: found.append(([session[f] for f in fields], DnsTransaction(*session.event())))
        session.feed(0, query.to_wire())
        session.feed(1, response.to_wire())
    (answers, types, nameservers, additionals, as_text), seen = found[0]
    assert answers == [wanted for _, wanted in shown.values()]
    assert types == [r.rdtype for r in response.answer]
    assert nameservers == [b'"' + b"x" * 250 + b'"']
    assert additionals == [b" ".join([b'"' + b"y" * 250 + b'"'] * 60)]
    assert json.loads(as_text) == seen.response.to_dict()


# ----------------------------------------------------------------------------------------------------- random and damaged

labels = st.binary(min_size=1, max_size=20)
names = st.lists(labels, max_size=4).map(lambda ls: b"".join(bytes([len(x)]) + x for x in ls) + b"\0")
pointers = st.integers(0, 120).map(lambda n: (0xC000 | n).to_bytes(2, "big"))
owners = st.one_of(pointers, names, st.tuples(names, pointers).map(lambda p: p[0][:-1] + p[1]))
kinds = st.one_of(st.sampled_from([1, 2, 5, 6, 12, 13, 15, 16, 28, 33, 35, 41, 43, 46, 47, 48, 50, 64, 65, 108, 256, 257]), st.integers(0, 65535))
params = st.lists(
    st.tuples(st.integers(0, 9), st.one_of(st.binary(max_size=4), st.sampled_from([b"\2h2\2h3", bytes(16), b"\0\1"]))), max_size=4
).map(lambda ps: b"".join(k.to_bytes(2, "big") + len(v).to_bytes(2, "big") + v for k, v in sorted(ps)))
contents = st.one_of(
    st.binary(max_size=40),
    owners,
    st.tuples(st.binary(min_size=2, max_size=2), owners).map(b"".join),
    st.tuples(owners, owners, st.binary(min_size=20, max_size=20)).map(b"".join),
    st.tuples(st.binary(min_size=2, max_size=2), owners, params).map(b"".join),
    st.tuples(owners, st.lists(st.binary(min_size=1, max_size=4).map(lambda b: b"\0" + bytes([len(b)]) + b), max_size=2).map(b"".join)).map(b"".join),
)
entries = st.tuples(owners, kinds, st.sampled_from([1, 3, 254, 255, 0x8001, 7]), st.integers(0, 2**32 - 1), contents).map(
    lambda e: e[0] + e[1].to_bytes(2, "big") + e[2].to_bytes(2, "big") + e[3].to_bytes(4, "big") + len(e[4]).to_bytes(2, "big") + e[4]
)


@st.composite
def responses(draw: Any) -> tuple[bytes, bytes]:
    question = draw(names) + draw(kinds).to_bytes(2, "big") + b"\0\1"
    sections = [draw(st.lists(entries, max_size=3)) for _ in range(3)]
    counts = [len(s) + draw(st.sampled_from([0, 0, 0, 1])) for s in sections]
    flags = draw(st.integers(0, 0xFFFF)) & 0x87BF & ~0x7800
    head = b"\0\1" + (0x8000 | flags).to_bytes(2, "big") + b"\0\1" + b"".join(c.to_bytes(2, "big") for c in counts)
    body = bytearray(question + b"".join(b"".join(s) for s in sections))
    for _ in range(draw(st.sampled_from([0, 0, 1, 4]))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    query = b"\0\1\1\0\0\1" + b"".join(c.to_bytes(2, "big") for c in counts) + bytes(body)
    return query, head + bytes(body)


@settings(settings.get_profile("dns"), max_examples=400)
@given(pair=responses())
def test_json_and_the_view_agree_on_anything(pair: tuple[bytes, bytes]) -> None:
    for seen in views(*pair):
        for message, shown in zip((seen.query, seen.response), as_json(seen), strict=True):
            assert shown == (message.to_dict() if message else None)


@settings(settings.get_profile("dns"), max_examples=200)
@given(data=st.binary(min_size=1, max_size=80))
def test_base64_is_python_s(data: bytes) -> None:
    query = dns.message.make_query("a.", "DNSKEY")
    response = dns.message.make_response(query).to_wire()
    key = b"\1\0\3\x08" + data
    response = response[:6] + b"\0\1" + response[8:] + b"\xc0\x0c\0\x30\0\1\0\0\0\1" + len(key).to_bytes(2, "big") + key
    seen = view(query.to_wire(), response)
    assert as_json(seen)[1]["answers"][0]["data"]["public_key"] == b64encode(data).decode()
