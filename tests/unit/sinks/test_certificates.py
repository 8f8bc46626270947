"""x509.log: what it says of certificates is what OpenSSL says of them."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from parsezeeklogs import read_zeek
from support.running import SAMPLES, runtime

from retina_jit.formats import zeek
from retina_jit.sinks import FOLDERS, certificates, wanted_types
from retina_jit.subscription import named

BEFORE = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
NAME = x509.Name([
    x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, 'Käse, "Brot" + Söhne\\Töchter; <GmbH>'),
    x509.NameAttribute(NameOID.BUSINESS_CATEGORY, "Private Organization"), x509.NameAttribute(NameOID.JURISDICTION_COUNTRY_NAME, "DE"),
    x509.NameAttribute(NameOID.SERIAL_NUMBER, "HRB 1"), x509.NameAttribute(NameOID.STREET_ADDRESS, "#1 Weg "), x509.NameAttribute(NameOID.POSTAL_CODE, "01234"),
    x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@example.com"), x509.NameAttribute(NameOID.GIVEN_NAME, "G"), x509.NameAttribute(NameOID.SURNAME, "S"),
    x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "example"), x509.NameAttribute(NameOID.USER_ID, "u"), x509.NameAttribute(NameOID.COMMON_NAME, "x\ny"),
])  # fmt: skip


def made(key, serial=0x0A0B, extensions=(), digest=None):
    builder = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).public_key(key.public_key()).serial_number(serial)
    builder = builder.not_valid_before(BEFORE).not_valid_after(BEFORE + timedelta(days=90))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else digest or hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def several():
    names = [x509.DNSName("a.example"), x509.DNSName("*.B.example"), x509.UniformResourceIdentifier("https://c.example/"), x509.RFC822Name("d@example.com")]
    names += [x509.IPAddress(ipaddress.ip_address("192.0.2.1")), x509.IPAddress(ipaddress.ip_address("2001:db8::1"))]
    rsa_key = rsa.generate_private_key(65537, 1024)
    return {
        "rsa": made(rsa_key, 0x1234567, [x509.SubjectAlternativeName(names), x509.BasicConstraints(ca=True, path_length=3)]),
        "rsa384": made(rsa_key, digest=hashes.SHA384()),
        "ec": made(ec.generate_private_key(ec.SECP256R1()), 1, [x509.BasicConstraints(ca=False, path_length=None)]),
        "ec521": made(ec.generate_private_key(ec.SECP521R1()), 2**150 - 1, digest=hashes.SHA512()),
        "dsa": made(dsa.generate_private_key(1024)),
        "ed25519": made(ed25519.Ed25519PrivateKey.generate()),
    }


def row(der, log="x509"):
    (line,) = certificates.Known().lines(0, [der], client=False)
    return dict(zip([name for name, _ in zeek.LOGS[log]], line, strict=True))


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_names_numbers_and_algorithms_are_openssls(several, tmp_path):
    for kind, der in several.items():
        (tmp_path / "x.der").write_bytes(der)
        command = ["openssl", "x509", "-inform", "DER", "-in", str(tmp_path / "x.der"), "-noout", "-nameopt", "RFC2253", "-subject", "-issuer", "-serial", "-text"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        told = dict(line.split("=", 1) for line in said.splitlines() if re.match(r"(subject|issuer|serial)=", line))
        line = row(der)
        assert line["certificate.subject"] == told["subject"] and line["certificate.issuer"] == told["issuer"]
        assert line["certificate.serial"] == told["serial"]
        assert line["certificate.key_alg"] == re.search(r"Public Key Algorithm: (.*)", said)[1], kind
        assert line["certificate.sig_alg"] == re.search(r"Signature Algorithm: (.*)", said)[1], kind
        if "ec" in kind:
            assert line["certificate.curve"] == re.search(r"ASN1 OID: (.*)", said)[1]


def test_keys_names_and_constraints(several):
    keys = [(row(der)["certificate.key_type"], row(der)["certificate.key_length"], row(der)["certificate.exponent"]) for der in several.values()]
    assert keys == [("rsa", 1024, "65537"), ("rsa", 1024, "65537"), ("ecdsa", 256, None), ("ecdsa", 521, None), ("dsa", 1024, None), (None, None, None)]
    full, plain = row(several["rsa"]), row(several["ec521"])
    assert [full[f"san.{k}"] for k in ("dns", "uri", "email", "ip")] == [
        ["a.example", "*.B.example"], ["https://c.example/"], ["d@example.com"], ["192.0.2.1", "2001:db8::1"],
    ]  # fmt: skip
    assert (full["basic_constraints.ca"], full["basic_constraints.path_len"], full["certificate.version"]) == (True, 3, 3)
    assert (row(several["ec"])["basic_constraints.ca"], row(several["ec"])["basic_constraints.path_len"]) == (False, None)
    assert {plain[k] for k in plain if k.startswith(("san", "basic"))} == {None}
    assert full["certificate.not_valid_before"] == int(BEFORE.timestamp()) * 10**9
    assert full["certificate.not_valid_after"] - full["certificate.not_valid_before"] == 90 * 86400 * 10**9


def test_what_is_no_certificate_is_left_out(several):
    known = certificates.Known()
    chain = [several["rsa"][:-1], b"", b"no certificate", several["ec"]]
    assert [line[1] for line in known.lines(0, chain, client=True)] == [row(several["ec"])["fingerprint"]]
    assert certificates.facts(b"") is None


def test_each_is_logged_once_a_day_and_place(several):
    known, day, chain = certificates.Known(), 86_400 * 10**9, [several["rsa"], several["ec"]]

    def times(ts, chain, client=False):
        return [(line[-2], line[-1]) for line in known.lines(ts, chain, client=client)]

    assert times(5, chain) == [(True, False), (False, False)] and times(5, chain) == [] == times(day + 4, chain)
    assert times(6, chain[::-1]) == [(True, False), (False, False)] and times(7, chain, client=True) == [(True, True), (False, True)]
    assert times(day + 5, chain) == [(True, False), (False, False)] and times(day + 6, chain) == []


def test_the_oldest_is_forgotten_when_too_many_are_known(several, monkeypatch):
    monkeypatch.setattr(certificates, "_MOST", 2)
    known = certificates.Known()
    a, b, c = several["rsa"], several["ec"], several["dsa"]
    assert [len(known.lines(n, [der], client=False)) for n, der in enumerate((a, b, a, c, b, a))] == [1, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(("name", "is_it"), [("a.example", True), ("A.EXAMPLE.", True), ("x.b.example", True), ("b.example", False), ("y.x.b.example", False), ("", False)])
def test_names_that_a_certificate_is_for(several, name, is_it):
    assert certificates.matches(certificates.facts(several["rsa"]).hosts, name) is is_it
    assert certificates.facts(several["ec"]).hosts == ("x\ny",)


def write(folder, name="tls.pcap"):
    sink = FOLDERS["zeek"](folder)
    s = named(wanted_types("zeek", ["TlsHandshake"]), "", print, "sink")
    s.sink = sink
    runtime([s], [SAMPLES / name]).run()
    sink.close()


def test_chains_of_handshakes_are_in_the_log(tmp_path):
    write(tmp_path)
    rows = list(read_zeek(tmp_path / "x509.log"))
    handshakes = list(read_zeek(tmp_path / "ssl.log"))
    shown = {f for h in handshakes for f in [*(h["cert_chain_fps"] or []), *(h["client_cert_chain_fps"] or [])]}
    assert {r["fingerprint"] for r in rows} == shown and shown
    assert {(r["fingerprint"], r["host_cert"], r["client_cert"]) for r in rows} == {
        (f, n == 0, side == "client_") for h in handshakes for side in ("", "client_") for n, f in enumerate(h[f"{side}cert_chain_fps"] or [])
    }
    assert len({(r["fingerprint"], r["host_cert"], r["client_cert"]) for r in rows}) == len(rows)
    assert any("CN=Sample Issuing CA" in r["certificate.issuer"] for r in rows)
    for h in handshakes:
        chain, name = h["cert_chain_fps"], h["server_name"]
        if not chain or not name:
            assert h["sni_matches_cert"] is None
            continue
        (hosts,) = {tuple(r["san.dns"]) for r in rows if r["fingerprint"] == chain[0]}
        assert h["sni_matches_cert"] is (name in hosts or f"*.{name.partition('.')[2]}" in hosts)
    assert True in {h["sni_matches_cert"] for h in handshakes}


def test_without_the_extra_a_warning_says_what_is_missing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(certificates, "decoder_is_there", lambda: False)
    write(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["ssl.log"] and "pip install 'retina-jit[x509]'" in caplog.text
    assert {h["sni_matches_cert"] for h in read_zeek(tmp_path / "ssl.log")} == {None}
