"""Initial packets: their keys, which anybody who has seen the first one can derive, and how they are opened.

Works on own memory: `work` has WORK bytes.

Sources: RFC 9001 §5, RFC 9369 §3.3.
"""

from __future__ import annotations

from retina_jit.jit import kernel
from retina_jit.memory import copy, load8, load64_be, store8, store64_be
from retina_jit.parsers.crypto import hkdf, provider
from retina_jit.parsers.quic import packet, versions

KEYS = 48
"""Bytes of the keys of one side: key, nonce, header protection."""
_KEY, _IV, _HP = 0, 16, 28
_KEYED, _SECRET, _OUT = hkdf.WORK, hkdf.WORK + hkdf.KEYED, hkdf.WORK + hkdf.KEYED + 32
WORK = _OUT + 32


@kernel
def _expand(crypto, scheme, which, target, work):
    """Write 32 bytes derived under a label from the key that is prepared in `work`."""
    row = versions.label_of(scheme, which)
    hkdf.hmac(crypto, work + _KEYED, row + 1, load8(row), target, work)


@kernel
def derive(crypto, scheme, dcid, dcid_len, is_server, target, work):
    """Write the keys, KEYS bytes, of the client's or the server's Initial packets of a connection."""
    hkdf.prepare(crypto, versions.salt_of(scheme), versions.SALT, work + _KEYED, work)
    hkdf.hmac(crypto, work + _KEYED, dcid, dcid_len, work + _SECRET, work)
    hkdf.prepare(crypto, work + _SECRET, 32, work + _KEYED, work)
    _expand(crypto, scheme, versions.SERVER_IN if is_server else versions.CLIENT_IN, work + _SECRET, work)
    hkdf.prepare(crypto, work + _SECRET, 32, work + _KEYED, work)
    _expand(crypto, scheme, versions.KEY, work + _OUT, work)
    copy(target + _KEY, work + _OUT, 16)
    _expand(crypto, scheme, versions.IV, work + _OUT, work)
    copy(target + _IV, work + _OUT, 12)
    _expand(crypto, scheme, versions.HP, work + _OUT, work)
    copy(target + _HP, work + _OUT, 16)


@kernel
def open_packet(crypto, keys, at, number_at, size, expected, work):
    """Remove the protection of a packet of `size` bytes at `at`, in place; its packet number is at `number_at` of it.

    Returns (packet number, where the frames begin, their length); -1 for the packet number if the tag is wrong, and
    then the packet's bytes are spoilt.
    """
    mask = work + _OUT
    provider.encrypt_block(crypto, keys + _HP, at + number_at + packet.SAMPLE_AT, mask, work)
    first = load8(at) ^ (load8(mask) & 0x0F)
    store8(at, first)
    number_len = (first & 3) + 1
    number = 0
    for n in range(number_len):
        byte = load8(at + number_at + n) ^ load8(mask + 1 + n)
        store8(at + number_at + n, byte)
        number = (number << 8) | byte
    number = packet.expand_number(number, number_len, expected)
    header = number_at + number_len
    length = size - header - packet.TAG
    if length < 0:
        return (-1, 0, 0)
    nonce = mask
    copy(nonce, keys + _IV, 12)
    store64_be(nonce + 4, load64_be(nonce + 4) ^ number)
    if not provider.open_message(crypto, keys + _KEY, nonce, at, header, at + header, length, work):
        return (-1, 0, 0)
    return (number, at + header, length)
