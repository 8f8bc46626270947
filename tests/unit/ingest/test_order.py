"""When a capture begins is told without reading it, and that is what a walk says; where it ends was settled before."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

import retina_jit as rj
from retina_jit.errors import SourceError
from retina_jit.ingest import order, readahead, source
from retina_jit.ingest.order import first_time
from retina_jit.subscription import Subscription

SAMPLES = Path(__file__).parents[3] / "retina_jit" / "samples"


def pcap(order_: str = "<", magic: int = 0xA1B2C3D4, link: int = 1, caplen: int = 60, kept: int = 60, seconds: int = 1_700_000_000) -> bytes:
    extra = bytes(8) if magic == 0xA1B2CD34 else b""
    return struct.pack(order_ + "IHHiIIIIIII", magic, 2, 4, 0, 0, 1 << 18, link, seconds, 7, caplen, caplen) + extra + bytes(kept)


CAPTURES = [
    *(pcap(o, m) for o in "<>" for m in (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34)),
    pcap(link=9999), pcap(kept=59), pcap(caplen=0, kept=0), pcap(caplen=1 << 19), pcap()[:30], pcap()[:24], pcap()[:10], b"",
    pcap(caplen=0, kept=0, seconds=0), pcap(seconds=0xFFFFFFFF), b"no capture" * 10,
    (SAMPLES / "tls.pcap").read_bytes(),
]  # fmt: skip


def told(path: Path) -> int | str:
    try:
        return first_time(str(path))
    except SourceError as error:
        return str(error)


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_read_at_once_is_what_a_walk_finds(packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for n, content in enumerate(CAPTURES):
        paths.append(tmp_path / f"{n}.pcap")
        paths[-1].write_bytes(gzip.compress(content) if packed else content)
    paths += [tmp_path, tmp_path / "none"]
    found = [told(path) for path in paths]
    quick = [order._of_plain_pcap(str(path)) for path in paths]
    assert sum(t is not None for t in quick) == (0 if packed else 8)
    monkeypatch.setattr(order, "_of_plain_pcap", lambda _: None)
    assert found == [told(path) for path in paths]
    assert found[0] == 1_700_000_000_000_007_000
    assert found[1] == 1_700_000_000_000_000_007


@pytest.mark.parametrize("how", ["mapped", "read", "ahead", "packed"])
def test_what_was_appended_since_is_left_out(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, record = tmp_path / "x.pcap", struct.pack("<IIII", 1, 0, 1000, 1000) + bytes(1000)
    n = readahead.WORTH // len(record) + 10 if how == "ahead" else 5000
    content = pcap()[:24] + n * record
    path.write_bytes(gzip.compress(content) if how == "packed" else content)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(gzip.compress(3 * record) if how == "packed" else 3 * record)
    monkeypatch.setattr(source, "maps_fast", lambda *_: how == "mapped")
    monkeypatch.setattr(readahead, "_cores", lambda: 2)
    config = rj.RuntimeConfig(read_ahead=how == "ahead")

    def frames(ends: dict[str, int] | None) -> int:
        runtime = rj.Runtime([Subscription("", (rj.ZcFrame,), lambda _: None)], [path], config, ends=ends)
        result = runtime.run()
        assert result.problems == []
        return result.counters["frames"]

    assert frames({str(path): size}) == n
    assert frames(None) == n + 3
    assert frames({str(path): size + 10**9}) == n + 3
