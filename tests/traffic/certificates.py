"""A small certificate authority: root, intermediate, and leaves for the servers of the sample captures.

Made anew at each call with fresh keys, written to a directory of the caller's, because `ssl` loads from files only.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOT_BEFORE = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
NOT_AFTER = datetime.datetime(2125, 1, 1, tzinfo=datetime.UTC)  # a sample must not expire

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate chain with its key.

    Parameters
    ----------
    chain_file, key_file : Path
        PEM: leaf first, without the root; the unencrypted key.
    chain : tuple of bytes
        DER of the same chain.
    """

    chain_file: Path
    key_file: Path
    chain: tuple[bytes, ...]


class Authority:
    """Root and intermediate; `issue` makes leaves."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        root_key = ec.generate_private_key(ec.SECP256R1())
        self._key = ec.generate_private_key(ec.SECP256R1())
        root = _certificate("Sample Root CA", root_key, "Sample Root CA", root_key, path_length=1)
        self._intermediate = _certificate(
            "Sample Issuing CA", self._key, "Sample Root CA", root_key, path_length=0
        )
        self.root_file = directory / "root.pem"
        self.root_file.write_bytes(root.public_bytes(Encoding.PEM))

    def issue(self, *names: str, with_rsa: bool = False, for_client: bool = False) -> Identity:
        """Return an identity for these DNS names, the first of them being the subject."""
        key: PrivateKey = (
            rsa.generate_private_key(65537, 2048) if with_rsa else ec.generate_private_key(ec.SECP256R1())
        )
        leaf = _certificate(names[0], key, "Sample Issuing CA", self._key, names=names, for_client=for_client)
        chain = (leaf, self._intermediate)
        stem = names[0].replace("*", "any")
        chain_file = self.directory / f"{stem}.pem"
        key_file = self.directory / f"{stem}.key"
        chain_file.write_bytes(b"".join(cert.public_bytes(Encoding.PEM) for cert in chain))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Identity(chain_file, key_file, tuple(cert.public_bytes(Encoding.DER) for cert in chain))


def _certificate(
    subject: str,
    key: PrivateKey,
    issuer: str,
    issuer_key: PrivateKey,
    *,
    names: tuple[str, ...] = (),
    path_length: int | None = None,
    for_client: bool = False,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(
            x509.BasicConstraints(ca=path_length is not None, path_length=path_length), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if names:
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if for_client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example Organisation"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
