"""Examples of TLS sessions; the generic tests run them."""

from __future__ import annotations

from retina_jit.parsers.protocol import SessionExample

_CLIENT_HELLO_13 = bytes.fromhex(
    "16 0301 006f  01 00006b"  # record; ClientHello
    "0303 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f  00"  # version, random, session id
    "0006 0a0a 1301 c02f  01 00  003c"  # GREASE and two ciphers; no compression; extensions:
    "0000 0010 000e 00 000b 6578616d706c652e636f6d"  # server_name example.com
    "0010 000e 000c 02 6832 08 687474702f312e31"  # ALPN h2, http/1.1
    "000a 0004 0002 001d"  # supported_groups x25519
    "002b 0005 04 0304 0303"  # supported_versions
    "ff01 0001 00"
)
_SERVER_HELLO_13 = bytes.fromhex(
    "16 0303 0032  02 00002e"
    "0303 202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f  00  1301 00"
    "0006 002b 0002 0304"
)
_DATA = bytes.fromhex("17 0303 0010 00112233445566778899aabbccddeeff")
_CHANGE = bytes.fromhex("14 0303 0001 01")

_CLIENT_HELLO_12 = bytes.fromhex(
    "16 0301 002f  01 00002b"
    "0303 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f  00  0004 002f 0035  01 00"
)
_SERVER_FLIGHT_12 = bytes.fromhex(
    "16 0303 0045"
    "02 00002a 0303 202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f  04 aabbccdd 0035 00"
    "0b 00000b 000008 000005 3003020105"  # a chain of one certificate
    "0e 000000"
)
_CLIENT_FLIGHT_12 = bytes.fromhex("16 0303 000a  10 000006 0004 01020304  14 0303 0001 01  16 0303 0004 deadbeef")
_SERVER_END_12 = bytes.fromhex("14 0303 0001 01  16 0303 0004 cafebabe")

EXAMPLES = (
    SessionExample(
        "TLS 1.3",
        ((0, _CLIENT_HELLO_13), (1, _SERVER_HELLO_13 + _CHANGE + _DATA), (0, _CHANGE + _DATA)),
        (
            {
                "version": 0x0304,
                "client_version": 0x0303,
                "server_version": 0x0303,
                "client_random": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
                "sni": "example.com",
                "cipher": "TLS_AES_128_GCM_SHA256",
                "cipher_suite": 0x1301,
                "client_ciphers": [0x0A0A, 0x1301, 0xC02F],
                "client_extensions": [0, 16, 10, 43, 0xFF01],
                "server_extensions": [43],
                "client_supported_groups": [29],
                "client_alpn_protocols": ["h2", "http/1.1"],
                "server_alpn_protocol": None,
                "ja3_str": "771,4865-49199,0-16-10-43-65281,29,",
                "ja3_hash": "3e6b86f1270993480464104346fea25b",
                "ja3s_str": "771,4865,43",
                "hello_retry_request": False,
                "certificate_count": 0,
            },
        ),
    ),
    SessionExample(
        "TLS 1.2 with a certificate",
        ((0, _CLIENT_HELLO_12), (1, _SERVER_FLIGHT_12), (0, _CLIENT_FLIGHT_12), (1, _SERVER_END_12)),
        (
            {
                "version": 0x0303,
                "sni": None,
                "cipher_suite": 0x0035,
                "server_session_id": "aabbccdd",
                "certificate_count": 1,
                "certificate": bytes.fromhex("3003020105"),
                "is_resumption": False,
                "alerts": [],
            },
        ),
    ),
    SessionExample(
        "refused",
        ((0, _CLIENT_HELLO_12), (1, bytes.fromhex("15 0303 0002 0228"))),
        ({"version": 0x0303, "server_version": 0, "cipher": None, "alerts": [40]},),
    ),
)
