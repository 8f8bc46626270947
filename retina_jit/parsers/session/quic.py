"""QUIC over UDP: versions 1 and 2, their drafts from 22 on, and relatives. One session per connection.

A datagram is QUIC when it has a long header of a version whose Initial packets can be read. Short headers alone are not
taken for it: without a handshake there is nothing to report. What is delivered has been authenticated: at least one
Initial packet has opened with its own keys, so that other traffic over UDP is never taken for QUIC.

A session is what both sides say in Initial packets: the hellos of TLS 1.3, connection ids, transport parameters of the
client. Of a ClientHello whose end is missing the fields are there as far as it goes, its fingerprints are not.

Sources: RFC 9000, RFC 9001, RFC 9369; how it is followed is in `retina_jit.parsers.quic.feed`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retina_jit.jit import entry, kernel, leaf
from retina_jit.parsers.iana import tls as iana
from retina_jit.parsers.protocol import declare, session_field
from retina_jit.parsers.quic import feed, packet, parameters, versions
from retina_jit.parsers.quic import state as state_of
from retina_jit.parsers.quic.event import RECORD, project
from retina_jit.parsers.quic.examples import EXAMPLES
from retina_jit.parsers.quic.state import (
    STATE,
    STATE_AT,
    client_side,
    hello_of,
    is_whole,
    server_side,
    texts_of,
)
from retina_jit.parsers.tls import derived, hello
from retina_jit.parsers.tls.names import cipher_name
from retina_jit.parsers.wire import has, u8, u32
from retina_jit.status import Probe

__all__ = ["CRYPTO", "PROBE_LIMIT", "RECORD", "STATE", "finish", "parse", "probe", "project", "release"]

PROBE_LIMIT = 7
CRYPTO = True
"""Its parser wants INPUT.crypto."""

_CIPHERS, _EXTENSIONS, _SCHEMES, _GROUPS = (
    {name: number for number, name in table.items()}
    for table in (iana.CIPHER_SUITES, iana.EXTENSIONS, iana.SIGNATURE_SCHEMES, iana.GROUPS)
)
_Q = np.int64(113)  # 'q', how JA4 names QUIC

CERTAIN, UNSURE, NOT_OURS = int(Probe.CERTAIN), int(Probe.UNSURE), int(Probe.NOT_OURS)


@entry
def probe(address, length, direction, transport):
    """What a datagram looks like: a long header of a known version, whose parts fit."""
    span = (address, length)
    if transport != 17 or not has(span, 0, packet.SAMPLE) or not packet.is_long(u8(span, 0)):
        return NOT_OURS
    kind = packet.read_long(span, 0)[0]
    if kind < 0:
        return NOT_OURS
    # A server's answer to a version that it does not know has no version itself: the client's next datagram will tell.
    # Of a version that is made up to be refused the same holds.
    if kind == packet.NEGOTIATION or versions.is_greased(u32(span, 1)):
        return UNSURE
    return CERTAIN


@entry
def parse(state, given):
    """See the contract."""
    return feed.feed(state, given)


@entry
def finish(state, arena):
    """See the contract."""
    return feed.conclude(state)


@entry
def release(state, arena):
    """See the contract."""
    feed.free(state, arena)
    return 0


# ------------------------------------------------------------------------------------------------------------- packets


@session_field("int", "Version of the connection: the server's, if it has answered in another one than it was asked in.",
               bits=32, enum=versions.NAMES)  # fmt: skip
def version(session):
    return np.int64(STATE_AT(session).version)


@session_field("int", "Version of the client's first packet that could be read.", bits=32, enum=versions.NAMES)
def first_version(session):
    return np.int64(STATE_AT(session).first_version)


@session_field("text", "Destination connection id of the client's first packet, in hexadecimal.")
def dcid(session):
    return state_of.id_text(session, 0, state_of.DCID, np.int64(STATE_AT(session).dcid_len))


@session_field("text", "Connection id that the client has chosen, in hexadecimal.", aliases=("quic.client_scid",))
def scid(session):
    return state_of.id_text(session, 1, state_of.SCID, np.int64(STATE_AT(session).scid_len))


@session_field("text", "Connection id that the server has chosen, in hexadecimal.")
def server_scid(session):
    return state_of.id_text(session, 2, state_of.SERVER_SCID, np.int64(STATE_AT(session).server_scid_len))


@session_field("int", "Initial packets that were read.")
def initial_packets(session):
    return np.int64(STATE_AT(session).opened)


@session_field("int", "Length of the token in the client's Initial packets.", bits=16, unit="byte", aliases=("quic.token_length",))
def token_len(session):
    return np.int64(STATE_AT(session).token_len)


@session_field("bool", "The server has asked the client to prove its address with a Retry packet.")
def retry(session):
    return STATE_AT(session).flags & state_of.RETRIED != 0


@session_field("bool", "The server has refused a version.")
def version_negotiation(session):
    return STATE_AT(session).flags & state_of.NEGOTIATED != 0


@session_field("bool", "The client has sent 0-RTT packets: data before the handshake.", aliases=("quic.early_data",))
def zero_rtt(session):
    return STATE_AT(session).flags & state_of.EARLY_DATA != 0


@session_field("bool", "A side has closed the connection in an Initial packet.")
def closed(session):
    return STATE_AT(session).flags & (state_of.CLOSED | state_of.SERVER_CLOSED) != 0


@session_field("int", "Error code of that.", bits=62, aliases=("quic.cc.error_code",))
def error_code(session):
    return STATE_AT(session).error


# -------------------------------------------------------------------------------------------------------- the two hellos


@leaf
def _client(session):
    return hello_of(client_side(session))


@leaf
def _server(session):
    return hello_of(server_side(session))


@kernel
def _offered(session):
    """The client's extensions."""
    return hello.client_extensions(_client(session))


