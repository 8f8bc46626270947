"""Captures of what matches: tshark and the oracle find the selected packets in them, byte for byte."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess

import pytest
from oracle.captures import read_capture
from support.running import SAMPLES, config, runtime

from retina_jit.datatypes.captured import CapturedFrame
from retina_jit.errors import ConfigError
from retina_jit.sinks import CAPTURES, wanted_types
from retina_jit.subscription import named

FILTER = "tcp.port = 443"


def write(form, name="tls.pcap", text=FILTER):
    """Write packets of a sample that match; returns the file and what callbacks get: time, length, bytes."""
    out, seen = io.BytesIO(), []
    s = named(wanted_types(form, ["ZcFrame"]), text, print, "sink")
    s.sink, s.name = CAPTURES[form](out), "of interest"
    each = named(["ZcFrame"], text, lambda f: seen.append((f.ts, f.length, bytes(f))), "each")
    runtime([s, each], [SAMPLES / name], config()).run()
    s.sink.close()
    return out.getvalue(), seen


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_the_oracle_reads_back_what_was_selected(form):
    content, seen = write(form)
    found = read_capture(content)
    assert [(f.ts, f.length, f.data) for f in found.frames] == seen and len(seen) > 10
    assert not found.cut


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_tshark_reads_back_what_was_selected(form, tmp_path):
    content, seen = write(form)
    path = tmp_path / f"x.{form}"
    path.write_bytes(content)
    fields = ["frame.time_epoch", "frame.len", "frame.cap_len", "frame.comment"]
    said = subprocess.run(["tshark", "-r", path, "-T", "fields", *[w for f in fields for w in ("-e", f)]], capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in said.stdout.splitlines()]
    comment = "of interest" if form == "pcapng" else ""
    assert rows == [[f"{ts // 10**9}.{ts % 10**9:09d}", str(length), str(len(data)), comment] for ts, length, data in seen]
    raw = subprocess.run(["tshark", "-r", path, "-x"], capture_output=True, text=True, check=True).stdout
    dumped = [bytes.fromhex("".join(line[6:53] for line in frame.splitlines()).replace(" ", "")) for frame in raw.strip().split("\n\n") if frame[:4] == "0000"]
    assert dumped == [data for _, _, data in seen]


def test_nothing_that_matches_is_a_capture_all_the_same():
    for form in ("pcap", "pcapng"):
        content, seen = write(form, text="tcp.port = 1")
        assert read_capture(content).frames == [] == seen


def test_only_packets_go_into_a_capture():
    s = named(["FiveTuple"], "", print, "sink")
    s.sink = CAPTURES["pcap"](io.BytesIO())
    with pytest.raises(ConfigError, match="a capture file holds packets: write ZcFrame"):
        runtime([s], [SAMPLES / "tls.pcap"], config()).run()


def event(ts: int, data: bytes) -> bytes:
    """The record of a CapturedFrame and the bytes it points to, an event of subscription 0 that begins at 0."""
    return struct.pack("<qIIqq", ts, len(data), 0, 1, 32 << 32 | len(data)) + data


@pytest.mark.parametrize("ts", [-1, -(1 << 63), (1 << 32) * 10**9, (1 << 63) - 1])
@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_a_time_that_the_format_cannot_say_ends_nothing(form, ts):
    """pcap says seconds modulo 2^32, pcapng nanoseconds modulo 2^64; the packets before and behind are whole."""
    out = io.BytesIO()
    sink = CAPTURES[form](out)
    sink.open({0: ((CapturedFrame,), (0,))}, 1)
    for one in (5, ts, 7):
        sink.write(event(one, b"abc"), iter([(0, 0)]))
    sink.close()
    most = (1 << 32) * 10**9 if form == "pcap" else 1 << 64
    assert [(f.ts % most, f.data) for f in read_capture(out.getvalue()).frames] == [(5, b"abc"), (ts % most, b"abc"), (7, b"abc")]
