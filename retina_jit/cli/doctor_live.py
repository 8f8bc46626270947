"""What `retina-jit doctor` says of live capture: interfaces, DPDK, huge pages, network cards and their drivers."""

from __future__ import annotations

import socket
from pathlib import Path

from retina_jit.cli.findings import OK, WARN, Finding
from retina_jit.errors import SourceError

NETWORK_CLASS = "0x02"
FOR_USERS = ("vfio-pci", "igb_uio", "uio_pci_generic")
"""Kernel drivers that leave a card to a program; mlx4 and mlx5 cards keep their own."""
SHARED = ("mlx4_core", "mlx5_core")
NEEDED = {"mempool_ring": "librte-mempool-ring", "bus_vdev": "librte-bus-vdev", "bus_pci": "librte-bus-pci"}


def interfaces() -> Finding:
    """Whether `-i IFACE` works here."""
    if not hasattr(socket, "AF_PACKET"):
        return WARN, "capturing from interfaces: needs Linux", "pipe a capture in: tcpdump -w - | retina-jit ... -r -"
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except PermissionError:
        return WARN, "capturing from interfaces (-i IFACE): no permission", "sudo setcap cap_net_raw+ep $(readlink -f $(which python3))"
    except OSError as fault:
        return WARN, f"capturing from interfaces: no packet sockets ({fault.strerror})", "a kernel with CONFIG_PACKET"
    return OK, "capturing from interfaces (-i IFACE): yes", ""


def clocks() -> Finding:
    """Which interfaces stamp frames by a clock of their own."""
    from retina_jit.ingest.stamps import clock_of

    if not hasattr(socket, "AF_PACKET"):
        return OK, "times of cards: needs Linux", ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        found = [f"{name} ({clock})" for _, name in socket.if_nameindex() if (clock := clock_of(s, name))]
    if not found:
        return OK, "times of cards ([interface] timestamps): no interface has a clock of its own", ""
    return OK, f"times of cards ([interface] timestamps): {', '.join(found)}", ""


def dpdk() -> Finding:
    """Which DPDK was found, and whether it has what every run needs."""
    from retina_jit.ingest.dpdk import library as dpdk

    try:
        found = dpdk.library()
    except SourceError as fault:
        text, _, fix = str(fault).partition(" Fix: ")
        return WARN, text, fix
    number = found.node.removeprefix("DPDK_")
    drivers = sorted({p.name.removeprefix("librte_").partition(".")[0] for p in found.folder.glob("dpdk/pmds-*/librte_*.so*")})
    lacking = [f"{package}{number}" for driver, package in NEEDED.items() if driver not in drivers]
    cards = sum(d.startswith("net_") for d in drivers)
    text = f"{found.version} in {found.folder} (ABI {found.node}), {cards} drivers for cards and virtual devices"
    # A build of one's own may have its drivers elsewhere, or within the libraries.
    if lacking and drivers:
        return WARN, f"{text}; without {', '.join(lacking)}", f"apt install {' '.join(lacking)}"
    return OK, text, ""


def huge_pages(root: Path = Path("/")) -> Finding:
    """Memory that cards can write to."""
    sizes = []
    for pages in sorted(root.glob("sys/kernel/mm/hugepages/hugepages-*kB")):
        count, free = (int((pages / name).read_text()) for name in ("nr_hugepages", "free_hugepages"))
        if count:
            sizes.append(f"{free} of {count} of {pages.name.removeprefix('hugepages-')} are free")
    if not sizes:
        fix = "echo 1024 | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
        return WARN, "no huge pages are set aside: DPDK can use virtual devices only", fix
    return OK, f"huge pages for DPDK: {', '.join(sizes)}", ""


def cards(root: Path = Path("/")) -> Finding:
    """Network cards, and which of them a program can have."""
    lines, lacking = [], []
    for device in sorted(root.glob("sys/bus/pci/devices/*")):
        if not (device / "class").read_text().startswith(NETWORK_CLASS):
            continue
        driver = (device / "driver").resolve().name if (device / "driver").exists() else "none"
        identity = ":".join((device / name).read_text().strip().removeprefix("0x") for name in ("vendor", "device"))
        names = [p.name for p in device.glob("net/*")]
        lines.append(f"{device.name} ({identity}, driver {driver}{f', {names[0]}' if names else ''})")
        if driver not in FOR_USERS + SHARED:
            lacking.append(device.name)
    if not lines:
        return OK, "network cards for DPDK: none on the PCI bus", ""
    text = f"network cards: {', '.join(lines)}"
    if len(lacking) < len(lines):
        return OK, text, ""
    bind = f"sudo modprobe vfio-pci && sudo dpdk-devbind.py -b vfio-pci {lacking[0]} (the system's own network over it ends)"
    if not any(root.glob("sys/kernel/iommu_groups/*")):
        bind = f"without an IOMMU first: sudo modprobe vfio enable_unsafe_noiommu_mode=1; then {bind}"
    return WARN, f"{text}: none is bound to a driver that leaves it to DPDK", bind


CHECKS = (interfaces, clocks, dpdk, huge_pages, cards)
