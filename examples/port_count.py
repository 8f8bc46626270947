"""Packets, counted inside the worker, and connections per protocol and port.

    retina-jit run examples/port_count.py -r retina_jit/samples/mixed.pcap
"""

import json
from collections import Counter

import numpy as np

from retina_jit import FiveTuple, ZcFrame, subscribe
from retina_jit.app import at_end

TOTALS = np.dtype([("packets", "i8"), ("bytes", "i8")])
connections: dict[str, Counter[int]] = {}


def total(workers):
    return {name: sum(int(w[name]) for w in workers) for name in TOTALS.names}


@subscribe("tcp or udp", deliver="jit", state=TOTALS, merge=total)
def packets(frame: ZcFrame, totals) -> None:
    totals.packets += 1
    totals.bytes += frame.length


def count(protocol: str):
    """A callback that counts the connections of a protocol by the port of their responder."""
    ports = connections.setdefault(protocol, Counter())

    def callback(who: FiveTuple) -> None:
        ports[who.resp_port] += 1

    callback.__name__ = protocol
    return callback


for filter_text in ("tcp", "udp", "dns and udp", "dns and tcp", "http", "tls", "ssh"):
    subscribe(filter_text)(count(filter_text))


@at_end
def report(_result: object) -> None:
    print(json.dumps({name: dict(sorted(ports.items())) for name, ports in connections.items()}))
