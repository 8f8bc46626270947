"""The records of the receive loop, and DPDK's packet buffer as far as it is read."""

from __future__ import annotations

import numpy as np

MBUF = np.dtype(
    {
        "names": ["data", "data_off", "refcnt", "nb_segs", "port", "ol_flags", "packet_type", "pkt_len", "data_len", "vlan_tci", "rss", "vlan_tci_outer", "buf_len", "pool"],
        "formats": ["i8", "u2", "u2", "u2", "u2", "i8", "u4", "u4", "u2", "u2", "u4", "u2", "u2", "i8"],
        "offsets": [0, 16, 18, 20, 22, 24, 32, 36, 40, 42, 44, 52, 54, 56],
        "itemsize": 128,
    }
)
"""struct rte_mbuf; these fields stand alike in every version of `abi.KNOWN`, `next` may not."""

RX_VLAN, RX_RSS_HASH, RX_VLAN_STRIPPED, RX_QINQ_STRIPPED = 1 << 0, 1 << 1, 1 << 6, 1 << 15
"""RTE_MBUF_F_RX_..."""

QUEUE = np.dtype(
    [
        ("burst", "i8"),  # address of the driver's receive function
        ("queue", "i8"),  # its argument
        ("stamped", "i8"),  # 1: frames carry times of the device
        ("tick_ns", "f8"),  # length of a tick of its clock
        ("whole_ns", "i8"),  # the same if it is a whole number, for times since 1970 do not fit a float; else 0
        ("read_clock", "i8"),  # address of rte_eth_read_clock; 0: the clock is not set again
        ("port", "i8"),  # its argument
        ("tick", "i8"),  # where it writes to
        ("set_at", "i8"),  # when to compare the clocks again [ns]
        ("ticks", "i8"),  # the device's clock once, ...
        ("since", "i8"),  # ... and the time then [ns]
        ("clock", "i8"),  # 1: times are of now; 0: of a capture that is replayed
        ("frames", "i8"),
        ("polls", "i8"),
        ("empty", "i8"),  # polls that gave nothing
    ]
)

RECEIVE = np.dtype(
    [
        ("queues", "i8"),  # address of the QUEUEs, which are asked in turn
        ("count", "i8"),
        ("turn", "i8"),  # number of the queue to ask next
        ("queue", "i8"),  # address of the QUEUE that the burst at hand is from
        ("mbufs", "i8"),  # address of room for BURST addresses: those of the burst at hand
        ("coming", "i8"),  # the same for the next burst, which is asked for before the one at hand is given back
        ("held", "i8"),  # how many of them are ours
        ("at", "i8"),  # which of them is next
        ("free", "i8"),  # address of rte_pktmbuf_free_bulk
        ("next", "i8"),  # where in an MBUF the address of its next segment stands
        ("stamp", "i8"),  # where in an MBUF the time stands
        ("stamp_flag", "i8"),  # in ol_flags: it does
        ("now", "i8"),  # when the burst at hand was received [ns]
        ("since_idle", "i8"),  # when polls began to give nothing [ns]; 0: the last one gave something
        ("scratch", "i8"),  # room for frames of several segments, put together
        ("joined", "i8"),  # how many frames were
        ("cut", "i8"),  # frames longer than MOST_BYTES
        ("seconds", "i8"),  # a struct timespec
        ("nanoseconds", "i8"),
    ]
)

MOST_BYTES = 1 << 16
"""Longest frame that is put together; a longer one is cut there."""
