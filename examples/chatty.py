"""Filter predicates of one's own: of packets, of sessions, and of a connection as it goes on.

    retina-jit run examples/chatty.py -r retina_jit/samples/mixed.pcap
"""

import numpy as np

from retina_jit import ACCEPT, CONTINUE, DROP, FiveTuple, HttpTransaction, TlsHandshake, predicate, subscribe


@predicate
def from_ephemeral(packet, least=32768):
    return packet.src_port >= least and packet.dst_port < least


@predicate("tls")
def below(sni, domain):
    return sni.endswith(domain)


@predicate
class turns:  # noqa: N801 - the word of the filters
    """The two sides take turns often, within so many seconds."""

    state = np.dtype([("begun", "i8"), ("side", "i8"), ("turns", "i8")])

    def new(state, packet, least, seconds):  # noqa: N805
        state.begun = packet.ts

    def update(state, packet, least, seconds=60.0):  # noqa: N805
        if packet.ts - state.begun > seconds * 1e9:
            return DROP
        if packet.payload_len and packet.direction != state.side:
            state.side = packet.direction
            state.turns += 1
        return ACCEPT if state.turns >= least else CONTINUE


@subscribe("below('.example.com')")
def named(tls: TlsHandshake) -> None:
    print(f"named {tls.sni}")


@subscribe("tcp and turns(3) and not tls")
def talks(who: FiveTuple) -> None:
    print(f"talks {who}")


@subscribe("http and from_ephemeral and turns(1, 0.5)")
def answered(http: HttpTransaction) -> None:
    print(f"asked {http.host}{http.uri}")
