from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle.captures import read_capture
from support.reading import take_in
from traffic.capture import BLOCK_INTERFACE, Interface, PcapngWriter
from traffic.packets import Frame, LinkType

from retina_jit.ingest import guard
from retina_jit.ingest.layout import MAX_INTERFACES
from retina_jit.status import Status

TS = 1_700_000_000_123_456_789


def same(got, want) -> bool:
    return [(f.ts, f.data, f.length, f.link) for f in got.frames] == [(f.ts, f.data, f.length, f.link) for f in want.frames]


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("resolution", [None, 0, 3, 6, 9, 10, 0x80, 0x80 | 10, 0x80 | 30, 0x80 | 33])
@pytest.mark.parametrize("offset", [0, 1_600_000_000, -3600])
def test_clocks(tmp_path, big_endian, resolution, offset):
    writer = PcapngWriter(big_endian=big_endian)
    interface = Interface(tsresol=resolution, tsoffset=offset)
    writer.interface(interface)
    for n in range(3):
        writer.packet(Frame(TS + n * 10**9, bytes([n]) * 60))
    got, source = take_in(writer.getvalue(), tmp_path)
    want = read_capture(writer.getvalue())
    assert same(got, want)
    tick = 10**9 // (10 ** (6 if resolution is None else resolution)) if (resolution or 0) < 9 else 1
    if resolution is not None and resolution & 0x80:
        tick = max(1, 10**9 >> (resolution & 0x7F)) + 1
    assert all(abs(f.ts - (TS + n * 10**9)) <= tick for n, f in enumerate(got.frames))
    assert got.statuses == [Status.DONE]
    assert source.problem == ""


@pytest.mark.parametrize("resolution", [12, 18, 0x80 | 34, 0x80 | 60, 0x80 | 63])
def test_clock_finer_than_a_nanosecond(tmp_path, resolution):
    writer = PcapngWriter()
    writer.interface(Interface(tsresol=resolution, tsoffset=TS // 10**9))
    writer.packet(Frame(TS, bytes(60)))
    got, _ = take_in(writer.getvalue(), tmp_path)
    assert abs(got.frames[0].ts - TS) <= 1


def mixed_writer() -> PcapngWriter:
    """Sections of both byte orders, interfaces described late, every packet block, unknown blocks, comments."""
    writer = PcapngWriter()
    writer.interface(Interface(name="a"))
    writer.packet(Frame(TS, b"\1" * 61, 90), comment="a comment")
    writer.block(0x0BAD, bytes(20))
    writer.interface(Interface(LinkType.RAW, tsresol=6, name="b"))
    writer.packet(Frame(TS + 1000, b"\2" * 33), 1)
    writer.simple_packet(Frame(0, b"\3" * 47))
    writer.block(5, bytes(8))
    writer.old_packet(Frame(TS + 5000, b"\4" * 50, 51), 1)
    writer.section(big_endian=True, comment="another byte order")
    writer.section(big_endian=True)
    writer.interface(Interface(LinkType.LINUX_SLL2, tsresol=0x80 | 20, snaplen=30))
    writer.simple_packet(Frame(0, b"\5" * 30, 99))
    writer.packet(Frame(TS + 10**9, b"\6" * 31))
    writer.old_packet(Frame(TS + 2 * 10**9, b"\7" * 32))
    writer.section()
    writer.interface(Interface(105))
    writer.packet(Frame(TS, b"\x08" * 20))
    writer.interface()
    writer.packet(Frame(TS, b"\x09" * 20), 1)
    return writer


@pytest.mark.parametrize("most", [1, 2, 64])
def test_sections_interfaces_and_blocks(tmp_path, most):
    content = mixed_writer().getvalue()
    got, source = take_in(content, tmp_path, most=most)
    want = read_capture(content)
    assert same(got, want)
    assert [f.link for f in got.frames] == [1, 101, 1, 101, 276, 276, 276, 105, 1]
    assert [f.data[0] for f in got.frames] == list(range(1, 10))
    assert got.frames[2].ts == got.frames[1].ts, "a simple packet has the time of the one before"
    assert source.unsupported == 1
    assert source.unsupported_link == "link type 105 (IEEE 802.11)"


@pytest.mark.parametrize("mapped", [True, False])
def test_cut_anywhere(tmp_path, monkeypatch, mapped):
    monkeypatch.setattr(guard, "SUPPORTED", mapped)
    content = mixed_writer().getvalue()
    for end in range(4, len(content) + 1):
        got, source = take_in(content[:end], tmp_path)
        want = read_capture(content[:end])
        assert same(got, want), end
        assert (source.cut, source.offset) == (want.cut, want.offset), end
        assert got.statuses[-1] == Status.DONE


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(st.tuples(st.integers(4, 900), st.integers(0, 255)), min_size=1, max_size=5),
    end=st.integers(30, 2000),
    most=st.sampled_from([1, 64]),
    mapped=st.booleans(),
)
def test_damage_anywhere(tmp_path, changes, end, most, mapped):
    content = bytearray(mixed_writer().getvalue())[:end]
    for at, value in changes:
        content[at % len(content)] = value
    content[:4] = b"\x0a\x0d\x0d\x0a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "SUPPORTED", mapped)
        patch.setattr("retina_jit.ingest.source.is_supported", lambda link: True)  # links are damaged too
        got, source = take_in(bytes(content), tmp_path, most=most)
    want = read_capture(bytes(content))
    # A clock finer than 2^-33 s (a damaged resolution) may come out a nanosecond early.
    assert all(abs(f.ts - g.ts) <= 1 for f, g in zip(got.frames, want.frames))
    for f, g in zip(got.frames, want.frames):
        f.ts = g.ts
    assert same(got, want)
    assert (source.cut, source.status == Status.BROKEN) == (want.cut, want.broken)
    assert source.offset <= want.offset if most == 64 else source.offset == want.offset


def test_too_many_interfaces(tmp_path):
    writer = PcapngWriter()
    for _ in range(MAX_INTERFACES + 1):
        writer.block(BLOCK_INTERFACE, b"\1\0\0\0\0\0\0\0")
    _, source = take_in(writer.getvalue(), tmp_path)
    assert "more than 4096 interfaces" in source.problem


def test_block_larger_than_a_chunk_in_a_stream(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "SUPPORTED", False)
    writer = PcapngWriter()
    writer.interface()
    writer.packet(Frame(TS, b"\1" * 60))
    writer.block(0x0BAD, bytes(15 << 20))
    writer.packet(Frame(TS, b"\2" * 60))
    got, source = take_in(writer.getvalue(), tmp_path)
    assert [f.data[0] for f in got.frames] == [1, 2]
    assert source.offset == len(writer.getvalue())


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"\x12\x34\x56\x78" + bytes(12), "byte order mark"),
        (b"\x4d\x3c\x2b\x1a\x02\x00\x00\x00" + bytes(8), "version other than 1"),
    ],
)
def test_bad_section(tmp_path, body, text):
    writer = PcapngWriter()
    writer.interface()
    writer.packet(Frame(TS, b"\1" * 60))
    writer.block(0x0A0D0D0A, body)
    got, source = take_in(writer.getvalue(), tmp_path)
    assert len(got.frames) == 1
    assert text in source.problem
