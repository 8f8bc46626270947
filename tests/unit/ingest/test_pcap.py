from __future__ import annotations

import struct

import pytest
from oracle.captures import read_capture
from support.reading import run, take_in
from traffic.capture import pcap_bytes
from traffic.packets import Frame

from retina_jit.ingest import guard
from retina_jit.ingest.layout import MAX_CAPLEN
from retina_jit.ingest.source import open_source
from retina_jit.status import Status


def some_frames(count: int = 5) -> list[Frame]:
    return [Frame(1_700_000_000_123_456_789 + n * 10**9, bytes([n]) * (60 + 7 * n), 100 + 7 * n) for n in range(count)]


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("nanoseconds", [False, True])
@pytest.mark.parametrize("most", [1, 3, 64])
def test_every_form(tmp_path, big_endian, nanoseconds, most):
    frames = some_frames(200)
    got, source = take_in(pcap_bytes(frames, big_endian=big_endian, nanoseconds=nanoseconds), tmp_path, most=most, first=1000)
    unit = 1 if nanoseconds else 1000
    assert [(f.ts, f.data, f.length, f.link) for f in got.frames] == [
        (f.ts_ns // unit * unit, f.data, f.length, 1) for f in frames
    ]
    assert [f.number for f in got.frames] == list(range(1001, 1201))
    assert (source.frames, source.bytes, source.number) == (200, sum(f.length for f in frames), 1200)
    assert source.position == source.size
    assert got.statuses == [Status.DONE]
    assert not source.cut
    assert source.problem == ""


@pytest.mark.parametrize("order", ["<", ">"])
def test_modified_format_has_longer_record_headers(tmp_path, order):
    content = struct.pack(order + "IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1)
    for n in range(3):
        content += struct.pack(order + "IIIIIHBB", 7, n, 60, 61, 2, 0, 0, 0) + bytes([n]) * 60
    got, _ = take_in(content, tmp_path)
    assert [(f.ts, f.data[0], len(f.data), f.length) for f in got.frames] == [(7 * 10**9 + 1000 * n, n, 60, 61) for n in range(3)]


@pytest.mark.parametrize("mapped", [True, False])
def test_cut_anywhere(tmp_path, monkeypatch, mapped):
    monkeypatch.setattr(guard, "SUPPORTED", mapped)
    content = pcap_bytes(some_frames())
    for end in range(24, len(content) + 1):
        got, source = take_in(content[:end], tmp_path)
        want = read_capture(content[:end])
        assert [f.data for f in got.frames] == [f.data for f in want.frames]
        assert source.cut == want.cut
        assert got.statuses[-1] == Status.DONE
        assert (f"cut at byte {want.offset}" in source.problem) == want.cut


@pytest.mark.parametrize("most", [1, 64])
def test_damage_is_found_where_it_is(tmp_path, most):
    frames = some_frames()
    content = bytearray(pcap_bytes(frames))
    at = 24 + sum(16 + f.caplen for f in frames[:3])
    content[at + 8 : at + 12] = (MAX_CAPLEN + 1).to_bytes(4, "little")
    got, source = take_in(bytes(content), tmp_path, most=most)
    assert len(got.frames) == 3
    assert got.statuses == [Status.BROKEN]
    assert f"byte {at}: a record claims more than" in source.problem


@pytest.mark.parametrize("mapped", [True, False])
def test_zeros_at_the_end_are_no_records(tmp_path, monkeypatch, mapped):
    monkeypatch.setattr(guard, "SUPPORTED", mapped)
    content = pcap_bytes(some_frames())
    got, source = take_in(content + bytes(4096), tmp_path)
    assert len(got.frames) == 5
    assert got.statuses == ([Status.SHRUNK] if mapped else []) + ([] if mapped else [Status.NEED_INPUT] * 0) + [Status.BROKEN]
    assert f"byte {len(content)}: a record of zeros" in source.problem


def test_empty_frames_are_frames(tmp_path):
    got, _ = take_in(pcap_bytes([Frame(10**9, b""), Frame(2 * 10**9, b"", 60)]), tmp_path)
    assert [(f.data, f.length) for f in got.frames] == [(b"", 0), (b"", 60)]


def test_frame_check_length_in_the_link_type_is_left_out(tmp_path):
    content = bytearray(pcap_bytes(some_frames(1)))
    content[20:24] = (1 | 1 << 26 | 2 << 28).to_bytes(4, "little")
    got, _ = take_in(bytes(content), tmp_path)
    assert got.frames[0].link == 1


def test_file_of_many_chunks_as_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "SUPPORTED", False)
    frames = [Frame(10**9 + n, bytes([n % 251]) * (n * 37 % 9000)) for n in range(2000)]
    path = tmp_path / "capture"
    path.write_bytes(pcap_bytes(frames, nanoseconds=True))
    with open_source(path) as source:
        got = run(source)
        assert [f.data for f in got.frames] == [f.data for f in frames]
        assert source.position == source.size == path.stat().st_size
        assert source.offset == source.size
        assert got.statuses.count(Status.NEED_INPUT) >= source.size >> 20
