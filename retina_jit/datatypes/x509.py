"""Certificates, decoded when an attribute is asked for; by `cryptography`, which the extra `x509` installs."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cached_property
from typing import Any

from retina_jit.extras import library


class Certificate:
    """A certificate of a chain.

    Attributes
    ----------
    der : bytes
        As it was sent. Bytes that are no certificate raise a `ValueError` when anything but `der` and `sha256` is asked for.
    """

    def __init__(self, der: bytes) -> None:
        self.der = der

    @property
    def sha256(self) -> str:
        """SHA-256 of the DER, in hexadecimal: the usual fingerprint."""
        return hashlib.sha256(self.der).hexdigest()

    @cached_property
    def decoded(self) -> Any:
        """The certificate as `cryptography.x509.Certificate`.

        Raises
        ------
        MissingExtraError
            `cryptography` is not installed.
        """
        x509 = library("cryptography.x509", "decoding certificates", "x509")
        return x509.load_der_x509_certificate(self.der)

    @property
    def subject(self) -> str:
        """Subject (RFC 4514)."""
        return str(self.decoded.subject.rfc4514_string())

    @property
    def issuer(self) -> str:
        """Issuer (RFC 4514)."""
        return str(self.decoded.issuer.rfc4514_string())

    @property
    def serial(self) -> int:
        """Serial number."""
        return int(self.decoded.serial_number)

    @property
    def not_before(self) -> datetime:
        """When it begins to be valid, UTC."""
        found: datetime = self.decoded.not_valid_before_utc
        return found

    @property
    def not_after(self) -> datetime:
        """When it ceases to be valid, UTC."""
        found: datetime = self.decoded.not_valid_after_utc
        return found

    @property
    def sans(self) -> list[str]:
        """Subject alternative names: host names, addresses, mail addresses, URIs."""
        from cryptography import x509

        try:
            names = self.decoded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        return [str(name.value) for name in names if not isinstance(name, x509.DirectoryName | x509.OtherName)]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it but the DER."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "serial": f"{self.serial:x}",
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
            "sans": self.sans,
            "sha256": self.sha256,
        }

    def __repr__(self) -> str:
        return f"Certificate(sha256={self.sha256!r})"