@kernel
def _answered(session):
    """The server's extensions that are in clear."""
    return hello.server_extensions(_server(session))


@session_field("text", "Server name that the client asks for.")
def sni(session):
    return hello.server_name(hello.find(_offered(session), hello.SERVER_NAME))


@session_field("texts", "Application protocols that the client offers (ALPN).", aliases=("quic.client_alpn_protocols",))
def alpn(session, n):
    return hello.name_at(hello.list_in(_offered(session), hello.ALPN), n)


@session_field("text", "Name of the cipher suite that the server has chosen; UNKNOWN_CIPHER if it has none.")
def cipher(session):
    body = _server(session)
    return cipher_name(hello.chosen_cipher(body)) if body[1] else (0, 0)


@session_field("int", "Cipher suite that the server has chosen.", bits=16, enum=_CIPHERS)
def cipher_suite(session):
    return hello.chosen_cipher(_server(session))


@session_field("ints", "Cipher suites that the client offers, in its order, GREASE included.", bits=16, enum=_CIPHERS)
def client_ciphers(session, n):
    return hello.element16(hello.cipher_suites(_client(session)), n)


@session_field("ints", "Types of the client's extensions, in its order, GREASE included.", bits=16, enum=_EXTENSIONS)
def client_extensions(session, n):
    return hello.type_in(_offered(session), n)


@session_field("ints", "Types of the server's extensions that are in clear.", bits=16, enum=_EXTENSIONS)
def server_extensions(session, n):
    return hello.type_in(_answered(session), n)


@session_field("ints", "Signature schemes that the client accepts, in its order.", bits=16, enum=_SCHEMES)
def client_signature_algs(session, n):
    return hello.element16(hello.list_in(_offered(session), hello.SIGNATURE_ALGORITHMS), n)


@session_field("ints", "Groups that the client supports, in its order, GREASE included.", bits=16, enum=_GROUPS)
def client_supported_groups(session, n):
    return hello.element16(hello.list_in(_offered(session), hello.SUPPORTED_GROUPS), n)


@session_field("text", "The client's 32 random bytes in hexadecimal.")
def client_random(session):
    return derived.client_random(texts_of(session), _client(session), _server(session))


