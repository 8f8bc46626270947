"""Proof that a row of `abi.KNOWN` is right for the library that was loaded, before anything is received with it.

Everything is measured where it can do no harm: what DPDK writes goes into room with a margin, functions are called by
address only after the address was found in a driver's code, and frames come from a null device of known size.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from ctypes import c_uint8, c_uint64, c_void_p
from pathlib import Path

from retina_jit.errors import SourceError
from retina_jit.ingest.dpdk.abi import HEADROOM, POOL_ELEMENT, POOL_POPULATED, POOL_SIZE
from retina_jit.ingest.dpdk.eal import Eal, log
from retina_jit.ingest.dpdk.layout import MBUF
from retina_jit.ingest.dpdk.mempool import Pool, room
from retina_jit.ingest.dpdk.port import RSS, Port

DEVICE = "net_null_retina_jit"
FRAME = 77
"""Length of its frames [byte], which nothing else is likely to be."""
CAPACITY, BURST = 255, 32
MARGIN = 16384
LOOPBACK, DCB = 0x11223344, 0x55667788
NEXT, NEXT_EARLY = 64, 8
NAMED = 8

_proven: dict[int, int] = {}


def prove(eal: Eal) -> int:
    """Check the row of the library, once. Returns where in a packet buffer the address of the next segment stands.

    Raises
    ------
    SourceError
        What differs from what the row says.
    """
    key = id(eal)
    if key not in _proven:
        found = Check(eal)
        found.run()
        if found.wrong:
            raise SourceError(
                f"{eal.dpdk.folder}: {eal.dpdk.version} does not look as its ABI {eal.dpdk.node} ({eal.dpdk.abi.release}) should, it is another "
                f"build than the known ones: {'; '.join(found.wrong)}. Fix: install one of the known releases as the distribution ships it"
            )
        log.debug("%s: %d facts of ABI %s checked", eal.dpdk.version, found.done, eal.dpdk.node)
        _proven[key] = found.next
    return _proven[key]


class Check:
    """One run of the checks.

    Attributes
    ----------
    wrong : list of str
        What differs.
    done : int
        How many facts were checked.
    next : int
        Where in a packet buffer the address of the next segment stands.
    """

    def __init__(self, eal: Eal) -> None:
        self.eal, self.abi, self.call = eal, eal.dpdk.abi, eal.dpdk.call
        self.wrong: list[str] = []
        self.done = 0
        self.next = NEXT

    def expect(self, what: str, found: object, wanted: object) -> bool:
        """Note a fact. Returns whether it holds."""
        self.done += 1
        if found != wanted:
            self.wrong.append(f"{what} is {found}, not {wanted}")
        return found == wanted

    def run(self) -> None:
        """All checks, each group only if the ones before hold."""
        pool = Pool(self.eal, CAPACITY, 32, 0, 0, packed=False)
        try:
            self._buffers(pool)
            if self.wrong:
                return
            if self.call["rte_eal_hotplug_add"](b"vdev", DEVICE.encode(), f"size={FRAME}".encode()):
                log.warning("DPDK has no null device to check its layout with. Fix: apt install librte-net-null23 (the number differs between releases)")
                return
            try:
                self._device(pool)
            finally:
                self.call["rte_eal_hotplug_remove"](b"vdev", DEVICE.encode())
            self.expect("buffers in use after all", pool.in_use, 0)
        finally:
            pool.close()

    def _buffers(self, pool: Pool) -> None:
        found: list[int] = []
        prototype = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, ctypes.c_uint)
        note = prototype(lambda pool, argument, buffer, index: found.append(buffer))
        self.call["rte_mempool_obj_iter"](pool.address, ctypes.cast(note, c_void_p), None)
        if not self.expect("number of buffers in a pool", len(found), CAPACITY):
            return
        words = ctypes.string_at(pool.address, 192)
        data = room(0) + HEADROOM
        self.expect("mempool.size", struct.unpack_from("I", words, POOL_SIZE)[0], CAPACITY)
        self.expect("mempool.elt_size", struct.unpack_from("I", words, POOL_ELEMENT)[0], MBUF.itemsize + data)
        self.expect("mempool.populated_size", struct.unpack_from("I", words, POOL_POPULATED)[0], CAPACITY)
        for buffer in (found[0], found[CAPACITY // 2]):
            raw = ctypes.string_at(buffer, MBUF.itemsize)
            wanted = {"data": buffer + MBUF.itemsize, "data_off": HEADROOM, "refcnt": 1, "nb_segs": 1, "port": 0xFFFF, "buf_len": data, "pool": pool.address}
            for name, value in wanted.items():
                self.expect(f"mbuf.{name}", _field(raw, name), value)
            # Builds that keep no bus address in the buffer have the chain in its place.
            self.next = NEXT if struct.unpack_from("Q", raw, 8)[0] else NEXT_EARLY
            self.expect("mbuf.next", struct.unpack_from("Q", raw, self.next)[0], 0)

    def _device(self, pool: Pool) -> None:
        port = ctypes.c_uint16()
        self.expect("finding a device", self.call["rte_eth_dev_get_port_by_name"](DEVICE.encode(), ctypes.byref(port)), 0)
        self._sizes(port.value)
        if not self.wrong:
            self._information(port.value)
        if not self.wrong:
            self._configuration(port.value)
        if not self.wrong:
            self._names()
        if not self.wrong:
            self._receive(pool)

    def _sizes(self, port: int) -> None:
        """What DPDK fills it fills whole: the last byte that it changes tells the size."""
        self.expect("size of dev_info", _filled(lambda room: self.call["rte_eth_dev_info_get"](port, room)), self.abi.info["size"])
        self.expect("size of eth_stats", _filled(lambda room: self.call["rte_eth_stats_get"](port, room)), self.abi.stats_size)
        if "rte_eth_dev_conf_get" in self.call:
            self.expect("size of eth_conf", _filled(lambda room: self.call["rte_eth_dev_conf_get"](port, room)), self.abi.conf["size"])

    def _information(self, port: int) -> None:
        info = (c_uint8 * MARGIN)()
        self.call["rte_eth_dev_info_get"](port, info)
        at = self.abi.info
        name = struct.unpack_from("Q", info, at["driver_name"])[0]
        # An address that is none would end the process.
        if self.expect("dev_info.driver_name points to memory", bool(_mapping(name)), True):
            self.expect("dev_info.driver_name", ctypes.string_at(name, 8), b"net_null")
        self.expect("dev_info.max_rx_queues", struct.unpack_from("H", info, at["max_rx_queues"])[0], 1024)
        self.expect("dev_info.max_tx_queues", struct.unpack_from("H", info, at["max_tx_queues"])[0], 1024)
        self.expect("dev_info.reta_size", struct.unpack_from("H", info, at["reta_size"])[0], 128)

    def _configuration(self, port: int) -> None:
        """What is set comes back where it was put."""
        info, conf = (c_uint8 * MARGIN)(), (c_uint8 * MARGIN)()
        self.call["rte_eth_dev_info_get"](port, info)
        at = self.abi.conf
        types = struct.unpack_from("Q", info, self.abi.info["rss_types"])[0]
        set_words = {"mq_mode": ("I", RSS), "loopback": ("I", LOOPBACK), "dcb": ("I", DCB), "rss_types": ("Q", types)}
        for name, (form, value) in set_words.items():
            struct.pack_into(form, conf, at[name], value)
        if not self.expect("configuring a device", self.call["rte_eth_dev_configure"](port, 2, 1, conf), 0) or "rte_eth_dev_conf_get" not in self.call:
            return
        back = (c_uint8 * MARGIN)()
        self.call["rte_eth_dev_conf_get"](port, back)
        for name, (form, value) in set_words.items():
            self.expect(f"eth_conf.{name}", struct.unpack_from(form, back, at[name])[0], value)

    def _names(self) -> None:
        """The library's own names of the numbers that rules for cards are made of."""
        for operation, table in zip(self.abi.flow_names, (self.abi.items, self.abi.actions), strict=True):
            for name, number in table.items():
                text, error = ctypes.c_char_p(), (c_uint64 * 3)()
                code = self.call["rte_flow_conv"](operation, ctypes.addressof(text), NAMED, number, error)
                self.expect(f"rte_flow {name}", text.value if code > 0 else code, name.encode())

    def _receive(self, pool: Pool) -> None:
        device = Port(self.eal, DEVICE)
        device.configure(pool, 1, 64, 0)
        try:
            device.start(promiscuous=False)
            function, queue = device.receiver(0)
            where = _mapping(function)
            if not self.expect("where frames are received", "x" in where and "net_null" in where, True):
                return
            found = (c_void_p * BURST)()
            count = ctypes.CFUNCTYPE(ctypes.c_uint16, c_void_p, c_void_p, ctypes.c_uint16)(function)(queue, found, BURST)
            if self.expect("frames in a burst", count, BURST):
                raw = ctypes.string_at(found[0] or 0, MBUF.itemsize)
                for name, wanted in {"pkt_len": FRAME, "data_len": FRAME, "port": device.number, "nb_segs": 1}.items():
                    self.expect(f"mbuf.{name}", _field(raw, name), wanted)
                self.call["rte_pktmbuf_free_bulk"](found, count)
        finally:
            device.close()


def _field(raw: bytes, name: str) -> int:
    kind, at = MBUF.fields[name][:2]  # type: ignore[index]
    return int.from_bytes(raw[at : at + kind.itemsize], "little")


def _filled(fill: Callable[[object], object]) -> int:
    """Return how many bytes a function writes."""
    most = 0
    for pattern in (0xA5, 0x5A):
        space = (c_uint8 * MARGIN)(*([pattern] * MARGIN))
        fill(space)
        most = max(most, len(bytes(space).rstrip(bytes([pattern]))))
    return most


def _mapping(address: int) -> str:
    """Return the line of the memory map that holds an address: rights and file; empty if none does."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, *_, file = line.split()
        first, _, behind = span.partition("-")
        if int(first, 16) <= address < int(behind, 16):
            return f"{rights} {file}"
    return ""
