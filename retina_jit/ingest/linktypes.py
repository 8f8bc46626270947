"""Names of link types for messages; numbers as in tcpdump.org/linktypes.html. Nothing here imports Numba."""

from __future__ import annotations

from retina_jit.parsers.packet.link import SUPPORTED

_OTHERS = {
    6: "Token Ring",
    8: "SLIP",
    10: "FDDI",
    100: "LLC-encapsulated ATM",
    105: "IEEE 802.11",
    107: "Frame Relay",
    109: "IPsec enc",
    117: "OpenBSD pflog",
    119: "Prism and IEEE 802.11",
    127: "radiotap and IEEE 802.11",
    143: "DOCSIS",
    147: "user-defined 0",
    187: "Bluetooth HCI H4",
    189: "USB, Linux",
    195: "IEEE 802.15.4",
    201: "Bluetooth HCI H4 with direction",
    220: "USB, Linux, mapped",
    227: "CAN, Linux",
    239: "Linux netfilter log",
    249: "USBPcap",
    253: "Linux netlink",
}


def is_supported(link: int) -> bool:
    """Whether the decoder knows a link type."""
    return link in SUPPORTED


def describe(link: int) -> str:
    """Name and number of a link type."""
    name = SUPPORTED.get(link) or _OTHERS.get(link)
    return f"link type {link} ({name})" if name else f"link type {link}"
