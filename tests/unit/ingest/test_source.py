from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.reading import run
from traffic.capture import Interface, PcapngWriter, pcap_bytes, write_pcap
from traffic.packets import Frame

from retina_jit.errors import SourceError
from retina_jit.ingest.source import open_source
from retina_jit.ingest.sources import expand, open_sources
from retina_jit.status import Status

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FRAMES = [Frame(1_700_000_000 * 10**9 + n, bytes([n % 256]) * (60 + n % 900)) for n in range(3000)]
CONTENT = pcap_bytes(FRAMES, nanoseconds=True)
PACKERS = {"gz": gzip.compress, "zst": zstd.compress, "xz": lzma.compress, "bz2": bz2.compress}


def datas(got) -> list[bytes]:
    return [f.data for f in got.frames]


@pytest.mark.parametrize("kind", PACKERS)
def test_compressed_files(tmp_path, kind):
    path = tmp_path / "capture"  # found by its bytes, not by its name
    path.write_bytes(PACKERS[kind](CONTENT))
    with open_source(path) as source:
        assert datas(run(source)) == [f.data for f in FRAMES]
        assert source.position == source.size == path.stat().st_size
        assert not source.cut
        assert source.problem == ""


@pytest.mark.parametrize("kind", PACKERS)
def test_several_compressed_streams_in_one_file(tmp_path, kind):
    path = tmp_path / "capture"
    path.write_bytes(PACKERS[kind](CONTENT[:100_000]) + PACKERS[kind](CONTENT[100_000:]))
    with open_source(path) as source:
        assert len(run(source).frames) == len(FRAMES)


@pytest.mark.parametrize("kind", PACKERS)
def test_cut_compressed_file(tmp_path, kind):
    frames = [Frame(10**18 + n, random.Random(n).randbytes(1000)) for n in range(3000)]  # bzip2 packs 900 kB at a time
    packed = PACKERS[kind](pcap_bytes(frames, nanoseconds=True))
    path = tmp_path / "capture"
    path.write_bytes(packed[: len(packed) * 2 // 3])
    with open_source(path) as source:
        got = run(source)
        assert datas(got) == [f.data for f in frames[: len(got.frames)]]
        assert len(got.frames) > 500
        assert got.statuses[-1] == Status.DONE
        assert source.cut
        assert "data is cut" in source.problem


def test_damaged_gzip(tmp_path):
    packed = bytearray(gzip.compress(CONTENT))
    packed[-6] ^= 0xFF  # the check sum
    path = tmp_path / "capture"
    path.write_bytes(packed)
    with open_source(path) as source:
        assert len(run(source).frames) > 2000
        assert source.cut
        assert "gzip data is" in source.problem


def test_pipe_that_gives_a_few_bytes_at_a_time(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    content = pcap_bytes(FRAMES[:20])

    def feed() -> None:
        with path.open("wb", buffering=0) as out:
            for at in range(0, len(content), 97):
                out.write(content[at : at + 97])
                time.sleep(0.0002)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with open_source(path) as source:
        assert datas(run(source)) == [f.data for f in FRAMES[:20]]
        assert source.size == 0
    feeder.join()


def test_pipe_gives_frames_before_it_ends(tmp_path):
    """A live capture piped in must not wait for a full buffer."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    content = pcap_bytes(FRAMES[:2])
    go_on = threading.Event()

    def feed() -> None:
        with path.open("wb", buffering=0) as out:
            out.write(content[:-10])
            go_on.wait(10)
            out.write(content[-10:])

    feeder = threading.Thread(target=feed)
    feeder.start()
    from support.reading import burst

    with open_source(path) as source:
        first: list = []
        while not first:
            first = burst(source)
            if not first:
                assert source.refill()
        assert first[0].data == FRAMES[0].data
        go_on.set()
        assert datas(run(source)) == [FRAMES[1].data]
    feeder.join()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input(pack):
    code = (
        "from support.reading import run\nfrom retina_jit.ingest.source import open_source\n"
        "with open_source('-') as s: print(len(run(s).frames), s.name)"
    )
    tests = Path(__file__).parents[2]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(tests), str(tests.parent)]))
    done = subprocess.run([sys.executable, "-c", code], input=pack(CONTENT), env=env, capture_output=True, check=True)
    assert done.stdout == b"3000 standard input\n"


def message(path) -> str:
    with pytest.raises(SourceError) as caught:
        open_source(path)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_errors_name_the_reason(tmp_path):
    packed = tmp_path / "packed"
    packed.write_bytes(bz2.compress(CONTENT)[:100])
    assert "the bzip2 data is cut, nothing of it can be read" in message(packed)
    assert message(tmp_path / "none.pcap") == f"{tmp_path}/none.pcap: no such file"
    assert "is a folder" in message(tmp_path)
    path = tmp_path / "x"
    path.write_bytes(b"")
    assert "is empty" in message(path)
    path.write_bytes(b"PK\3\4 an archive")
    assert "not a capture file: it begins with 50 4b 03 04" in message(path)
    assert message(path).endswith("; pcap and pcapng are read, plain or compressed with gzip, zstd, xz or bzip2")
    path.write_bytes(gzip.compress(b"hello"))
    assert "not a capture file: it begins with 68 65 6c 6c 6f (b'hello')" in message(path)
    path.write_bytes(CONTENT[:23])
    assert "ends within the file header" in message(path)
    path.write_bytes(b"\xd4")
    assert "not a capture file" in message(path)
    write_pcap(path, [], link_type=105)
    assert "link type 105 (IEEE 802.11) is not supported" in message(path)
    write_pcap(path, [], link_type=999)
    assert "link type 999 is not supported" in message(path)
    writer = PcapngWriter()
    writer.interface(Interface(105))
    writer.interface(Interface(127))
    writer.packet(FRAMES[0])
    path.write_bytes(writer.getvalue())
    assert "link type 105 (IEEE 802.11) is not supported" in message(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    path = write_pcap(tmp_path / "x", [])
    path.chmod(0)
    assert "Permission denied" in message(path)


def test_no_descriptor_is_left_open(tmp_path):
    path = write_pcap(tmp_path / "x.pcap", FRAMES[:3])
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    bad = tmp_path / "bad"
    bad.write_bytes(b"nothing of the kind")
    for _ in range(2):
        before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
        for each in (path, packed):
            with open_source(each) as source:
                run(source)
            source.close()
        with pytest.raises(SourceError):
            open_source(bad)
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_several_files_are_numbered_through(tmp_path):
    for n in range(3):
        write_pcap(tmp_path / f"{n}.pcap", FRAMES[n * 10 : n * 10 + 10])
    numbers = []
    opened = []
    for source in open_sources([tmp_path / "2.pcap", str(tmp_path / "[01].pcap")]):
        opened.append(Path(source.path).name)
        numbers += [f.number for f in run(source).frames]
    assert opened == ["2.pcap", "0.pcap", "1.pcap"]
    assert numbers == list(range(1, 31))


def test_patterns(tmp_path):
    odd = write_pcap(tmp_path / "a[1].pcap", [])
    assert list(expand([odd])) == [str(odd)], "a name that exists is no pattern"
    with pytest.raises(SourceError, match="no file matches"):
        list(expand([tmp_path / "*.pcapng"]))
    with pytest.raises(SourceError, match="no such file"):
        open_sources([odd, tmp_path / "none"])
