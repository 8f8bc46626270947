"""A TLS handshake over TCP, SSL 3.0 to TLS 1.3: everything that both sides have said in clear."""

from __future__ import annotations

from base64 import b64encode
from struct import Struct
from typing import Any, NamedTuple

from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.tls_hellos import Hellos, group_name, is_grease, numbers16
from retina_jit.parsers.iana import tls as iana
from retina_jit.parsers.tls import event
from retina_jit.parsers.tls.event import RECORD

_AT = {name: RECORD.fields[name][1] for name in RECORD.names or ()}  # type: ignore[index]
_FLAGS, _SHORT = Struct("<I").unpack_from, Struct("<H").unpack_from
_LEVELS = {1: "warning", 2: "fatal"}


class Alert(NamedTuple):
    """An alert that was sent in clear."""

    sender: str
    """"client" or "server"."""
    level: str
    description: str


class EcdhParams(NamedTuple):
    """ServerKeyExchange with a named curve (RFC 8422, 5.4)."""

    curve: str
    kx_data: bytes


class DhParams(NamedTuple):
    """ServerKeyExchange with a group of the server's own (RFC 5246, 7.4.3)."""

    prime: bytes
    generator: bytes
    kx_data: bytes


class RsaParams(NamedTuple):
    """ServerKeyExchange of the export suites (RFC 2246, 7.4.3)."""

    modulus: bytes
    exponent: bytes


class EcdhPublic(NamedTuple):
    """ClientKeyExchange: a point."""

    kx_data: bytes


class DhPublic(NamedTuple):
    """ClientKeyExchange: a number."""

    kx_data: bytes


class RsaSecret(NamedTuple):
    """ClientKeyExchange: the pre-master secret under the server's key."""

    encrypted_pms: bytes


def _flag(bit: int, doc: str) -> Any:
    offset = _AT["flags"]

    def read(self: DataType) -> bool:
        return bool(_FLAGS(self._buffer, self._at + offset)[0] & bit)

    return property(read, doc=doc)


def _fixed(name: str, doc: str) -> Any:
    offset, width = _AT[name], RECORD[name].itemsize

    def read(self: DataType) -> str:
        at = self._at + offset
        return self._buffer[at : at + width].rstrip(b"\0").decode("ascii")

    return property(read, doc=doc)


def _raw(name: str, doc: str) -> Any:
    offset = _AT[name]
    return property(lambda self: self._slice(offset), doc=doc)


def _chain(name: str, doc: str) -> Any:
    offset = _AT[name]

    def read(self: DataType) -> list[bytes]:
        data, at, chain = self._slice(offset), 3, []
        while at + 3 <= len(data):
            end = at + 3 + int.from_bytes(data[at : at + 3], "big")
            chain.append(data[at + 3 : end])
            at = end
        return chain

    return property(read, doc=doc)


def _vectors(data: bytes, count: int) -> list[bytes]:
    """Split off vectors with two bytes of length each."""
    found = []
    for _ in range(count):
        end = 2 + int.from_bytes(data[:2], "big")
        found.append(data[2:end])
        data = data[end:]
    return found


