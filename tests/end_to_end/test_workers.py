"""Several workers that share a capture do what one alone does: the same events, the same counters, in another order."""

from __future__ import annotations

import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.running import SHARED, config, runtime, to

import retina_jit as rj
from retina_jit.errors import ConfigError, SourceError
from retina_jit.ingest import readahead
from retina_jit.ingest.layout import AHEAD_CHUNK, HINTS
from retina_jit.parsers.packet.link import EN10MB, RAW
from retina_jit.subscription import Subscription

SAMPLES = sorted((Path(rj.__file__).parent / "samples").glob("*.pcap*"))
CAPTURES = sorted((SHARED / "pcaps").glob("*"))

MICROSECONDS, NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
TYPES = ("ConnRecord", "FiveTuple,Tunnel,OrigPktStream", "TlsHandshake,FiveTuple", "DnsTransaction,FiveTuple", "HttpTransaction,FiveTuple")


def program() -> tuple[list[Subscription], Counter[str]]:
    """Connections, sessions, packets and what packets of tunnels make; and what they have seen."""
    seen: Counter[str] = Counter()

    def note(name: str) -> Any:
        return lambda *items: seen.update([name + json.dumps([i.to_dict() for i in items], sort_keys=True)])

    def frame(f: rj.ZcFrame) -> None:
        seen[f"frame {f.number} {f.caplen}"] += 1

    return [*(to(t, "", note(t)) for t in TYPES), to("ZcFrame", "udp or icmp", frame)], seen


def run(path: Path, workers: int, decap: tuple[str, ...] = ("all",)) -> tuple[Counter[str], dict[str, int]]:
    subscriptions, seen = program()
    settings = msgspec.structs.replace(config(decap=decap, midstream=True), workers=workers)
    result = runtime(subscriptions, [path], settings).run()
    assert sum(result.ledger.values()) == result.counters["frames"]
    seen.update(f"problem: {p}" for p in result.problems)
    return seen, result.counters


def differing(path: Path, numbers: tuple[int, ...] = (2, 4), decap: tuple[str, ...] = ("all",)) -> list[str]:
    """With how many workers a capture gives something else than with one; what first."""
    alone, counters = run(path, 1, decap)
    found = []
    for workers in numbers:
        together, sums = run(path, workers, decap)
        if together != alone:
            found.append(f"{path.name}, {workers} workers: {list((together - alone) + (alone - together))[:2]}")
        elif sums != counters:
            found.append(f"{path.name}, {workers} workers: { {n: (counters[n], sums[n]) for n in sums if sums[n] != counters[n]} }")
    return found


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_the_same_events(path: Path) -> None:
    assert differing(path) == []


@pytest.mark.skipif(not CAPTURES, reason=f"{SHARED} is not here: captures of others, not part of the project")
def test_the_same_events_of_real_captures() -> None:
    found = []
    for path in CAPTURES:
        try:
            found += differing(path, (4,))
        except SourceError:
            continue  # a link type that is not read
    assert found == []


