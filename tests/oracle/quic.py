"""QUIC Initial packets the obvious way: sealed and opened with `cryptography` and `hmac`."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

V1, V2, DRAFT_29, MVFST_22 = 1, 0x6B3343CF, 0xFF00001D, 0xFACEB001
SALTS = {
    V1: "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",
    V2: "0dede3def700a6db819381be6e269dcbf9bd2ed9",
    DRAFT_29: "afbfec289993d24c9e9786f19c6111e04390a899",
    MVFST_22: "7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a",
    0x51303530: "504574efd066fe2f9d945cfcdbd3a7f0d3b56b45",
    0x54303530: "7ff579e5acd072915580304c43a2367c60488310",
    0x54303531: "7a4edef4e7ccee5fa4506c19124fc8ccda6e033d",
}
RETRIES = {
    V1: ("be0c690b9f66575a1d766b54e368c84e", "461599d35d632bf2239825bb"),
    V2: ("8fb4b01b56ac48e260fbcbcead7ccc92", "d86969bc2d7c6d9990efb04a"),
    DRAFT_29: ("ccce187ed09a09d05728155a6cb96be1", "e54930f97f2136f0530a8c1c"),
}


def extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def expand_label(secret: bytes, label: str, length: int) -> bytes:
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0"
    return hmac.digest(secret, info + b"\x01", "sha256")[:length]


@dataclass
class Keys:
    key: bytes
    iv: bytes
    hp: bytes


def initial_keys(version: int, dcid: bytes, is_server: bool) -> Keys:
    initial = extract(bytes.fromhex(SALTS[version]), dcid)
    secret = expand_label(initial, "server in" if is_server else "client in", 32)
    kind = "quicv2" if version == V2 else "quic"
    return Keys(*(expand_label(secret, f"{kind} {name}", size) for name, size in (("key", 16), ("iv", 12), ("hp", 16))))


def varint(value: int, size: int = 0) -> bytes:
    size = size or next(n for n in (1, 2, 4, 8) if value < 1 << (8 * n - 2))
    return (value | {1: 0, 2: 1, 4: 2, 8: 3}[size] << (8 * size - 2)).to_bytes(size, "big")


def crypto_frame(offset: int, data: bytes) -> bytes:
    return b"\x06" + varint(offset) + varint(len(data)) + data


def mask_of(keys: Keys, sample: bytes) -> bytes:
    return Cipher(algorithms.AES(keys.hp), modes.ECB()).encryptor().update(sample)


def initial(
    frames: bytes, *, dcid: bytes, scid: bytes = b"", version: int = V1, number: int = 0, number_len: int = 1, token: bytes = b"",
    secret_id: bytes | None = None, is_server: bool = False, size: int = 0,
) -> bytes:  # fmt: skip
    """A sealed Initial packet; padded with PADDING frames to `size` bytes."""
    keys = initial_keys(version, dcid if secret_id is None else secret_id, is_server)
    first = (0xD0 if version == V2 else 0xC0) | (number_len - 1)
    head = bytes([first]) + version.to_bytes(4, "big") + bytes([len(dcid)]) + dcid + bytes([len(scid)]) + scid
    head += varint(len(token)) + token
    frames = frames.ljust(max(4 - number_len, 0), b"\0")
    short = len(head) + 2 + number_len + len(frames) + 16
    frames += bytes(max(size - short, 0))
    head += varint(number_len + len(frames) + 16, 2)
    shown = (number & ((1 << 8 * number_len) - 1)).to_bytes(number_len, "big")
    nonce = (int.from_bytes(keys.iv, "big") ^ number).to_bytes(12, "big")
    sealed = AESGCM(keys.key).encrypt(nonce, frames, head + shown)
    mask = mask_of(keys, (shown + sealed)[4:20])
    head = bytes([head[0] ^ mask[0] & 0x0F]) + head[1:]
    return head + bytes(a ^ b for a, b in zip(shown, mask[1:])) + sealed


def long_packet(kind: int, *, dcid: bytes, scid: bytes = b"", version: int = V1, payload: bytes = bytes(30)) -> bytes:
    """A packet of another kind (1 0-RTT, 2 Handshake), not sealed."""
    bits = (kind + 1) & 3 if version == V2 else kind
    head = bytes([0xC0 | bits << 4]) + version.to_bytes(4, "big") + bytes([len(dcid)]) + dcid + bytes([len(scid)]) + scid
    return head + varint(len(payload), 2) + payload


def retry(*, dcid: bytes, scid: bytes, original: bytes, token: bytes, version: int = V1) -> bytes:
    """A Retry packet with its tag."""
    bits = 0 if version == V2 else 3
    head = bytes([0xC0 | bits << 4]) + version.to_bytes(4, "big") + bytes([len(dcid)]) + dcid + bytes([len(scid)]) + scid + token
    key, nonce = map(bytes.fromhex, RETRIES[version])
    return head + AESGCM(key).encrypt(nonce, b"", bytes([len(original)]) + original + head)


def negotiation(*, dcid: bytes, scid: bytes, versions: list[int]) -> bytes:
    """A Version Negotiation packet."""
    head = bytes([0x80, 0, 0, 0, 0, len(dcid)]) + dcid + bytes([len(scid)]) + scid
    return head + b"".join(v.to_bytes(4, "big") for v in versions)
