"""Both hellos of a TLS handshake, as Python sees them: names for numbers, lists for vectors.

Shared by the data types whose record begins with `retina_jit.parsers.tls.event.HELLOS`. Clients offer the same lists
again and again, so lists of names are made once and are tuples.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct, unpack
from typing import Any, NamedTuple

from retina_jit.datatypes.base import DataType, number
from retina_jit.parsers.iana import tls as iana
from retina_jit.parsers.tls.event import HAS_CLIENT, HAS_SERVER, HELLOS

_AT = {name: HELLOS.fields[name][1] for name in HELLOS.names or ()}  # type: ignore[index]
_WORD = Struct("<q").unpack_from
_HEAD = Struct("<HHHHHBB").unpack_from
_REMEMBERED = 4096


class KeyShare(NamedTuple):
    """A public key that was sent in a hello."""

    group: str
    kx_data: bytes


def is_grease(value: int) -> bool:
    """Whether RFC 8701 reserves the number."""
    return value & 0x0F0F == 0x0A0A and value >> 8 == value & 0xFF


def numbers16(data: bytes) -> tuple[int, ...]:
    """Two-byte numbers, in network order."""
    return unpack(f">{len(data) // 2}H", data[: len(data) & ~1])


@lru_cache(_REMEMBERED)
def cipher_names(data: bytes) -> tuple[str, ...]:
    """Names of cipher suites; UNKNOWN_CIPHER for what has none, GREASE too."""
    return tuple(iana.CIPHER_SUITES.get(n, iana.UNKNOWN_CIPHER) for n in numbers16(data))


@lru_cache(_REMEMBERED)
def extension_names(data: bytes) -> tuple[str, ...]:
    """Names of extension types; Grease for the reserved ones."""
    return tuple(_extension(n) for n in numbers16(data))


def _extension(value: int) -> str:
    if is_grease(value):
        return "Grease"
    return iana.EXTENSIONS.get(value) or f"TlsExtensionType({value} / {value:#x})"


@lru_cache(_REMEMBERED)
def scheme_names(data: bytes) -> tuple[str, ...]:
    """Names of signature schemes."""
    return tuple(iana.SIGNATURE_SCHEMES.get(n) or f"SignatureScheme({n} / {n:#x})" for n in numbers16(data))


def group_name(value: int) -> str:
    """Name of a group."""
    return "Grease" if is_grease(value) else iana.GROUPS.get(value) or f"NamedGroup({value} / {value:#x})"


@lru_cache(_REMEMBERED)
def group_names(data: bytes) -> tuple[str, ...]:
    """Names of groups."""
    return tuple(group_name(n) for n in numbers16(data))


def as_text(data: bytes) -> str:
    """Text from the wire; what is not UTF-8 is shown as Retina does."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"<Invalid UTF-8: {data.hex(' ')}>"


@lru_cache(_REMEMBERED)
def protocol_names(data: bytes) -> tuple[str, ...]:
    """Names of an ALPN list, each behind a byte with its length."""
    names, at = [], 0
    while at < len(data):
        names.append(as_text(data[at + 1 : at + 1 + data[at]]))
        at += 1 + data[at]
    return tuple(names)


def _list(name: str, convert: Any, doc: str) -> Any:
    offset = _AT[name]

    def read(self: DataType) -> Any:
        return convert(self._slice(offset))

    return property(read, doc=doc)


