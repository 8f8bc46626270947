"""Text that an SSH session does not hold but gives: fingerprints of both sides and of the host key, made when asked for.

HASSH is the MD5 of four lists of the client's KEXINIT (methods of key exchange, then ciphers, MACs, compression from
client to server), HASSHServer of the server's (from server to client). A host key's fingerprint is the SHA-256 of its
blob in base64, as OpenSSH shows it.

It lies in one arena block per session, laid out below; behind the fixed part come both HASSH texts and the host key,
each with the room that its digest pads. Without memory for it the text is absent.

Sources: https://github.com/corelight/hassh; RFC 4648 §4, RFC 8709.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.memory import constant, copy, store8
from retina_jit.parsers import digest
from retina_jit.parsers.ssh import names
from retina_jit.parsers.ssh.state import (
    CUT,
    FIRST_KEX,
    SIDE_AT,
    STATE_AT,
    client_side,
    kex_message,
    kexinit_of,
    server_side,
)
from retina_jit.parsers.wire import u8
from retina_jit.state import arena as pool

HASSH, HASSH_SERVER, FINGERPRINT, SCRATCH, WORK, FIXED = 0, 32, 64, 128, 160, 416
FINGERPRINT_LEN = 50

# STATE.made
HAS_HASSH, HAS_HASSH_SERVER, HAS_FINGERPRINT = 1, 2, 4

_DIGITS = constant("base64_digits", b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_SHA256 = constant("ssh_sha256", b"SHA256:")


@kernel
def reply(session):
    """The server's reply: 31, or 33 with group exchange, where 31 is the group (RFC 4419, 5); (0, 0) if none was seen."""
    side = server_side(session)
    late = kex_message(side, FIRST_KEX + 3)
    found = late if late[1] else kex_message(side, FIRST_KEX + 1)
    # A group begins with a number of some 2000 bits where a reply has a blob that begins with a name.
    return found if names.string(names.string(found, 0), 0)[1] > 0 else (0, 0)


@leaf
def host_key(session):
    """Blob of the server's host key: the first string of its reply."""
    return names.string(reply(session), 0)


@leaf
def _room(side):
    return kexinit_of(side)[1] + 8 + digest.SPARE


@kernel
def _block(session):
    """Address of the block, allocated first if need be; 0 if the arena is full."""
    row = STATE_AT(session)
    if row.derived == 0:
        size = FIXED + _room(client_side(session)) + _room(server_side(session)) + host_key(session)[1] + digest.SPARE
        row.derived = pool.allocate(row.arena, size)
        row.derived_len = size
    return row.derived


@kernel
def _write_lists(text, body, first):
    """Write the list of methods and those of one direction, `;` between them. Returns where they end."""
    at = text
    for n in range(4):
        if n:
            store8(at, 59)
            at += 1
        names_ = names.name_list(body, first + 2 * (n - 1) if n else names.KEX)
        copy(at, names_[0], names_[1])
        at += names_[1]
    return at


@leaf
def _is_whole(side):
    """Whether a side has a KEXINIT that is all there, and has a fingerprint."""
    return names.is_whole(kexinit_of(side)) and SIDE_AT(side).flags & CUT == 0


@kernel
def hassh_algorithms(session):
    """The text that `hassh` is the MD5 of."""
    row, side = STATE_AT(session), client_side(session)
    block = _block(session) if _is_whole(side) else 0
    if block == 0:
        return (0, 0)
    text = block + FIXED
    if row.made & HAS_HASSH == 0:
        end = _write_lists(text, kexinit_of(side), names.CIPHER_CTOS)
        digest.md5(text, end - text, block + SCRATCH)
        digest.write_hex(block + HASSH, block + SCRATCH, 16)
        row.hassh_len = end - text
        row.made |= HAS_HASSH
    return (text, np.int64(row.hassh_len))


@kernel
def hassh_server_algorithms(session):
    """The text that `hassh_server` is the MD5 of."""
    row, side = STATE_AT(session), server_side(session)
    block = _block(session) if _is_whole(side) else 0
    if block == 0:
        return (0, 0)
    text = block + FIXED + _room(client_side(session))
    if row.made & HAS_HASSH_SERVER == 0:
        end = _write_lists(text, kexinit_of(side), names.CIPHER_STOC)
        digest.md5(text, end - text, block + SCRATCH)
        digest.write_hex(block + HASSH_SERVER, block + SCRATCH, 16)
        row.hassh_server_len = end - text
        row.made |= HAS_HASSH_SERVER
    return (text, np.int64(row.hassh_server_len))


@kernel
def hassh(session):
    """The 32 digits of HASSH."""
    return (STATE_AT(session).derived + HASSH, 32) if hassh_algorithms(session)[0] else (0, 0)


@kernel
def hassh_server(session):
    """The 32 digits of HASSHServer."""
    return (STATE_AT(session).derived + HASSH_SERVER, 32) if hassh_server_algorithms(session)[0] else (0, 0)


@kernel
def _write_base64(target, span):
    """Write bytes in base64 without padding. Returns where the text ends."""
    digits = (_DIGITS(), 64)
    bits = held = 0
    for n in range(span[1]):
        bits = ((bits << 8) | u8(span, n)) & 0xFFFF
        held += 8
        while held >= 6:
            held -= 6
            store8(target, u8(digits, (bits >> held) & 63))
            target += 1
    if held:
        store8(target, u8(digits, (bits << (6 - held)) & 63))
        target += 1
    return target


@kernel
def host_key_fingerprint(session):
    """The host key's fingerprint as OpenSSH shows it."""
    row, blob = STATE_AT(session), host_key(session)
    block = _block(session) if blob[1] else 0
    if block == 0:
        return (0, 0)
    if row.made & HAS_FINGERPRINT == 0:
        place = block + FIXED + _room(client_side(session)) + _room(server_side(session))
        copy(place, blob[0], blob[1])
        digest.sha256(place, blob[1], block + SCRATCH, block + WORK)
        copy(block + FINGERPRINT, _SHA256(), 7)
        _write_base64(block + FINGERPRINT + 7, (block + SCRATCH, 32))
        row.made |= HAS_FINGERPRINT
    return (block + FINGERPRINT, FINGERPRINT_LEN)


@leaf
def host_key_type(session):
    """Algorithm of the host key: the first string of its blob."""
    return names.string(host_key(session), 0)
