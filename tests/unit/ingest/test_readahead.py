"""A large file read by two threads gives what a small one does."""

from __future__ import annotations

import contextlib
import hashlib
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import retina_jit as rj
from retina_jit.ingest import readahead, source
from retina_jit.subscription import Subscription


def capture(path: Path, *, seed: int, size: int, order: str = "<") -> tuple[int, int]:
    """Write records of very different lengths. Returns how many, and the sum of their lengths."""
    rng = np.random.default_rng(seed)
    noise = rng.bytes(1 << 18)
    parts, total, count, captured = [struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1)], 24, 0, 0
    while total < size:
        n = int(rng.choice([0, 14, 60, 1500, 9000, (1 << 18) - 1], p=[0.01, 0.3, 0.4, 0.25, 0.03, 0.01]))
        parts.append(struct.pack(order + "IIII", 1_700_000_000, count % 1_000_000, n, n) + noise[:n])
        total += 16 + n
        count += 1
        captured += n
    path.write_bytes(b"".join(parts))
    return count, captured


def digest(path: Path) -> tuple[str, rj.Result]:
    """Hash over all frames in their order."""
    h = hashlib.sha256()

    def seen(frame: rj.ZcFrame) -> None:
        h.update(struct.pack("<qI", frame.number, frame.caplen) + frame.data)

    result = rj.run([Subscription("", (rj.ZcFrame,), seen)], path)
    return h.hexdigest(), result


@pytest.fixture
def never_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "maps_fast", lambda *_: False)


