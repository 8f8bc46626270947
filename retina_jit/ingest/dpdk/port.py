"""A port: a card or a virtual device, its receive queues, its counters.

Source: the programmer's guide and API reference of DPDK 22.11; `rte_ethdev.h` for the values of flags.
"""

from __future__ import annotations

import ctypes
import re
import struct
import time
from collections.abc import Sequence
from ctypes import byref, c_uint8, c_uint16, c_uint64
from typing import Any

from retina_jit.errors import SourceError
from retina_jit.ingest.dpdk.abi import FRAME_LENGTH_INSTEAD_OF_MTU, MOST_PORTS, Abi
from retina_jit.ingest.dpdk.eal import Eal, log
from retina_jit.ingest.dpdk.mempool import CHECKSUM, ETHERNET, TAGS, Pool

PCI = re.compile(r"(?:[0-9a-fA-F]{4,}:)?[0-9a-fA-F]{2}:[0-1][0-9a-fA-F]\.[0-7]")
RSS = 1
"""RTE_ETH_MQ_RX_RSS."""
KEY = b"\x6d\x5a"
"""Repeated it makes the Toeplitz hash symmetric: both directions of a connection get the same (Woo and Park, 2012)."""
HASH_IP = 0xA38C
HASH_TCP, HASH_UDP = 0x10410, 0x20820
"""RTE_ETH_RSS_IP, _TCP, _UDP."""
OFFLOAD_TIMESTAMP, OFFLOAD_RSS_HASH = 1 << 14, 1 << 19
NOT_SUPPORTED = (-95, -38)
STANDARD_MTU = 1500
ROOM = 4096
"""More than any structure that DPDK fills [byte]."""
CALIBRATE = 0.05
STATISTICS = {"ipackets": 0, "ibytes": 16, "imissed": 32, "ierrors": 40, "rx_nombuf": 56}
"""Words of rte_eth_stats that stand alike in all versions."""


