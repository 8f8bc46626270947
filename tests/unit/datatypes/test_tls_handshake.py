"""The Python view of a TLS handshake."""

from __future__ import annotations

import json
import pickle

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from oracle.tls import message, record
from support.sessions import parser
from support.tls_stacks import cases

from retina_jit.datatypes.base import LONGEST, brief
from retina_jit.datatypes.column import UTF8_OR_HEX, split_texts
from retina_jit.datatypes.tls_handshake import TlsHandshake
from retina_jit.datatypes.tls_hellos import EXTENSIONS, GROUPS, SCHEMES
from retina_jit.parsers.tls.event import RECORD

CONTRACT = {
    *("sni", "version", "client_version", "server_version", "cipher", "cipher_suite", "client_alpn_protocols"),
    *("ja3_hash", "ja3s_hash", "ja4"),
}


def handshake(name: str) -> TlsHandshake:
    with parser("tls").run(cases()[name].segments) as session:
        return TlsHandshake(*session.event())


def test_json_has_the_keys_of_the_contract_and_survives_json() -> None:
    for name in cases():
        shown = handshake(name).to_dict(raw=True)
        assert shown.keys() >= CONTRACT
        assert json.loads(json.dumps(shown))["client_ciphers"] == list(shown["client_ciphers"])


def test_what_is_absent_is_null() -> None:
    shown = handshake("12 no cipher").to_dict()
    absent = ("server_version", "cipher", "cipher_suite", "ja3s_hash", "server_random", "server_alpn_protocol")
    assert [shown[key] for key in absent] == [None] * len(absent)
    assert shown["version"] == 0x0303
    assert handshake("12 no name").to_dict()["sni"] is None
    with parser("tls").run([s for s in cases()["12 full"].segments if s[0] == 1]) as session:
        shown = TlsHandshake(*session.event()).to_dict()
    absent = ("sni", "client_version", "client_random", "client_session_id", "ja3_hash", "ja4")
    assert [shown[key] for key in absent] == [None] * len(absent)
    assert shown["client_ciphers"] == ()


def test_every_property_can_be_read_of_every_handshake() -> None:
    for name in cases():
        tls = handshake(name)
        for attribute in dir(TlsHandshake):
            if isinstance(getattr(TlsHandshake, attribute), property):
                getattr(tls, attribute)


def test_the_record_can_be_read_as_columns() -> None:
    events = []
    for name in sorted(cases()):
        with parser("tls").run(cases()[name].segments) as session:
            data, _, at = session.event()
            events.append((handshake(name), data[at : at + RECORD.itemsize]))
    table = np.frombuffer(b"".join(record for _, record in events), RECORD)
    assert table["version"].tolist() == [tls.version for tls, _ in events]
    assert table["ja4"].astype(str).tolist() == [tls.ja4 for tls, _ in events]
    assert table["ja3_hash"].astype(str).tolist() == [tls.ja3_hash for tls, _ in events]


def test_names_are_those_of_retina() -> None:
    tls = handshake("13 full")
    assert {"ServerName", "ApplicationLayerProtocolNegotiation", "SessionTicketTLS", "KeyShare"} <= set(tls.client_extensions)
    assert "rsa_pss_rsae_sha256" in tls.client_signature_algs
    assert tls.client_ciphers[0] == "TLS_AES_256_GCM_SHA384"
    assert tls.server_extensions == ("SupportedVersions", "KeyShare")
    assert tls.server_key_share is not None
    assert (tls.server_key_share.group, len(tls.server_key_share.kx_data)) == ("x25519", 32)
    assert tls.client_key_shares[0].group == "x25519"
    assert tuple(EXTENSIONS[n] for n in (0x0A0A, 0x4469, 0xFF01, 0xFAFA)) == ("Grease", "TlsExtensionType(17513 / 0x4469)", "RenegotiationInfo", "Grease")
    assert tuple(SCHEMES[n] for n in (0x0804, 0x2222)) == ("rsa_pss_rsae_sha256", "SignatureScheme(8738 / 0x2222)")
    assert tuple(GROUPS[n] for n in (0x001D, 0x1A1A, 0x11EC, 0x2222)) == ("x25519", "Grease", "X25519MLKEM768", "NamedGroup(8738 / 0x2222)")


