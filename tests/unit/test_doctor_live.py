"""What `retina-jit doctor` says of live capture, for machines made up in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from retina_jit.cli import doctor_live
from retina_jit.ingest.dpdk import library


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def card(root: Path, address: str, driver: str, kind: str = "0x020000") -> None:
    home = f"sys/bus/pci/devices/{address}"
    put(root, f"{home}/class", f"{kind}\n")
    put(root, f"{home}/vendor", "0x8086\n")
    put(root, f"{home}/device", "0x1572\n")
    (root / f"sys/bus/pci/drivers/{driver}").mkdir(parents=True, exist_ok=True)
    (root / home / "driver").symlink_to(root / f"sys/bus/pci/drivers/{driver}")


def test_no_huge_pages_and_how_to_get_some(tmp_path):
    state, text, fix = doctor_live.huge_pages(tmp_path)
    assert (state, "virtual devices only" in text, "nr_hugepages" in fix) == ("warn", True, True)
    put(tmp_path, "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "512\n")
    put(tmp_path, "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "500\n")
    assert doctor_live.huge_pages(tmp_path) == ("ok", "huge pages for DPDK: 500 of 512 of 2048kB are free", "")


def test_cards_and_the_drivers_that_leave_them_to_a_program(tmp_path):
    assert doctor_live.cards(tmp_path)[:2] == ("ok", "network cards for DPDK: none on the PCI bus")
    card(tmp_path, "0000:00:02.0", "i915", kind="0x030000")
    card(tmp_path, "0000:3b:00.0", "i40e")
    put(tmp_path, "sys/bus/pci/devices/0000:3b:00.0/net/ens0/mtu", "1500")
    state, text, fix = doctor_live.cards(tmp_path)
    assert state == "warn"
    assert "0000:3b:00.0 (8086:1572, driver i40e, ens0)" in text and "0000:00:02.0" not in text
    assert "dpdk-devbind.py -b vfio-pci 0000:3b:00.0" in fix and "noiommu" in fix
    (tmp_path / "sys/kernel/iommu_groups/1").mkdir(parents=True)
    assert "noiommu" not in doctor_live.cards(tmp_path)[2]
    card(tmp_path, "0000:3b:00.1", "vfio-pci")
    assert doctor_live.cards(tmp_path)[0] == "ok"


def test_a_dpdk_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv(library.FOLDER, str(tmp_path))
    library.library.cache_clear()
    try:
        state, text, fix = doctor_live.dpdk()
    finally:
        library.library.cache_clear()
    assert state == "warn"
    assert "DPDK is not installed" in text and str(tmp_path) in text
    assert "apt install librte-ethdev" in fix


@pytest.mark.skipif(library.folder() is None, reason="needs DPDK: apt install librte-ethdev23")
def test_a_dpdk_that_is_there():
    state, text, fix = doctor_live.dpdk()
    assert "ABI DPDK_" in text
    assert (state == "ok") == (not fix)


def test_interfaces_with_a_clock_of_their_own(monkeypatch):
    monkeypatch.setattr(doctor_live.socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0")])
    from retina_jit.ingest import stamps

    monkeypatch.setattr(stamps, "clock_of", lambda _, name: "/dev/ptp0" if name == "eth0" else "")
    assert doctor_live.clocks()[:2] == ("ok", "times of cards ([interface] timestamps): eth0 (/dev/ptp0)")
    monkeypatch.setattr(stamps, "clock_of", lambda *_: "")
    assert "no interface has a clock" in doctor_live.clocks()[1]


def test_interfaces_say_how():
    state, text, fix = doctor_live.interfaces()
    assert "interfaces" in text
    assert (state == "ok") == (not fix)
