"""How a TLS session is written into an event; `retina_jit.datatypes` reads it.

The bodies of the messages are copied whole, and the parts of a hello are packed words that point into that copy; so
Python finds each part without walking, and has all bytes if it wants something else.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.delivery.event import CONTEXT_AT, packed, put_bytes, reserve_bytes
from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import copy, fill
from retina_jit.parsers.tls import derived, hello, state
from retina_jit.parsers.wire import has, u16

# HELLOS.hellos
HAS_CLIENT, HAS_SERVER = 1, 2

_PARTS = (
    *("client_hello", "client_session_id", "client_ciphers", "client_compression_algs", "client_extensions", "sni"),
    *("client_alpn_protocols", "client_signature_algs", "client_supported_groups", "client_ec_point_formats"),
    *("client_key_shares", "client_supported_versions", "server_hello", "server_session_id", "server_extensions"),
    *("server_alpn_protocol", "server_ec_point_formats", "server_key_share"),
)
HELLOS = np.dtype(
    [
        ("client_version", "u2"),
        ("server_version", "u2"),
        ("version", "u2"),  # negotiated
        ("selected_version", "u2"),
        ("cipher_suite", "u2"),
        ("compression_alg", "u1"),
        ("hellos", "u1"),
        ("pad", "u4"),
        *((name, "i8") for name in _PARTS),  # packed words; vectors without their length; extensions: types alone
    ]
)
"""Both hellos; for TLS and QUIC."""

FINGERPRINTS = np.dtype([("ja3_hash", "S32"), ("ja3s_hash", "S32"), ("ja4", "S40")])
"""Empty without the hello."""

RECORD = np.dtype(
    [
        *HELLOS.descr,
        ("flags", "u4"),  # see below
        ("alert_count", "u1"),
        ("client_direction", "u1"),  # 1: the originator of the connection is the server
        ("retry_group", "u2"),
        ("alerts", "u4", state.MAX_ALERTS),  # client 0 or server 1 << 16 | level << 8 | description
        ("server_certificates", "i8"),  # bodies of messages
        ("client_certificates", "i8"),
        ("server_key_exchange", "i8"),
        ("client_key_exchange", "i8"),
        *FINGERPRINTS.descr,
    ]
)
assert RECORD.itemsize % 8 == 0

# RECORD.flags
RETRIED, RESUMED, CLIENT_CHANGED, SERVER_CHANGED, TICKET, CERTIFICATE_REQUESTED, STATUS, GAP, ESTABLISHED, ECH = (1 << n for n in range(10))
VERIFIED = 1 << 10  # DTLS: the server has sent a HelloVerifyRequest

HELLOS_AT, RECORD_AT = memory.at(HELLOS), memory.at(RECORD)
_SIZE = HELLOS.itemsize
_ALERTS, _FINGERPRINTS = (RECORD.fields[name][1] for name in ("alerts", "ja3_hash"))  # type: ignore[index]


@leaf
def _within(word, whole, span):
    """The packed word of a part, `word` being that of the whole span that holds it; 0 if either is absent."""
    if word == 0 or span[1] == 0:
        return 0
    return (((word >> 32) + (span[0] - whole[0])) << 32) | span[1]


@kernel
def _put_types(context, block):
    """Write the types of a block of extensions, two bytes each, as they were sent."""
    count = hello.count_extensions(block)
    start = reserve_bytes(context, 2 * count)
    if count == 0 or start == 0:
        return 0
    at = 0
    for n in range(count):
        memory.store16_be(start + 2 * n, u16(block, at))
        at += 4 + u16(block, at + 2)
    return packed(context, start, 2 * count)


@kernel
def _put_client(context, at, body):
    h = HELLOS_AT(at)
    block = hello.client_extensions(body)
    whole = put_bytes(context, body[0], body[1])
    h.client_hello = whole
    h.client_version = hello.legacy_version(body)
    h.client_session_id = _within(whole, body, hello.client_session_id(body))
    h.client_ciphers = _within(whole, body, hello.cipher_suites(body))
    h.client_compression_algs = _within(whole, body, hello.compressions(body))
    h.client_extensions = _put_types(context, block)
    place = seen = 0
    for _ in range(hello.MAX_EXTENSIONS):
        if not has(block, place, 4):
            break
        kind, data = u16(block, place), hello.vector16(block, place + 2)
        place += 4 + u16(block, place + 2)
        if kind >= 63 or (seen >> kind) & 1:  # of two of a kind the first counts, as for `hello.find`
            continue
        seen |= 1 << kind
        if kind == hello.SERVER_NAME:
            h.sni = _within(whole, body, hello.server_name(data))
        elif kind == hello.ALPN:
            h.client_alpn_protocols = _within(whole, body, hello.vector16(data, 0))
        elif kind == hello.SIGNATURE_ALGORITHMS:
            h.client_signature_algs = _within(whole, body, hello.vector16(data, 0))
        elif kind == hello.SUPPORTED_GROUPS:
            h.client_supported_groups = _within(whole, body, hello.vector16(data, 0))
        elif kind == hello.EC_POINT_FORMATS:
            h.client_ec_point_formats = _within(whole, body, hello.vector8(data, 0))
        elif kind == hello.KEY_SHARE:
            h.client_key_shares = _within(whole, body, hello.vector16(data, 0))
        elif kind == hello.SUPPORTED_VERSIONS:
            h.client_supported_versions = _within(whole, body, hello.vector8(data, 0))


@kernel
def _put_server(context, at, body):
    h = HELLOS_AT(at)
    block = hello.server_extensions(body)
    whole = put_bytes(context, body[0], body[1])
    h.server_hello = whole
    h.server_version = hello.legacy_version(body)
    h.selected_version = hello.selected_version(body)
    h.cipher_suite = hello.chosen_cipher(body)
    h.compression_alg = hello.chosen_compression(body)
    h.server_session_id = _within(whole, body, hello.server_session_id(body))
    h.server_extensions = _put_types(context, block)
    h.server_alpn_protocol = _within(whole, body, hello.vector8(hello.vector16(hello.find(block, hello.ALPN), 0), 0))
    h.server_ec_point_formats = _within(whole, body, hello.vector8(hello.find(block, hello.EC_POINT_FORMATS), 0))
    h.server_key_share = _within(whole, body, hello.find(block, hello.KEY_SHARE))


@kernel
def put_hellos(context, at, client, server):
    """Write both hellos (bodies; (0, 0) for one that is missing) to a HELLOS record, which is cleared first."""
    fill(at, 0, _SIZE)
    h = HELLOS_AT(at)
    if client[1]:
        h.hellos |= HAS_CLIENT
        _put_client(context, at, client)
    if server[1]:
        h.hellos |= HAS_SERVER
        _put_server(context, at, server)
    version = h.selected_version if h.selected_version else h.server_version
    h.version = version if version else h.client_version


@leaf
def _put_text(target, room, span):
    fill(target, 0, room)
    copy(target, span[0], min(span[1], room))


@kernel
def put_fingerprints(texts, client, server, client_is_whole, server_is_whole, transport, target):
    """Write JA3, JA3S and JA4 to a FINGERPRINTS record; `transport` is the first letter of JA4."""
    _put_text(target, 32, derived.ja3_hash(texts, client, server, client_is_whole))
    _put_text(target + 32, 32, derived.ja3s_hash(texts, client, server, server_is_whole))
    _put_text(target + 64, 40, derived.ja4(texts, client, server, client_is_whole, transport))


@kernel
def put_session(context, transport):
    """Write a session whose state begins with that of TLS to a RECORD; `transport` is the first letter of its JA4."""
    c = CONTEXT_AT(context)
    session, out = c.session, c.out
    put_hellos(context, out, state.hello_of(state.client_side(session)), state.hello_of(state.server_side(session)))
    r, row = RECORD_AT(out), state.STATE_AT(session)
    client, server = state.SIDE_AT(state.client_side(session)), state.SIDE_AT(state.server_side(session))
    ours, theirs = np.int64(client.flags), np.int64(server.flags)
    r.flags = (
        ((theirs & state.RETRY != 0) * RETRIED)
        | (state.is_resumed(session) * RESUMED)
        | ((ours & state.CCS != 0) * CLIENT_CHANGED)
        | ((theirs & state.CCS != 0) * SERVER_CHANGED)
        | ((theirs & state.TICKET != 0) * TICKET)
        | ((theirs & state.ASKED != 0) * CERTIFICATE_REQUESTED)
        | ((theirs & state.STATUS != 0) * STATUS)
        | (((ours | theirs) & state.GAP != 0) * GAP)
        | (state.is_established(session) * ESTABLISHED)
        | ((hello.find(hello.client_extensions(state.hello_of(state.client_side(session))), hello.ENCRYPTED_CLIENT_HELLO)[0] != 0) * ECH)
    )
    r.alert_count = row.alert_count
    r.client_direction = row.client
    r.retry_group = server.retry_group
    for n in range(state.MAX_ALERTS):
        alert = state.alert_at(session, n) if n < row.alert_count else 0
        memory.store32(out + _ALERTS + 4 * n, alert ^ (np.int64(row.client) << 16) if alert else 0)
    r.server_certificates = put_bytes(context, server.buffer + np.int64(server.chain_at), np.int64(server.chain_len))
    r.client_certificates = put_bytes(context, client.buffer + np.int64(client.chain_at), np.int64(client.chain_len))
    r.server_key_exchange = put_bytes(context, server.buffer + np.int64(server.key_at), np.int64(server.key_len))
    r.client_key_exchange = put_bytes(context, client.buffer + np.int64(client.key_at), np.int64(client.key_len))
    put_fingerprints(
        state.texts_of(session),
        state.hello_of(state.client_side(session)),
        state.hello_of(state.server_side(session)),
        state.is_whole(state.client_side(session)),
        state.is_whole(state.server_side(session)),
        transport,
        out + _FINGERPRINTS,
    )


@entry
def project(context):
    """Write a TLS session to an event."""
    put_session(context, np.int64(116))  # 't'
    return 0
