"""Examples of DNS transactions; the generic tests run them."""

from __future__ import annotations

from retina_jit.parsers.protocol import SessionExample

_EXAMPLE_COM = "07 6578616d706c65 03 636f6d 00"
_QUERY = bytes.fromhex(f"1234 0100 0001 0000 0000 0001 {_EXAMPLE_COM} 0001 0001  00 0029 04d0 0000 8000 0000")
_RESPONSE = bytes.fromhex(
    f"1234 8180 0001 0002 0001 0000 {_EXAMPLE_COM} 0001 0001"
    "c00c 0005 0001 0000003c 0006 03 777777 c00c"  # CNAME www.example.com
    "c029 0001 0001 0000012c 0004 5db8d822"
    "c00c 0002 0001 00000e10 0005 02 6e73 c00c"  # NS ns.example.com
)
_NXDOMAIN = bytes.fromhex(f"1235 8183 0001 0000 0000 0000 {_EXAMPLE_COM} 001c 0001")
_AAAA = bytes.fromhex(f"1235 0100 0001 0000 0000 0000 {_EXAMPLE_COM} 001c 0001")


def _prefixed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


_ANSWERED = {
    "transaction_id": 0x1234,
    "query_domain": "example.com",
    "queries": ["example.com"],
    "qtype": 1,
    "qclass": 1,
    "has_query": True,
    "has_response": True,
    "response_code": 0,
    "recursion_desired": True,
    "recursion_available": True,
    "authoritative": False,
    "num_answers": 2,
    "answers": ["www.example.com", "93.184.216.34"],
    "answer_names": ["example.com", "www.example.com"],
    "answer_types": [5, 1],
    "ttls": [60, 300],
    "nameservers": ["ns.example.com"],
    "additionals": [],
    "query_has_edns": True,
    "edns_udp_size": 1232,
    "edns_do": True,
    "repeated": 0,
}
_MISSING = {"transaction_id": 0x1235, "qtype": 28, "has_query": True, "has_response": True, "response_code": 3, "answers": []}

EXAMPLES = (
    SessionExample(
        "two transactions, the second is answered first",
        ((0, _QUERY), (0, _AAAA), (1, _NXDOMAIN), (1, _RESPONSE)),
        (_MISSING | {"rtt": 1_000_000_000}, _ANSWERED | {"rtt": 3_000_000_000}),
        transport=17,
    ),
    SessionExample(
        "a repeated query; the first is answered",
        ((0, _QUERY), (0, _QUERY), (1, _RESPONSE)),
        (_ANSWERED | {"rtt": 2_000_000_000}, {"has_query": True, "has_response": False, "repeated": 1, "rtt": 0, "response": None}),
        transport=17,
    ),
    SessionExample(
        "over TCP, several messages at once",
        ((0, _prefixed(_QUERY) + _prefixed(_AAAA)), (1, _prefixed(_RESPONSE) + _prefixed(_NXDOMAIN))),
        (_ANSWERED, _MISSING),
    ),
    SessionExample(
        "a query in vain",
        ((0, _AAAA),),
        ({"has_query": True, "has_response": False, "response_code": 0, "answers": []},),
        transport=17,
    ),
)
