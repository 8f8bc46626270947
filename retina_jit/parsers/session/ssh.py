"""SSH, Secure Shell: identifications, key exchange and what it agrees on, over TCP. One session per connection.

A connection is SSH when a side begins with its identification ("SSH-..."), or, taken up in its middle, with a KEXINIT. A
server may say other lines first: they are waited through as long as they are text. A session is all that both sides
have said in clear, that is up to NEWKEYS, and there is one if the identification of a side was seen; of two KEXINITs of
a side the first one counts. Names end in `_ctos` for what the client says, or offers for what it sends, and in `_stoc`
for the server.

Bytes that are not UTF-8 are data like any other.

Sources: RFC 4253, RFC 4419, RFC 5656, RFC 8308, RFC 8731; the reading of the stream is in `retina_jit.parsers.ssh.stream`.
"""

from __future__ import annotations

from retina_jit.jit import entry, kernel, leaf
from retina_jit.parsers.protocol import declare, session_field
from retina_jit.parsers.ssh import derived, names, stream
from retina_jit.parsers.ssh.examples import EXAMPLES
from retina_jit.parsers.ssh.state import (
    FIRST_KEX,
    GAP,
    NEW_KEYS,
    SIDE_AT,
    STATE,
    banner_of,
    client_side,
    kex_message,
    kexinit_of,
    server_side,
)
from retina_jit.parsers.wire import has, part, u8, u32
from retina_jit.status import Probe

__all__ = ["PROBE_LIMIT", "PROTOCOL", "STATE", "finish", "parse", "probe", "release"]

PROBE_LIMIT = 255
"""A server's greeting is waited through up to here; the client's identification decides earlier."""

_KEXINIT_HEAD = 27
"""Packet length, padding length, type, cookie, length of the first list, a character of it."""

CERTAIN, UNSURE, NOT_OURS = int(Probe.CERTAIN), int(Probe.UNSURE), int(Probe.NOT_OURS)


@kernel
def _probe_kexinit(span):
    """A connection that is taken up after the identification: its packet must be a KEXINIT."""
    if span[1] < 6:
        for n in range(1, min(span[1], 2)):
            if u8(span, n) != 0:
                return NOT_OURS
        return UNSURE
    length, padding = u32(span, 0), u8(span, 4)
    if length > stream.KEEP_LIMIT or (length + 4) & 7 or padding < 4 or u8(span, 5) != stream.KEXINIT:
        return NOT_OURS
    if span[1] < _KEXINIT_HEAD:
        return UNSURE
    first = u8(span, _KEXINIT_HEAD - 1)
    size = u32(span, _KEXINIT_HEAD - 5)
    return CERTAIN if 0 < size and size + padding < length and 33 <= first <= 126 else NOT_OURS


@entry
def probe(address, length, direction, transport):
    """What the first bytes of a direction look like."""
    span = (address, length)
    if length < 1:
        return UNSURE
    if u8(span, 0) == 0:
        return _probe_kexinit(span)
    if u8(span, 0) == 83:
        if length < 4:
            known = (length < 2 or u8(span, 1) == 83) and (length < 3 or u8(span, 2) == 72)
            if known:
                return UNSURE
        elif u32(span, 0) == 0x5353482D:
            return CERTAIN
    # The client has to begin with its identification. A server's greeting is lines of text (RFC 4253, 4.2).
    if direction == 0 or length >= PROBE_LIMIT:
        return NOT_OURS
    for n in range(length):
        byte = u8(span, n)
        if byte < 32 and byte != 9 and byte != 10 and byte != 13:
            return NOT_OURS
        if byte == 10 and has(span, n + 1, 4) and u32(span, n + 1) == 0x5353482D:
            return CERTAIN
    return UNSURE


@entry
def parse(state, given):
    """See the contract."""
    return stream.feed(state, given)


@entry
def finish(state, arena):
    """See the contract."""
    return stream.conclude(state)


