"""Examples of SSH sessions; the generic tests run them."""

from __future__ import annotations

from struct import pack

from retina_jit.parsers.protocol import SessionExample


def _packet(kind: int, payload: bytes = b"") -> bytes:
    padding = 8 - (6 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return pack(">IBB", 2 + len(payload) + padding, padding, kind) + payload + bytes(padding)


def _string(*values: bytes) -> bytes:
    return b"".join(pack(">I", len(v)) + v for v in values)


def _kexinit(cookie: bytes, *lists: bytes, guess: bool = False) -> bytes:
    return _packet(20, cookie * 16 + _string(*lists) + bytes([guess]) + bytes(4))


_HOST_KEY = _string(b"ssh-ed25519", bytes(range(32)))
_CLIENT_KEXINIT = _kexinit(
    b"\x01", b"curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com", b"rsa-sha2-512,ssh-ed25519",
    b"chacha20-poly1305@openssh.com,aes128-ctr", b"aes256-ctr", b"hmac-sha1", b"hmac-sha2-256", b"none,zlib", b"none", b"", b"",
)  # fmt: skip
_SERVER_KEXINIT = _kexinit(
    b"\x02", b"diffie-hellman-group14-sha256,curve25519-sha256,kex-strict-s-v00@openssh.com", b"ssh-ed25519",
    b"aes128-ctr", b"aes256-ctr", b"hmac-sha1", b"hmac-sha2-256,hmac-sha1", b"none", b"none", b"", b"de,en",
)  # fmt: skip
_CLIENT_OLD = _kexinit(
    b"\x03", b"diffie-hellman-group-exchange-sha256", b"ssh-rsa", b"aes128-cbc", b"aes128-cbc", b"hmac-md5", b"hmac-md5",
    b"none", b"none", b"", b"",
)  # fmt: skip
_GROUP = _string(b"\x00\xff" + bytes(254) + b"\x01", b"\x02")

EXAMPLES = (
    SessionExample(
        "curve",
        (
            (1, b"SSH-2.0-Test_1.0 of a server\r\n"),
            (0, b"SSH-2.0-Client-2\r\n" + _CLIENT_KEXINIT),
            (1, _SERVER_KEXINIT),
            (0, _packet(30, _string(bytes(32)))),
            (1, _packet(31, _string(_HOST_KEY, b"\x09" * 32, b"signature")) + _packet(21) + b"encrypted from here on"),
            (0, _packet(21) + b"this as well"),
        ),
        (
            {
                "protocol_version_ctos": "2.0",
                "software_version_ctos": "Client-2",
                "comments_ctos": None,
                "software_version_stoc": "Test_1.0",
                "comments_stoc": "of a server",
                "key_exchange_cookie_stoc": b"\x02" * 16,
                "kex_algs_ctos": ["curve25519-sha256", "ext-info-c", "kex-strict-c-v00@openssh.com"],
                "server_host_key_algs_stoc": ["ssh-ed25519"],
                "encryption_algs_ctos": ["chacha20-poly1305@openssh.com", "aes128-ctr"],
                "encryption_algs_stoc": ["aes256-ctr"],
                "mac_algs_stoc": ["hmac-sha2-256", "hmac-sha1"],
                "languages_ctos": [],
                "languages_stoc": ["de", "en"],
                "kex_alg": "curve25519-sha256",
                "host_key_alg": "ssh-ed25519",
                "cipher_alg_ctos": "aes128-ctr",
                "cipher_alg_stoc": "aes256-ctr",
                "mac_alg_ctos": "hmac-sha1",
                "mac_alg_stoc": "hmac-sha2-256",
                "compression_alg_ctos": "none",
                "strict_kex": True,
                "hassh_algorithms": "curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com;"
                "chacha20-poly1305@openssh.com,aes128-ctr;hmac-sha1;none,zlib",
                "hassh": "509dec7a8abbcce463e437efd991bd2f",
                "host_key": _HOST_KEY,
                "host_key_type": "ssh-ed25519",
                "kex_public_ctos": bytes(32),
                "kex_public_stoc": b"\x09" * 32,
                "kex_signature": b"signature",
                "client_new_keys": True,
                "server_new_keys": True,
                "incomplete": False,
            },
        ),
    ),
    SessionExample(
        "group exchange, a greeting, bytes that are no text",
        (
            (1, b"Authorised use only.\r\nSSH or nothing\nSSH-1.99-\xff\xfe \xc3\n"),
            (0, b"SSH-2.0-x\n"),
            (0, _CLIENT_OLD),
            (1, _CLIENT_OLD),
            (0, _packet(34, pack(">III", 1024, 2048, 8192))),
            (1, _packet(31, _GROUP)),
            (0, _packet(32, _string(b"\x07" * 256))),
            (1, _packet(33, _string(_string(b"ssh-rsa", b"\x03"), b"\x08" * 256, b"s")) + _packet(21)),
            (0, _packet(21)),
        ),
        (
            {
                "protocol_version_stoc": "1.99",
                "software_version_stoc": b"\xff\xfe",
                "comments_stoc": b"\xc3",
                "kex_alg": "diffie-hellman-group-exchange-sha256",
                "group_size": 2048,
                "group_prime": b"\x00\xff" + bytes(254) + b"\x01",
                "host_key_type": "ssh-rsa",
                "kex_public_ctos": b"\x07" * 256,
                "kex_public_stoc": b"\x08" * 256,
                "strict_kex": False,
                "server_new_keys": True,
            },
        ),
    ),
    SessionExample(
        "SSH 1", ((1, b"SSH-1.5-OpenSSH_2.3\n"), (0, b"SSH-1.5-old\n\x00\x00\x00\x8c")),
        ({"protocol_version_ctos": "1.5", "software_version_ctos": "old", "kex_algs_ctos": [], "hassh": None},),
    ),
    SessionExample(
        "the identification of the client was not captured",
        ((0, _CLIENT_KEXINIT + _packet(30, _string(bytes(32)))), (1, b"SSH-2.0-late\r\n"), (0, _packet(21)), (1, b"what is this")),
        ({"software_version_ctos": None, "software_version_stoc": "late", "kex_alg": None, "hassh": "509dec7a8abbcce463e437efd991bd2f", "hassh_server": None},),
    ),
)  # fmt: skip
