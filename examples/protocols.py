"""Protocols where nobody would look for them: on ports that are not their own.

    retina-jit run examples/protocols.py -r retina_jit/samples/mixed.pcap
"""

from retina_jit import (
    DnsTransaction,
    FiveTuple,
    HttpTransaction,
    QuicStream,
    SshHandshake,
    TlsHandshake,
    subscribe,
)


@subscribe("tls and not tcp.port in {443, 465, 636, 853, 993, 995}")
def tls(tls: TlsHandshake, who: FiveTuple) -> None:
    print(f"tls {who.resp_port} {tls.sni or '-'}")


@subscribe("http and not tcp.port in {80, 3128}")
def http(http: HttpTransaction, who: FiveTuple) -> None:
    print(f"http {who.resp_port} {http.host or '-'}{http.uri or ''}")


@subscribe("dns and not (udp.port = 53 or tcp.port = 53)")
def dns(dns: DnsTransaction, who: FiveTuple) -> None:
    print(f"dns {who.resp_port} {dns.query_domain}")


@subscribe("quic and udp.port != 443")
def quic(quic: QuicStream, who: FiveTuple) -> None:
    print(f"quic {who.resp_port} {quic.sni or '-'}")


@subscribe("ssh and tcp.port != 22")
def ssh(ssh: SshHandshake, who: FiveTuple) -> None:
    print(f"ssh {who.resp_port} {ssh.software_version_stoc}")