@entry
def release(state, arena):
    """See the contract."""
    stream.free(state, arena)
    return 0


# ---------------------------------------------------------------------------------------------------- identifications


@kernel
def _find(span, byte, at):
    """Where a byte stands, from `at` on; the end if it does not."""
    while at < span[1] and u8(span, at) != byte:
        at += 1
    return at


@kernel
def _protocol_version(banner):
    return part(banner, 4, _find(banner, 45, 4) - 4) if banner[1] > 4 else (0, 0)


@kernel
def _software_version(banner):
    start = _find(banner, 45, 4) + 1
    return part(banner, start, _find(banner, 32, start) - start) if has(banner, start, 1) else (0, 0)


@kernel
def _comments(banner):
    start = _find(banner, 32, 4) + 1
    return part(banner, start, banner[1] - start) if has(banner, start, 1) else (0, 0)


@leaf
def _client(session):
    return banner_of(client_side(session))


@leaf
def _server(session):
    return banner_of(server_side(session))


@session_field("text", "Version of the protocol in the client's identification, e.g. 2.0.")
def protocol_version_ctos(session):
    return _protocol_version(_client(session))


@session_field("text", "Version of the protocol in the server's identification.")
def protocol_version_stoc(session):
    return _protocol_version(_server(session))


@session_field("text", "Software of the client, up to the first blank of its identification, e.g. OpenSSH_9.6p1.")
def software_version_ctos(session):
    return _software_version(_client(session))


@session_field("text", "Software of the server, up to the first blank of its identification.")
def software_version_stoc(session):
    return _software_version(_server(session))


@session_field("text", "What follows the first blank of the client's identification.")
def comments_ctos(session):
    return _comments(_client(session))


@session_field("text", "What follows the first blank of the server's identification.")
def comments_stoc(session):
    return _comments(_server(session))


@session_field("texts", "The identifications in full, the client's first.", aliases=("ssh.protocol",), shown=False)
def banners(session, n):
    client, server = _client(session), _server(session)
    if n < 0:
        return (0, (1 if client[1] else 0) + (1 if server[1] else 0))
    return client if n == 0 and client[1] else server


# ---------------------------------------------------------------------------------------------------------- KEXINIT


@leaf
def _ctos(session):
    return kexinit_of(client_side(session))


@leaf
def _stoc(session):
    return kexinit_of(server_side(session))


@session_field("bytes", "The 16 random bytes of the client's KEXINIT.")
def key_exchange_cookie_ctos(session):
    return names.cookie(_ctos(session))


@session_field("bytes", "The 16 random bytes of the server's KEXINIT.", aliases=("ssh.cookie",))
def key_exchange_cookie_stoc(session):
    return names.cookie(_stoc(session))


@session_field("bytes", "Payload of the client's KEXINIT from the cookie on.", shown=False)
def kexinit_ctos(session):
    return _ctos(session)


@session_field("bytes", "Payload of the server's KEXINIT from the cookie on.", shown=False)
def kexinit_stoc(session):
    return _stoc(session)


@session_field("texts", "Methods of key exchange that the client offers, in its order.")
def kex_algs_ctos(session, n):
    return names.name_at(session, names.name_list(_ctos(session), names.KEX), n)


@session_field("texts", "Methods of key exchange that the server offers.", aliases=("ssh.kex_algorithms",))
def kex_algs_stoc(session, n):
    return names.name_at(session, names.name_list(_stoc(session), names.KEX), n)


@session_field("texts", "Algorithms of host keys that the client accepts.")
def server_host_key_algs_ctos(session, n):
    return names.name_at(session, names.name_list(_ctos(session), names.HOST_KEY), n)


@session_field("texts", "Algorithms of host keys that the server has.", aliases=("ssh.server_host_key_algorithms",))
def server_host_key_algs_stoc(session, n):
    return names.name_at(session, names.name_list(_stoc(session), names.HOST_KEY), n)


@session_field("texts", "Ciphers that the client offers for what it sends.",
               aliases=("ssh.encryption_algorithms_client_to_server",))  # fmt: skip
