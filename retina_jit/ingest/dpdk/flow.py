"""The hardware filter: rules that a card lets through, and one behind them that drops the rest.

A card may drop only what no subscription can want. So whatever it cannot look into passes as well: tags, fragments, headers
between IPv6 and the transport. All rules are validated before the first is made; if the device refuses one, it filters nothing.

Source: the Generic flow API of DPDK's programmer's guide; RFC 791 §3.1 and RFC 8200 §3 for where the fields stand.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Sequence
from ctypes import c_uint8
from dataclasses import dataclass, field
from typing import Any

from retina_jit.ingest.dpdk.eal import log
from retina_jit.ingest.dpdk.port import KEY, Port

Condition = tuple[str, str, int, int]
"""Protocol, field (empty: it is there), value, number of leading bits that count."""

ITEM, ACTION, ERROR = 32, 16, 24
SPEC = 64
"""More than any header that is matched [byte]."""
INGRESS = 1
FIRST, LAST = 0, 1
"""Priorities: 0 goes first."""

NETWORKS = ("ipv4", "ipv6")
PLACES = {
    ("ipv4", "src_addr"): (12, 4), ("ipv4", "dst_addr"): (16, 4), ("ipv6", "src_addr"): (8, 16), ("ipv6", "dst_addr"): (24, 16),
    ("tcp", "src_port"): (0, 2), ("tcp", "dst_port"): (2, 2), ("udp", "src_port"): (0, 2), ("udp", "dst_port"): (2, 2),
}  # fmt: skip
"""Field: where it stands in its header, and its length [byte]."""
ETHER_TYPE, FRAGMENT, NEXT_HEADER = (12, 2), (6, 2), (6, 1)
TAGS = (0x8100, 0x88A8, 0x9100, 0x8847, 0x8848, 0x8864)
"""802.1Q, 802.1ad, the older QinQ, MPLS, PPPoE."""
MORE_FRAGMENTS = 1 << 13
EXTENSIONS = (0, 43, 44, 51, 60, 135, 139, 140)
"""Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, Shim6."""


@dataclass
class Header:
    """One item of a pattern: the protocol, and bytes with those that count; without them it only has to be there."""

    name: str
    spec: bytearray = field(default_factory=lambda: bytearray(SPEC))
    mask: bytearray = field(default_factory=lambda: bytearray(SPEC))

    def set(self, place: tuple[int, int], value: int, prefix: int | None = None) -> Header:
        """Ask for a value; `prefix`: of its leading bits only."""
        at, size = place
        bits = 8 * size
        mask = (1 << bits) - 1 if prefix is None else ((1 << prefix) - 1) << (bits - prefix)
        self.spec[at : at + size] = (value & mask).to_bytes(size, "big")
        self.mask[at : at + size] = mask.to_bytes(size, "big")
        return self


Pattern = list[Header]


def patterns(rules: Iterable[Iterable[Condition]]) -> list[Pattern]:
    """Return what a card has to let through for rules: a disjunction, of conditions that all hold; and what it cannot judge."""
    made: list[Pattern] = []
    for rule in rules:
        conditions = sorted(rule)
        named = {c[0] for c in conditions}
        for network in [n for n in NETWORKS if n in named] or NETWORKS:
            headers = {name: Header(name) for name in (network, *sorted(named - set(NETWORKS)))}
            for protocol, name, value, prefix in conditions:
                if name:
                    headers[protocol].set(PLACES[protocol, name], value, prefix)
            made.append([Header("eth"), *headers.values()])
    return made + unjudged()


def unjudged() -> list[Pattern]:
    """Return what passes whatever the rules say."""
    made = [[Header("eth").set(ETHER_TYPE, kind)] for kind in TAGS]
    for bit in range(MORE_FRAGMENTS.bit_length()):
        fragment = Header("ipv4")
        at, size = FRAGMENT
        fragment.spec[at : at + size] = fragment.mask[at : at + size] = (1 << bit).to_bytes(size, "big")
        made.append([Header("eth"), fragment])
    made += [[Header("eth"), Header("ipv6").set(NEXT_HEADER, kind)] for kind in EXTENSIONS]
    return made


class Flow:
    """A rule in the form that DPDK takes, with all that it points to.

    Parameters
    ----------
    port : Port
    pattern : list of Header
    priority : int
    queues : sequence of int
        Where to; none: drop.
    """

    def __init__(self, port: Port, pattern: Pattern, priority: int, queues: Sequence[int]) -> None:
        abi = port.abi
        self._keep: list[Any] = []
        self.attributes = self._place(struct.pack("III", 0, priority, INGRESS))
        items = b""
        for header in pattern:
            spec, mask = (self._place(bytes(b)) if any(header.mask) else 0 for b in (header.spec, header.mask))
            items += struct.pack("IxxxxQQQ", abi.items[header.name.upper()], spec, 0, mask)
        self.pattern = self._place(items + bytes(ITEM))
        if not queues:
            kind, conf = "DROP", 0
        elif len(queues) == 1:
            kind, conf = "QUEUE", self._place(struct.pack("H", queues[0]))
        else:
            key = (KEY * (port.key_size // 2 + 1))[: port.key_size]
            numbers = self._place(struct.pack(f"{len(queues)}H", *queues))
            conf = self._place(struct.pack("IIQIIQQ", 0, 0, port.shared_types, len(key), len(queues), self._place(key) if key else 0, numbers))
            kind = "RSS"
        self.actions = self._place(struct.pack("IxxxxQ", abi.actions[kind], conf) + bytes(ACTION))

    def _place(self, content: bytes) -> int:
        room = (c_uint8 * max(1, len(content))).from_buffer_copy(content or b"\0")
        self._keep.append(room)
        return ctypes.addressof(room)


def install(port: Port, rules: Iterable[Iterable[Condition]], queues: Sequence[int]) -> int:
    """Let the card drop what no rule wants. Returns how many rules it has; 0 if it refuses, which is told in the log."""
    flows = [Flow(port, p, FIRST, queues) for p in patterns(rules)]
    flows.append(Flow(port, [Header("eth")], LAST, ()))
    for what in ("rte_flow_validate", "rte_flow_create"):
        for n, flow in enumerate(flows):
            refusal = port.flow(what, flow.attributes, flow.pattern, flow.actions)
            if refusal:
                if what == "rte_flow_create":
                    port.flush()
                log.warning("%s: filters nothing itself, all is left to the software: it refuses rule %d of %d: %s", port.name, n + 1, len(flows), refusal)
                return 0
    log.info("%s: drops what none of %d rules lets through", port.name, len(flows) - 1)
    return len(flows)
