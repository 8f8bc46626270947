"""What the Python tools and libpcap are made to do, each in a process of its own: `peer_programs.py TASK FILE`, or
`peer_programs.py libpcap FILTER FILE...`."""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_COUNT = """
define void @count(ptr %total, ptr %header, ptr %data) {
  %before = load i64, ptr %total
  %after = add i64 %before, 1
  store i64 %after, ptr %total
  ret void
}
"""


class _BpfProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


class Libpcap:
    """`pcap_loop` with a callback of machine code that counts; the filter is BPF."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        name = ctypes.util.find_library("pcap")
        if name is None:
            raise OSError("libpcap is not installed")
        pcap = self._pcap = ctypes.CDLL(name)
        pcap.pcap_open_offline.restype = ctypes.c_void_p
        pcap.pcap_open_offline.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        pcap.pcap_compile.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32]
        pcap.pcap_setfilter.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        pcap.pcap_loop.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        pcap.pcap_close.argtypes = [ctypes.c_void_p]
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_COUNT), machine)
        self._engine.finalize_object()
        self._callback = self._engine.get_function_address("count")

    def count(self, path: str, expression: str = "") -> int:
        """Return how many packets of a capture match."""
        problem, total = ctypes.create_string_buffer(256), ctypes.c_int64()
        handle = self._pcap.pcap_open_offline(path.encode(), problem)
        if not handle:
            raise OSError(problem.value.decode())
        program = _BpfProgram()
        if self._pcap.pcap_compile(handle, ctypes.byref(program), expression.encode(), 1, 0xFFFFFFFF):
            raise ValueError(f"libpcap refuses {expression!r}")
        self._pcap.pcap_setfilter(handle, ctypes.byref(program))
        self._pcap.pcap_loop(handle, -1, self._callback, ctypes.byref(total))
        self._pcap.pcap_close(handle)
        return total.value


def libpcap(expression: str, *paths: str) -> int:
    peer = Libpcap()
    return sum(peer.count(path, expression) for path in paths)


def _segments(path: str) -> Any:
    """Every TCP or UDP segment of a capture as (frame, IP header, segment)."""
    import dpkt

    networks, transports = (dpkt.ip.IP, dpkt.ip6.IP6), (dpkt.tcp.TCP, dpkt.udp.UDP)
    with Path(path).open("rb") as file:
        for _, frame in dpkt.pcap.Reader(file):
            try:
                ip = dpkt.ethernet.Ethernet(frame).data
            except (dpkt.UnpackError, IndexError, AttributeError):
                continue
            if isinstance(ip, networks) and isinstance(ip.data, transports):
                yield frame, ip, ip.data


def dpkt_filter(path: str) -> int:
    import dpkt

    return sum(isinstance(s, dpkt.tcp.TCP) and (s.sport == 443 or s.dport == 443) for _, _, s in _segments(path))


def dpkt_connections(path: str) -> int:
    flows: dict[Any, list[int]] = {}
    for frame, ip, segment in _segments(path):
        a, b = (ip.src, segment.sport), (ip.dst, segment.dport)
        flow = flows.setdefault((type(segment), a, b) if a < b else (type(segment), b, a), [0, 0])
        flow[0] += 1
        flow[1] += len(frame)
    return len(flows)


def dpkt_tls(path: str) -> int:
    """ClientHellos that stand in one segment: dpkt reassembles nothing."""
    import dpkt

    found = 0
    for _, _, segment in _segments(path):
        data = segment.data
        if isinstance(segment, dpkt.tcp.TCP) and len(data) > 5 and data[0] == 0x16 and data[5] == 1:
            try:
                records, _ = dpkt.ssl.tls_multi_factory(data)
                found += any(isinstance(dpkt.ssl.TLSHandshake(r.data).data, dpkt.ssl.TLSClientHello) for r in records)
            except (dpkt.UnpackError, dpkt.ssl.SSL3Exception, IndexError, ValueError):
                continue
    return found


def nfstream_connections(path: str) -> int:
    from nfstream import NFStreamer

    flows = NFStreamer(source=path, statistical_analysis=False, n_dissections=0, n_meters=1, idle_timeout=120, active_timeout=1800)
    return sum(1 for _ in flows)


def nfstream_dpi(path: str) -> int:
    from nfstream import NFStreamer

    flows = NFStreamer(source=path, statistical_analysis=False, n_dissections=20, n_meters=1, idle_timeout=120, active_timeout=1800)
    return sum(1 for _ in flows)


TASKS: dict[str, Callable[..., int]] = {
    f.__name__: f for f in (libpcap, dpkt_filter, dpkt_connections, dpkt_tls, nfstream_connections, nfstream_dpi)
}

if __name__ == "__main__":
    print(TASKS[sys.argv[1]](*sys.argv[2:]))
