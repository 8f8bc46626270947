"""FiveTuple: who talks to whom. Of a packet without connection: source and destination."""

from __future__ import annotations

import ipaddress
from struct import Struct

import numpy as np

from retina_jit import memory
from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.column import Names, address, named, number
from retina_jit.delivery.event import CONTEXT_AT
from retina_jit.jit import entry, kernel
from retina_jit.state.flowkey import high_port, is_ipv6, low_port, protocol_of
from retina_jit.state.layout import IPV6, ORIG_IS_HIGH, PACKET
from retina_jit.state.table import CONNECTION_AT

RECORD = np.dtype(
    [
        ("orig_hi", "i8"),
        ("orig_lo", "i8"),
        ("resp_hi", "i8"),
        ("resp_lo", "i8"),
        ("orig_port", "u2"),
        ("resp_port", "u2"),
        ("proto", "u1"),
        ("is_ipv6", "u1"),
        ("spare", "u2"),
    ]
)
RECORD_AT = memory.at(RECORD)
PACKET_AT = memory.at(PACKET)
_ALL = Struct("<qqqqHHBB").unpack_from


@kernel
def write(context, out):
    """Write the five-tuple of what matched at `out`."""
    c = CONTEXT_AT(context)
    r = RECORD_AT(out)
    r.spare = 0
    if c.connection:
        n = CONNECTION_AT(c.connection)
        if n.flags & ORIG_IS_HIGH:
            r.orig_hi, r.orig_lo, r.resp_hi, r.resp_lo = n.c, n.d, n.a, n.b
            r.orig_port, r.resp_port = high_port(n.key), low_port(n.key)
        else:
            r.orig_hi, r.orig_lo, r.resp_hi, r.resp_lo = n.a, n.b, n.c, n.d
            r.orig_port, r.resp_port = low_port(n.key), high_port(n.key)
        r.proto = protocol_of(n.key)
        r.is_ipv6 = 1 if is_ipv6(n.key) else 0
    else:
        p = PACKET_AT(c.row)
        r.orig_hi, r.orig_lo, r.resp_hi, r.resp_lo = p.src_hi, p.src_lo, p.dst_hi, p.dst_lo
        r.orig_port, r.resp_port = p.src_port, p.dst_port
        r.proto = p.protocol
        r.is_ipv6 = 1 if p.layers & IPV6 else 0


@entry
def project(context):
    """Write the record."""
    write(context, CONTEXT_AT(context).out)
    return 0


TRANSPORTS = Names({6: "tcp", 17: "udp"}, "{n}")


@register
class FiveTuple(DataType):
    """Addresses, ports and protocol; `orig` sent the first packet (TCP: the SYN)."""

    __slots__ = ()
    LEVEL = "static"
    RECORD = RECORD
    PROJECT = f"{__name__}:project"

    orig_addr = address(RECORD, "orig_hi", "orig_lo", "is_ipv6", "Address of the originator.")
    orig_port = number(RECORD, "orig_port", "Port of the originator.")
    resp_addr = address(RECORD, "resp_hi", "resp_lo", "is_ipv6", "Address of the responder.")
    resp_port = number(RECORD, "resp_port", "Port of the responder.")
    proto = named(RECORD, "proto", TRANSPORTS, "Name of the transport, tcp or udp; of another protocol its number as text.")
    protocol = number(RECORD, "proto", "IP protocol number: 6 TCP, 17 UDP.", shown=False)

    @property
    def orig(self) -> tuple[str, int]:
        """Endpoint of the originator: address, port."""
        return self.orig_addr, self.orig_port

    @property
    def resp(self) -> tuple[str, int]:
        """Endpoint of the responder: address, port."""
        return self.resp_addr, self.resp_port

    def conn_id(self) -> tuple[tuple[str, int], tuple[str, int], int]:
        """Return a key that is the same for both directions: larger endpoint, smaller one, protocol."""
        low, high = sorted((self.orig, self.resp), key=lambda e: (ipaddress.ip_address(e[0]).packed, e[1]))
        return high, low, self.protocol

    def dst_ip_str(self) -> str:
        """Return the responder's address."""
        return self.resp_addr

    def dst_subnet_str(self) -> str:
        """Return the responder's /24 (IPv4; broadcast and multicast unmasked) or /64 (IPv6) network address."""
        address = ipaddress.ip_address(self.resp_addr)
        if isinstance(address, ipaddress.IPv4Address) and (address.is_multicast or int(address) == 0xFFFFFFFF):
            return str(address)
        prefix = 24 if address.version == 4 else 64
        return str(ipaddress.ip_network((address, prefix), strict=False).network_address)

    def __str__(self) -> str:
        return f"{_endpoint(*self.orig)} -> {_endpoint(*self.resp)} {self.proto}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FiveTuple):
            return NotImplemented
        return bool(_ALL(self._buffer, self._at) == _ALL(other._buffer, other._at))

    def __hash__(self) -> int:
        return hash(_ALL(self._buffer, self._at))


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
