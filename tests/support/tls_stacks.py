"""TLS conversations between two real OpenSSL ends, as the bytes that each side wrote, in order."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from traffic import stacks
from traffic.sample import Sample
from traffic.tls_cases import TlsCases

Segment = tuple[int, bytes]


class Recorder:
    """Stands for a `TcpConversation`: keeps the bytes, makes no packets."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []

    def to_server(self, data: bytes) -> None:
        self.segments.append((0, data))

    def to_client(self, data: bytes) -> None:
        self.segments.append((1, data))

    def close(self, by: int) -> None:
        pass

    def reset(self, by: int) -> None:
        pass


@dataclass
class Case:
    """One conversation: what was written, what the stacks say about it."""

    name: str
    segments: list[Segment]
    report: dict[str, Any]
    client: ssl.SSLObject
    server: ssl.SSLObject
    alpn: Sequence[str] = ()
    chain: tuple[bytes, ...] = ()
    client_chain: tuple[bytes, ...] = ()
    marks: set[str] = field(default_factory=set)


def conversations(directory: Path) -> list[Case]:
    """Return full, resumed, retried and refused handshakes of TLS 1.0 to 1.3."""
    make = TlsCases(Sample(), directory)
    v10, v11, v12, v13 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    web = ("h2", "http/1.1")
    cases: list[Case] = []

    def run(name: str, client: ssl.SSLContext, server: ssl.SSLContext, *, alpn: Sequence[str] = (), identity: Any = None, **call: Any) -> Case:
        talk = Recorder()
        made = stacks.tls(talk, client, server, **call)  # type: ignore[arg-type]
        clear = made.report["messages"] and not made.report["resumed"] and "13" not in name
        chain = (identity or make.identity).chain if clear and "server CERTIFICATE" in made.report["messages"] else ()
        case = Case(name, talk.segments, made.report, made.client, made.server, alpn, chain)
        cases.append(case)
        return case

    client, server = make.client(*web), make.server(*web)
    first = run("13 full", client, server, alpn=web, server_name="www.example.com")
    run("13 resumed", client, server, alpn=web, server_name="www.example.com", session=first.client.session)
    retry = make.server("http/1.1", curve="secp384r1")
    run("13 retry", make.client(*web), retry, alpn=web, server_name="retry.example.org").marks.add("retry")
    run("13 plain", make.client(middlebox_compat=False), make.server(), server_name="plain.example.com")
    run("13 silent", make.client(), make.server(), server_name="x.example.com", exchange=(), close_notify=False)

    client, server = make.client(*web, versions=(v12, v12)), make.server("http/1.1", versions=(v12, v12))
    first = run("12 full", client, server, alpn=web, server_name="mail.example.net")
    run("12 ticket", client, server, alpn=web, server_name="mail.example.net", session=first.client.session)
    client = make.client(versions=(v12, v12), tickets=False)
    server = make.server(versions=(v12, v12), tickets=False)
    first = run("12 full no ticket", client, server, server_name="cache.example.org")
    run("12 id", client, server, server_name="cache.example.org", session=first.client.session)
    run("12 chacha", make.client(versions=(v12, v12), ciphers="ECDHE+CHACHA20"), make.server(), server_name="chacha.example.com")
    run("12 no name", make.client(versions=(v12, v12)), make.server())
    dhe = make.server(identity=make.rsa_identity, versions=(v12, v12), ciphers="DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0")
    dhe.load_dh_params(_dh_file(directory))
    run("12 dhe", make.client(versions=(v12, v12), ciphers="DHE:@SECLEVEL=0"), dhe, server_name="dh.example.net", identity=make.rsa_identity)
    strict = make.server("h2")
    strict.load_verify_locations(make.authority.root_file)
    strict.verify_mode = ssl.CERT_REQUIRED
    known = make.client("h2", versions=(v12, v12))
    known.load_cert_chain(make.client_identity.chain_file, make.client_identity.key_file)
    both = run("12 client certificate", known, strict, alpn=("h2",), server_name="members.example.org")
    both.client_chain = make.client_identity.chain
    for version, name in ((v10, "10 rsa"), (v11, "11 rsa")):
        old: dict[str, Any] = {"versions": (version, version), "ciphers": "AES128-SHA:@SECLEVEL=0"}
        run(name, make.client(**old), make.server(identity=make.rsa_identity, **old), server_name="legacy.example.net", identity=make.rsa_identity)

    run("12 no version", make.client(versions=(v12, v12)), make.server(versions=(v13, v13)), server_name="new.example.com")
    run("12 no cipher", make.client(versions=(v12, v12), ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"),
        make.server(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"), server_name="cipher.example.com")  # fmt: skip
    run("12 untrusted", make.client(trust=False, versions=(v12, v12)), make.server(), server_name="untrusted.example.net")
    run("13 untrusted", make.client(trust=False), make.server(), server_name="untrusted13.example.net")
    picky = make.server()
    picky.sni_callback = lambda _end, _name, _context: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    run("13 refused name", make.client(), picky, server_name="nobody.example.org")
    run("13 certificate wanted", make.client("h2"), strict, alpn=("h2",), server_name="members.example.org")
    return cases


def _dh_file(directory: Path) -> Path:
    """RFC 7919 group ffdhe2048 as a PEM file: making parameters of one's own takes a minute."""
    from cryptography.hazmat.primitives.asymmetric import dh
    from cryptography.hazmat.primitives.serialization import Encoding, ParameterFormat

    numbers = dh.DHParameterNumbers(int(_FFDHE2048, 16), 2)
    path = directory / "dh.pem"
    path.write_bytes(numbers.parameters().parameter_bytes(Encoding.PEM, ParameterFormat.PKCS3))
    return path


_FFDHE2048 = """
FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1D8B9C583CE2D3695A9E13641146433FBCC939DCE249B3EF9
7D2FE363630C75D8F681B202AEC4617AD3DF1ED5D5FD65612433F51F5F066ED0856365553DED1AF3B557135E7F57C935
984F0C70E0E68B77E2A689DAF3EFE8721DF158A136ADE73530ACCA4F483A797ABC0AB182B324FB61D108A94BB2C8E3FB
B96ADAB760D7F4681D4F42A3DE394DF4AE56EDE76372BB190B07A7C8EE0A6D709E02FCE1CDF7E2ECC03404CD28342F61
9172FE9CE98583FF8E4F1232EEF28183C3FE3B1B4C6FAD733BB5FCBC2EC22005C58EF1837D1683B2C6F34A26C1B2EFFA
886B423861285C97FFFFFFFFFFFFFFFF
""".replace("\n", "")


@cache
def cases() -> dict[str, Case]:
    """The conversations by name, made once per process."""
    with TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TLS 1.0 and 1.1 are wanted
        return {case.name: case for case in conversations(Path(directory))}