def encryption_algs_ctos(session, n):
    return names.name_at(session, names.name_list(_ctos(session), names.CIPHER_CTOS), n)


@session_field("texts", "Ciphers that the server offers for what it sends.",
               aliases=("ssh.encryption_algorithms_server_to_client",))  # fmt: skip
def encryption_algs_stoc(session, n):
    return names.name_at(session, names.name_list(_stoc(session), names.CIPHER_STOC), n)


@session_field("texts", "MACs that the client offers for what it sends.", aliases=("ssh.mac_algorithms_client_to_server",))
def mac_algs_ctos(session, n):
    return names.name_at(session, names.name_list(_ctos(session), names.MAC_CTOS), n)


@session_field("texts", "MACs that the server offers for what it sends.", aliases=("ssh.mac_algorithms_server_to_client",))
def mac_algs_stoc(session, n):
    return names.name_at(session, names.name_list(_stoc(session), names.MAC_STOC), n)


@session_field("texts", "Compression that the client offers for what it sends.",
               aliases=("ssh.compression_algorithms_client_to_server",))  # fmt: skip
def compression_algs_ctos(session, n):
    return names.name_at(session, names.name_list(_ctos(session), names.COMPRESSION_CTOS), n)


@session_field("texts", "Compression that the server offers for what it sends.",
               aliases=("ssh.compression_algorithms_server_to_client",))  # fmt: skip
def compression_algs_stoc(session, n):
    return names.name_at(session, names.name_list(_stoc(session), names.COMPRESSION_STOC), n)


@session_field("texts", "Languages that the client offers for what it sends; nearly always none.",
               aliases=("ssh.languages_client_to_server",))  # fmt: skip
def languages_ctos(session, n):
    return names.name_at(session, names.name_list(_ctos(session), names.LANGUAGE_CTOS), n)


@session_field("texts", "Languages that the server offers for what it sends; nearly always none.",
               aliases=("ssh.languages_server_to_client",))  # fmt: skip
def languages_stoc(session, n):
    return names.name_at(session, names.name_list(_stoc(session), names.LANGUAGE_STOC), n)


@session_field("bool", "The client sends its next message on a guess of what will be agreed on.")
def first_kex_packet_follows_ctos(session):
    return names.follows(_ctos(session))


@session_field("bool", "The server sends its next message on a guess of what will be agreed on.")
def first_kex_packet_follows_stoc(session):
    return names.follows(_stoc(session))


# ------------------------------------------------------------------------------------------------- what was agreed on


@leaf
def _agreed(session, which):
    return names.chosen(names.name_list(_ctos(session), which), names.name_list(_stoc(session), which))


@session_field("text", "Method of key exchange that both sides agree on.")
def kex_alg(session):
    return _agreed(session, names.KEX)


@session_field("text", "Algorithm of the host key that both sides agree on.")
def host_key_alg(session):
    return _agreed(session, names.HOST_KEY)


@session_field("text", "Cipher from client to server that both sides agree on.")
def cipher_alg_ctos(session):
    return _agreed(session, names.CIPHER_CTOS)


@session_field("text", "Cipher from server to client that both sides agree on.")
def cipher_alg_stoc(session):
    return _agreed(session, names.CIPHER_STOC)


@session_field("text", "MAC from client to server that both sides agree on; none beside a cipher that authenticates.")
def mac_alg_ctos(session):
    return (0, 0) if names.is_aead(_agreed(session, names.CIPHER_CTOS)) else _agreed(session, names.MAC_CTOS)


@session_field("text", "MAC from server to client that both sides agree on; none beside a cipher that authenticates.")
def mac_alg_stoc(session):
    return (0, 0) if names.is_aead(_agreed(session, names.CIPHER_STOC)) else _agreed(session, names.MAC_STOC)


@session_field("text", "Compression from client to server that both sides agree on.")
def compression_alg_ctos(session):
    return _agreed(session, names.COMPRESSION_CTOS)


