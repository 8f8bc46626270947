"""To scapy and back. It is under the GPL and therefore no dependency: who wants it installs it."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from retina_jit.errors import MissingExtraError, SourceError


def _scapy(module: str) -> Any:
    """Import a module of scapy, all of its layers being known then.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        importlib.import_module("scapy.all")
        return importlib.import_module(module)
    except ImportError as fault:
        raise MissingExtraError("to_scapy needs scapy, which is no extra because of its licence: pip install scapy") from fault


def dissect(data: bytes, ts: int, length: int, link: int) -> Any:
    """Return a frame as a packet of scapy; of a link type that scapy does not know, as `Raw`."""
    layers = _scapy("scapy.config").conf.l2types.num2layer
    packet = layers.get(link, _scapy("scapy.packet").Raw)(data)
    decimal = _scapy("scapy.utils").EDecimal
    packet.time = decimal(ts) / decimal(10**9)
    packet.wirelen = length
    return packet


def taken_apart(packet: Any) -> tuple[int, bytes, int, int] | None:
    """Return time [ns], bytes, length on the wire and link type of a packet of scapy; None if it is none.

    Raises
    ------
    SourceError
        Its first layer is no link and no IP.
    """
    module = sys.modules.get("scapy.packet")
    if module is None or not isinstance(packet, module.Packet):
        return None
    link = _scapy("scapy.config").conf.l2types.layer2num.get(type(packet))
    if link is None:
        raise SourceError(f"a packet of scapy that begins with {packet.name}: begin it with Ether(), IP() or IPv6()")
    data = bytes(packet)
    return int(packet.time * 10**9), data, packet.wirelen or len(data), link
