"""Text that a TLS session does not hold but gives: hexadecimal numbers and fingerprints, made when first asked for.

It lies in one arena block per session, laid out below; behind the fixed part come the JA3 and the JA3S text, each with
the room that its digest pads, and the work space of JA4. Without memory for it the text is absent.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.parsers import digest
from retina_jit.parsers.tls import fingerprint, hello
from retina_jit.parsers.tls.state import CUT, OLD_HELLO, SIDE_AT, STATE_AT, client_side, hello_of, server_side
from retina_jit.state import arena as pool

CLIENT_RANDOM, SERVER_RANDOM, CLIENT_ID, SERVER_ID = 0, 64, 128, 192
JA3, JA3S, JA4, SCRATCH = 256, 288, 320, 360
FIXED = 384

# STATE.made
HAS_JA3, HAS_JA3S, HAS_JA4 = 1, 2, 4


@kernel
def _block(session):
    """Address of the block, allocated first if need be; 0 if the arena is full."""
    row = STATE_AT(session)
    if row.derived == 0:
        client, server = hello_of(client_side(session)), hello_of(server_side(session))
        size = FIXED + fingerprint.ja3_room(client[1]) + fingerprint.ja3_room(server[1]) + fingerprint.ja4_room(client[1])
        row.derived = pool.allocate(row.arena, size)
        row.derived_len = size
    return row.derived


@leaf
def _fingerprinted(side):
    """The hello of a side, if it has a fingerprint: it is all there, and not in the format of SSL 2.0."""
    return hello_of(side) if SIDE_AT(side).flags & (OLD_HELLO | CUT) == 0 else (0, 0)


@kernel
def _make_ja3(session):
    row, body, block = STATE_AT(session), hello_of(client_side(session)), _block(session)
    if row.made & HAS_JA3 == 0 and block:
        text = block + FIXED
        end = fingerprint.write_ja3(text, body)
        digest.md5(text, end - text, block + SCRATCH)
        digest.write_hex(block + JA3, block + SCRATCH, 16)
        row.ja3_len = end - text
        row.made |= HAS_JA3


@kernel
def ja3_str(session):
    """The JA3 text of the client."""
    if _fingerprinted(client_side(session))[1] == 0:
        return (0, 0)
    _make_ja3(session)
    row = STATE_AT(session)
    return (row.derived + FIXED, np.int64(row.ja3_len)) if row.derived else (0, 0)


@kernel
def ja3_hash(session):
    """The 32 digits of the MD5 of `ja3_str`."""
    if ja3_str(session)[0] == 0:
        return (0, 0)
    return (STATE_AT(session).derived + JA3, 32)


@kernel
def _make_ja3s(session):
    row, body, block = STATE_AT(session), hello_of(server_side(session)), _block(session)
    if row.made & HAS_JA3S == 0 and block:
        text = block + FIXED + fingerprint.ja3_room(hello_of(client_side(session))[1])
        end = fingerprint.write_ja3s(text, body)
        digest.md5(text, end - text, block + SCRATCH)
        digest.write_hex(block + JA3S, block + SCRATCH, 16)
        row.ja3s_len = end - text
        row.made |= HAS_JA3S


@kernel
def ja3s_str(session):
    """The JA3S text of the server."""
    if _fingerprinted(server_side(session))[1] == 0:
        return (0, 0)
    _make_ja3s(session)
    row = STATE_AT(session)
    if row.derived == 0:
        return (0, 0)
    return (row.derived + FIXED + fingerprint.ja3_room(hello_of(client_side(session))[1]), np.int64(row.ja3s_len))


@kernel
def ja3s_hash(session):
    """The 32 digits of the MD5 of `ja3s_str`."""
    if ja3s_str(session)[0] == 0:
        return (0, 0)
    return (STATE_AT(session).derived + JA3S, 32)


@kernel
def ja4(session):
    """The 36 characters of the client's JA4."""
    row, body = STATE_AT(session), _fingerprinted(client_side(session))
    if body[1] == 0:
        return (0, 0)
    block = _block(session)
    if block == 0:
        return (0, 0)
    if row.made & HAS_JA4 == 0:
        work = block + FIXED + fingerprint.ja3_room(body[1]) + fingerprint.ja3_room(hello_of(server_side(session))[1])
        fingerprint.write_ja4(block + JA4, body, 116, work)
        row.made |= HAS_JA4
    return (block + JA4, fingerprint.JA4_LENGTH)


@kernel
def _hex_of(session, place, span):
    block = _block(session) if span[1] else 0
    if block == 0 or span[1] > 32:
        return (0, 0)
    digest.write_hex(block + place, span[0], span[1])
    return (block + place, 2 * span[1])


@leaf
def client_random(session):
    """The client's random as 64 hexadecimal digits."""
    return _hex_of(session, CLIENT_RANDOM, hello.random(hello_of(client_side(session))))


@leaf
def server_random(session):
    """The server's random as 64 hexadecimal digits."""
    return _hex_of(session, SERVER_RANDOM, hello.random(hello_of(server_side(session))))


@leaf
def client_session_id(session):
    """The session id in the ClientHello in hexadecimal."""
    return _hex_of(session, CLIENT_ID, hello.client_session_id(hello_of(client_side(session))))


@leaf
def server_session_id(session):
    """The session id in the ServerHello in hexadecimal."""
    return _hex_of(session, SERVER_ID, hello.server_session_id(hello_of(server_side(session))))