def again_and_again(path: Path, to: Path, size: int) -> None:
    """Write a pcap of at least so many bytes: the frames of a small one, each time an hour and a bit later."""
    content = path.read_bytes()
    order = "<" if content[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    records, at = [], 24
    while at + 16 <= len(content):
        seconds, *rest = struct.unpack_from(order + "IIII", content, at)
        records.append((seconds, rest, content[at + 16 : at + 16 + rest[1]]))
        at += 16 + rest[1]
    with to.open("wb") as file:
        file.write(content[:24])
        later = 0
        while file.tell() < size:
            for seconds, rest, data in records:
                file.write(struct.pack(order + "IIII", seconds + later, *rest) + data)
            later += 4_001


@pytest.fixture
def read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all files were large: workers read them together, and pass over what is noted as another's."""
    monkeypatch.setattr(readahead, "is_worth", lambda _: True)


@pytest.mark.usefixtures("read_together")
@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_the_same_events_where_frames_of_others_are_passed_over(path: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.pcap"
    again_and_again(path, large, 5 << 20)
    assert differing(large, (2, 3), ()) == []


def otherwise_written(content: bytes, order: str, magic: int, link: int, begins: list[int]) -> bytes:
    """Return a pcap of nanoseconds in another form: byte order and unit of time, raw IP in place of Ethernet. Says where its records begin."""
    parts, at, length = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 1 << 18, link)], 24, 24
    while at + 16 <= len(content):
        seconds, fraction, caplen, wire = struct.unpack_from("<IIII", content, at)
        data = content[at + 16 : at + 16 + caplen]
        at += 16 + caplen
        if link == RAW and data[12:14] != b"\x08\x00":
            continue
        without = 14 if link == RAW else 0
        begins.append(length)
        parts.append(struct.pack(order + "IIII", seconds, fraction // (1 if magic == NANOSECONDS else 1000), caplen - without, wire - without) + data[without:])
        length += len(parts[-1])
    return b"".join(parts)


@pytest.mark.usefixtures("read_together")
@pytest.mark.parametrize("form", ["<", ">", "raw"])
def test_a_damaged_capture_gives_the_same_wherever_it_ends(form: str, tmp_path: Path) -> None:
    """Cut in a header that the end of a chunk divides; a length, or all of a header, that cannot be; many records of nothing."""
    large, begins = tmp_path / "large.pcap", list[int]()
    again_and_again(next(p for p in SAMPLES if p.name == "mixed.pcap"), large, 3 << 20)
    order, magic, link = {"<": ("<", MICROSECONDS, EN10MB), ">": (">", NANOSECONDS, EN10MB), "raw": ("<", NANOSECONDS, RAW)}[form]
    content = otherwise_written(large.read_bytes(), order, magic, link, begins)
    middle = begins[len(begins) // 2]
    behind = next(at for at in begins if at > 5 * AHEAD_CHUNK)
    nothing = content[behind : behind + 8] + bytes(8)
    found = []
    for kind, damaged in {
        "cut": content[: 3 * AHEAD_CHUNK + 5],
        "length": content[: middle + 8] + b"\xff" * 4 + content[middle + 12 :],
        "zeros": content[:middle] + bytes(100) + content[middle:],
        "nothing": content[:behind] + nothing * (2 * HINTS) + content[behind:],
    }.items():
        path = tmp_path / f"{kind}.pcap"
        path.write_bytes(damaged)
        found += differing(path, (3,), ())
    assert found == []


@pytest.mark.usefixtures("read_together")
@pytest.mark.skipif(not CAPTURES, reason=f"{SHARED} is not here: captures of others, not part of the project")
def test_the_same_events_of_real_captures_where_frames_of_others_are_passed_over() -> None:
    found = []
    for path in CAPTURES:
        try:
            found += differing(path, (3,), ())
        except SourceError:
            continue  # a link type that is not read
    assert found == []


def test_frames_alone_are_shared(tmp_path: Path) -> None:
    """A program of frames has a loop of its own; its jit states are merged."""
    path = SAMPLES[0]

    def states(workers: int) -> tuple[int, int, int]:
        state = np.zeros(1, [("n", "i8"), ("bytes", "i8")])
        settings = msgspec.structs.replace(config(), workers=workers)
        s = Subscription("tcp", (rj.ZcFrame,), count, "jit", state, merge=lambda parts: sum(int(p["bytes"]) for p in parts))
        result = runtime([s], [path], settings).run()
        return s.result, len(s.workers), result.counters["frames"]

    total, _, frames = states(1)
    assert total > 0
    assert states(3) == (total, 3, frames)


def count(frame: rj.ZcFrame, state) -> None:  # type: ignore[no-untyped-def]
    state.n += 1
    state.bytes += frame.length


def test_standard_input_is_read_once() -> None:
    settings = msgspec.structs.replace(config(), workers=2)
    with pytest.raises(SourceError, match="standard input can be read once"):
        runtime(program()[0], ["-"], settings)


def test_a_number_of_workers() -> None:
    with pytest.raises(ConfigError, match="workers = 0: must be 1 to 64"):
        msgspec.structs.replace(config(), workers=0).check()
