"""DTLS, Datagram Transport Layer Security: 1.0, 1.2 and 1.3 over UDP. One session per connection.

A connection is DTLS when a datagram begins with a handshake record that holds a hello, or a fragment of one. What both
sides have said in clear is a session, with the fields of TLS: messages are put together from their fragments, the cookie is
taken out of the ClientHello, and all else is read as in TLS. Of the two ClientHellos around a HelloVerifyRequest or a
HelloRetryRequest the first one counts.

Sources: RFC 4347, RFC 6347, RFC 9147; the records are in `retina_jit.parsers.dtls.records`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from retina_jit.jit import entry
from retina_jit.parsers.dtls import fragments, records
from retina_jit.parsers.dtls.event import RECORD, project
from retina_jit.parsers.dtls.examples import EXAMPLES
from retina_jit.parsers.dtls.state import STATE, STATE_AT
from retina_jit.parsers.iana import tls as iana
from retina_jit.parsers.protocol import Reader, declare, session_field
from retina_jit.parsers.session import tls
from retina_jit.parsers.tls import derived, hello, messages
from retina_jit.parsers.tls.records import HANDSHAKE, RECORD_LIMIT
from retina_jit.parsers.tls.state import client_side, hello_of, is_whole, server_side, texts_of
from retina_jit.parsers.wire import has, u8, u16, u24, u32
from retina_jit.status import Probe

__all__ = ["PROBE_LIMIT", "RECORD", "STATE", "finish", "parse", "probe", "project", "release"]

PROBE_LIMIT = 27
"""Record header, message header, version of a hello."""
STUN_COOKIE, STUN_HEADER = 0x2112A442, 20
CERTAIN, LATER, NOT_OURS = int(Probe.CERTAIN), int(Probe.LATER), int(Probe.NOT_OURS)


@entry
def probe(address, length, direction, transport):
    """What a datagram looks like."""
    span = (address, length)
    if transport != 17 or length < 1:
        return NOT_OURS
    if u8(span, 0) < 4 and has(span, 0, STUN_HEADER) and u32(span, 4) == STUN_COOKIE:
        return LATER  # WebRTC finds its way before it shakes hands
    if u8(span, 0) != HANDSHAKE or not has(span, 0, PROBE_LIMIT) or not records.is_version(u16(span, 1)) or u16(span, 3) != 0:
        return NOT_OURS
    size, kind, whole = u16(span, 11), u8(span, 13), u24(span, 14)
    if size < fragments.HEADER or size > RECORD_LIMIT or whole > messages.HELLO_LIMIT or u24(span, 19) + u24(span, 22) > whole:
        return NOT_OURS
    if kind == fragments.HELLO_VERIFY_REQUEST:
        return CERTAIN if 3 <= whole <= 258 and records.is_version(u16(span, 25)) else NOT_OURS
    if (kind != messages.CLIENT_HELLO and kind != messages.SERVER_HELLO) or whole < hello.SHORTEST:
        return NOT_OURS
    return CERTAIN if u24(span, 19) or records.is_version(u16(span, 25)) else NOT_OURS


@entry
def parse(state, given):
    """See the contract."""
    return records.feed(state, given)


@entry
def finish(state, arena):
    """See the contract."""
    return records.conclude(state)


@entry
def release(state, arena):
    """See the contract."""
    records.free(state, arena)
    return 0


# ------------------------------------------------------------------------------------------------------------- fields

_VERSIONS = {name: number for number, name in iana.DTLS_VERSIONS.items()}


def _as_in_tls(reader: Reader, doc: str = "") -> Reader:
    """Return the same field for this protocol: its state begins with that of TLS."""
    f = reader.field
    aliases = tuple(f"d{alias}" for alias in f.aliases)
    return Reader(reader.function, replace(f, doc=doc or f.doc, aliases=aliases, enum=_VERSIONS if f.enum == tls.VERSIONS else f.enum))


client_version = _as_in_tls(tls.client_version, "Version field of the ClientHello; 0xfefd in DTLS 1.3.")
server_version = _as_in_tls(tls.server_version, "Version field of the ServerHello; 0xfefd in DTLS 1.3.")
version = _as_in_tls(tls.version)
client_random = _as_in_tls(tls.client_random)
server_random = _as_in_tls(tls.server_random)
client_session_id = _as_in_tls(tls.client_session_id)
server_session_id = _as_in_tls(tls.server_session_id)
sni = _as_in_tls(tls.sni)
cipher = _as_in_tls(tls.cipher)
cipher_suite = _as_in_tls(tls.cipher_suite)
compression_alg = _as_in_tls(tls.compression_alg)
client_compression_algs = _as_in_tls(tls.client_compression_algs)
client_ciphers = _as_in_tls(tls.client_ciphers)
client_extensions = _as_in_tls(tls.client_extensions)
server_extensions = _as_in_tls(tls.server_extensions)
client_signature_algs = _as_in_tls(tls.client_signature_algs)
client_supported_groups = _as_in_tls(tls.client_supported_groups)
client_alpn_protocols = _as_in_tls(tls.client_alpn_protocols)
server_alpn_protocol = _as_in_tls(tls.server_alpn_protocol)
ja3_str = _as_in_tls(tls.ja3_str)
ja3_hash = _as_in_tls(tls.ja3_hash)
ja3s_str = _as_in_tls(tls.ja3s_str)
ja3s_hash = _as_in_tls(tls.ja3s_hash)
hello_retry_request = _as_in_tls(tls.hello_retry_request)
is_resumption = _as_in_tls(tls.is_resumption)
established = _as_in_tls(tls.established)
ech = _as_in_tls(tls.ech)
alerts = _as_in_tls(tls.alerts)
certificate_count = _as_in_tls(tls.certificate_count)
certificate = _as_in_tls(tls.certificate)


@session_field("text", "JA4, fingerprint of the client that does not depend on the order of its extensions.",
               aliases=("dtls.handshake.ja4",))  # fmt: skip
def ja4(session):
    client, server = hello_of(client_side(session)), hello_of(server_side(session))
    return derived.ja4(texts_of(session), client, server, is_whole(client_side(session)), np.int64(100))  # 'd'


@session_field("bool", "The server has asked the client to prove its address with a HelloVerifyRequest.")
def hello_verify_request(session):
    return STATE_AT(session).verified != 0


declare("dtls", "Datagram Transport Layer Security", level="session", within=["udp"], examples=EXAMPLES)
