"""EthAddr and EtherTCI: what the first packet's link header says."""

from __future__ import annotations

from struct import Struct

from retina_jit import memory
from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.column import custom, number, unless
from retina_jit.delivery.event import CONTEXT_AT
from retina_jit.formats.json import put_byte
from retina_jit.jit import entry, kernel
from retina_jit.memory import copy, load64
from retina_jit.pipeline.layout import WORKER
from retina_jit.pipeline.parts import write_link
from retina_jit.state.layout import PACKET
from retina_jit.state.parts import HAS_MACS, HAS_TAG, LINK, PART_LINK

OFFSETS = WORKER.fields["part0"][1]  # type: ignore[index]
RECORD = PART_LINK
RECORD_AT, PACKET_AT = memory.at(RECORD), memory.at(PACKET)
SIZE = RECORD.itemsize
_MACS = Struct("<qq").unpack_from
_HAS = RECORD.fields["has"][1]  # type: ignore[index]


@entry
def project(context):
    """Write the link header of the connection's first packet; of the packet itself where no connection is."""
    c = CONTEXT_AT(context)
    if c.track:
        copy(c.out, c.track + load64(c.worker + OFFSETS + 48), SIZE)
    else:
        write_link(c.out, PACKET_AT(c.row))
    return 0


def _mac(word: int) -> str:
    return (word & 0xFFFFFFFFFFFF).to_bytes(6, "big").hex(":")


@kernel
def _put_mac(out, limit, word):
    out = put_byte(out, limit, 34)
    for n in range(12):
        digit = (word >> (44 - 4 * n)) & 15
        if n and n & 1 == 0:
            out = put_byte(out, limit, 58)
        out = put_byte(out, limit, digit + (48 if digit < 10 else 87))
    return put_byte(out, limit, 34)


@entry
def write_src(record, event, out, limit):
    """Write the source in JSON."""
    return _put_mac(out, limit, RECORD_AT(record).src + 0)


@entry
def write_dst(record, event, out, limit):
    """Write the destination in JSON."""
    return _put_mac(out, limit, RECORD_AT(record).dst + 0)


@register
class EthAddr(DataType):
    """Ethernet addresses of the first packet; None on other links."""

    __slots__ = ()
    LEVEL = "static"
    RECORD = RECORD
    PROJECT = f"{__name__}:project"
    TRACK = LINK

    def _has(self, what: int) -> bool:
        return self._buffer[self._at + _HAS] & what != 0

    @custom("retina_jit.datatypes.link:write_src", null=unless(RECORD, "has", HAS_MACS))
    def src(self) -> str | None:
        """Address of the originator's side, aa:bb:cc:dd:ee:ff."""
        return _mac(_MACS(self._buffer, self._at)[0]) if self._has(HAS_MACS) else None

    @custom("retina_jit.datatypes.link:write_dst", null=unless(RECORD, "has", HAS_MACS))
    def dst(self) -> str | None:
        """Address of the responder's side, aa:bb:cc:dd:ee:ff."""
        return _mac(_MACS(self._buffer, self._at)[1]) if self._has(HAS_MACS) else None


@register
class EtherTCI(DataType):
    """Tag Control Information of the first packet's 802.1Q tag, the outermost; None without a tag."""

    __slots__ = ()
    LEVEL = "static"
    RECORD = RECORD
    PROJECT = f"{__name__}:project"
    TRACK = LINK

    tci = number(RECORD, "tci", "The sixteen bits.", null=unless(RECORD, "has", HAS_TAG))

    @property
    def vlan_id(self) -> int | None:
        """The VLAN: the lower twelve bits."""
        return None if self.tci is None else self.tci & 0xFFF

    @property
    def priority(self) -> int | None:
        """Priority code point: the upper three bits."""
        return None if self.tci is None else self.tci >> 13
