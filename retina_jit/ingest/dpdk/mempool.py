"""Pools of packet buffers."""

from __future__ import annotations

import ctypes
import itertools
from ctypes import c_uint16

from retina_jit.errors import ConfigError, SourceError
from retina_jit.ingest.dpdk.abi import HEADROOM
from retina_jit.ingest.dpdk.eal import Eal
from retina_jit.ingest.dpdk.layout import MBUF
from retina_jit.state.layout import BURST

ETHERNET, CHECKSUM, TAGS = 14, 4, 8
SMALLEST_ROOM = 2048
OBJECT = 64
"""Head and alignment of an object in a pool [byte], about."""
NO_IOVA_CONTIG = 0x20
OPERATIONS = b"ring_mp_mc"

_numbers = itertools.count()


def room(mtu: int) -> int:
    """Return how many bytes of a frame a buffer has to hold for this MTU, without the headroom."""
    return max(SMALLEST_ROOM, -(-(mtu + ETHERNET + CHECKSUM + TAGS) // 1024) * 1024)


def size(capacity: int, mtu: int) -> int:
    """Return about how much memory a pool needs [byte]."""
    return capacity * (MBUF.itemsize + HEADROOM + room(mtu) + OBJECT)


def check(capacity: int, cache: int, descriptors: int, workers: int) -> None:
    """Refuse a pool that cards' receive queues would empty: each descriptor holds a buffer before a frame has come.

    Parameters
    ----------
    capacity, cache : int
        As of `Pool`.
    descriptors : int
        Of all receive queues that are filled from it.
    workers : int
        How many receive from them: two bursts each, and what a thread keeps for itself.

    Raises
    ------
    ConfigError
    """
    kept = workers * (2 * BURST + cache * 3 // 2)
    if capacity < descriptors + kept:
        enough = 1 << (descriptors + kept).bit_length()
        raise ConfigError(
            f"[mempool] capacity = {capacity}: too small, for the receive queues hold {descriptors} packet buffers and {workers} workers {kept}. "
            f"Fix: capacity = {enough}, a smaller nb_rxd or cache_size, or fewer cores"
        )


class Pool:
    """A pool of packet buffers on one NUMA socket.

    Parameters
    ----------
    eal : Eal
    capacity, cache : int
        Buffers, and how many of them a thread keeps for itself.
    mtu : int [byte]
    socket : int
    packed : bool
        Whether buffers may lie without gaps, which is up to five times faster where pages are small, and wrong for a card
        that writes to physical addresses.

    Raises
    ------
    SourceError
        No memory, or no driver for pools.
    """

    def __init__(self, eal: Eal, capacity: int, cache: int, mtu: int, socket: int, *, packed: bool) -> None:
        self._call = call = eal.dpdk.call
        self.capacity = capacity
        data = room(mtu) + HEADROOM
        cache = min(cache, 512, capacity * 2 // 3)
        name = f"retina_jit_{next(_numbers)}".encode()
        flags = NO_IOVA_CONTIG if packed else 0
        # struct rte_pktmbuf_pool_private, which the pool carries: data room, private room, flags
        self.address = call["rte_mempool_create_empty"](name, capacity, MBUF.itemsize + data, cache, 8, socket, flags)
        if not self.address:
            raise SourceError(f"no pool of {capacity} packet buffers: {eal.dpdk.reason()}. Fix: a smaller capacity in [mempool], more huge pages{eal.said()}")
        try:
            code = call["rte_mempool_set_ops_byname"](self.address, OPERATIONS, None)
            if code:
                raise SourceError(f"DPDK has no driver for pools: {eal.dpdk.reason(code)}. Fix: apt install librte-mempool-ring23 (the number differs between releases)")
            call["rte_pktmbuf_pool_init"](self.address, (c_uint16 * 4)(data, 0, 0, 0))
            code = call["rte_mempool_populate_default"](self.address)
            if code < 0:
                raise SourceError(
                    f"no memory for {capacity} packet buffers of {data} bytes: {eal.dpdk.reason(code)}. Fix: a smaller capacity in [mempool], or more memory: "
                    f"huge pages, or -m {size(capacity, mtu) * 2 >> 20} in dpdk_supl_args{eal.said()}"
                )
        except BaseException:
            self.close()
            raise
        call["rte_mempool_obj_iter"](self.address, ctypes.cast(call["rte_pktmbuf_init"], ctypes.c_void_p), None)

    @property
    def in_use(self) -> int:
        """Buffers that are not in the pool: with the card, or with a worker."""
        return int(self._call["rte_mempool_in_use_count"](self.address))

    def close(self) -> None:
        """Give the memory back; every buffer must be in it."""
        if self.address:
            self._call["rte_mempool_free"](self.address)
            self.address = 0
