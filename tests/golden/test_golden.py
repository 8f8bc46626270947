"""What `explain` says of five programs, kept as files: a change of generated code has to be meant.

`python tests/golden/test_golden.py` writes them anew.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from retina_jit.filters import FilterSpec, compile_filters

PROGRAMS = {
    "basic": [("tls", "session"), ("udp.port = 53", "connection")],
    "packets": [
        ("tcp.port = 443", "packet"), ("tcp.syn and not tcp.ack", "packet"), ("ip.addr in {10.0.0.0/8, fe80::/10}", "packet"),
        ("icmp or icmpv6", "packet"), ("", "packet"), ("vlan.id in 100..199 and udp.length > 100", "packet"),
    ],
    "names": [
        (r"tls.sni ~ '^.*\.com$'", "session"), (r"tls.sni ~ '^.*\.net$'", "session"), (r"tls.sni ~ '^.*\.edu$'", "session"),
        ("tls.sni contains 'example' and tcp.port != 443", "session"), ("tls.client_alpn_protocols = 'h2'", "connection"),
    ],
    "directions": [
        ("tcp.dst_port = 443 and ipv4.src_addr = 10.0.0.0/8", "connection"), ("ipv6.src_addr = 2001:db8::/32", "static"),
        ("tcp and not tcp.port in {80, 443, 8000..8100}", "streaming"),
    ],
    "undecided": [
        ("tls.sni = 'a' or tcp.port = 80", "connection"), ("not tls", "connection"), ("tls.version = TLSv1.3 and not tls.sni contains 'b'", "packet"),
        ("tcp.syn = 1", "packet"),
    ],
}  # fmt: skip


def _explain(name: str) -> str:
    return compile_filters([FilterSpec(*spec) for spec in PROGRAMS[name]]).explain()


def _file(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.txt")


@pytest.mark.parametrize("name", PROGRAMS)
def test_explain(name):
    assert _explain(name) == _file(name).read_text()


if __name__ == "__main__":
    for name in PROGRAMS:
        _file(name).write_text(_explain(name))
