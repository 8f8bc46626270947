"""Text that a session with hellos does not hold but gives: hexadecimal numbers and fingerprints, made when first asked for.

It lies in one arena block per session, laid out below; behind the fixed part come the JA3 and the JA3S text, each with
the room that its digest pads, and the work space of JA4. Without memory for it the text is absent. The parser of the
session embeds a TEXTS record in its state; functions here take its address and the bodies of both hellos, (0, 0) for
one that is missing. Of a hello that has no fingerprint, `is_whole` is False.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.parsers import digest
from retina_jit.parsers.tls import fingerprint, hello
from retina_jit.state import arena as pool

TEXTS = np.dtype(
    [
        ("arena", "i8"),  # where the block is allocated; set by the parser
        ("block", "i8"),
        ("size", "i4"),
        ("ja3_len", "i4"),
        ("ja3s_len", "i4"),
        ("made", "u4"),
    ]
)
TEXTS_AT = memory.at(TEXTS)

CLIENT_RANDOM, SERVER_RANDOM, CLIENT_ID, SERVER_ID = 0, 64, 128, 192
JA3, JA3S, JA4, SCRATCH = 256, 288, 320, 360
FIXED = 384

# TEXTS.made
HAS_JA3, HAS_JA3S, HAS_JA4 = 1, 2, 4


@kernel
def _block(texts, client, server):
    """Address of the block, allocated first if need be; 0 if the arena is full."""
    t = TEXTS_AT(texts)
    if t.block == 0:
        size = FIXED + fingerprint.ja3_room(client[1]) + fingerprint.ja3_room(server[1]) + fingerprint.ja4_room(client[1])
        t.block = pool.allocate(t.arena, size)
        t.size = size
    return t.block


@kernel
def release(texts, arena):
    """Give the block back."""
    t = TEXTS_AT(texts)
    pool.release(arena, t.block, np.int64(t.size))
    t.block = 0
    t.made = 0


@kernel
def _make_ja3(texts, client, server):
    """See that the JA3 of the client is there. Returns the block, or 0."""
    t, block = TEXTS_AT(texts), _block(texts, client, server)
    if t.made & HAS_JA3 == 0 and block:
        text = block + FIXED
        end = fingerprint.write_ja3(text, client)
        digest.md5(text, end - text, block + SCRATCH)
        digest.write_hex(block + JA3, block + SCRATCH, 16)
        t.ja3_len = end - text
        t.made |= HAS_JA3
    return block


@kernel
def ja3_str(texts, client, server, is_whole):
    """The JA3 text of the client."""
    block = _make_ja3(texts, client, server) if is_whole and client[1] else 0
    return (block + FIXED, np.int64(TEXTS_AT(texts).ja3_len)) if block else (0, 0)


@kernel
def ja3_hash(texts, client, server, is_whole):
    """The 32 digits of the MD5 of `ja3_str`."""
    block = _make_ja3(texts, client, server) if is_whole and client[1] else 0
    return (block + JA3, 32) if block else (0, 0)


@kernel
def _make_ja3s(texts, client, server):
    """The same for the server."""
    t, block = TEXTS_AT(texts), _block(texts, client, server)
    if t.made & HAS_JA3S == 0 and block:
        text = block + FIXED + fingerprint.ja3_room(client[1])
        end = fingerprint.write_ja3s(text, server)
        digest.md5(text, end - text, block + SCRATCH)
        digest.write_hex(block + JA3S, block + SCRATCH, 16)
        t.ja3s_len = end - text
        t.made |= HAS_JA3S
    return block


@kernel
def ja3s_str(texts, client, server, is_whole):
    """The JA3S text of the server."""
    block = _make_ja3s(texts, client, server) if is_whole and server[1] else 0
    return (block + FIXED + fingerprint.ja3_room(client[1]), np.int64(TEXTS_AT(texts).ja3s_len)) if block else (0, 0)


@kernel
def ja3s_hash(texts, client, server, is_whole):
    """The 32 digits of the MD5 of `ja3s_str`."""
    block = _make_ja3s(texts, client, server) if is_whole and server[1] else 0
    return (block + JA3S, 32) if block else (0, 0)


@kernel
def ja4(texts, client, server, is_whole, transport):
    """The 36 characters of the client's JA4; `transport` is its first one."""
    block = _block(texts, client, server) if is_whole and client[1] else 0
    if block == 0:
        return (0, 0)
    t = TEXTS_AT(texts)
    if t.made & HAS_JA4 == 0:
        work = block + FIXED + fingerprint.ja3_room(client[1]) + fingerprint.ja3_room(server[1])
        fingerprint.write_ja4(block + JA4, client, transport, work)
        t.made |= HAS_JA4
    return (block + JA4, fingerprint.JA4_LENGTH)


@kernel
def _hex_of(texts, client, server, place, span):
    block = _block(texts, client, server) if span[1] else 0
    if block == 0 or span[1] > 32:
        return (0, 0)
    digest.write_hex(block + place, span[0], span[1])
    return (block + place, 2 * span[1])


@leaf
def client_random(texts, client, server):
    """The client's random as 64 hexadecimal digits."""
    return _hex_of(texts, client, server, CLIENT_RANDOM, hello.random(client))


@leaf
def server_random(texts, client, server):
    """The server's random as 64 hexadecimal digits."""
    return _hex_of(texts, client, server, SERVER_RANDOM, hello.random(server))


@leaf
def client_session_id(texts, client, server):
    """The session id in the ClientHello in hexadecimal."""
    return _hex_of(texts, client, server, CLIENT_ID, hello.client_session_id(client))


@leaf
def server_session_id(texts, client, server):
    """The session id in the ServerHello in hexadecimal."""
    return _hex_of(texts, client, server, SERVER_ID, hello.server_session_id(server))
