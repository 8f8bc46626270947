"""Tunnel: in what a connection was found, where `--decap` looks into tunnels."""

from __future__ import annotations

from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.column import ZERO, Names, address, named, number, unless
from retina_jit.delivery.event import CONTEXT_AT
from retina_jit.jit import entry
from retina_jit.memory import copy, fill, load64
from retina_jit.parsers.packet.tunnels import KINDS
from retina_jit.pipeline.layout import WORKER
from retina_jit.state.parts import PART_TUNNEL, TUNNEL

OFFSETS = WORKER.fields["part0"][1]  # type: ignore[index]
RECORD = PART_TUNNEL
SIZE = RECORD.itemsize
KIND_NAMES = Names({1 << n: name for n, name in enumerate(KINDS)}, "{n}")
TRANSPORTS = Names({6: "tcp", 17: "udp"}, "{n}")
_NONE = unless(RECORD, "kind", -1)


@entry
def project(context):
    """Write what carried the first packet; zeros where nothing did."""
    c = CONTEXT_AT(context)
    if c.track:
        copy(c.out, c.track + load64(c.worker + OFFSETS + 56), SIZE)
    else:
        fill(c.out, 0, SIZE)
    return 0


@register
class Tunnel(DataType):
    """The tunnel that the connection's first packet came in: the packet around it, and the tunnel's number.

    The packet around is tracked too: its connection is the FiveTuple with these endpoints, in one direction or the other.
    """

    __slots__ = ()
    LEVEL = "static"
    RECORD = RECORD
    PROJECT = f"{__name__}:project"
    TRACK = TUNNEL

    kind = named(RECORD, "kind", KIND_NAMES, "ipip, gre, vxlan, ...; empty: it came in none.", null=ZERO)
    ident = number(RECORD, "ident", "VXLAN and Geneve: VNI; GRE: key; GTP-U: TEID; ERSPAN: session; sFlow: sub-agent.", null=_NONE)
    outer_src_addr = address(RECORD, "src_hi", "src_lo", "is_ipv6", "Source of the packet around.", null=_NONE)
    outer_src_port = number(RECORD, "src_port", "Its port.", null=_NONE)
    outer_dst_addr = address(RECORD, "dst_hi", "dst_lo", "is_ipv6", "Destination of the packet around.", null=_NONE)
    outer_dst_port = number(RECORD, "dst_port", "Its port.", null=_NONE)
    outer_proto = named(RECORD, "proto", TRANSPORTS, "Transport of the packet around.", null=_NONE)