class Hellos(DataType):
    """What ClientHello and ServerHello say. Text is "" and a list is empty where the hello or the extension is missing."""

    __slots__ = ()

    client_version = number(HELLOS, "client_version", "Version field of the ClientHello; 0 without one.")
    server_version = number(HELLOS, "server_version", "Version field of the ServerHello; 0 without one.")
    version = number(HELLOS, "version", "Negotiated version, 0x0304 for TLS 1.3; the client's if no server has answered.")
    selected_version = number(HELLOS, "selected_version", "The server's supported_versions; 0 before TLS 1.3.")
    compression_alg = number(HELLOS, "compression_alg", "Compression method that the server has chosen.")
    client_hello = _list("client_hello", bytes, "Body of the (first) ClientHello.")
    server_hello = _list("server_hello", bytes, "Body of the ServerHello.")
    client_session_id = _list("client_session_id", bytes, "Session id that the client offers.")
    server_session_id = _list("server_session_id", bytes, "Session id that the server answers with.")
    client_ciphers = _list("client_ciphers", cipher_names, "Names of the cipher suites that the client offers.")
    client_cipher_suites = _list("client_ciphers", numbers16, "Numbers of the same.")
    client_compression_algs = _list("client_compression_algs", tuple, "Compression methods that the client offers.")
    client_extensions = _list("client_extensions", extension_names, "Names of the client's extensions, as sent.")
    server_extensions = _list("server_extensions", extension_names, "Names of the server's extensions in clear.")
    client_alpn_protocols = _list("client_alpn_protocols", protocol_names, "Application protocols that the client offers.")
    client_signature_algs = _list("client_signature_algs", scheme_names, "Signature schemes that the client accepts.")
    client_supported_groups = _list("client_supported_groups", group_names, "Groups that the client supports.")
    client_supported_versions = _list("client_supported_versions", numbers16, "The client's supported_versions.")
    client_ec_point_formats = _list("client_ec_point_formats", tuple, "Point formats that the client supports.")
    server_ec_point_formats = _list("server_ec_point_formats", tuple, "Point formats that the server supports.")
    sni = _list("sni", as_text, "Server name that the client asks for.")

    @property
    def _hellos(self) -> int:
        return self._buffer[self._at + _AT["hellos"]]

    @property
    def has_client_hello(self) -> bool:
        """Whether a ClientHello was seen."""
        return bool(self._hellos & HAS_CLIENT)

    @property
    def has_server_hello(self) -> bool:
        """Whether a ServerHello was seen."""
        return bool(self._hellos & HAS_SERVER)

    @property
    def client_random(self) -> str:
        """The client's random in hexadecimal."""
        return self.client_hello[2:34].hex()

    @property
    def server_random(self) -> str:
        """The server's random in hexadecimal."""
        return self.server_hello[2:34].hex()

    @property
    def cipher_suite(self) -> int | None:
        """Number of the cipher suite that the server has chosen; None without a ServerHello."""
        version = _HEAD(self._buffer, self._at)
        return version[4] if version[6] & HAS_SERVER else None

    @property
    def cipher(self) -> str:
        """Name of the cipher suite that the server has chosen."""
        suite = self.cipher_suite
        return "" if suite is None else iana.CIPHER_SUITES.get(suite, iana.UNKNOWN_CIPHER)

    @property
    def server_alpn_protocol(self) -> str:
        """Application protocol that the server has chosen in clear (up to TLS 1.2)."""
        names = protocol_names(self._slice(_AT["server_alpn_protocols"]))
        return names[0] if names else ""

    @property
    def client_key_shares(self) -> tuple[KeyShare, ...]:
        """Public keys that the client has sent with its (first) hello."""
        data, found = self._slice(_AT["client_key_shares"]), []
        while len(data) >= 4:
            end = 4 + int.from_bytes(data[2:4], "big")
            found.append(KeyShare(group_name(int.from_bytes(data[:2], "big")), data[4:end]))
            data = data[end:]
        return tuple(found)

    @property
    def server_key_share(self) -> KeyShare | None:
        """Public key that the server has sent with its hello."""
        data = self._slice(_AT["server_key_share"])
        if len(data) < 4:
            return None
        return KeyShare(group_name(int.from_bytes(data[:2], "big")), data[4 : 4 + int.from_bytes(data[2:4], "big")])

    def _hello_dict(self) -> dict[str, Any]:
        """Return the accessors for `to_dict`; None for what is absent."""
        client, server, version, _, suite, compression, seen = _HEAD(self._buffer, self._at)
        has_client, has_server = seen & HAS_CLIENT, seen & HAS_SERVER
        return {
            "sni": self.sni or None,
            "version": version or None,
            "client_version": client or None,
            "server_version": server or None,
            "cipher": iana.CIPHER_SUITES.get(suite, iana.UNKNOWN_CIPHER) if has_server else None,
            "cipher_suite": suite if has_server else None,
            "compression_alg": compression if has_server else None,
            "client_random": self.client_random if has_client else None,
            "server_random": self.server_random if has_server else None,
            "client_session_id": self.client_session_id.hex() if has_client else None,
            "server_session_id": self.server_session_id.hex() if has_server else None,
            "client_ciphers": self.client_ciphers,
            "client_compression_algs": self.client_compression_algs,
            "client_alpn_protocols": self.client_alpn_protocols,
            "server_alpn_protocol": self.server_alpn_protocol or None,
            "client_signature_algs": self.client_signature_algs,
            "client_supported_groups": self.client_supported_groups,
            "client_extensions": self.client_extensions,
            "server_extensions": self.server_extensions,
        }
