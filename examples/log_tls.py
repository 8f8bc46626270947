"""Server names that match a regular expression, as JSON lines.

    retina-jit run examples/log_tls.py -r retina_jit/samples/tls.pcap
"""

import json

from retina_jit import FiveTuple, TlsHandshake, subscribe


@subscribe(r"tls.sni ~ '^.*\.(com|net)$'")
def log(tls: TlsHandshake, who: FiveTuple) -> None:
    print(json.dumps({"server": who.resp_addr, "sni": tls.sni, "version": tls.version, "ja4": tls.ja4}))
