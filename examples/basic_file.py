"""Subscriptions from a file: many filters, one callback.

    retina-jit run examples/basic_file.py --subscriptions examples/basic_file.toml -r retina_jit/samples/tls.pcap
"""

from retina_jit import FilterStr, TlsHandshake


def tls_cb(tls: TlsHandshake, which: FilterStr) -> None:
    print(f"{which} {tls.sni}")
