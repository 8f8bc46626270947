"""Both hellos of a TLS handshake, as Python sees them: names for numbers, lists for vectors.

Shared by the data types whose record begins with `retina_jit.parsers.tls.event.HELLOS`. Clients offer the same lists
again and again, so lists of names are made once and are tuples.
"""

from __future__ import annotations

from typing import NamedTuple

from retina_jit.datatypes.base import DataType
from retina_jit.datatypes.column import (
    UTF8_OR_HEX,
    ZERO,
    Names,
    each_named,
    flag,
    named,
    number,
    numbers,
    place,
    raw,
    text,
    texts,
    unless,
)
from retina_jit.parsers.iana import tls as iana
from retina_jit.parsers.tls.event import HAS_CLIENT, HAS_SERVER, HELLOS

_GREASE = {0x1010 * n + 0x0A0A: "Grease" for n in range(16)}  # RFC 8701
CIPHERS = Names(iana.CIPHER_SUITES, iana.UNKNOWN_CIPHER)
EXTENSIONS = Names(iana.EXTENSIONS | _GREASE, "TlsExtensionType({n} / {x})")
SCHEMES = Names(iana.SIGNATURE_SCHEMES, "SignatureScheme({n} / {x})")
GROUPS = Names(iana.GROUPS | _GREASE, "NamedGroup({n} / {x})")


class KeyShare(NamedTuple):
    """A public key that was sent in a hello."""

    group: str
    kx_data: bytes


def is_grease(value: int) -> bool:
    """Whether RFC 8701 reserves the number."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


_SHARES, _SHARE = place(HELLOS, "client_key_shares").offset, place(HELLOS, "server_key_share").offset
_CLIENT, _SERVER = unless(HELLOS, "hellos", HAS_CLIENT), unless(HELLOS, "hellos", HAS_SERVER)


class Hellos(DataType):
    """What ClientHello and ServerHello say. Text is "" and a list is empty where the hello or the extension is missing."""

    __slots__ = ()

    sni = text(HELLOS, "sni", "Server name that the client asks for.", encoding=UTF8_OR_HEX)
    version = number(
        HELLOS, "version", "Negotiated version, 0x0304 for TLS 1.3; the client's if no server has answered.", null=ZERO, absent=0
    )
    client_version = number(HELLOS, "client_version", "Version field of the ClientHello; 0 without one.", null=ZERO, absent=0)
    server_version = number(HELLOS, "server_version", "Version field of the ServerHello; 0 without one.", null=ZERO, absent=0)
    selected_version = number(HELLOS, "selected_version", "The server's supported_versions; 0 before TLS 1.3.", shown=False)
    cipher = named(HELLOS, "cipher_suite", CIPHERS, "Name of the cipher suite that the server has chosen.", null=_SERVER)
    cipher_suite = number(
        HELLOS, "cipher_suite", "Number of the cipher suite that the server has chosen; None without a ServerHello.", null=_SERVER
    )
    compression_alg = number(HELLOS, "compression_alg", "Compression method that the server has chosen.", null=_SERVER, absent=0)
    has_client_hello = flag(HELLOS, "hellos", HAS_CLIENT, "Whether a ClientHello was seen.", shown=False)
    has_server_hello = flag(HELLOS, "hellos", HAS_SERVER, "Whether a ServerHello was seen.", shown=False)
    client_random = raw(HELLOS, "client_hello", "The client's random in hexadecimal.", null=_CLIENT, part=(2, 34), as_hex=True)
    server_random = raw(HELLOS, "server_hello", "The server's random in hexadecimal.", null=_SERVER, part=(2, 34), as_hex=True)
    client_session_id = raw(HELLOS, "client_session_id", "Session id that the client offers.", null=_CLIENT)
    server_session_id = raw(HELLOS, "server_session_id", "Session id that the server answers with.", null=_SERVER)
    client_ciphers = each_named(HELLOS, "client_ciphers", CIPHERS, "Names of the cipher suites that the client offers.")
    client_cipher_suites = numbers(HELLOS, "client_ciphers", "Numbers of the same.", item=2, shown=False)
    client_compression_algs = numbers(HELLOS, "client_compression_algs", "Compression methods that the client offers.", item=1)
    client_alpn_protocols = texts(
        HELLOS, "client_alpn_protocols", "Application protocols that the client offers.", prefix=1, encoding=UTF8_OR_HEX
    )
    server_alpn_protocol = text(
        HELLOS, "server_alpn_protocol", "Application protocol that the server has chosen in clear (up to TLS 1.2).", encoding=UTF8_OR_HEX
    )
    client_signature_algs = each_named(HELLOS, "client_signature_algs", SCHEMES, "Signature schemes that the client accepts.")
    client_supported_groups = each_named(HELLOS, "client_supported_groups", GROUPS, "Groups that the client supports.")
    client_supported_versions = numbers(HELLOS, "client_supported_versions", "The client's supported_versions.", item=2, shown=False)
    client_extensions = each_named(HELLOS, "client_extensions", EXTENSIONS, "Names of the client's extensions, as sent.")
    server_extensions = each_named(HELLOS, "server_extensions", EXTENSIONS, "Names of the server's extensions in clear.")
    client_ec_point_formats = numbers(HELLOS, "client_ec_point_formats", "Point formats that the client supports.", item=1, shown=False)
    server_ec_point_formats = numbers(HELLOS, "server_ec_point_formats", "Point formats that the server supports.", item=1, shown=False)
    client_hello = raw(HELLOS, "client_hello", "Body of the (first) ClientHello.", shown=False)
    server_hello = raw(HELLOS, "server_hello", "Body of the ServerHello.", shown=False)

    @property
    def client_key_shares(self) -> tuple[KeyShare, ...]:
        """Public keys that the client has sent with its (first) hello."""
        data, found = self._slice(_SHARES), []
        while len(data) >= 4:
            end = 4 + int.from_bytes(data[2:4], "big")
            found.append(KeyShare(GROUPS[int.from_bytes(data[:2], "big")], data[4:end]))
            data = data[end:]
        return tuple(found)

    @property
    def server_key_share(self) -> KeyShare | None:
        """Public key that the server has sent with its hello."""
        data = self._slice(_SHARE)
        if len(data) < 4:
            return None
        return KeyShare(GROUPS[int.from_bytes(data[:2], "big")], data[4 : 4 + int.from_bytes(data[2:4], "big")])
