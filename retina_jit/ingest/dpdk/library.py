"""Which DPDK this machine has: its libraries found, loaded, and their functions with signatures.

Source: the programmer's guide and API reference of DPDK 22.11. Only exported functions are used; what the headers inline
(rte_eth_rx_burst, allocating a buffer) is done by `receive` and `mempool`.
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from retina_jit.errors import SourceError
from retina_jit.ingest.dpdk.abi import KNOWN, Abi

FOLDER = "RETINA_JIT_DPDK"
"""Environment variable: the folder of another DPDK than the system's."""

FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib/x86_64-linux-gnu", "/usr/local/lib/aarch64-linux-gnu", "/usr/local/lib64", "/usr/local/lib")
PARTS = ("log", "kvargs", "argparse", "telemetry", "eal", "ring", "rcu", "mempool", "mbuf", "net", "meter", "ethdev")
"""Libraries in an order in which each finds what it needs; `log` and `argparse` exist in later releases only."""

INSTALL = "apt install librte-ethdev23 librte-mempool-ring23 librte-bus-vdev23 librte-bus-pci23 and the driver's librte-net-... (the number differs between releases)"

_port, _address = c_uint16, c_void_p
SIGNATURES: dict[str, tuple[Any, ...]] = {
    # name: result, arguments
    "rte_version": (c_char_p,),
    "rte_strerror": (c_char_p, c_int),
    "rte_eal_init": (c_int, c_int, POINTER(c_char_p)),
    "rte_eal_cleanup": (c_int,),
    "rte_openlog_stream": (c_int, _address),
    "rte_thread_register": (c_int,),
    "rte_thread_unregister": (None,),
    "rte_eal_hotplug_add": (c_int, c_char_p, c_char_p, c_char_p),
    "rte_eal_hotplug_remove": (c_int, c_char_p, c_char_p),
    "rte_mempool_create_empty": (_address, c_char_p, c_uint, c_uint, c_uint, c_uint, c_int, c_uint),
    "rte_mempool_set_ops_byname": (c_int, _address, c_char_p, _address),
    "rte_mempool_populate_default": (c_int, _address),
    "rte_mempool_obj_iter": (c_uint32, _address, _address, _address),
    "rte_mempool_in_use_count": (c_uint, _address),
    "rte_mempool_avail_count": (c_uint, _address),
    "rte_mempool_free": (None, _address),
    "rte_pktmbuf_pool_init": (None, _address, _address),
    "rte_pktmbuf_init": (None, _address, _address, _address, c_uint),
    "rte_pktmbuf_free_bulk": (None, _address, c_uint),
    "rte_mbuf_dyn_rx_timestamp_register": (c_int, POINTER(c_int), POINTER(c_uint64)),
    "rte_eth_find_next_owned_by": (c_uint64, _port, c_uint64),
    "rte_eth_dev_get_port_by_name": (c_int, c_char_p, POINTER(c_uint16)),
    "rte_eth_dev_get_name_by_port": (c_int, _port, c_char_p),
    "rte_eth_dev_info_get": (c_int, _port, _address),
    "rte_eth_dev_configure": (c_int, _port, c_uint16, c_uint16, _address),
    "rte_eth_dev_adjust_nb_rx_tx_desc": (c_int, _port, POINTER(c_uint16), POINTER(c_uint16)),
    "rte_eth_rx_queue_setup": (c_int, _port, c_uint16, c_uint16, c_uint, _address, _address),
    "rte_eth_tx_queue_setup": (c_int, _port, c_uint16, c_uint16, c_uint, _address),
    "rte_eth_dev_start": (c_int, _port),
    "rte_eth_dev_stop": (c_int, _port),
    "rte_eth_dev_close": (c_int, _port),
    "rte_eth_dev_socket_id": (c_int, _port),
    "rte_eth_dev_set_mtu": (c_int, _port, c_uint16),
    "rte_eth_promiscuous_enable": (c_int, _port),
    "rte_eth_promiscuous_disable": (c_int, _port),
    "rte_eth_promiscuous_get": (c_int, _port),
    "rte_eth_stats_get": (c_int, _port, _address),
    "rte_eth_stats_reset": (c_int, _port),
    "rte_eth_xstats_get": (c_int, _port, _address, c_uint),
    "rte_eth_xstats_get_names": (c_int, _port, _address, c_uint),
    "rte_eth_link_get_nowait": (c_int, _port, _address),
    "rte_eth_macaddr_get": (c_int, _port, _address),
    "rte_eth_read_clock": (c_int, _port, POINTER(c_uint64)),
    "rte_eth_dev_rss_reta_update": (c_int, _port, _address, c_uint16),
    "rte_eth_dev_rss_reta_query": (c_int, _port, _address, c_uint16),
    "rte_eth_dev_rss_hash_conf_get": (c_int, _port, _address),
    "rte_flow_validate": (c_int, _port, _address, _address, _address, _address),
    "rte_flow_create": (_address, _port, _address, _address, _address, _address),
    "rte_flow_flush": (c_int, _port, _address),
    "rte_flow_conv": (c_int, c_uint, _address, c_size_t, _address, _address),
}
OPTIONAL = {"rte_version", "rte_eth_dev_conf_get", "rte_eth_read_clock"}
"""Inline in early releases, or not there."""
SIGNATURES["rte_eth_dev_conf_get"] = (c_int, _port, _address)