class Port:
    """A port of DPDK, attached if the environment does not know it yet.

    Parameters
    ----------
    eal : Eal
    device : str
        A PCI address, or a virtual device with its arguments: `net_pcap0,rx_pcap=x.pcap`.

    Raises
    ------
    SourceError
        No such device, no driver.
    """

    def __init__(self, eal: Eal, device: str) -> None:
        self._eal, self._call = eal, eal.dpdk.call
        self.name, _, self.options = device.partition(",")
        self.is_virtual = PCI.fullmatch(self.name) is None
        self._bus = b"vdev" if self.is_virtual else b"pci"
        self._attached = False
        number = self._number()
        if number is None:
            code = self._call["rte_eal_hotplug_add"](self._bus, self.name.encode(), self.options.encode())
            number = self._number()
            if code < 0 or number is None:
                what = eal.dpdk.reason(code) if code < 0 else "it has no driver"
                raise SourceError(f"{self.name}: DPDK cannot use this device: {what}. Fix: {self._fix()}{eal.said()}")
            self._attached = True
        self.number = number
        self.queues = self.descriptors = 0
        self._started = False
        self._promiscuous = self._has_flows = False
        info = self._info()
        at = eal.dpdk.abi.info
        self.driver = ctypes.string_at(struct.unpack_from("Q", info, at["driver_name"])[0]).decode()
        self.least_mtu, self.most_mtu = struct.unpack_from("HH", info, at["min_mtu"])
        (self.most_queues,) = struct.unpack_from("H", info, at["max_rx_queues"])
        (self.offloads,) = struct.unpack_from("Q", info, at["rx_offloads"])
        (self.rss_types,) = struct.unpack_from("Q", info, at["rss_types"])
        (self.buckets,), (self.key_size,) = struct.unpack_from("H", info, at["reta_size"]), struct.unpack_from("B", info, at["key_size"])
        self.socket = max(0, self._call["rte_eth_dev_socket_id"](number))

    def _number(self) -> int | None:
        found = c_uint16()
        # The call says the same of a name that is unknown and one that is wrong.
        return found.value if self._call["rte_eth_dev_get_port_by_name"](self.name.encode(), byref(found)) == 0 and found.value < MOST_PORTS else None

    def _fix(self) -> str:
        if self.is_virtual:
            check = f"check its arguments ({self.options or 'it has none'})"
            # A device is named by its driver, and what tells it from others of the same: net_pcap0, net_null_b.
            there = {f.name.removeprefix("librte_").partition(".so")[0] for f in self._eal.dpdk.folder.glob("dpdk/pmds-*/librte_*.so*")}
            if any(self.name.startswith(d) for d in there):
                return check
            driver = re.sub(r"\d*$", "", self.name).replace("_", "-")
            return f"{check}, and install its driver: apt install librte-{driver}23 (the number differs between releases)"
        return f"dpdk-devbind.py --status, then: modprobe vfio-pci && dpdk-devbind.py -b vfio-pci {self.name}"

    def _info(self) -> bytes:
        info = (c_uint8 * ROOM)()
        self._check(self._call["rte_eth_dev_info_get"](self.number, info), "asking for what it can do")
        return bytes(info)

    def _check(self, code: int, what: str) -> int:
        if code < 0:
            raise SourceError(f"{self.name}: {what} failed: {self._eal.dpdk.reason(code)}{self._eal.said()}")
        return code

    # ---------------------------------------------------------------------------------------------- configuration

    def configure(self, pool: Pool, queues: int, descriptors: int, mtu: int) -> None:
        """Set up receive queues, packets shared out among them by connection.

        Raises
        ------
        SourceError
            More queues than the device has, or settings that it does not take.
        """
        if queues > self.most_queues:
            raise SourceError(f"{self.name}: has {self.most_queues} receive queues, {queues} workers want one each. Fix: fewer workers (-j, cores)")
        self.queues = queues
        # Rules of the drivers differ: some have no queues to send with, some want as many as there are to receive.
        for sending in (0, queues):
            conf, keep = self._configuration(queues, mtu)
            code = self._call["rte_eth_dev_configure"](self.number, queues, sending, conf)
            if code == 0:
                break
        del keep
        self._check(code, f"configuring {queues} receive queues")
        if self._eal.dpdk.node in FRAME_LENGTH_INSTEAD_OF_MTU and mtu > STANDARD_MTU:
            self._call["rte_eth_dev_set_mtu"](self.number, self._mtu(mtu))
        wanted, unused = c_uint16(descriptors), c_uint16(512)
        self._check(self._call["rte_eth_dev_adjust_nb_rx_tx_desc"](self.number, byref(wanted), byref(unused)), f"{descriptors} descriptors")
        self.descriptors = queues * wanted.value
        for queue in range(queues):
            code = self._call["rte_eth_rx_queue_setup"](self.number, queue, wanted.value, self.socket, None, pool.address)
            self._check(code, f"setting up receive queue {queue} with {wanted.value} descriptors")
        for queue in range(sending):
            self._check(self._call["rte_eth_tx_queue_setup"](self.number, queue, unused.value, self.socket, None), f"setting up send queue {queue}")

    def _mtu(self, mtu: int) -> int:
        return min(max(STANDARD_MTU, mtu, self.least_mtu), self.most_mtu or mtu)

    def _configuration(self, queues: int, mtu: int) -> tuple[Any, Any]:
        """Return a filled rte_eth_conf, and what it points to."""
        at = self._eal.dpdk.abi.conf
        conf = (c_uint8 * ROOM)()
        most = self._mtu(mtu)
        if self._eal.dpdk.node in FRAME_LENGTH_INSTEAD_OF_MTU:
            most += ETHERNET + CHECKSUM + TAGS
        struct.pack_into("I", conf, at["mtu"], most)
        struct.pack_into("Q", conf, at["offloads"], self.offloads & (OFFLOAD_TIMESTAMP | OFFLOAD_RSS_HASH))
        types = self.shared_types
        if queues == 1 or not types:
            if queues > 1 and self.is_shared_out:
                log.warning("%s: the device cannot share packets out by connection; its queues get what the device likes", self.name)
            return conf, None
        struct.pack_into("I", conf, at["mq_mode"], RSS)
        struct.pack_into("Q", conf, at["rss_types"], types)
        if not self.key_size:
            return conf, None
        key = (c_uint8 * self.key_size)(*(KEY * (self.key_size // 2 + 1))[: self.key_size])
        struct.pack_into("Q", conf, at["rss_key"], ctypes.addressof(key))
        struct.pack_into("B", conf, at["rss_key_len"], self.key_size)
        return conf, key

    @property
    def abi(self) -> Abi:
        """Where the fields of DPDK's structures stand."""
        return self._eal.dpdk.abi

    @property
    def shared_types(self) -> int:
        """Kinds of packets that the device can hash as we want it (RTE_ETH_RSS_...)."""
        return int(self.rss_types & (HASH_IP | HASH_TCP | HASH_UDP))

    @property
    def is_shared_out(self) -> bool:
        """Whether packets are shared out by a hash of the device; net_pcap has a file for each queue, of an interface the system does it."""
        return self.driver not in ("net_pcap", "net_af_packet")

    def share_out(self, queue_of_bucket: Sequence[int]) -> bool:
        """Say which queue gets each bucket of the hash. False if the device has no such table."""
        if not self.buckets:
            return False
        entries = (c_uint8 * (136 * -(-self.buckets // 64)))()
        for bucket in range(self.buckets):
            at = bucket // 64 * 136
            mask = struct.unpack_from("Q", entries, at)[0] | 1 << bucket % 64
            struct.pack_into("Q", entries, at, mask)
            struct.pack_into("H", entries, at + 8 + 2 * (bucket % 64), queue_of_bucket[bucket % len(queue_of_bucket)])
        code = self._call["rte_eth_dev_rss_reta_update"](self.number, entries, self.buckets)
        if code in NOT_SUPPORTED:
            return False
        self._check(code, "sharing out the buckets of its hash")
        return True

    def shares(self) -> list[int]:
        """Return which queue gets each bucket of the hash, as the device has it."""
        entries = (c_uint8 * (136 * -(-self.buckets // 64)))()
        for at in range(0, len(entries), 136):
            struct.pack_into("Q", entries, at, (1 << 64) - 1)
        if not self.buckets or self._call["rte_eth_dev_rss_reta_query"](self.number, entries, self.buckets):
            return []
        return [struct.unpack_from("H", entries, b // 64 * 136 + 8 + 2 * (b % 64))[0] for b in range(self.buckets)]

    # -------------------------------------------------------------------------------------------------- running

    def start(self, *, promiscuous: bool) -> None:
        """Begin to receive."""
        self._check(self._call["rte_eth_dev_start"](self.number), "starting")
        self._started = True
        self._call["rte_eth_stats_reset"](self.number)
        if promiscuous and self._call["rte_eth_promiscuous_get"](self.number) == 0:
            code = self._call["rte_eth_promiscuous_enable"](self.number)
            self._promiscuous = code == 0
            if code and code not in NOT_SUPPORTED:
                log.warning("%s: only frames to its own address: promiscuous mode failed: %s", self.name, self._eal.dpdk.reason(code))

    def receiver(self, queue: int) -> tuple[int, int]:
        """Return the address of the driver's receive function and its argument; they hold until the port is stopped."""
        fast = self._eal.dpdk.abi.fast

        def word(address: int) -> int:
            return c_uint64.from_address(address).value

        at = self._eal.dpdk.data(fast["symbol"]) + self.number * fast["stride"]
        record = at if fast["behind"] is None else word(at + fast["behind"])
        return word(at + fast["burst"]), word(word(record + fast["queues"]) + 8 * queue)

    def clock(self) -> dict[str, Any]:
        """Return how the device stamps frames, as words of a QUEUE."""
        if self.driver == "net_pcap":
            # Microseconds since 1970, of the file or of the interface.
            return {"stamped": 1, "whole_ns": 1000, "clock": int("rx_pcap=" not in self.options)}
        read = self._call.get("rte_eth_read_clock")
        before, after = c_uint64(), c_uint64()
        if not self.offloads & OFFLOAD_TIMESTAMP or read is None or read(self.number, byref(before)):
            return {"stamped": 0, "clock": 1}
        begun = time.time_ns()
        time.sleep(CALIBRATE)
        read(self.number, byref(after))
        now = time.time_ns()
        if after.value <= before.value:
            return {"stamped": 0, "clock": 1}
        return {
            "stamped": 1, "clock": 1, "tick_ns": (now - begun) / (after.value - before.value), "ticks": after.value, "since": now,
            "read_clock": self._eal.dpdk.address("rte_eth_read_clock"), "port": self.number, "set_at": now,
        }  # fmt: skip

    @property
    def statistics(self) -> dict[str, int]:
        """Frames and bytes received, and frames lost: missed by the card, damaged, without a buffer."""
        found = (c_uint8 * ROOM)()
        self._check(self._call["rte_eth_stats_get"](self.number, found), "reading its counters")
        return {name: struct.unpack_from("Q", found, at)[0] for name, at in STATISTICS.items()}

    @property
    def details(self) -> dict[str, int]:
        """The device's own counters (xstats)."""
        count = self._check(self._call["rte_eth_xstats_get"](self.number, None, 0), "reading its counters")
        values, names = (c_uint64 * (2 * count))(), ctypes.create_string_buffer(64 * count)
        self._call["rte_eth_xstats_get_names"](self.number, names, count)
        count = min(count, self._check(self._call["rte_eth_xstats_get"](self.number, values, count), "reading its counters"))
        raw = names.raw
        return {raw[64 * values[2 * n] : 64 * values[2 * n] + 64].partition(b"\0")[0].decode(): values[2 * n + 1] for n in range(count)}

    @property
    def link(self) -> tuple[bool, int]:
        """Whether the link is up, and its speed [Mbit/s]."""
        found = (c_uint8 * 64)()
        self._check(self._call["rte_eth_link_get_nowait"](self.number, found), "asking for its link")
        speed, bits = struct.unpack_from("IH", found)
        return bool(bits & 4), speed

    def flow(self, what: str, attributes: int, pattern: int, actions: int) -> str:
        """Validate or create a rule of the hardware filter. Returns why the device refuses it; empty if it does not."""
        error = (c_uint64 * 3)()
        code = self._call[what](self.number, attributes, pattern, actions, error)
        if code == 0 if what == "rte_flow_validate" else code:
            self._has_flows |= what == "rte_flow_create"
            return ""
        said = ctypes.string_at(error[2]).decode(errors="replace") if error[2] else ""
        # Without a code of its own, the thread's error number stands.
        reason = self._eal.dpdk.reason(code if what == "rte_flow_validate" else None)
        return f"{reason}{f', {said}' if said else ''}"

    def flush(self) -> None:
        """Take back all rules of the hardware filter."""
        if self._has_flows:
            self._has_flows = False
            self._call["rte_flow_flush"](self.number, (c_uint64 * 3)())

    def stop(self) -> None:
        """Stop receiving, as it was before. No worker may ask its queues any more."""
        if self._promiscuous:
            self._call["rte_eth_promiscuous_disable"](self.number)
            self._promiscuous = False
        self.flush()
        if self._started:
            self._started = False
            code = self._call["rte_eth_dev_stop"](self.number)
            if code:
                log.warning("%s: stopping failed: %s", self.name, self._eal.dpdk.reason(code))

    def close(self) -> None:
        """Stop, and detach the device if it was attached here."""
        self.stop()
        if self._attached:
            self._attached = False
            code = self._call["rte_eal_hotplug_remove"](self._bus, self.name.encode())
            if code:
                log.warning("%s: detaching failed: %s", self.name, self._eal.dpdk.reason(code))

    def __repr__(self) -> str:
        return f"<Port {self.number} {self.name} ({self.driver})>"