def test_text_that_is_no_text_is_shown_as_retina_does() -> None:
    assert split_texts(b"\x02h2\x02\xff\xfe\x09cut", 1, UTF8_OR_HEX) == ("h2", "<Invalid UTF-8: ff fe>", "cut")


def test_an_event_without_room_has_the_numbers_and_says_nothing_wrong() -> None:
    with parser("tls").run(cases()["12 full"].segments) as session:
        whole = TlsHandshake(*session.event())
        for room in (0, 10, 300, 1000):
            tls = TlsHandshake(*session.event(room))
            assert (tls.version, tls.cipher, tls.ja4) == (whole.version, whole.cipher, whole.ja4)
            assert tls.sni in ("", whole.sni)
            assert tls.client_ciphers in ((), whole.client_ciphers)
            assert tls.server_certificates in ([], whole.server_certificates)


def test_certificates_that_promise_too_much() -> None:
    chain = bytes.fromhex("ffffff 000003") + b"abc" + bytes.fromhex("00ffff") + b"de"
    server = record(22, message(2, bytes.fromhex("0303") + bytes(33) + b"\xc0\x2f\x00") + message(11, chain))
    with parser("tls").run([(1, server)]) as session:
        assert TlsHandshake(*session.event()).server_certificates == [b"abc", b"de"]
        assert session["certificate"] == b"abc"
        assert session["certificate_count"] == 2


def test_it_shows_itself() -> None:
    assert "sni='www.example.com'" in repr(handshake("13 full"))


def test_long_bytes_are_not_shown_whole() -> None:
    assert brief("x" * LONGEST) == repr("x" * LONGEST)
    assert brief(b"x" * 15_000) == f"{b'x' * LONGEST!r}... (15,000 long)"
    long = handshake("13 full")
    assert brief(list(long.to_dict())) == repr(list(long.to_dict()))


def test_it_owns_its_bytes() -> None:
    tls = handshake("12 full")
    assert pickle.loads(pickle.dumps(tls.to_dict())) == tls.to_dict()


def test_established_is_what_the_stacks_say() -> None:
    for name, case in cases().items():
        tls = handshake(name)
        # In TLS 1.3 a refusal after the ServerHello is encrypted.
        if case.report["completed"] or tls.version < 0x0304 or not tls.cipher:
            assert tls.established == bool(case.report["completed"]), name


def test_certificates_are_decoded_as_they_were_made() -> None:
    tls = handshake("12 full")
    own = tls.certificates[0]
    decoded = x509.load_der_x509_certificate(cases()["12 full"].chain[0])
    assert (own.subject, own.issuer) == (decoded.subject.rfc4514_string(), decoded.issuer.rfc4514_string())
    assert "mail.example.net" in own.sans or any(name.startswith("*.") for name in own.sans)
    assert own.not_before < own.not_after
    assert own.sha256 == decoded.fingerprint(hashes.SHA256()).hex()
    assert json.loads(json.dumps(own.to_dict()))["serial"] == f"{decoded.serial_number:x}"
    assert handshake("13 full").certificates == []


def test_an_encrypted_client_hello_is_noticed() -> None:
    plain = [0x0A0A, 0x1301]
    for kinds, expected in (([(0xFE0D, b"\0" * 8)], True), ([(0, b"")], False)):
        extensions = b"".join(n.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for n, data in kinds)
        body = b"\3\3" + bytes(32) + b"\0" + b"\0\4" + b"".join(n.to_bytes(2, "big") for n in plain) + b"\1\0"
        body += len(extensions).to_bytes(2, "big") + extensions
        with parser("tls").run([(0, record(22, message(1, body)))]) as session:
            assert TlsHandshake(*session.event()).ech == session["ech"] == expected
