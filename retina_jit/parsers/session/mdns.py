"""mDNS, multicast DNS: names of the local network, asked of all on port 5353; messages and parser are those of DNS.

Its questions go to a group, the answers as well, so most transactions hold a query or a response alone. The port tells it
from DNS, as in other tools: a resolver that is asked on UDP port 5353 counts as mDNS.

Source: RFC 6762.
"""

from __future__ import annotations

from retina_jit.parsers.protocol import SessionExample, declare
from retina_jit.parsers.session.dns import PROTOCOL as DNS

_ANNOUNCEMENT = bytes.fromhex("0000 8400 0000 0001 0000 0000  04 686f7374 05 6c6f63616c 00  0001 8001 00000078 0004 0a000001")
_QUERY = bytes.fromhex("0000 0000 0002 0000 0000 0000  01 61 05 6c6f63616c 00 0001 8001  01 62 c00e 001c 0001")

EXAMPLES = (
    SessionExample(
        "an announcement and a query",
        ((0, _ANNOUNCEMENT), (0, _QUERY)),
        (
            {"query_domain": None, "has_query": False, "has_response": True, "authoritative": True, "answers": ["10.0.0.1"]},
            {"query_domain": "a.local", "queries": ["a.local", "b.local"], "unicast_response": True, "has_response": False},
        ),
        transport=17,
    ),
)

declare("mdns", "Multicast DNS", level="session", within=["udp"], examples=EXAMPLES, like=DNS, ports=[5353])
