"""Names of what is visited: DNS questions, HTTP hosts, TLS and QUIC server names, counted.

    retina-jit run examples/websites.py -r retina_jit/samples/mixed.pcap
"""

from collections import Counter

from retina_jit import DnsTransaction, HttpTransaction, QuicStream, TlsHandshake, subscribe
from retina_jit.app import at_end

seen: Counter[tuple[str, str]] = Counter()


@subscribe("dns")
def dns(dns: DnsTransaction) -> None:
    seen["dns", dns.query_domain or "-"] += 1


@subscribe("http")
def http(http: HttpTransaction) -> None:
    seen["http", http.host or "-"] += 1


@subscribe("tls")
def tls(tls: TlsHandshake) -> None:
    seen["tls", tls.sni or "-"] += 1


@subscribe("quic")
def quic(quic: QuicStream) -> None:
    seen["quic", quic.sni or "-"] += 1


@at_end
def report(_result: object) -> None:
    for (protocol, name), count in seen.most_common():
        print(f"{protocol} {name} {count}")
