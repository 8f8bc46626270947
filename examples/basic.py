"""TLS handshakes and connection records: print both.

    retina-jit run examples/basic.py -r retina_jit/samples/tls.pcap
"""

from retina_jit import ConnRecord, TlsHandshake, subscribe


@subscribe("tls")
def handshake(tls: TlsHandshake, conn: ConnRecord) -> None:
    print(f"{tls.sni or '-'} {tls.cipher or '-'}  {conn}  {conn.total_pkts} packets, {conn.duration:.3f} s")
