"""TLS, Transport Layer Security: SSL 3.0 to TLS 1.3 over TCP. One session per connection.

A connection is TLS when it begins with a handshake record, or, taken up in its middle, with a ChangeCipherSpec or an
alert in clear. Application data alone is not taken for TLS: without a handshake there is nothing to report, and to
follow it would cost memory for nothing. Where a connection turns to TLS later (STARTTLS), the parser of what came before or
`retina_jit.parsers.starttls` tells.

A session is all that both sides have said in clear. Of two ClientHellos (RFC 8446, 4.1.4) the first one counts, for
fields and for fingerprints, as for other tools; `hello_retry_request` tells that there was a second one. Of a hello
whose end was not captured (a short snapshot length) the fields are there as far as it goes, its fingerprints are not.

Sources: RFC 8446, RFC 5246, RFC 6101; the reading of records is in `retina_jit.parsers.tls.records`.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import entry, kernel, leaf
from retina_jit.parsers.iana import tls as iana
from retina_jit.parsers.protocol import declare, session_field
from retina_jit.parsers.tls import derived, hello, messages, records, ssl2
from retina_jit.parsers.tls import state as state_of
from retina_jit.parsers.tls.event import RECORD, project
from retina_jit.parsers.tls.examples import EXAMPLES
from retina_jit.parsers.tls.names import cipher_name
from retina_jit.parsers.tls.state import (
    SIDE_AT,
    STATE,
    STATE_AT,
    client_side,
    hello_of,
    is_whole,
    server_side,
    texts_of,
)
from retina_jit.parsers.wire import has, part, u8, u16, u24, u32
from retina_jit.status import Probe

__all__ = ["PROBE_LIMIT", "RECORD", "STATE", "finish", "parse", "probe", "project", "release"]

PROBE_LIMIT = 11
"""Record header, message header, version of a hello."""

VERSIONS, _CIPHERS, _EXTENSIONS, _SCHEMES, _GROUPS, _ALERTS = (
    {name: number for number, name in table.items()}
    for table in (iana.VERSIONS, iana.CIPHER_SUITES, iana.EXTENSIONS, iana.SIGNATURE_SCHEMES, iana.GROUPS, iana.ALERTS)
)

CERTAIN, UNSURE, NOT_OURS = int(Probe.CERTAIN), int(Probe.UNSURE), int(Probe.NOT_OURS)


@kernel
def _probe_ssl2(span):
    """The same for a ClientHello in the format of SSL 2.0: it offers at least one cipher and a challenge."""
    if has(span, 2, 1) and u8(span, 2) != messages.CLIENT_HELLO:
        return NOT_OURS
    if has(span, 3, 1) and u8(span, 3) != 3:
        return NOT_OURS
    if not has(span, 0, PROBE_LIMIT):
        return UNSURE
    ciphers, session_id, challenge = u16(span, 5), u16(span, 7), u16(span, 9)
    plausible = 0 < ciphers and ciphers % 3 == 0 and 16 <= challenge <= 32
    fits = ssl2.body_length((u8(span, 0) << 32) | u32(span, 1)) == 6 + ciphers + session_id + challenge
    return CERTAIN if plausible and fits and ssl2.is_hello((u8(span, 0) << 32) | u32(span, 1)) else NOT_OURS


@entry
def probe(address, length, direction, transport):
    """What the first bytes of a direction look like."""
    span = (address, length)
    if length < 1:
        return UNSURE
    content = u8(span, 0)
    if content & 0x80:
        return _probe_ssl2(span)
    if content < records.CHANGE_CIPHER_SPEC or content > records.HANDSHAKE:
        return NOT_OURS
    if length > 1 and u8(span, 1) != 3:
        return NOT_OURS
    if length > 2 and u8(span, 2) > 4:
        return NOT_OURS
    if length < 5:
        return UNSURE
    size = u16(span, 3)
    if content == records.CHANGE_CIPHER_SPEC:
        if size != 1 or (length > 5 and u8(span, 5) != 1):
            return NOT_OURS
        return CERTAIN if length > 5 else UNSURE
    if content == records.ALERT:
        if size != 2 or (length > 5 and (u8(span, 5) < 1 or u8(span, 5) > records.FATAL)):
            return NOT_OURS
        return CERTAIN if length > 6 else UNSURE
    if size < 1 or size > records.RECORD_LIMIT:
        return NOT_OURS
    if length < 6:
        return UNSURE
    kind = u8(span, 5)
    if not messages.is_message_type(kind):
        return NOT_OURS
    if size < 4 or (kind != messages.CLIENT_HELLO and kind != messages.SERVER_HELLO):
        return CERTAIN if size < 4 or length < 9 or u24(span, 6) <= messages.MESSAGE_LIMIT else NOT_OURS
    if length < 9:
        return UNSURE
    if u24(span, 6) < hello.SHORTEST or u24(span, 6) > messages.HELLO_LIMIT:
        return NOT_OURS
    if size < 6:
        return CERTAIN
    if length < 11:
        return UNSURE
    version = u16(span, 9)
    return CERTAIN if 0x0300 <= version <= 0x0304 or hello.is_draft(version) else NOT_OURS


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


# -------------------------------------------------------------------------------------------------------- the two hellos


@leaf
def _client(session):
    return hello_of(client_side(session))


@leaf
def _server(session):
    return hello_of(server_side(session))


@leaf
def _client_list(session, kind):
    return hello.list_in(hello.client_extensions(_client(session)), kind)


@leaf
def _server_list(session, kind):
    return hello.list_in(hello.server_extensions(_server(session)), kind)


@session_field("int", "Version field of the ClientHello; at most 0x0303 in TLS 1.3.", bits=16, enum=VERSIONS)
def client_version(session):
    return hello.legacy_version(_client(session))


@session_field("int", "Version field of the ServerHello; 0x0303 in TLS 1.3.", bits=16, enum=VERSIONS)
def server_version(session):
    return hello.legacy_version(_server(session))


@kernel
def _negotiated_version(session):
    body = _server(session)
    selected = hello.selected_version(body)
    if selected:
        return selected
    chosen = hello.legacy_version(body)
    return chosen if chosen else hello.legacy_version(_client(session))


@session_field("int", "Negotiated version: what the server has selected, else its hello's, else the client's.", bits=16,
               enum=VERSIONS, aliases=("tls.handshake.version",))  # fmt: skip
def version(session):
    return _negotiated_version(session)


@session_field("text", "The client's 32 random bytes in hexadecimal.")
def client_random(session):
    return derived.client_random(texts_of(session), _client(session), _server(session))


@session_field("text", "The server's 32 random bytes in hexadecimal.")
def server_random(session):
    return derived.server_random(texts_of(session), _client(session), _server(session))


@session_field("text", "Session id that the client offers, in hexadecimal.")
def client_session_id(session):
    return derived.client_session_id(texts_of(session), _client(session), _server(session))


@session_field("text", "Session id that the server answers with, in hexadecimal.")
def server_session_id(session):
    return derived.server_session_id(texts_of(session), _client(session), _server(session))


@session_field("text", "Server name that the client asks for.", aliases=("tls.handshake.extensions_server_name",))
def sni(session):
    return hello.server_name(hello.find(hello.client_extensions(_client(session)), hello.SERVER_NAME))


@session_field("text", "Name of the cipher suite that the server has chosen; UNKNOWN_CIPHER if it has none.")
def cipher(session):
    body = _server(session)
    return cipher_name(hello.chosen_cipher(body)) if body[1] else (0, 0)


@session_field("int", "Cipher suite that the server has chosen.", bits=16, aliases=("tls.handshake.ciphersuite",), enum=_CIPHERS)
def cipher_suite(session):
    return hello.chosen_cipher(_server(session))


@session_field("int", "Compression method that the server has chosen.", bits=8)
def compression_alg(session):
    return hello.chosen_compression(_server(session))


@session_field("bytes", "Compression methods that the client offers, a byte each.")
def client_compression_algs(session):
    return hello.compressions(_client(session))


@session_field("ints", "Cipher suites that the client offers, in its order, GREASE included.", bits=16, enum=_CIPHERS)
def client_ciphers(session, n):
    return hello.element16(hello.cipher_suites(_client(session)), n)


@session_field("ints", "Types of the client's extensions, in its order, GREASE included.", bits=16, enum=_EXTENSIONS,
               aliases=("tls.handshake.extension.type",))  # fmt: skip
def client_extensions(session, n):
    return hello.type_in(hello.client_extensions(_client(session)), n)


@session_field("ints", "Types of the server's extensions that are in clear.", bits=16, enum=_EXTENSIONS)
def server_extensions(session, n):
    return hello.type_in(hello.server_extensions(_server(session)), n)


@session_field("ints", "Signature schemes that the client accepts, in its order.", bits=16, enum=_SCHEMES)
def client_signature_algs(session, n):
    return hello.element16(_client_list(session, hello.SIGNATURE_ALGORITHMS), n)


@session_field("ints", "Groups that the client supports, in its order, GREASE included.", bits=16, enum=_GROUPS)
def client_supported_groups(session, n):
    return hello.element16(_client_list(session, hello.SUPPORTED_GROUPS), n)


@session_field("texts", "Application protocols that the client offers (ALPN).", aliases=("tls.handshake.extensions_alpn_str",))
def client_alpn_protocols(session, n):
    return hello.name_at(_client_list(session, hello.ALPN), n)


@session_field("text", "Application protocol that the server has chosen, where it says so in clear (up to TLS 1.2).")
def server_alpn_protocol(session):
    return hello.name_at(_server_list(session, hello.ALPN), 0)


# --------------------------------------------------------------------------------------------------------- fingerprints


@session_field("text", "JA3 before hashing: version, ciphers, extensions, groups, point formats, without GREASE.",
               aliases=("tls.handshake.ja3_full",))  # fmt: skip
def ja3_str(session):
    return derived.ja3_str(texts_of(session), _client(session), _server(session), is_whole(client_side(session)))


@session_field("text", "JA3, fingerprint of the client: an MD5 in hexadecimal.", aliases=("tls.handshake.ja3",))
def ja3_hash(session):
    return derived.ja3_hash(texts_of(session), _client(session), _server(session), is_whole(client_side(session)))


@session_field("text", "JA3S before hashing: version, cipher, extensions.", aliases=("tls.handshake.ja3s_full",))
def ja3s_str(session):
    return derived.ja3s_str(texts_of(session), _client(session), _server(session), is_whole(server_side(session)))


@session_field("text", "JA3S, fingerprint of the server's answer: an MD5 in hexadecimal.", aliases=("tls.handshake.ja3s",))
def ja3s_hash(session):
    return derived.ja3s_hash(texts_of(session), _client(session), _server(session), is_whole(server_side(session)))


@session_field("text", "JA4, fingerprint of the client that does not depend on the order of its extensions.",
               aliases=("tls.handshake.ja4",))  # fmt: skip
def ja4(session):
    return derived.ja4(texts_of(session), _client(session), _server(session), is_whole(client_side(session)), np.int64(116))  # 't'


# ------------------------------------------------------------------------------------------------- the rest of the story


@session_field("bool", "The server has asked for another ClientHello.")
def hello_retry_request(session):
    return SIDE_AT(server_side(session)).flags & state_of.RETRY != 0


@session_field("bool", "An earlier session was taken up: by id or ticket, or with a pre-shared key.", aliases=("tls.resumed",))
def is_resumption(session):
    return state_of.is_resumed(session)


@session_field("bool", "Keys were agreed on: both sides have changed to encryption (TLS 1.3, resumed sessions: the server).")
def established(session):
    return state_of.is_established(session)


@session_field("bool", "The client offers an encrypted ClientHello (ECH), or pretends to: `sni` is then a public name.")
def ech(session):
    return hello.find(hello.client_extensions(_client(session)), hello.ENCRYPTED_CLIENT_HELLO)[0] != 0


@session_field("ints", "Alerts in clear, in their order: the descriptions.", bits=8, enum=_ALERTS, aliases=("tls.alert_message.desc",))
def alerts(session, n):
    return np.int64(STATE_AT(session).alert_count) if n < 0 else state_of.alert_at(session, n) & 0xFF


@kernel
def _certificate(session, n):
    """DER of the `n`-th certificate of the server; (0, how many) for n = -1."""
    s = SIDE_AT(server_side(session))
    chain = part((s.buffer + np.int64(s.chain_at), np.int64(s.chain_len)), 3, np.int64(s.chain_len))
    at = count = 0
    while has(chain, at, 3):
        if count == n:
            return part(chain, at + 3, u24(chain, at))
        at += 3 + u24(chain, at)
        count += 1
    return (0, count) if n < 0 else (0, 0)


@session_field("int", "How many certificates the server has sent in clear (up to TLS 1.2).")
def certificate_count(session):
    return _certificate(session, -1)[1]


@session_field("bytes", "The server's own certificate, DER.", aliases=("tls.handshake.certificate",))
def certificate(session):
    return _certificate(session, 0)


declare("tls", "Transport Layer Security", level="session", within=["tcp"], examples=EXAMPLES)