class Library:
    """The loaded DPDK.

    Parameters
    ----------
    folder : Path
        Where its libraries lie.
    row : Abi, optional
        Instead of the row that the version node tells (tests).

    Attributes
    ----------
    node : str
        Version node, such as "DPDK_23".
    abi : Abi
    call : dict
        The functions by name.

    Raises
    ------
    SourceError
        No library, or one of a version that is not known.
    """

    def __init__(self, folder: Path, row: Abi | None = None) -> None:
        self.folder = folder
        ethdev = _numbered(folder, "ethdev")
        if ethdev is None:
            raise SourceError(f"no DPDK in {folder}. Fix: {INSTALL}; or set {FOLDER} to the folder of librte_ethdev.so.N")
        self.node = version_node(ethdev)
        if row is None and self.node not in KNOWN:
            known = ", ".join(f"{node} ({abi.release})" for node, abi in KNOWN.items())
            raise SourceError(f"{ethdev}: ABI {self.node or 'without a name'} is not known. Known: {known}. Fix: install one of these releases")
        self.abi = row or KNOWN[self.node]
        suffix = ethdev.name.partition(".so.")[2]
        self._parts: list[ctypes.CDLL] = []
        for part in PARTS:
            path = folder / f"librte_{part}.so.{suffix}"
            if path.exists():
                try:
                    self._parts.append(ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL))
                except OSError as fault:
                    raise SourceError(f"{path}: {fault}. Fix: {INSTALL}") from fault
        self.call: dict[str, Any] = {}
        for name, (result, *arguments) in SIGNATURES.items():
            function = self._find(name)
            if function is None:
                if name not in OPTIONAL:
                    raise SourceError(f"{folder}: this DPDK has no function {name}. Fix: install one of the known releases, {', '.join(KNOWN)}")
                continue
            function.restype, function.argtypes = result, arguments
            self.call[name] = function

    def _find(self, name: str) -> Any:
        for part in self._parts:
            if hasattr(part, name):
                return getattr(part, name)
        return None

    def address(self, name: str) -> int:
        """Return where a function of `SIGNATURES` begins."""
        return int(ctypes.cast(self.call[name], c_void_p).value or 0)

    def data(self, name: str) -> int:
        """Return where an exported variable stands."""
        for part in self._parts:
            try:
                return ctypes.addressof(c_uint8.in_dll(part, name))
            except ValueError:
                continue
        raise SourceError(f"{self.folder}: this DPDK has no variable {name}")

    @property
    def version(self) -> str:
        """As the library calls itself."""
        found = self.call.get("rte_version")
        return found().decode() if found else f"DPDK {self.abi.release}"

    @property
    def errno(self) -> int:
        """The calling thread's rte_errno; the dynamic linker finds each thread's own, so it is looked up each time."""
        for part in self._parts:
            try:
                return c_int.in_dll(part, "per_lcore__rte_errno").value
            except ValueError:
                continue
        return 0

    def reason(self, code: int | None = None) -> str:
        """Name an error: a negative result of a function, or this thread's rte_errno."""
        number = -code if code is not None and code < -1 else self.errno
        name = errno.errorcode.get(number, str(number))
        return f"{self.call['rte_strerror'](number).decode()} ({name})"


def _numbered(folder: Path, part: str) -> Path | None:
    """Return librte_PART.so.N; the name without a number is only in the development package."""
    found = sorted(folder.glob(f"librte_{part}.so.[0-9]*"), key=lambda p: len(p.name))
    return found[0] if found else None


def version_node(path: Path) -> str:
    """Return the version node that a library defines, "DPDK_23"; empty if there is none."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.gnuversions import GNUVerDefSection

    with path.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            if isinstance(section, GNUVerDefSection):
                for _, names in section.iter_versions():
                    for one in names:
                        if str(one.name).startswith("DPDK_"):
                            return str(one.name)
                        break
    return ""


def folder() -> Path | None:
    """Return the folder with DPDK's libraries, or None."""
    asked = os.environ.get(FOLDER)
    for name in (asked,) if asked else FOLDERS:
        if _numbered(Path(name), "ethdev") is not None:
            return Path(name)
    return None


@cache
def library() -> Library:
    """Return the loaded DPDK of this machine.

    Raises
    ------
    SourceError
        There is none, with the command that installs it.
    """
    found = folder()
    if found is None:
        asked = os.environ.get(FOLDER)
        where = f"{FOLDER}={asked} has none" if asked else "looked in the system's library folders"
        raise SourceError(f"DPDK is not installed ({where}). Fix: {INSTALL}. Without it: -i af_packet:IFACE, or just -i IFACE")
    return Library(found)
