"""Versions of QUIC whose Initial packets can be read: salts, labels, codes of packet types.

Sources: RFC 9001 §5.2; RFC 9369 §3 and its drafts; draft-ietf-quic-tls-22 to -34 §5.2; the source code of mvfst and of
Chromium for the versions of Facebook and Google.
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.memory import constant
from retina_jit.parsers.crypto.hkdf import label_bytes

NAMES = {
    "v1": 0x00000001,
    "v2": 0x6B3343CF,
    "v2-draft": 0x709A50C4,
    **{f"draft-{n}": 0xFF000000 + n for n in range(22, 35)},
    "mvfst-22": 0xFACEB001,
    "mvfst-27": 0xFACEB002,
    "mvfst-experimental": 0xFACEB00E,
    "Q050": 0x51303530,
    "T050": 0x54303530,
    "T051": 0x54303531,
}
"""Names for filters."""

_SALTS = tuple(
    map(
        bytes.fromhex,
        (
            "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",  # version 1, drafts 33 and 34
            "0dede3def700a6db819381be6e269dcbf9bd2ed9",  # version 2
            "a707c203a59b47184a1d62ca570406ea7ae3e5d3",  # its drafts
            "afbfec289993d24c9e9786f19c6111e04390a899",  # drafts 29 to 32
            "c3eef712c72ebb5a11a7d2432bb46365bef9f502",  # drafts 23 to 28
            "7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a",  # draft 22
            "504574efd066fe2f9d945cfcdbd3a7f0d3b56b45",  # Q050
            "7ff579e5acd072915580304c43a2367c60488310",  # T050
            "7a4edef4e7ccee5fa4506c19124fc8ccda6e033d",  # T051
        ),
    )
)
_V1, _V2, _V2_DRAFT, _D29, _D23, _D22, _Q050, _T050, _T051 = range(len(_SALTS))
SALT = 20
_salts = constant("quic_salts", b"".join(_SALTS))

_LABELS = (("client in", 32), ("server in", 32), ("quic key", 16), ("quic iv", 12), ("quic hp", 16))
_LABELS_V2 = (*_LABELS[:2], ("quicv2 key", 16), ("quicv2 iv", 12), ("quicv2 hp", 16))
_ROW = 32
CLIENT_IN, SERVER_IN, KEY, IV, HP = range(5)


def _row(name: str, length: int) -> bytes:
    message = label_bytes(name.encode(), length)
    return (bytes([len(message)]) + message).ljust(_ROW, b"\0")


_labels = constant("quic_labels", b"".join(_row(*label) for label in (*_LABELS, *_LABELS_V2)))

# What a Retry's integrity tag is made with: drafts 25 to 28, 29 to 32, version 1, version 2 (key, then nonce).
_RETRIES = (
    "be0c690b9f66575a1d766b54e368c84e 461599d35d632bf2239825bb",
    "8fb4b01b56ac48e260fbcbcead7ccc92 d86969bc2d7c6d9990efb04a",
    "ccce187ed09a09d05728155a6cb96be1 e54930f97f2136f0530a8c1c",
    "4d32ecdb2a2133c841e4043df27d4430 4d1611d05513a552c587d575",
)
RETRY_KEY = 28
_retries = constant("quic_retries", b"".join(map(bytes.fromhex, _RETRIES)))

# A scheme: index of the salt, and
NEW_LABELS, NEW_TYPES, GOOGLE, OLD_PARAMETERS, NO_RETRY_TAG = 16, 32, 64, 128, 256
UNKNOWN = -1


@leaf
def is_greased(version):
    """Whether a version is one of those that force a version negotiation (RFC 9000, 15)."""
    return version & 0x0F0F0F0F == 0x0A0A0A0A


@kernel
def scheme_of(version):
    """How Initial packets of a version are protected, or UNKNOWN."""
    if version == 1:
        return _V1
    if version == 0x6B3343CF:
        return _V2 | NEW_LABELS | NEW_TYPES
    if version == 0x709A50C4:
        return _V2_DRAFT | NEW_LABELS | NEW_TYPES
    if 0xFF000016 <= version <= 0xFF000022:
        draft = version & 0xFF
        if draft >= 33:
            return _V1
        if draft >= 29:
            return _D29
        old = (OLD_PARAMETERS if draft < 27 else 0) | (NO_RETRY_TAG if draft < 25 else 0)
        return old | (_D23 if draft >= 23 else _D22)
    if version == 0xFACEB001:
        return _D22 | OLD_PARAMETERS | NO_RETRY_TAG
    if version == 0xFACEB002 or version == 0xFACEB00E or version == 0xFACEB011 or version == 0xFACEB013:
        return _D23
    if version == 0x51303530:
        return _Q050 | GOOGLE | OLD_PARAMETERS | NO_RETRY_TAG
    if version == 0x54303530:
        return _T050 | GOOGLE | OLD_PARAMETERS | NO_RETRY_TAG
    if version == 0x54303531:
        return _T051 | NO_RETRY_TAG
    # Some clients force a negotiation with a packet that is otherwise of their first choice.
    return _V1 if is_greased(version) else UNKNOWN


@leaf
def salt_of(scheme):
    """Address of the SALT bytes of the salt."""
    return _salts() + SALT * (scheme & 15)


@leaf
def label_of(scheme, which):
    """Address of a label's row: a byte of length, then what HKDF-Expand-Label hashes."""
    return _labels() + _ROW * (which + (5 if scheme & NEW_LABELS else 0))


@leaf
def retry_key_of(scheme):
    """Address of the 16 bytes of key and 12 of nonce for the integrity tag of a Retry packet; 0 if it has none."""
    if scheme & NO_RETRY_TAG:
        return 0
    salt = scheme & 15
    row = 0 if salt == _V1 else 1 if salt == _V2 or salt == _V2_DRAFT else 2 if salt == _D29 else 3
    return _retries() + RETRY_KEY * row
