"""TLS, Transport Layer Security: SSL 3.0 to TLS 1.3 over TCP. One session per connection.

A connection is TLS when it begins with a handshake record, or, taken up in its middle, with a ChangeCipherSpec or an
alert in clear. Application data alone is not taken for TLS: without a handshake there is nothing to report, and to
follow it would cost memory for nothing. Traffic that turns to TLS later (STARTTLS) is not ours to notice.

A session is all that both sides have said in clear. Of two ClientHellos (RFC 8446, 4.1.4) the first one counts, for
fields and for fingerprints, as for other tools; `hello_retry_request` tells that there was a second one.

Sources: RFC 8446, RFC 5246, RFC 6101; the reading of records is in `retina_jit.parsers.tls.records`.
"""

from __future__ import annotations

from retina_jit.jit import entry, kernel, leaf
from retina_jit.parsers.protocol import declare, session_field
from retina_jit.parsers.tls import derived, hello, records
from retina_jit.parsers.tls.records import STATE, client_side, hello_of, server_side
from retina_jit.parsers.wire import u8, u16, u24
from retina_jit.status import Probe

__all__ = ["PROBE_LIMIT", "STATE", "finish", "parse", "probe", "release"]

PROBE_LIMIT = 11
"""Record header, message header, version of a hello."""

CERTAIN, UNSURE, NOT_OURS = int(Probe.CERTAIN), int(Probe.UNSURE), int(Probe.NOT_OURS)


@entry
def probe(address, length, direction):
    """What the first bytes of a direction look like."""
    span = (address, length)
    if length < 1:
        return UNSURE
    content = u8(span, 0)
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
    if not records.is_message_type(kind):
        return NOT_OURS
    if size < 4 or (kind != records.CLIENT_HELLO and kind != records.SERVER_HELLO):
        return CERTAIN if size < 4 or length < 9 or u24(span, 6) <= records.MESSAGE_LIMIT else NOT_OURS
    if length < 9:
        return UNSURE
    if u24(span, 6) < hello.SHORTEST or u24(span, 6) > records.HELLO_LIMIT:
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


@kernel
def client_extension(session, kind):
    """Content of an extension of the ClientHello, or (0, 0)."""
    return hello.find(hello.client_extensions(_client(session)), kind)


@kernel
def server_extension(session, kind):
    """Content of an extension of the ServerHello, or (0, 0)."""
    return hello.find(hello.server_extensions(_server(session)), kind)


@session_field("int", "Version field of the ClientHello; at most 0x0303 for TLS 1.3.", bits=16)
def client_version(session):
    return hello.legacy_version(_client(session))


@session_field("int", "Version field of the ServerHello; 0x0303 for TLS 1.3.", bits=16)
def server_version(session):
    return hello.legacy_version(_server(session))


@kernel
def negotiated_version(session):
    """What the server has selected, else the ServerHello's version, else the ClientHello's; 0 without any."""
    body = _server(session)
    selected = hello.selected_version(body)
    if selected:
        return selected
    chosen = hello.legacy_version(body)
    return chosen if chosen else hello.legacy_version(_client(session))


@session_field("int", "Negotiated version: what the server has selected, else its hello's, else the client's.", bits=16, aliases=("tls.handshake.version",))
def version(session):
    return negotiated_version(session)


@session_field("text", "Server name that the client asks for; empty without one.", aliases=("tls.handshake.extensions_server_name",))
def sni(session):
    return hello.server_name(client_extension(session, hello.SERVER_NAME))


@session_field("int", "Cipher suite that the server has chosen.", bits=16, aliases=("tls.handshake.ciphersuite",))
def cipher_suite(session):
    return hello.chosen_cipher(_server(session))


@session_field("ints", "Cipher suites that the client offers, in its order, GREASE included.", bits=16)
def client_ciphers(session, n):
    suites = hello.cipher_suites(_client(session))
    return suites[1] >> 1 if n < 0 else hello.number16(suites, n)


@session_field("text", "JA3 before hashing: version, ciphers, extensions, groups, point formats.", aliases=("tls.handshake.ja3_full",))
def ja3_str(session):
    return derived.ja3_str(session)


@session_field("text", "JA3 of the client: MD5 in hexadecimal.", aliases=("tls.handshake.ja3",))
def ja3_hash(session):
    return derived.ja3_hash(session)


declare("tls", "Transport Layer Security", level="session", within=["tcp"])
