"""Examples of DTLS sessions; the generic tests run them."""

from __future__ import annotations

from retina_jit.parsers.protocol import SessionExample

V10, V12 = "feff", "fefd"
_CLIENT_RANDOM = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
_SERVER_RANDOM = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"


def record(content: int, number: int, body: bytes, epoch: int = 0, version: str = V12) -> bytes:
    """Return a record."""
    head = bytes([content]) + bytes.fromhex(version) + epoch.to_bytes(2, "big") + number.to_bytes(6, "big")
    return head + len(body).to_bytes(2, "big") + body


def fragment(kind: int, number: int, body: bytes, start: int = 0, stop: int | None = None) -> bytes:
    """Return a fragment of a handshake message, by default all of it."""
    part = body[start:stop]
    head = bytes([kind]) + len(body).to_bytes(3, "big") + number.to_bytes(2, "big")
    return head + start.to_bytes(3, "big") + len(part).to_bytes(3, "big") + part


def _client_hello(cookie: bytes, extensions: str, ciphers: str = "0002 c02b", version: str = V12) -> bytes:
    block = bytes.fromhex(extensions)
    head = bytes.fromhex(version + _CLIENT_RANDOM + "00") + bytes([len(cookie)]) + cookie
    return head + bytes.fromhex(ciphers + "01 00") + len(block).to_bytes(2, "big") + block


_NAMED = "0000 0010 000e 00 000b 6578616d706c652e636f6d 000a 0004 0002 001d"  # example.com, x25519
_COOKIE = bytes(range(0xC0, 0xD4))
_VERIFY = bytes.fromhex(V10) + bytes([len(_COOKIE)]) + _COOKIE
_FIRST, _SECOND = _client_hello(b"", _NAMED), _client_hello(_COOKIE, _NAMED)
_SERVER_HELLO = bytes.fromhex(V12 + _SERVER_RANDOM + "04 aabbccdd c02b 00")
_CHAIN = bytes.fromhex("000008 000005 3003020105")
_CHANGE, _FINISHED = record(20, 5, b"\x01"), record(22, 0, bytes(40), epoch=1)
_NAMED_13 = _NAMED + "002b 0003 02 fefc"
_HELLO_13, _SERVER_13 = _client_hello(b"", _NAMED_13, "0002 1301"), bytes.fromhex(V12 + _SERVER_RANDOM + "00 1301 00 0006 002b 0002 fefc")
_VEILED_13 = bytes.fromhex("2e 0001 0010") + bytes(16)

EXAMPLES = (
    SessionExample(
        "DTLS 1.2 with a cookie, in fragments that come out of order",
        (
            (0, record(22, 0, fragment(1, 0, _FIRST))),
            (1, record(22, 0, fragment(3, 0, _VERIFY), version=V10)),
            (0, record(22, 1, fragment(1, 1, _SECOND, 30))),
            (0, record(22, 2, fragment(1, 1, _SECOND, 0, 40)) + record(22, 3, fragment(1, 1, _SECOND, 30))),
            (1, record(22, 2, fragment(11, 2, _CHAIN, 4)) + record(22, 3, fragment(14, 3, b""))),
            (1, record(22, 1, fragment(2, 1, _SERVER_HELLO) + fragment(11, 2, _CHAIN, 0, 4))),
            (0, record(22, 4, fragment(16, 2, bytes.fromhex("03010203"))) + _CHANGE + _FINISHED),
            (1, _CHANGE + _FINISHED),
        ),
        (
            {
                "version": 0xFEFD,
                "client_version": 0xFEFD,
                "client_random": _CLIENT_RANDOM,
                "server_random": _SERVER_RANDOM,
                "server_session_id": "aabbccdd",
                "sni": "example.com",
                "client_ciphers": [0xC02B],
                "cipher": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "client_extensions": [0, 10],
                "ja3_str": "65277,49195,0-10,29,",
                "ja3s_str": "65277,49195,",
                "hello_verify_request": True,
                "hello_retry_request": False,
                "established": True,
                "is_resumption": False,
                "certificate_count": 1,
                "certificate": bytes.fromhex("3003020105"),
                "alerts": [],
            },
        ),
        transport=17,
    ),
    SessionExample(
        "DTLS 1.3 between STUN and RTP",
        (
            (0, bytes.fromhex("0001 0000 2112a442") + bytes(12)),
            (0, record(22, 0, fragment(1, 0, _HELLO_13))),
            (0, bytes.fromhex("8000 0001") + bytes(160)),
            (1, record(22, 0, fragment(2, 0, _SERVER_13)) + _VEILED_13),
        ),
        (
            {
                "version": 0xFEFC,
                "server_version": 0xFEFD,
                "cipher_suite": 0x1301,
                "sni": "example.com",
                "server_extensions": [43],
                "hello_verify_request": False,
                "established": True,
            },
        ),
        transport=17,
    ),
    SessionExample(
        "refused",
        (
            (0, record(22, 0, fragment(1, 0, _client_hello(b"", "", version=V10)), version=V10)),
            (1, record(21, 0, bytes.fromhex("0246"), version=V10)),
        ),
        ({"version": 0xFEFF, "server_version": 0, "cipher": None, "alerts": [70], "established": False},),
        transport=17,
    ),
)
