"""Which packets a BPF expression of libpcap matches, by libpcap itself."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterable
from functools import cache

ETHERNET = 1
NETMASK_UNKNOWN = 0xFFFFFFFF


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_uint), ("instructions", ctypes.c_void_p)]


class _Header(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("microseconds", ctypes.c_long), ("caplen", ctypes.c_uint32), ("length", ctypes.c_uint32)]


@cache
def library() -> ctypes.CDLL | None:
    """libpcap, or None where it is not installed."""
    name = ctypes.util.find_library("pcap")
    for candidate in filter(None, (name, "libpcap.so.1", "libpcap.so.0.8")):
        try:
            found = ctypes.CDLL(candidate)
        except OSError:
            continue
        found.pcap_open_dead.restype = ctypes.c_void_p
        found.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
        found.pcap_compile.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Program), ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32]
        found.pcap_geterr.restype = ctypes.c_char_p
        found.pcap_geterr.argtypes = [ctypes.c_void_p]
        found.pcap_offline_filter.argtypes = [ctypes.POINTER(_Program), ctypes.POINTER(_Header), ctypes.c_char_p]
        found.pcap_freecode.argtypes = [ctypes.POINTER(_Program)]
        found.pcap_close.argtypes = [ctypes.c_void_p]
        return found
    return None


def matching(expression: str, frames: Iterable[bytes]) -> list[int]:
    """Return the positions of the Ethernet frames that match.

    Raises
    ------
    ValueError
        libpcap does not take the expression.
    """
    pcap = library()
    assert pcap is not None, "ask `library` first"
    handle = pcap.pcap_open_dead(ETHERNET, 65535)
    program = _Program()
    try:
        if pcap.pcap_compile(handle, ctypes.byref(program), expression.encode(), 1, NETMASK_UNKNOWN):
            raise ValueError(f"{expression}: {pcap.pcap_geterr(handle).decode()}")
        found = []
        for n, frame in enumerate(frames):
            header = _Header(0, 0, len(frame), len(frame))
            if pcap.pcap_offline_filter(ctypes.byref(program), ctypes.byref(header), frame):
                found.append(n)
        pcap.pcap_freecode(ctypes.byref(program))
        return found
    finally:
        pcap.pcap_close(handle)
