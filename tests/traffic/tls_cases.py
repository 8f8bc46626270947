"""The TLS conversations of the sample captures: TLS 1.0 to 1.3, full, resumed, retried, refused."""

from __future__ import annotations

import hashlib
import ssl
import warnings
from pathlib import Path
from typing import Any

from traffic import stacks
from traffic.certificates import Authority, Identity
from traffic.packets import Link
from traffic.sample import Sample
from traffic.synth import TcpConversation, retime

WEB, WEB6 = "198.51.100.20", "2001:db8:100::20"
LEGACY = "198.51.100.99"


class TlsCases:
    """Adds TLS conversations to a sample; one identity for all servers, one authority."""

    def __init__(self, sample: Sample, directory: Path) -> None:
        self.sample = sample
        self.authority = Authority(directory)
        self.identity = self.authority.issue(
            "www.example.com", "*.example.com", "example.org", "*.example.net"
        )
        self.rsa_identity = self.authority.issue("legacy.example.net", with_rsa=True)
        self._identity_of: dict[ssl.SSLContext, Identity] = {}
        self.client_identity = self.authority.issue("alice.example.org", for_client=True)

    def client(self, *alpn: str, trust: bool = True, **settings: Any) -> ssl.SSLContext:
        """Client context; `trust=False` does not know the authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if trust:
            context.load_verify_locations(self.authority.root_file)
        context.check_hostname = False  # one certificate for names of three domains; SNI is what matters here
        return _configured(context, alpn, **settings)

    def server(self, *alpn: str, identity: Identity | None = None, **settings: Any) -> ssl.SSLContext:
        """Server context."""
        identity = identity or self.identity
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.chain_file, identity.key_file)
        self._identity_of[context] = identity
        return _configured(context, alpn, **settings)

    def run(
        self,
        client_port: int,
        client_context: ssl.SSLContext,
        server_context: ssl.SSLContext,
        *,
        port: int = 443,
        to: str = WEB,
        link: Link | None = None,
        timestamps: bool = False,
        segment_size: int | None = None,
        alpn: tuple[str, ...] = (),
        disorder: bool = False,
        **call: Any,
    ) -> stacks.TlsRun:
        """One connection; `disorder` swaps two full segments of the server and repeats one.

        The report gets two more keys: client_alpn, and certificates, the SHA-256 of each certificate of the server
        that crossed the wire in clear (TLS 1.3 encrypts them).
        """
        source = "2001:db8:a::10" if ":" in to else "192.0.2.10"
        talk = TcpConversation(
            (source, client_port),
            (to, port),
            start_ns=self.sample.next_start(),
            step_ns=731_000,
            link=link,
            timestamps=timestamps,
            mss=segment_size,
        )
        talk.open()
        run = stacks.tls(talk, client_context, server_context, **call)
        if disorder:
            swap_and_repeat(talk)
        shown = "server CERTIFICATE" in run.report["messages"] and run.report["version"] != "TLSv1.3"
        chain = self._identity_of[server_context].chain if shown else ()
        certificates = [hashlib.sha256(der).hexdigest() for der in chain]
        self.sample.add(talk, tls={**run.report, "client_alpn": list(alpn), "certificates": certificates})
        return run


def _configured(
    context: ssl.SSLContext,
    alpn: tuple[str, ...],
    *,
    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] | None = None,
    ciphers: str | None = None,
    curve: str | None = None,
    tickets: bool = True,
    middlebox_compat: bool = True,
) -> ssl.SSLContext:
    if ciphers:
        context.set_ciphers(ciphers)  # before the versions: TLS 1.0 needs security level 0
    if versions:
        warnings.filterwarnings(
            "ignore", message="ssl.TLSVersion.TLSv1 is deprecated"
        )  # old traffic is wanted
        context.minimum_version, context.maximum_version = versions
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if curve:
        context.set_ecdh_curve(curve)
    if not tickets:
        context.options |= ssl.OP_NO_TICKET
    if not middlebox_compat:
        context.options &= ~ssl.OP_ENABLE_MIDDLEBOX_COMPAT
    return context


def swap_and_repeat(talk: TcpConversation) -> None:
    """Exchange two neighbouring data segments of the server, and capture the first of them once more."""
    full = [at for at, frame in enumerate(talk.frames) if frame.length >= 54 + talk.mss]
    first = next(at for at in full if at + 1 in full)
    a, b = talk.frames[first : first + 2]
    talk.frames[first : first + 2] = [b, a, a]
    talk.frames[:] = retime(talk.frames, start_ns=talk.frames[0].ts_ns, step_ns=talk.step_ns)
    talk.tally[1].packets += 1
    talk.tally[1].bytes += a.length
    talk.tally[1].payload += a.length - 54  # Ethernet, IPv4 and TCP without options


def tls_sample(directory: Path) -> Sample:
    """TLS 1.0 to 1.3: full, resumed, retried, refused."""
    sample = Sample()
    make = TlsCases(sample, directory)
    v10, v12, v13 = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    web = ("h2", "http/1.1")

    # TLS 1.3, HTTP/2 agreed on, then resumed by ticket, then over IPv6
    client, server = make.client(*web), make.server(*web)
    first = make.run(40001, client, server, server_name="www.example.com", alpn=web, timestamps=True)
    make.run(40002, client, server, server_name="www.example.com", alpn=web, session=first.client.session)
    make.run(40003, client, server, server_name="ipv6.example.com", alpn=web, to=WEB6)

    # TLS 1.3 with HelloRetryRequest: the client's key share is X25519, the server has P-384 only
    retry = make.server("http/1.1", curve="secp384r1")
    make.run(40004, make.client(*web), retry, server_name="retry.example.org", alpn=web)

    # TLS 1.3 without session id and ChangeCipherSpec; closed by RST without a good-bye
    plain = make.client(middlebox_compat=False)
    make.run(40020, plain, make.server(middlebox_compat=False), server_name="plain.example.com")
    make.run(
        40021,
        make.client(),
        make.server(),
        server_name="rst.example.com",
        close_notify=False,
        end_by_reset=True,
    )

    # TLS 1.2: certificate chain in clear, resumed by ticket, resumed by session id, other ciphers
    client, server = make.client(*web, versions=(v12, v12)), make.server("http/1.1", versions=(v12, v12))
    first = make.run(40005, client, server, server_name="mail.example.net", alpn=web)
    make.run(40006, client, server, server_name="mail.example.net", alpn=web, session=first.client.session)
    client = make.client(versions=(v12, v12), tickets=False)
    server = make.server(versions=(v12, v12), tickets=False)
    first = make.run(40007, client, server, server_name="cache.example.org", port=8443)
    make.run(40008, client, server, server_name="cache.example.org", port=8443, session=first.client.session)
    chacha = make.client(versions=(v12, v12), ciphers="ECDHE+CHACHA20")
    make.run(40009, chacha, make.server(), server_name="chacha.example.com")

    # no SNI, on an odd port, in small segments; client certificate
    make.run(40010, make.client(versions=(v12, v12)), make.server(), port=4433, segment_size=100)
    strict = make.server("h2")
    strict.load_verify_locations(make.authority.root_file)
    strict.verify_mode = ssl.CERT_REQUIRED
    known = make.client("h2", versions=(v12, v12))
    known.load_cert_chain(make.client_identity.chain_file, make.client_identity.key_file)
    make.run(40011, known, strict, server_name="members.example.org", alpn=("h2",))

    # TLS 1.0 with RSA key exchange, under QinQ
    old: dict[str, Any] = {"versions": (v10, v10), "ciphers": "AES128-SHA:@SECLEVEL=0"}
    make.run(
        40012,
        make.client(**old),
        make.server(identity=make.rsa_identity, **old),
        server_name="legacy.example.net",
        to=LEGACY,
        link=Link(vlans=(100, 7)),
    )

    # refused: no common version, no common cipher, unknown authority (in clear, encrypted), unrecognised name, no
    # client certificate where the server wants one
    make.run(
        40013,
        make.client(versions=(v12, v12)),
        make.server(versions=(v13, v13)),
        server_name="new.example.com",
    )
    make.run(
        40014,
        make.client(versions=(v12, v12), ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"),
        make.server(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"),
        server_name="cipher.example.com",
    )
    make.run(
        40015,
        make.client(trust=False, versions=(v12, v12)),
        make.server(),
        server_name="untrusted.example.net",
    )
    make.run(40016, make.client(trust=False), make.server(), server_name="untrusted13.example.net")
    picky = make.server()
    picky.sni_callback = lambda _end, _name, _context: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    make.run(40017, make.client(), picky, server_name="nobody.example.org")
    make.run(40018, make.client("h2"), strict, server_name="members.example.org", alpn=("h2",))

    # segments swapped and repeated in the server's flight
    server = make.server(identity=make.rsa_identity, versions=(v12, v12))
    make.run(
        40019,
        make.client(versions=(v12, v12)),
        server,
        server_name="disorder.example.com",
        segment_size=536,
        disorder=True,
    )
    return sample