@session_field("text", "The server's 32 random bytes in hexadecimal.")
def server_random(session):
    return derived.server_random(texts_of(session), _client(session), _server(session))


@session_field("bool", "The server has asked for another ClientHello.")
def hello_retry_request(session):
    return STATE_AT(session).flags & state_of.HELLO_RETRY != 0


@session_field("bool", "An earlier session was taken up with a pre-shared key.")
def is_resumption(session):
    return hello.find(_answered(session), hello.PRE_SHARED_KEY)[0] != 0


@session_field("bool", "The client hides its true hello (Encrypted Client Hello), or pretends to.")
def ech(session):
    return hello.find(_offered(session), hello.ENCRYPTED_CLIENT_HELLO)[0] != 0


@session_field("text", "JA3 before hashing: version, ciphers, extensions, groups, point formats, without GREASE.")
def ja3_str(session):
    return derived.ja3_str(texts_of(session), _client(session), _server(session), is_whole(client_side(session)))


@session_field("text", "JA3, fingerprint of the client: an MD5 in hexadecimal.")
def ja3_hash(session):
    return derived.ja3_hash(texts_of(session), _client(session), _server(session), is_whole(client_side(session)))


@session_field("text", "JA3S, fingerprint of the server's answer: an MD5 in hexadecimal.")
def ja3s_hash(session):
    return derived.ja3s_hash(texts_of(session), _client(session), _server(session), is_whole(server_side(session)))


@session_field("text", "JA4, fingerprint of the client that does not depend on the order of its extensions.")
def ja4(session):
    return derived.ja4(texts_of(session), _client(session), _server(session), is_whole(client_side(session)), _Q)


# ------------------------------------------------------------------------------------- the client's transport parameters


@leaf
def _old(session):
    return versions.scheme_of(np.int64(STATE_AT(session).first_version)) & versions.OLD_PARAMETERS


def _parameter(name: str, doc: str, unit: str = "") -> Any:
    which = parameters.IDS[name]

    def read(session: Any) -> Any:
        return parameters.number(parameters.block_of(_client(session)), _old(session), which)

    return session_field("int", doc, bits=62, unit=unit)(read)


@session_field("ints", "Ids of the client's transport parameters, in its order.", bits=62)
def transport_parameters(session, n):
    return parameters.identifier_at(parameters.block_of(_client(session)), _old(session), n)


@session_field("text", "What Google's clients call themselves.", aliases=("quic.user_agent_id",))
def user_agent(session):
    return parameters.find(parameters.block_of(_client(session)), _old(session), parameters.USER_AGENT)


@session_field("ints", "Versions that the client could speak (version_information).", bits=32, enum=versions.NAMES)
def available_versions(session, n):
    return parameters.offered_version(parameters.block_of(_client(session)), n)


max_idle_timeout = _parameter("max_idle_timeout", "Silence after which the client gives the connection up.", "ms")
max_udp_payload_size = _parameter("max_udp_payload_size", "Longest datagram that the client takes.", "byte")
initial_max_data = _parameter("initial_max_data", "Data that the client takes at first on the connection.", "byte")
initial_max_stream_data_bidi_local = _parameter(
    "initial_max_stream_data_bidi_local", "The same on a bidirectional stream that it opens.", "byte"
)
initial_max_stream_data_bidi_remote = _parameter(
    "initial_max_stream_data_bidi_remote", "The same on a bidirectional stream that the server opens.", "byte"
)
initial_max_stream_data_uni = _parameter("initial_max_stream_data_uni", "The same on a unidirectional stream.", "byte")
initial_max_streams_bidi = _parameter("initial_max_streams_bidi", "Bidirectional streams that the server may open at first.")
initial_max_streams_uni = _parameter("initial_max_streams_uni", "Unidirectional streams that the server may open at first.")
active_connection_id_limit = _parameter("active_connection_id_limit", "Connection ids that the client keeps.")
max_datagram_frame_size = _parameter("max_datagram_frame_size", "Longest DATAGRAM frame that the client takes.", "byte")


declare("quic", "QUIC", level="session", within=["udp"], examples=EXAMPLES)
