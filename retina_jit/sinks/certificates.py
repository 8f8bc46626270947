"""Certificates as Zeek logs them: the columns of x509.log, in the words that OpenSSL has for names and algorithms."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from retina_jit.datatypes.x509 import Certificate
from retina_jit.errors import RetinaJitError

_RELOG = 86_400 * 10**9
_MOST = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# What OpenSSL calls the parts of names (short names); the others of RFC 4514 are the same there and in `cryptography`.
_PARTS = {
    "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.9": "street", "2.5.4.12": "title", "2.5.4.13": "description", "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode", "2.5.4.41": "name", "2.5.4.42": "GN", "2.5.4.43": "initials", "2.5.4.44": "generationQualifier",
    "2.5.4.46": "dnQualifier", "2.5.4.65": "pseudonym", "2.5.4.97": "organizationIdentifier", "1.2.840.113549.1.9.1": "emailAddress",
    "1.2.840.113549.1.9.2": "unstructuredName", "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL", "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
}  # fmt: skip
# ... and algorithms (long names).
_ALGORITHMS = {
    "1.2.840.113549.1.1.1": "rsaEncryption", "1.2.840.113549.1.1.2": "md2WithRSAEncryption", "1.2.840.113549.1.1.4": "md5WithRSAEncryption",
    "1.2.840.113549.1.1.5": "sha1WithRSAEncryption", "1.2.840.113549.1.1.10": "rsassaPss", "1.2.840.113549.1.1.11": "sha256WithRSAEncryption",
    "1.2.840.113549.1.1.12": "sha384WithRSAEncryption", "1.2.840.113549.1.1.13": "sha512WithRSAEncryption",
    "1.2.840.113549.1.1.14": "sha224WithRSAEncryption", "1.3.14.3.2.29": "sha1WithRSA", "1.2.840.10040.4.1": "dsaEncryption",
    "1.2.840.10040.4.3": "dsaWithSHA1", "2.16.840.1.101.3.4.3.1": "dsa_with_SHA224", "2.16.840.1.101.3.4.3.2": "dsa_with_SHA256",
    "1.2.840.10045.2.1": "id-ecPublicKey", "1.2.840.10045.4.1": "ecdsa-with-SHA1", "1.2.840.10045.4.3.1": "ecdsa-with-SHA224",
    "1.2.840.10045.4.3.2": "ecdsa-with-SHA256", "1.2.840.10045.4.3.3": "ecdsa-with-SHA384", "1.2.840.10045.4.3.4": "ecdsa-with-SHA512",
    "1.2.840.10046.2.1": "X9.42 DH", "1.3.101.110": "X25519", "1.3.101.111": "X448", "1.3.101.112": "ED25519", "1.3.101.113": "ED448",
}  # fmt: skip
_CURVES = {"secp256r1": "prime256v1", "secp192r1": "prime192v1"}


class Facts(NamedTuple):
    """What x509.log says of a certificate, between its fingerprint and where it stood; and the host names that it is for."""

    columns: tuple[Any, ...]
    hosts: tuple[str, ...]


def decoder_is_there() -> bool:
    """Whether certificates can be decoded."""
    try:
        import cryptography.x509  # noqa: F401
    except ImportError:
        return False
    return True


@lru_cache(4096)
def facts(der: bytes) -> Facts | None:
    """Return what is logged of a certificate; None if it is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # serial numbers below 1, and other things that this is no judge of
        try:
            return _facts(Certificate(der).decoded)
        except RetinaJitError:
            raise
        except ValueError:
            return None


def _facts(cert: Any) -> Facts:
    from cryptography import x509

    try:
        extensions = list(cert.extensions)
    except (ValueError, x509.DuplicateExtension):
        extensions = []
    found = {type(e.value): e.value for e in extensions}
    names: list[Any] = [None] * 4
    for n, kind in enumerate((x509.DNSName, x509.UniformResourceIdentifier, x509.RFC822Name, x509.IPAddress)):
        listed = found[x509.SubjectAlternativeName].get_values_for_type(kind) if x509.SubjectAlternativeName in found else ()
        names[n] = [str(name) for name in listed] or None
    basic = found.get(x509.BasicConstraints)
    columns = (
        cert.version.value + 1, _serial(cert.serial_number), _name(cert.subject), _name(cert.issuer), _ns(cert.not_valid_before_utc), _ns(cert.not_valid_after_utc),
        _algorithm(cert.public_key_algorithm_oid), _algorithm(cert.signature_algorithm_oid), *_key(cert),
        *names, basic.ca if basic else None, basic.path_length if basic else None,
    )  # fmt: skip
    common = [str(a.value) for a in cert.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return Facts(columns, tuple(h.lower() for h in names[0] or common))


def _key(cert: Any) -> tuple[str | None, int | None, str | None, str | None]:
    """Type, length [bit], exponent, curve."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    try:
        key = cert.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return None, None, None, None
    if isinstance(key, rsa.RSAPublicKey):
        return "rsa", key.key_size, str(key.public_numbers().e), None
    if isinstance(key, dsa.DSAPublicKey):
        return "dsa", key.key_size, None, None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "ecdsa", key.key_size, None, _CURVES.get(key.curve.name, key.curve.name)
    return None, None, None, None


def _serial(number: int) -> str:
    """Hexadecimal, whole bytes."""
    text = f"{abs(number):X}"
    return ("-" if number < 0 else "") + "0" * (len(text) % 2) + text


def _name(name: Any) -> str:
    """The name as RFC 2253 writes it, letters beyond ASCII as their bytes."""
    from cryptography import x509

    text = name.rfc4514_string({x509.ObjectIdentifier(oid): part for oid, part in _PARTS.items()})
    return "".join(x if x.isascii() and x.isprintable() else "".join(f"\\{b:02X}" for b in x.encode("utf-8", "replace")) for x in text)


def _algorithm(oid: Any) -> str:
    return _ALGORITHMS.get(oid.dotted_string, str(oid.dotted_string))


def _ns(when: datetime) -> int:
    return round((when - _EPOCH).total_seconds()) * 10**9


def matches(hosts: tuple[str, ...], name: str) -> bool:
    """Whether a host's name is among those of a certificate; `*` stands for one label, the first (RFC 6125, 6.4.3)."""
    name = name.lower().rstrip(".")
    _, dot, parent = name.partition(".")
    return name in hosts or (bool(dot) and f"*.{parent}" in hosts)


class Known:
    """Which certificates were logged: each once a day of capture time, the host's apart from those of its chain."""

    def __init__(self) -> None:
        self._logged: dict[tuple[bytes, bool, bool], int] = {}

    def lines(self, ts: int, chain: list[bytes], *, client: bool) -> list[list[Any]]:
        """Return the columns of the certificates of a chain that are to be logged now."""
        made = []
        for n, der in enumerate(chain):
            cert = Certificate(der)
            key = bytes.fromhex(cert.sha256), n == 0, client
            before = self._logged.get(key)
            if before is not None and 0 <= ts - before < _RELOG:
                continue
            found = facts(der)
            if found is None:
                continue
            self._logged.pop(key, None)
            self._logged[key] = ts
            if len(self._logged) > _MOST:
                del self._logged[next(iter(self._logged))]  # the one that was logged longest ago may be logged again
            made.append([ts, cert.sha256, *found.columns, n == 0, client])
        return made
