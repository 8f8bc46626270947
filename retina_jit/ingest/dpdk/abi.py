"""Where the fields of DPDK's structures stand, by ABI version: numbers only, 64-bit little-endian machines, default build.

A row is chosen by the version node of the library that was found, and believed only after `selfcheck` has measured it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

MOST_PORTS = 32
MOST_QUEUES = 1024


@dataclass(frozen=True)
class Abi:
    """One ABI version.

    Attributes
    ----------
    release : str
        The long-term release that it belongs to.
    fast : mapping
        The table of receive functions: `symbol`, its `stride` per port, `burst` (the function), `queues` (the array of
        queues). With `behind`, that pointer leads to a record first, in which `queues` stands.
    conf, info : mapping
        Offsets in rte_eth_conf and rte_eth_dev_info, with their `size`.
    stats_size : int
    items, actions : mapping
        Numbers of rte_flow's pattern items and actions.
    flow_names : tuple of int
        Operations of rte_flow_conv that name an item, an action.
    """

    release: str
    fast: MappingProxyType[str, Any]
    conf: MappingProxyType[str, int]
    info: MappingProxyType[str, int]
    items: MappingProxyType[str, int]
    stats_size: int = 704
    flow_names: tuple[int, int] = (9, 10)
    actions: MappingProxyType[str, int] = field(
        default_factory=lambda: MappingProxyType({"END": 0, "VOID": 1, "MARK": 4, "QUEUE": 6, "DROP": 7, "COUNT": 8, "RSS": 9})
    )


def _map(*parts: dict[str, Any], **more: Any) -> MappingProxyType[str, Any]:
    made: dict[str, Any] = {}
    for part in parts:
        made |= part
    return MappingProxyType(made | more)


_CONF = {"mq_mode": 8, "mtu": 12, "offloads": 24, "loopback": 120, "rss_key": 128, "rss_key_len": 136, "rss_types": 144}
_INFO = {
    "driver_name": 8, "if_index": 16, "min_mtu": 20, "max_mtu": 22, "rx_offloads": 72, "reta_size": 104, "key_size": 106, "rss_types": 112,
}  # fmt: skip
_EARLY = {"max_rx_pktlen": 36, "max_rx_queues": 44, "max_tx_queues": 46}
_LATE = {"max_rx_pktlen": 40, "max_rx_queues": 48, "max_tx_queues": 50}

_EARLY_ITEMS = {"END": 0, "VOID": 1, "ETH": 9, "VLAN": 10, "IPV4": 11, "IPV6": 12, "ICMP": 13, "UDP": 14, "TCP": 15, "SCTP": 16}
_ITEMS = {"END": 0, "VOID": 1, "ETH": 6, "VLAN": 7, "IPV4": 8, "IPV6": 9, "ICMP": 10, "UDP": 11, "TCP": 12, "SCTP": 13}

_OPS = {"symbol": "rte_eth_fp_ops", "stride": 128, "burst": 0, "queues": 24, "send": 64, "send_queues": 88, "behind": None}
_LATE_OPS = _OPS | {"burst": 16, "queues": 0, "send": 80, "send_queues": 64}
_DEVICES = {"symbol": "rte_eth_devices", "stride": 16576, "burst": 0, "behind": 56, "queues": 64, "send": 8, "send_queues": 72}

_LATE_CONF = _map(_CONF, size=2280, dcb=2268)
_LATE_INFO = _map(_INFO, _LATE, size=376)

KNOWN: dict[str, Abi] = {
    # mtu of 20.11: the longest frame, with header and checksum
    "DPDK_21": Abi("20.11", _map(_DEVICES), _map(_CONF, size=3080, dcb=2260), _map(_INFO, _EARLY, size=344), _map(_EARLY_ITEMS)),
    "DPDK_22": Abi("21.11", _map(_OPS), _map(_CONF, size=3080, dcb=2260), _map(_INFO, _EARLY, size=344), _map(_EARLY_ITEMS)),
    "DPDK_23": Abi("22.11", _map(_OPS), _map(_CONF, size=2272, dcb=2260), _map(_INFO, _EARLY, size=376), _map(_ITEMS)),
    "DPDK_24": Abi("23.11", _map(_LATE_OPS), _LATE_CONF, _LATE_INFO, _map(_ITEMS)),
    "DPDK_25": Abi("24.11", _map(_LATE_OPS), _LATE_CONF, _LATE_INFO, _map(_ITEMS), flow_names=(10, 11)),
    "DPDK_26": Abi("25.11", _map(_LATE_OPS), _LATE_CONF, _LATE_INFO, _map(_ITEMS), stats_size=64, flow_names=(10, 11)),
}
"""Version node of librte_ethdev -> row."""

FRAME_LENGTH_INSTEAD_OF_MTU = frozenset({"DPDK_21"})
"""Where `conf.mtu` is the longest frame."""

# rte_mempool, the same in all of them
POOL_SIZE, POOL_ELEMENT, POOL_POPULATED = 64, 72, 104
HEADROOM = 128
