"""Examples of DNS transactions; the generic tests run them."""

from __future__ import annotations

from retina_jit.parsers.protocol import SessionExample

_EXAMPLE_COM = "07 6578616d706c65 03 636f6d 00"
_QUERY = bytes.fromhex(f"1234 0100 0001 0000 0000 0000 {_EXAMPLE_COM} 0001 0001")
_RESPONSE = bytes.fromhex(f"1234 8180 0001 0001 0000 0000 {_EXAMPLE_COM} 0001 0001  c00c 0001 0001 0000012c 0004 5db8d822")


def _prefixed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


_ANSWERED = {"query_domain": "example.com", "qtype": 1}

EXAMPLES = (
    SessionExample("answered", ((0, _QUERY), (1, _RESPONSE)), (_ANSWERED,), transport=17),
    SessionExample("two over TCP", ((0, _prefixed(_QUERY) + _prefixed(_QUERY)), (1, _prefixed(_RESPONSE))), (_ANSWERED, _ANSWERED)),
)
