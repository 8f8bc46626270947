"""A TLS handshake over TCP, SSL 3.0 to TLS 1.3: everything that both sides have said in clear."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from retina_jit.datatypes.base import DataType, View, register
from retina_jit.datatypes.column import ZERO, Names, flag, named, objects, raw, split_numbers, text
from retina_jit.datatypes.tls_hellos import GROUPS, Hellos, is_grease
from retina_jit.datatypes.x509 import Certificate
from retina_jit.parsers.iana import tls as iana
from retina_jit.parsers.tls import event
from retina_jit.parsers.tls.event import RECORD

_AT = {name: RECORD.fields[name][1] for name in RECORD.names or ()}  # type: ignore[index]
ALERT = np.dtype([("description", "u1"), ("level", "u1"), ("sender", "u1"), ("pad", "u1")])  # an item of RECORD.alerts


class Alert(View):
    """An alert that was sent in clear: `sender, level, description = alert`."""

    __slots__ = ()

    sender = named(ALERT, "sender", Names({0: "client", 1: "server"}, "{n}"), "client or server.")
    level = named(ALERT, "level", Names({1: "warning", 2: "fatal"}, "{n}"), "warning or fatal.")
    description = named(ALERT, "description", Names(iana.ALERTS, "alert({n})"), "Its name (RFC 8446, 6).")

    def __iter__(self) -> Iterator[str]:
        return iter((self.sender, self.level, self.description))


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


def _types(data: bytes) -> tuple[int, ...]:
    return split_numbers(data, 2, "big")


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

    ja3_hash = text(RECORD, "ja3_hash", "JA3, fingerprint of the client: MD5 in hexadecimal.")
    ja3s_hash = text(RECORD, "ja3s_hash", "JA3S, fingerprint of the server's answer: MD5 in hexadecimal.")
    ja4 = text(RECORD, "ja4", "JA4, fingerprint of the client that does not depend on the order of its extensions.")

    hello_retry_request = flag(RECORD, "flags", event.RETRIED, "Whether the server has asked for another ClientHello.")
    is_resumption = flag(RECORD, "flags", event.RESUMED, "Whether an earlier session was taken up, or a pre-shared key used.")
    established = flag(RECORD, "flags", event.ESTABLISHED, "Whether keys were agreed on.")
    ech = flag(RECORD, "flags", event.ECH, "Whether the client offers an encrypted ClientHello, or pretends to.")
    client_changed_cipher = flag(RECORD, "flags", event.CLIENT_CHANGED, "Whether the client's ChangeCipherSpec was seen.", shown=False)
    server_changed_cipher = flag(RECORD, "flags", event.SERVER_CHANGED, "Whether the server's ChangeCipherSpec was seen.", shown=False)
    session_ticket = flag(RECORD, "flags", event.TICKET, "Whether the server has given a ticket in clear (up to TLS 1.2).", shown=False)
    certificate_requested = flag(RECORD, "flags", event.CERTIFICATE_REQUESTED, "Whether the server has asked for a certificate in clear.", shown=False)
    incomplete = flag(RECORD, "flags", event.GAP, "Whether bytes of the connection are missing.", shown=False)

    server_certificates = _chain("server_certificates", "The server's chain, DER, its own certificate first (up to TLS 1.2).")
    client_certificates = _chain("client_certificates", "The client's chain, DER (up to TLS 1.2).")
    server_key_exchange_body = raw(RECORD, "server_key_exchange", "Body of ServerKeyExchange.", shown=False)
    client_key_exchange_body = raw(RECORD, "client_key_exchange", "Body of ClientKeyExchange.", shown=False)

    @property
    def certificates(self) -> list[Certificate]:
        """The server's chain, decoded when asked for (needs `retina-jit[x509]`)."""
        return [Certificate(der) for der in self.server_certificates]

    retry_group = named(
        RECORD, "retry_group", GROUPS, "Group that the HelloRetryRequest has asked for.", null=ZERO, shown=False
    )
    alerts = objects(RECORD, "alerts", Alert, ALERT, "Alerts in clear, in their order; no more than four are kept.", count="alert_count")

    @property
    def ja3_str(self) -> str:
        """What `ja3_hash` is the MD5 of."""
        if not self.ja3_hash:
            return ""
        lists = (
            [n for n in self.client_cipher_suites if not is_grease(n)],
            [n for n in _types(self._slice(_AT["client_extensions"])) if not is_grease(n)],
            [n for n in _types(self._slice(_AT["client_supported_groups"])) if not is_grease(n)],
            self.client_ec_point_formats,
        )
        return ",".join([str(self.client_version), *("-".join(map(str, numbers)) for numbers in lists)])

    @property
    def ja3s_str(self) -> str:
        """What `ja3s_hash` is the MD5 of."""
        if not self.ja3s_hash:
            return ""
        types = [n for n in _types(self._slice(_AT["server_extensions"])) if not is_grease(n)]
        return f"{self.server_version},{self.cipher_suite},{'-'.join(map(str, types))}"

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
                return EcdhParams(GROUPS[int.from_bytes(body[1:3], "big")], body[4 : 4 + body[3]])
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
        found = super().to_dict()
        if raw:
            found["ja3_str"] = self.ja3_str or None
            found["ja3s_str"] = self.ja3s_str or None
            for name in ("server_certificates", "client_certificates"):
                found[name] = [b64encode(der).decode() for der in getattr(self, name)]
            for name in ("server_key_exchange_body", "client_key_exchange_body", "client_hello", "server_hello"):
                found[name] = b64encode(getattr(self, name)).decode() or None
        return found
