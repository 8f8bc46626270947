"""Count packets in a callback that is compiled into the worker: no Python runs per packet.

    retina-jit run examples/count_packets.py -r retina_jit/samples/mixed.pcap
"""

import numpy as np

from retina_jit import ZcFrame, subscribe

TOTALS = np.dtype([("packets", "i8"), ("bytes", "i8")])


def total(workers):
    return {name: sum(int(w[name]) for w in workers) for name in TOTALS.names}


@subscribe("tcp.port = 443", deliver="jit", state=TOTALS, merge=total)
def count(frame: ZcFrame, totals) -> None:
    totals.packets += 1
    totals.bytes += frame.length