@pytest.mark.usefixtures("never_mapped")
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (rj.RuntimeConfig(), True),
        (rj.RuntimeConfig(workers=1), False),  # asked for: one core
        (rj.RuntimeConfig(workers=2), True),
        (rj.RuntimeConfig(workers=1, read_ahead=True), True),
        (rj.RuntimeConfig(workers=2, read_ahead=False), False),
    ],
)
def test_one_worker_that_is_asked_for_has_no_helper(
    config: rj.RuntimeConfig, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "x.pcap", []
    count, _ = capture(path, seed=0, size=readahead.WORTH + 1)
    monkeypatch.setattr(readahead, "_cores", lambda: 2)
    usual = readahead.ReadAhead
    monkeypatch.setattr(readahead, "ReadAhead", lambda *given: made.append(given) or usual(*given))
    result = rj.run([Subscription("", (rj.ZcFrame,), lambda _: None)], path, config=config)
    assert result.counters["frames"] == count
    assert bool(made) is expected


@pytest.mark.usefixtures("never_mapped")
@pytest.mark.parametrize("seed", range(3))
def test_two_threads_give_the_same_frames_as_one(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pcap"
    count, captured = capture(path, seed=seed, size=20 << 20)
    assert readahead.is_worth(path.stat().st_size)
    shared, result = digest(path)
    assert result.problems == []
    assert result.counters["frames"] == count
    assert result.counters["bytes"] == captured
    monkeypatch.setattr(readahead, "is_worth", lambda _: False)
    alone, _ = digest(path)
    assert shared == alone


@pytest.mark.usefixtures("never_mapped")
@pytest.mark.parametrize("less", [1, 262_016])
def test_a_cut_is_reported(less: int, tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    capture(path, seed=9, size=20 << 20)
    with path.open("ab") as file:
        file.write(struct.pack("<IIII", 1_700_000_000, 0, 262_000, 262_000) + bytes(262_000))
        file.truncate(file.tell() - less)
    _, result = digest(path)
    assert len(result.problems) == (1 if less == 1 else 0)
    assert sum(result.ledger.values()) == result.counters["frames"]


@pytest.mark.usefixtures("never_mapped")
def test_exact_number_of_chunks(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    size = readahead.WORTH + 3 * readahead.CHUNK
    n = (size - 24) // 1016
    last = size - 24 - 16 - (n - 1) * 1016
    frames = [struct.pack("<IIII", 1_700_000_000, 0, k, k) + bytes([1]) * k for k in [1000] * (n - 1) + [last]]
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1) + b"".join(frames))
    assert path.stat().st_size == size
    _, result = digest(path)
    assert (result.counters["frames"], result.problems) == (n, [])


def sums(path: Path, workers: int) -> tuple[int, int, int, rj.Result]:
    """Over all frames, in whatever order they come."""
    seen = [0, 0, 0]

    def note(frame: rj.ZcFrame) -> None:
        seen[0] += frame.number
        seen[1] += frame.caplen
        seen[2] ^= int.from_bytes(hashlib.sha256(struct.pack("<q", frame.number) + frame.data).digest())

    result = rj.Runtime([Subscription("", (rj.ZcFrame,), note)], [path, path], rj.RuntimeConfig(workers=workers)).run()
    return seen[0], seen[1], seen[2], result


def test_workers_that_read_the_same_file_give_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a helper and without; a file is read once, in a ring that it goes round several times, and then again as the second one."""
    path = tmp_path / "x.pcap"
    count, _ = capture(path, seed=5, size=40 << 20)
    alone = sums(path, 1)
    assert alone[3].counters["frames"] == 2 * count
    rings = []
    begin = readahead.ReadAhead.__init__
    monkeypatch.setattr(readahead.ReadAhead, "__init__", lambda self, *a: rings.append(self) or begin(self, *a))
    for workers in (2, 3):
        for cores in (1 + workers, 2):
            monkeypatch.setattr(readahead, "_cores", lambda cores=cores: cores)
            rings.clear()
            found = sums(path, workers)
            assert found[:3] == alone[:3]
            assert found[3].counters == alone[3].counters
            assert len(rings) == 2


def test_nobody_waits_for_a_worker_that_has_died(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    capture(path, seed=6, size=40 << 20)
    runtime = rj.Runtime([Subscription("", (rj.ZcFrame,), lambda frame: None)], [path, path], rj.RuntimeConfig(workers=2))
    inner = runtime.sources[1]

    def dies():  # type: ignore[no-untyped-def]
        with contextlib.closing(inner):
            for _ in inner:
                raise RuntimeError("no more")
        yield

    runtime.sources[1] = dies()
    with pytest.raises(RuntimeError, match="no more"):
        runtime.run()


@pytest.mark.parametrize("before", [1, 17 << 20])
def test_a_file_that_grows_is_read_in_one_way_by_all(before: int, tmp_path: Path) -> None:
    """The first worker's answer holds: else one waits in the first file's ring for the other, who waits in that of the second."""
    path = tmp_path / "x.pcap"
    count, _ = capture(path, seed=7, size=before)
    more = tmp_path / "more.pcap"
    added, _ = capture(more, seed=8, size=40 << 20)
    runtime = rj.Runtime([Subscription("", (rj.ZcFrame,), lambda frame: None)], [path, more], rj.RuntimeConfig(workers=2))
    inner = runtime.sources[1]

    def later():  # type: ignore[no-untyped-def]
        with contextlib.closing(inner):
            assert runtime.workers[0].opened.wait(60)
            with path.open("ab") as file:
                file.write(more.read_bytes()[24:])
            yield from inner

    runtime.sources[1] = later()
    result = runtime.run()
    if before < readahead.WORTH:
        assert added < result.counters["frames"] <= count + 2 * added
    else:
        assert (result.counters["frames"], result.problems) == (count + added, [])


def test_a_worker_that_waits_for_another_one_can_be_stopped(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    capture(path, seed=6, size=40 << 20)
    runtime = rj.Runtime([Subscription("", (rj.ZcFrame,), lambda frame: None)], [path], rj.RuntimeConfig(workers=2))
    inner, stopped, ended = runtime.sources[1], threading.Event(), []

    def comes_too_late():  # type: ignore[no-untyped-def]
        with contextlib.closing(inner):
            stopped.wait(120)
            yield from inner

    def stop() -> None:
        deadline = time.monotonic() + 60
        while not runtime.workers[0].idle_polls and time.monotonic() < deadline:
            time.sleep(0.001)
        runtime.stop()
        ended.append(runtime.workers[0].finished.wait(60))
        stopped.set()

    runtime.sources[1] = comes_too_late()
    thread = threading.Thread(target=stop)
    thread.start()
    runtime.run()
    thread.join()
    assert ended == [True]
