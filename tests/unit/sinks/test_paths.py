"""Sinks by path: the ending says the format, subscriptions share a file, files are begun anew, what a killed process has written can be read."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest
from parsezeeklogs import read_zeek
from support.running import SAMPLES, config, runtime

import retina_jit as rj
from retina_jit.errors import ConfigError, SubscriptionError
from retina_jit.sinks import FORMATS
from retina_jit.sinks.paths import Paths, Rotating, format_of, rotation
from retina_jit.subscription import subscriptions_of

PATH = SAMPLES / "tls.pcap"


def subscribed(types, target, text="", **options):
    @rj.subscribe(text, *types.split(","), sink=str(target), **options)
    def written(*_):
        raise AssertionError("a sink takes the events")

    return subscriptions_of(written)


def lines(path):
    return [json.loads(x) for x in path.read_text().splitlines()]


def test_two_subscriptions_in_one_file_and_others_beside_it(tmp_path):
    seen = []

    @rj.subscribe("tls")
    def each(conn: rj.ConnRecord) -> None:
        seen.append(conn)

    made = subscribed("TlsHandshake", tmp_path / "a.jsonl") + subscribed("ConnRecord", tmp_path / "a.jsonl") + subscribed("ConnRecord", tmp_path / "c.parquet")
    made += subscribed("ConnRecord", f"zeek:{tmp_path}/logs") + subscriptions_of(each)
    for _ in range(2):  # each run writes its own
        runtime(made, [PATH], config()).run()
    kinds = [next(iter(x)) for x in lines(tmp_path / "a.jsonl")]
    assert kinds.count("tls_handshake") == 21 and kinds.count("conn_record") == len(pl.read_parquet(tmp_path / "c.parquet"))
    assert len(list(read_zeek(tmp_path / "logs" / "conn.log"))) == kinds.count("conn_record") and len(seen) > 0


@pytest.mark.parametrize("ending", ["jsonl", "csv", "pcap"])
def test_rotation_by_size_loses_nothing(ending, tmp_path):
    kind = "ZcFrame" if ending == "pcap" else "ConnRecord"
    runtime(subscribed(kind, tmp_path / f"whole.{ending}"), [PATH], config()).run()
    # Pieces of the ring are what a file can be cut at: of many small files each is a piece.
    made = subscribed(kind, tmp_path / f"x.{ending}", rotate="1k")
    runtime(made, [PATH, PATH, PATH], config()).run()
    parts = sorted(tmp_path.glob(f"x.*.{ending}"))
    assert [p.name for p in parts] == [f"x.{n:05d}.{ending}" for n in range(len(parts))]
    whole = tmp_path / f"whole.{ending}"
    if ending == "jsonl":
        assert sum(len(lines(p)) for p in parts) == 3 * len(lines(whole))
    elif ending == "csv":
        assert {p.read_text().splitlines()[0] for p in parts} == {whole.read_text().splitlines()[0]}
        assert sum(len(p.read_text().splitlines()) - 1 for p in parts) == 3 * (len(whole.read_text().splitlines()) - 1)
    else:
        assert sum(p.stat().st_size - 24 for p in parts) == 3 * (whole.stat().st_size - 24)


def test_what_a_killed_process_has_written_can_be_read(tmp_path):
    content, out = PATH.read_bytes(), tmp_path / "x.jsonl"
    command = [sys.executable, "-m", "retina_jit", "log", "ConnRecord", "-r", "-", "-o", str(out)]
    subprocess.run(command, input=content, stderr=subprocess.DEVNULL, check=True)  # what it needs is compiled now
    out.unlink()
    child = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdin is not None
    filled = threading.Event()

    def feed() -> None:
        assert child.stdin is not None
        try:
            child.stdin.write(content)
            for n in range(1, 3000):
                # The same connections again and again, an hour later each: the earlier ones end.
                child.stdin.write(later(content, 3600 * n))
                if out.exists() and out.stat().st_size > 10_000:
                    filled.set()
        except BrokenPipeError:
            pass

    feeder = threading.Thread(target=feed)
    feeder.start()
    assert filled.wait(120)
    child.send_signal(signal.SIGKILL)
    child.wait()
    feeder.join()
    child.stdin.close() if not child.stdin.closed else None
    # A write that is going on may be cut by SIGKILL, at the end of any page: then the last line is no whole one.
    whole = out.read_text().rpartition("\n")[0]
    read = [json.loads(x) for x in whole.splitlines()]
    assert len(read) > 10 and all(set(x) == {"conn_record"} for x in read)


def later(content: bytes, seconds: int) -> bytes:
    """The packets of a little-endian pcap, some time later."""
    found, at = [], 24
    while at < len(content):
        size = 16 + int.from_bytes(content[at + 8 : at + 12], "little")
        found.append((int.from_bytes(content[at : at + 4], "little") + seconds).to_bytes(4, "little") + content[at + 4 : at + size])
        at += size
    return b"".join(found)


def test_the_words_for_it(tmp_path):
    assert [format_of(x) for x in ("a/x.jsonl", "x.pcapng", "zeek:logs", "csv:x.txt")] == [
        ("jsonl", "a/x.jsonl"), ("pcapng", "x.pcapng"), ("zeek", "logs"), ("csv", "x.txt"),
    ]  # fmt: skip
    assert (rotation("100M").size, rotation("10min").seconds, rotation("1k, 1d")) == (10**8, 600, rotation("1d,1k"))
    for wrong in ("100", "M", "0s", "1 week"):
        with pytest.raises(ConfigError, match="a size"):
            rotation(wrong)
    with pytest.raises(ConfigError, match="does not follow from its ending"):
        runtime(subscribed("ConnRecord", "x.log"), [PATH], config())
    with pytest.raises(ConfigError, match="No such file or directory"):
        runtime(subscribed("ConnRecord", Path(tmp_path) / "no" / "x.csv"), [PATH], config())
    with pytest.raises(SubscriptionError, match="does not go with deliver='batch'"):
        subscribed("ConnRecord", "x.csv", deliver="batch")


class Failing:
    """A sink of lines whose end fails, or is noted."""

    def __init__(self, out, ended, fails=False):
        self._out, self._ended, self._fails, self.lines = out, ended, fails, 0

    def open(self, mine, count):
        pass

    def take(self, address, length):
        self._out.write(b"x" * length)
        self.lines += 1
        return length

    def flush(self):
        self._out.flush()

    def close(self):
        self._ended.append(Path(self._out.name).name)
        if self._fails:
            raise OSError(f"no room for the end of {Path(self._out.name).name}")


def test_a_sink_that_cannot_be_ended_does_not_keep_others_from_it(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setitem(FORMATS, "jsonl", lambda out: Failing(out, ended, fails="good" not in out.name))
    paths = Paths()
    for name in ("good0", "bad1", "good2", "bad3"):
        paths.get(str(tmp_path / f"{name}.jsonl"))
    files = list(paths._files)
    with pytest.raises(OSError, match=r"the end of bad1\.jsonl"):
        paths.close()
    assert ended == ["good0.jsonl", "bad1.jsonl", "good2.jsonl", "bad3.jsonl"] and all(f.closed for f in files)
    paths.close()
    assert len(ended) == 4


def test_a_next_file_that_cannot_be_opened_leaves_the_one_before_whole(tmp_path):
    ended = []
    sink = Rotating(lambda out: Failing(out, ended), tmp_path / "x.jsonl", rotation("1k"))
    sink.open({}, 1)
    sink.take(0, 1001)
    (tmp_path / "x.00001.jsonl").mkdir()
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"x\.00001\.jsonl: Is a directory"):
            sink.take(0, 1)
    assert ended == []
    (tmp_path / "x.00001.jsonl").rmdir()
    sink.take(0, 3)
    assert ended == ["x.00000.jsonl"] and sink.lines == 2
    sink.close()
    assert ended == ["x.00000.jsonl", "x.00001.jsonl"] and sink.lines == 2
    assert [(tmp_path / f"x.0000{n}.jsonl").stat().st_size for n in range(2)] == [1001, 3]


def test_a_file_that_cannot_be_ended_is_ended_once(tmp_path):
    ended = []
    sink = Rotating(lambda out: Failing(out, ended, fails="00000" in out.name), tmp_path / "x.jsonl", rotation("1k"))
    sink.open({}, 1)
    sink.take(0, 1001)
    with pytest.raises(OSError, match=r"the end of x\.00000\.jsonl"):
        sink.take(0, 1)
    sink.close()
    assert ended == ["x.00000.jsonl", "x.00001.jsonl"]


@pytest.mark.parametrize(("first", "second"), [("", "1M"), ("1M", ""), ("1M", "2M")])
def test_a_file_is_begun_anew_in_one_way(first, second, tmp_path):
    paths = Paths()
    sink = paths.get(str(tmp_path / "x.jsonl"), first)
    with pytest.raises(ConfigError, match=r"x\.jsonl: rotate .* and .*: subscriptions that share a file begin it anew alike"):
        paths.get(str(tmp_path / "x.jsonl"), second)
    assert paths.get(str(tmp_path / "x.jsonl"), first) is sink
    paths.close()


def test_the_same_rotation_in_other_words_is_the_same(tmp_path):
    paths = Paths()
    assert paths.get(str(tmp_path / "x.jsonl"), "1M,60s") is paths.get(str(tmp_path / "x.jsonl"), "1min, 1000k")
    paths.close()


def test_a_program_that_comes_too_late_does_not_empty_files(tmp_path):
    for rotate, name in (("", "x.jsonl"), ("1k", "x.00000.jsonl")):
        paths = Paths()
        paths.get(str(tmp_path / "x.jsonl"), rotate)
        paths.close()
        (tmp_path / name).write_bytes(b"what the run has written")
        with pytest.raises(ConfigError, match="the run is over"):
            paths.get(str(tmp_path / "x.jsonl"), rotate)
        assert (tmp_path / name).read_bytes() == b"what the run has written"