@register
class TlsHandshake(Hellos):
    """A TLS handshake.

    Numbers are 0, text is "" and lists are empty where nothing was seen; `to_dict` gives None for those.
    """

    __slots__ = ()

    LEVEL = "session"
    RECORD = RECORD
    PROJECT = f"{event.__name__}:project"
    SERVICE = "tls"

    ja3_hash = _fixed("ja3_hash", "JA3, fingerprint of the client: MD5 in hexadecimal.")
    ja3s_hash = _fixed("ja3s_hash", "JA3S, fingerprint of the server's answer: MD5 in hexadecimal.")
    ja4 = _fixed("ja4", "JA4, fingerprint of the client that does not depend on the order of its extensions.")

    hello_retry_request = _flag(event.RETRIED, "Whether the server has asked for another ClientHello.")
    is_resumption = _flag(event.RESUMED, "Whether an earlier session was taken up, or a pre-shared key used.")
    client_changed_cipher = _flag(event.CLIENT_CHANGED, "Whether the client's ChangeCipherSpec was seen.")
    server_changed_cipher = _flag(event.SERVER_CHANGED, "Whether the server's ChangeCipherSpec was seen.")
    session_ticket = _flag(event.TICKET, "Whether the server has given a ticket in clear (up to TLS 1.2).")
    certificate_requested = _flag(event.CERTIFICATE_REQUESTED, "Whether the server has asked for a certificate in clear.")
    incomplete = _flag(event.GAP, "Whether bytes of the connection are missing.")

    server_certificates = _chain("server_certificates", "The server's chain, DER, its own certificate first (up to TLS 1.2).")
    client_certificates = _chain("client_certificates", "The client's chain, DER (up to TLS 1.2).")
    server_key_exchange_body = _raw("server_key_exchange", "Body of ServerKeyExchange.")
    client_key_exchange_body = _raw("client_key_exchange", "Body of ClientKeyExchange.")

    @property
    def retry_group(self) -> str:
        """Group that the HelloRetryRequest has asked for."""
        value = _SHORT(self._buffer, self._at + _AT["retry_group"])[0]
        return group_name(value) if value else ""

    @property
    def ja3_str(self) -> str:
        """What `ja3_hash` is the MD5 of."""
        if not self.ja3_hash:
            return ""
        lists = (
            [n for n in self.client_cipher_suites if not is_grease(n)],
            [n for n in numbers16(self._slice(_AT["client_extensions"])) if not is_grease(n)],
            [n for n in numbers16(self._slice(_AT["client_supported_groups"])) if not is_grease(n)],
            self.client_ec_point_formats,
        )
        return ",".join([str(self.client_version), *("-".join(map(str, numbers)) for numbers in lists)])

    @property
    def ja3s_str(self) -> str:
        """What `ja3s_hash` is the MD5 of."""
        if not self.ja3s_hash:
            return ""
        types = [n for n in numbers16(self._slice(_AT["server_extensions"])) if not is_grease(n)]
        return f"{self.server_version},{self.cipher_suite},{'-'.join(map(str, types))}"

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Alerts in clear, in their order; no more than four are kept."""
        start = self._at + _AT["alerts"]
        found = []
        for n in range(self._buffer[self._at + _AT["alert_count"]]):
            word = _FLAGS(self._buffer, start + 4 * n)[0]
            code = word & 0xFF
            sender, level = "server" if word >> 16 else "client", (word >> 8) & 0xFF
            found.append(Alert(sender, _LEVELS.get(level, str(level)), iana.ALERTS.get(code, f"alert({code})")))
        return tuple(found)

    @property
    def server_key_exchange(self) -> EcdhParams | DhParams | RsaParams | bytes | None:
        """ServerKeyExchange by what the cipher suite says it is; its body if that is unknown; None without one."""
        body = self.server_key_exchange_body
        if not body:
            return None
        name = self.cipher
        if "_PSK_" in name and len(body) >= 2:
            body = body[2 + int.from_bytes(body[:2], "big") :]  # behind the hint (RFC 4279, 3)
        if "_ECDHE_" in name or "_ECDH_anon" in name:
            if len(body) >= 4 and body[0] == 3:  # named curve
                return EcdhParams(group_name(int.from_bytes(body[1:3], "big")), body[4 : 4 + body[3]])
        elif "_DHE_" in name or "_DH_anon" in name:
            return DhParams(*_vectors(body, 3))
        elif "_RSA_EXPORT" in name:
            return RsaParams(*_vectors(body, 2))
        return body

    @property
    def client_key_exchange(self) -> EcdhPublic | DhPublic | RsaSecret | bytes | None:
        """ClientKeyExchange by what the cipher suite says it is; its body if that is unknown; None without one."""
        body = self.client_key_exchange_body
        if not body:
            return None
        name = self.cipher
        if "_PSK_" in name and len(body) >= 2:
            body = body[2 + int.from_bytes(body[:2], "big") :]  # behind the identity
        if "_ECDH" in name:
            return EcdhPublic(body[1 : 1 + body[0]]) if body else body
        if "_DHE_" in name or "_DH_" in name:
            return DhPublic(_vectors(body, 1)[0])
        if name.startswith("TLS_RSA_"):
            # SSL 3.0 sends the secret without its length (RFC 6101, 5.6.7.1).
            return RsaSecret(body if self.version == 0x0300 else _vectors(body, 1)[0])
        return body

    def to_dict(self, raw: bool = False) -> dict[str, Any]:
        """Return what JSON output shows; None for what is absent.

        Parameters
        ----------
        raw : bool
            Whether to add what is long: certificates, key exchanges and hellos, in base64.
        """
        found = self._hello_dict()
        found["ja3_hash"] = self.ja3_hash or None
        found["ja3s_hash"] = self.ja3s_hash or None
        found["ja4"] = self.ja4 or None
        found["hello_retry_request"] = self.hello_retry_request
        found["is_resumption"] = self.is_resumption
        found["alerts"] = [alert._asdict() for alert in self.alerts]
        if raw:
            found["ja3_str"] = self.ja3_str or None
            found["ja3s_str"] = self.ja3s_str or None
            for name in ("server_certificates", "client_certificates"):
                found[name] = [b64encode(der).decode() for der in getattr(self, name)]
            for name in ("server_key_exchange_body", "client_key_exchange_body", "client_hello", "server_hello"):
                found[name] = b64encode(getattr(self, name)).decode() or None
        return found
