"""ClientHello and ServerHello: reading the body of a handshake message.

A *body* is the span of the message without its four header bytes; it may come from TLS records or from QUIC CRYPTO
frames. Nothing is kept: each reader walks to its part, which is tens of nanoseconds, so whatever wants one field pays
for one field. Every length is cut to what there is, and an extension whose content is nonsense hides no other one.
What is absent is the span (0, 0); what is there but empty has an address.

Sources: RFC 6101 (SSL 3.0), RFC 5246 §7.4.1, RFC 8446 §4.1 and §4.2, RFC 8701 (GREASE); drafts 14 to 21 of TLS 1.3,
whose ServerHello has no session id and no compression method.
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.parsers.wire import has, part, u8, u16, u64

SERVER_NAME, SUPPORTED_GROUPS, EC_POINT_FORMATS, SIGNATURE_ALGORITHMS, ALPN = 0, 10, 11, 13, 16
SESSION_TICKET, PRE_SHARED_KEY, EARLY_DATA, SUPPORTED_VERSIONS, COOKIE, KEY_SHARE = 35, 41, 42, 43, 44, 51
DRAFT_KEY_SHARE = 40
ENCRYPTED_CLIENT_HELLO = 0xFE0D

SESSION_ID = 34  # where its length stands: after version and random, in both hellos
SHORTEST = 34
MAX_EXTENSIONS = 1024
"""More are not looked at: a list read by index costs its length each time, and a real hello has less than forty."""
MAX_NAMES = 64


@leaf
def vector8(span, at):
    """The bytes of a vector whose length stands in one byte at `at`; (0, 0) if there is none."""
    if not has(span, at, 1):
        return (0, 0)
    return part(span, at + 1, u8(span, at))


@leaf
def vector16(span, at):
    """The bytes of a vector whose length stands in two bytes at `at`; (0, 0) if there is none."""
    if not has(span, at, 2):
        return (0, 0)
    return part(span, at + 2, u16(span, at))


@leaf
def after8(span, at):
    """Where the vector at `at` with a one-byte length ends."""
    return at + 1 + u8(span, at) if has(span, at, 1) else at


@leaf
def after16(span, at):
    """Where the vector at `at` with a two-byte length ends."""
    return at + 2 + u16(span, at) if has(span, at, 2) else at


@leaf
def is_grease(value):
    """Whether a number is one of the sixteen that RFC 8701 reserves: 0x0a0a, 0x1a1a, ... 0xfafa."""
    return (value & 0x0F0F) == 0x0A0A and (value >> 8) == (value & 0xFF)


@leaf
def is_draft(version):
    """Whether a version number is a draft of TLS 1.3, the IETF's or Facebook's."""
    return (version >> 8) == 0x7F or (version >> 8) == 0xFB


@leaf
def is_tls13(version):
    """Whether a version number means TLS 1.3, a draft of it, or DTLS 1.3."""
    return version == 0x0304 or is_draft(version) or version == 0xFEFC


@leaf
def number16(span, n):
    """The `n`-th of the two-byte numbers of a span; 0 if there are fewer."""
    return u16(span, 2 * n) if has(span, 2 * n, 2) and n >= 0 else 0


@leaf
def legacy_version(body):
    """The version field of either hello; 0 if there is none."""
    return u16(body, 0) if has(body, 0, 2) else 0


@leaf
def random(body):
    """The 32 random bytes of either hello."""
    return part(body, 2, 32) if has(body, 2, 32) else (0, 0)


# ------------------------------------------------------------------------------------------------------- ClientHello


@leaf
def client_session_id(body):
    """Session id that the client offers."""
    return vector8(body, SESSION_ID)


@leaf
def cipher_suites(body):
    """Cipher suites that the client offers, two bytes each."""
    suites = vector16(body, after8(body, SESSION_ID))
    return (suites[0], suites[1] & ~1)


@leaf
def compressions(body):
    """Compression methods that the client offers, a byte each."""
    return vector8(body, after16(body, after8(body, SESSION_ID)))


@kernel
def client_extensions(body):
    """The block of extensions of a ClientHello."""
    return vector16(body, after8(body, after16(body, after8(body, SESSION_ID))))


# ------------------------------------------------------------------------------------------------------- ServerHello


@leaf
def _is_short(body):
    """Whether a ServerHello is of the drafts 14 to 21: no session id, no compression method."""
    version = legacy_version(body)
    return 0x7F0E <= version <= 0x7F15


@leaf
def server_session_id(body):
    """Session id in a ServerHello."""
    if _is_short(body):
        return (0, 0)
    return vector8(body, SESSION_ID)


@leaf
def _chosen(body):
    return SESSION_ID if _is_short(body) else after8(body, SESSION_ID)


@leaf
def chosen_cipher(body):
    """Cipher suite that the server has chosen; 0 if the message ends before."""
    at = _chosen(body)
    return u16(body, at) if has(body, at, 2) else 0


@leaf
def chosen_compression(body):
    """Compression method that the server has chosen."""
    at = _chosen(body) + 2
    return u8(body, at) if not _is_short(body) and has(body, at, 1) else 0


@kernel
def server_extensions(body):
    """The block of extensions of a ServerHello."""
    return vector16(body, _chosen(body) + (2 if _is_short(body) else 3))


@kernel
def selected_version(body):
    """What the extension supported_versions of a ServerHello says; 0 without it."""
    data = find(server_extensions(body), SUPPORTED_VERSIONS)
    return u16(data, 0) if has(data, 0, 2) else 0


@kernel
def is_retry(body):
    """Whether a ServerHello is a HelloRetryRequest: its random is the SHA-256 of these words (RFC 8446, 4.1.3)."""
    if not has(body, 2, 32):
        return False
    # The two halves of the range that does not fit a signed word are written as differences.
    return (
        u64(body, 2) == 0xCF21AD74E59A6111 - (1 << 64)
        and u64(body, 10) == 0xBE1D8C021E65B891 - (1 << 64)
        and u64(body, 18) == 0xC2A211167ABB8C5E - (1 << 64)
        and u64(body, 26) == 0x079E09E2C8A8339C
    )


# -------------------------------------------------------------------------------------------------------- extensions


@kernel
def find(block, kind):
    """The content of the first extension `kind` of a block, or (0, 0)."""
    at = 0
    for _ in range(MAX_EXTENSIONS):
        if not has(block, at, 4):
            break
        if u16(block, at) == kind:
            return vector16(block, at + 2)
        at += 4 + u16(block, at + 2)
    return (0, 0)


@kernel
def count_extensions(block):
    """How many extensions a block has."""
    at = n = 0
    while n < MAX_EXTENSIONS and has(block, at, 4):
        at += 4 + u16(block, at + 2)
        n += 1
    return n


@kernel
def extension_type(block, n):
    """Type of the `n`-th extension of a block; 0 if there are fewer."""
    at = 0
    for _ in range(min(n, MAX_EXTENSIONS)):
        if not has(block, at, 4):
            return 0
        at += 4 + u16(block, at + 2)
    return u16(block, at) if has(block, at, 4) else 0


@kernel
def list_in(block, kind):
    """The list with a two-byte length that is the content of an extension."""
    return vector16(find(block, kind), 0)


@leaf
def element16(numbers, n):
    """The `n`-th of a list of two-byte numbers; how many for n = -1."""
    return numbers[1] >> 1 if n < 0 else number16(numbers, n)


@kernel
def type_in(block, n):
    """Type of the `n`-th extension of a block; how many for n = -1."""
    return count_extensions(block) if n < 0 else extension_type(block, n)


@leaf
def server_name(data):
    """The first host name in the content of server_name (RFC 6066, 3)."""
    names = vector16(data, 0)
    if has(names, 0, 3) and u8(names, 0) == 0:
        return vector16(names, 1)
    return (0, 0)


@kernel
def name_at(names, n):
    """The `n`-th of the names of an ALPN list; (0, their number) for n = -1 (RFC 7301, 3.1)."""
    at = count = 0
    while count < MAX_NAMES and has(names, at, 1):
        if count == n:
            return vector8(names, at)
        at = after8(names, at)
        count += 1
    return (0, count) if n < 0 else (0, 0)
