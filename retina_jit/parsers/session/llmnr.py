"""LLMNR, Link-Local Multicast Name Resolution: port 5355; messages and parser are those of DNS.

Two bits of the header mean something else: what DNS calls AA is C, a conflict, and what it calls RD is T, a tentative name.

Source: RFC 4795.
"""

from __future__ import annotations

from retina_jit.parsers.protocol import SessionExample, declare
from retina_jit.parsers.session.dns import PROTOCOL as DNS

_QUERY = bytes.fromhex("a1b2 0000 0001 0000 0000 0000  04 77706164 00 0001 0001")
_RESPONSE = bytes.fromhex("a1b2 8000 0001 0001 0000 0000  04 77706164 00 0001 0001  04 77706164 00 0001 0001 0000001e 0004 c0000207")

EXAMPLES = (
    SessionExample(
        "asked twice, answered once",
        ((0, _QUERY), (0, _QUERY), (1, _RESPONSE)),
        (
            {"transaction_id": 0xA1B2, "query_domain": "wpad", "qtype": 1, "has_response": True, "answers": ["192.0.2.7"], "ttls": [30]},
            {"query_domain": "wpad", "has_query": True, "has_response": False, "repeated": 1},
        ),
        transport=17,
    ),
)

declare("llmnr", "Link-Local Multicast Name Resolution", level="session", within=["tcp", "udp"], examples=EXAMPLES, like=DNS, ports=[5355])
