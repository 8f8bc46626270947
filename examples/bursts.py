"""A data type of one's own, looked at while connections live: the most bytes within a tenth of a second.

    retina-jit run examples/bursts.py -r retina_jit/samples/mixed.pcap
"""

import numpy as np

from retina_jit import FiveTuple, data_type, subscribe

WINDOW = 100_000_000  # ns


@data_type
class Burst:
    """Bytes of the fullest tenth of a second since the last call."""

    state = np.dtype([("begun", "i8"), ("bytes", "i8"), ("most", "i8")])

    def update(state, packet):  # noqa: N805
        if packet.ts - state.begun >= WINDOW:
            state.begun, state.bytes = packet.ts, 0
        state.bytes += packet.length
        state.most = max(state.most, state.bytes)

    def clear(state):  # noqa: N805
        state.begun, state.bytes, state.most = 0, 0, 0


@subscribe("tcp or udp", every_seconds=1, at_end=True)
def show(who: FiveTuple, burst: Burst) -> None:
    if burst.most:
        print(f"{who} {burst.most}")
