"""What is noted of the records of a large file, against plain Python over the whole file."""

from __future__ import annotations

import itertools
import random
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from retina_jit import objects
from retina_jit.ingest import noting, readahead
from retina_jit.ingest.layout import (
    AHEAD_CHUNK,
    BY_CONNECTION,
    BY_TURN,
    HINTS,
    NONE,
    SHARED_SLOTS,
    SLOTS,
    SOURCE,
)

Record = tuple[int, bytes]
SIZE = (SHARED_SLOTS + 4) * AHEAD_CHUNK
TURN = 64
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")  # otherwise scapy asks the network for them


def connections(rng: random.Random) -> list[tuple[object, bytes]]:
    """Frames of some connections in both directions, in all kinds of wrapping; and frames of none. With what tells connections apart."""
    made: list[tuple[object, Packet]] = []
    for n in range(40):
        a, b, sport, dport = f"10.0.{n}.1", f"192.0.2.{rng.randrange(250)}", rng.randrange(1024, 65536), rng.choice([53, 443, 40000])
        kind = n % 5
        for src, dst, sp, dp in ((a, b, sport, dport), (b, a, dport, sport)):
            transport = TCP(sport=sp, dport=dp) if n % 2 else UDP(sport=sp, dport=dp)
            ip = IPv6(src=f"2001:db8::{n:x}" if src == a else "2001:db8::ffff", dst="2001:db8::ffff" if src == a else f"2001:db8::{n:x}") if kind == 1 else IP(src=src, dst=dst)
            if kind == 2:
                ip.options = [b"\x01\x01\x01\x01"]
            link = LINK / Dot1Q(vlan=n) if kind == 3 else LINK
            made += [(n, link / ip / transport / Raw(rng.randbytes(size))) for size in (0, 1, 600, 1400)]
    made += [(None, LINK / ARP(hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2")), (None, LINK / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP()), (None, LINK / Raw(b"?" * 60))]
    made += [(None, f) for f in fragment(LINK / IP(src="10.9.9.9", dst="10.9.9.8") / UDP() / Raw(bytes(3000)), 1000)]
    frames = [(key, bytes(p)) for key, p in made]
    # Of no connection, for a header is cut or wrong, though there are addresses and ports.
    tcp = bytes(LINK / IP(src="10.8.8.8", dst="10.8.8.9") / TCP(sport=1, dport=2) / Raw(bytes(40)))
    udp = bytes(LINK / IP(src="10.8.8.8", dst="10.8.8.9") / UDP(sport=1, dport=2) / Raw(bytes(40)))
    odd = [tcp[:38], tcp[:53], tcp[:46] + b"\x40" + tcp[47:], tcp[:46] + b"\xf0" + tcp[47:60], udp[:41], udp[:38] + b"\0\7" + udp[40:]]
    odd += [whole[:16] + struct.pack(">H", total) + whole[18:] for whole in (tcp, udp) for total in (19, 20, 27)]
    return [*frames, *((None, frame) for frame in odd)]


@pytest.fixture(scope="module")
def traffic() -> list[tuple[object, bytes]]:
    return connections(random.Random(5))


def write(path: Path, order: str, traffic: list[tuple[object, bytes]]) -> tuple[list[int], list[object]]:
    """Write a capture. Returns where its records begin, and what connection each is of."""
    rng = random.Random(7)
    begins, keys, parts, at = [], [], [struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1)], 24
    while at < SIZE:
        key, data = rng.choice(traffic)
        if rng.random() < 0.001:
            key, data = None, bytes(rng.choice([0, 13, 200_000]))
        parts.append(struct.pack(order + "IIII", 1_700_000_000 + len(begins) // 1000, len(begins) % 1000, len(data), len(data)) + data)
        begins.append(at)
        keys.append(key)
        at += 16 + len(data)
    path.write_bytes(b"".join(parts))
    return [*begins, at], keys


def noted(path: Path, order: str, readers: int, by: int, first: int = 0) -> list[list[tuple[int, int, bool]]]:
    """Let the helper fill the ring. Returns each list: where records begin, their numbers in the run, whether they are its worker's."""
    words = np.zeros(1, SOURCE)[0]
    words["swap"], words["header"], words["unit"], words["link"], words["number"] = order == ">", 16, 1000, 1, first
    content = path.read_bytes()
    with path.open("rb") as file:
        ahead = readahead.ReadAhead(file.fileno(), len(content), content[:24], words, readers, by, 12345)
        slots = SLOTS if readers == 1 else SHARED_SLOTS
        try:
            # Nobody takes chunks, so the helper fills the ring and waits.
            deadline = time.monotonic() + 60
            while ahead._words["walked"] < slots and time.monotonic() < deadline:
                time.sleep(0.001)
            lists = 1 if by == NONE else readers
            hints = ahead._hints.array(np.int64, slots * lists * HINTS).reshape(slots, lists, HINTS)
            found: list[list[tuple[int, int, bool]]] = [[] for _ in range(lists)]
            for slot in range(slots):
                before = int(ahead._words[f"before{slot}"])
                for k in range(lists):
                    for hint in map(int, hints[slot, k, 1 : 1 + hints[slot, k, 0]]):
                        number = before + ((hint & (noting.OWN - 1)) >> noting.PLACE) + 1
                        found[k].append((slot * AHEAD_CHUNK + (hint & noting.WORD), number, bool(hint & noting.OWN)))
            return found
        finally:
            for reader in range(readers):
                ahead.leave(reader)


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """There is a core for a helper."""
    return lambda readers: monkeypatch.setattr(readahead, "_cores", lambda: readers + 1)


def whole(begins: list[int], slots: int) -> list[tuple[int, int]]:
    """Where the records begin that do not reach beyond their chunk, and their numbers."""
    found = []
    for n, (at, end) in enumerate(itertools.pairwise(begins)):
        if at // AHEAD_CHUNK == (end - 1) // AHEAD_CHUNK < slots:
            found.append((at, n + 1))
    return found


@pytest.mark.parametrize("order", ["<", ">"])
def test_where_records_begin(order: str, tmp_path: Path, traffic: list[tuple[object, bytes]], helped: Callable[[int], None]) -> None:
    begins, _ = write(tmp_path / "x.pcap", order, traffic)
    helped(1)
    (found,) = noted(tmp_path / "x.pcap", order, 1, NONE, first=100)
    assert [(at, number - 100) for at, number, _ in found] == whole(begins, SLOTS)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("workers", [2, 3])
def test_whose_they_are(order: str, workers: int, tmp_path: Path, traffic: list[tuple[object, bytes]], helped: Callable[[int], None]) -> None:
    """Each record of a connection stands in one list, all of a connection in the same; each other record in all lists."""
    begins, keys = write(tmp_path / "x.pcap", order, traffic)
    helped(workers)
    lists = noted(tmp_path / "x.pcap", order, workers, BY_CONNECTION)
    expected = whole(begins, SHARED_SLOTS)
    assert sorted({(at, number) for entries in lists for at, number, _ in entries}) == expected
    owner: dict[object, set[int]] = {}
    for k, entries in enumerate(lists):
        assert [at for at, _, _ in entries] == sorted(at for at, _, _ in entries)
        for _, number, own in entries:
            assert own == (keys[number - 1] is not None)
            if own:
                owner.setdefault(keys[number - 1], set()).add(k)
        assert [number for _, number, own in entries if not own] == [number for _, number in expected if keys[number - 1] is None]
    assert all(len(found) == 1 for found in owner.values())
    assert {k for found in owner.values() for k in found} == set(range(workers))
    assert sum(own for entries in lists for _, _, own in entries) == sum(keys[number - 1] is not None for _, number in expected)


def test_whose_turn_it_is(tmp_path: Path, traffic: list[tuple[object, bytes]], helped: Callable[[int], None]) -> None:
    begins, _ = write(tmp_path / "x.pcap", "<", traffic)
    helped(3)
    lists = noted(tmp_path / "x.pcap", "<", 3, BY_TURN, first=1000)
    for k, entries in enumerate(lists):
        expected = [(at, n + 1000, True) for at, n in whole(begins, SHARED_SLOTS) if (n + 1000) // TURN % 3 == k]
        assert entries == expected


def test_short_records_are_noted_as_far_as_there_is_room(tmp_path: Path, helped: Callable[[int], None]) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1) + struct.pack("<IIII", 1, 0, 0, 60) * (SIZE // 16))
    helped(1)
    (found,) = noted(path, "<", 1, NONE)
    assert found[0] == (24, 1, False)
    # A record is cut by the end of each chunk, and the next chunk goes on behind what was not noted of this one.
    first = next(entry for entry in found if entry[0] >= AHEAD_CHUNK)
    assert first == ((AHEAD_CHUNK - 24 + 15) // 16 * 16 + 24, (AHEAD_CHUNK - 24 + 15) // 16 + 1, False)
    assert sum(at < AHEAD_CHUNK for at, _, _ in found) == HINTS - 2


def test_what_is_read_over_is_not_noted(tmp_path: Path, traffic: list[tuple[object, bytes]], helped: Callable[[int], None]) -> None:
    """Whoever notes may have had no core until all readers were past it, and the next chunk is half in the slot."""
    write(tmp_path / "x.pcap", "<", traffic)
    content = (tmp_path / "x.pcap").read_bytes()
    words = np.zeros(1, SOURCE)[0]
    words["header"], words["unit"], words["link"] = 16, 1000, 1
    helped(0)
    with (tmp_path / "x.pcap").open("rb") as file:
        ahead = readahead.ReadAhead(file.fileno(), len(content), content[:24], words, 2, BY_CONNECTION, 12345)
        try:
            w = ahead._words
            # Chunk 0 is ready and another thread has claimed the one that goes over it; both readers are past chunk 1.
            w["claimed"], w["ready0"] = SHARED_SLOTS + 1, 1 << 32 | AHEAD_CHUNK
            w["taken0"] = w["taken1"] = 2
            ahead._ring.array(np.uint8, AHEAD_CHUNK, readahead.HEADROOM)[:] = np.frombuffer(content[:AHEAD_CHUNK], np.uint8)
            helper = threading.Thread(target=objects.function("retina_jit.ingest.readahead:help_reading"), args=(ahead.address,))
            helper.start()
            deadline = time.monotonic() + 60
            while w["ready1"] >> 32 != SHARED_SLOTS + 2 and time.monotonic() < deadline:
                time.sleep(0.001)
            w["stop"] = 1
            helper.join()
            assert w["ready1"] >> 32 == SHARED_SLOTS + 2
            assert (w["walked"], w["count0"], w["record"], w["number"], w["noting"]) == (0, 0, 24, 0, 0)
        finally:
            w["stop"] = 1
            for reader in range(2):
                ahead.leave(reader)