@session_field("text", "Compression from server to client that both sides agree on.")
def compression_alg_stoc(session):
    return _agreed(session, names.COMPRESSION_STOC)


@session_field("bool", "Both sides offer strict key exchange, the answer to the Terrapin attack.")
def strict_kex(session):
    client, server = names.name_list(_ctos(session), names.KEX), names.name_list(_stoc(session), names.KEX)
    return names.markers(client) & names.markers(server) & 4 != 0


# --------------------------------------------------------------------------------------------------------- fingerprints


@session_field("text", "HASSH, fingerprint of the client: an MD5 in hexadecimal.", aliases=("ssh.kex.hassh",))
def hassh(session):
    return derived.hassh(session)


@session_field("text", "HASSHServer, fingerprint of the server: an MD5 in hexadecimal.", aliases=("ssh.kex.hasshserver",))
def hassh_server(session):
    return derived.hassh_server(session)


@session_field("text", "HASSH before hashing.", aliases=("ssh.kex.hassh_algorithms",), shown=False)
def hassh_algorithms(session):
    return derived.hassh_algorithms(session)


@session_field("text", "HASSHServer before hashing.", aliases=("ssh.kex.hasshserver_algorithms",), shown=False)
def hassh_server_algorithms(session):
    return derived.hassh_server_algorithms(session)


# ------------------------------------------------------------------------------------------------------ the key exchange


@session_field("bytes", "The client's public value: a number, or a point, or what a hybrid method sends.", shown=False)
def kex_public_ctos(session):
    side = client_side(session)
    late = kex_message(side, FIRST_KEX + 2)
    return names.string(late if late[1] else kex_message(side, FIRST_KEX), 0)


@leaf
def _after(span):
    """What follows the string at the beginning."""
    first = names.string(span, 0)
    return part(span, 4 + first[1], span[1]) if first[0] else (0, 0)


@session_field("bytes", "The server's public value.", shown=False)
def kex_public_stoc(session):
    return names.string(_after(derived.reply(session)), 0)


@session_field("bytes", "The server's signature of the exchange.", shown=False)
def kex_signature(session):
    return names.string(_after(_after(derived.reply(session))), 0)


@session_field("bytes", "The server's host key: its blob, RFC 4253 section 6.6.", shown=False)
def host_key(session):
    return derived.host_key(session)


@session_field("text", "Algorithm of the server's host key.", aliases=("ssh.host_key.type",))
def host_key_type(session):
    return derived.host_key_type(session)


@session_field("text", "Fingerprint of the server's host key as OpenSSH shows it: SHA256: and base64.")
def host_key_fingerprint(session):
    return derived.host_key_fingerprint(session)


@session_field("int", "Size of the group that the client asks for (group exchange).", bits=32, unit="bit", absent=0)
def group_size(session):
    request = kex_message(client_side(session), FIRST_KEX + 4)
    return u32(request, 4) if has(request, 4, 4) else 0


@session_field("bytes", "Prime of the group that the server gives (group exchange).", shown=False)
def group_prime(session):
    side = server_side(session)
    late = kex_message(side, FIRST_KEX + 3)
    return names.string(kex_message(side, FIRST_KEX + 1), 0) if late[1] else (0, 0)


@session_field("bool", "The client's NEWKEYS was seen.")
def client_new_keys(session):
    return SIDE_AT(client_side(session)).flags & NEW_KEYS != 0


@session_field("bool", "The server's NEWKEYS was seen.")
def server_new_keys(session):
    return SIDE_AT(server_side(session)).flags & NEW_KEYS != 0


@session_field("bool", "Bytes of what both sides have said in clear are missing.")
def incomplete(session):
    return (SIDE_AT(client_side(session)).flags | SIDE_AT(server_side(session)).flags) & GAP != 0


PROTOCOL = declare("ssh", "Secure Shell", level="session", within=["tcp"], examples=EXAMPLES)
