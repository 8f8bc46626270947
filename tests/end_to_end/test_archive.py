"""Many captures by several processes: the same as one run over all of them, whatever happens on the way."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from retina_jit import archive
from retina_jit.archive import engines, tasks
from retina_jit.archive.engines import LostError
from retina_jit.cli import main
from retina_jit.errors import ConfigError, SourceError

writing = importlib.import_module("retina_jit.archive.write")  # the package's `write` is the function
SAMPLES = Path(__file__).parents[2] / "retina_jit" / "samples"
TYPES = ("ConnRecord", "TlsHandshake,FiveTuple", "DnsTransaction")
PIECE = 40
ENDLESS = """
class Waits(tasks._Position):
    def __init__(self, task):
        import time
        time.sleep(3600)
tasks._Position = Waits
"""
"""Makes tasks that never end, in copies of a process too."""


def cut(capture: Path, folder: Path) -> list[Path]:
    """Cut a little-endian pcap into captures of 40 packets; their names do not sort by time."""
    data = capture.read_bytes()
    at, pieces = 24, [bytearray(data[:24])]
    for n in range(1 << 30):
        if at == len(data):
            break
        if n and n % PIECE == 0:
            pieces.append(bytearray(data[:24]))
        length = struct.unpack_from("<I", data, at + 8)[0]
        pieces[-1] += data[at : at + 16 + length]
        at += 16 + length
    paths = [folder / f"{len(pieces) - n:03}.pcap" for n in range(len(pieces))]
    for path, piece in zip(paths, pieces, strict=True):
        path.write_bytes(piece)
    return paths


@pytest.fixture
def pieces(tmp_path: Path) -> str:
    folder = tmp_path / "captures"
    folder.mkdir()
    assert len(cut(SAMPLES / "mixed.pcap", folder)) > 3
    return str(folder / "*.pcap")


def lines(path: Path) -> list[bytes]:
    return sorted(path.read_bytes().splitlines())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of one run over the capture in one piece."""
    out = tmp_path_factory.mktemp("whole") / "out.jsonl"
    ran = CliRunner().invoke(main, ["log", *TYPES, "-r", str(SAMPLES / "mixed.pcap"), "-o", str(out), "-q"])
    assert ran.exit_code == 0, ran.output
    assert len(lines(out)) > 20
    return lines(out)


def test_connections_go_on_in_the_next_capture(pieces: str, whole: list[bytes], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    ran = CliRunner().invoke(main, ["log", *TYPES, "-r", pieces, "-o", str(out), "-j", "2", "--stats", "json"])
    assert ran.exit_code == 0, ran.output
    assert lines(out) == whole
    assert not (tmp_path / "out.jsonl.parts").exists()


def test_counters_are_those_of_one_run(pieces: str, tmp_path: Path) -> None:
    one = archive.write(TYPES, [pieces], tmp_path / "one", processes=1)
    three = archive.write(TYPES, [pieces], tmp_path / "three", processes=3)
    assert one.counters == three.counters
    assert one.lines == three.lines == len(lines(tmp_path / "one"))


def test_each_capture_for_itself(pieces: str, whole: list[bytes], tmp_path: Path) -> None:
    done = archive.write(TYPES, [pieces], tmp_path / "out", per_file=True)
    assert done.counters["frames"] == 150
    alone = []
    for n, piece in enumerate(sorted(Path(pieces).parent.glob("*.pcap"))):
        archive.write(TYPES, [str(piece)], tmp_path / str(n), processes=1)
        alone += lines(tmp_path / str(n))
    assert lines(tmp_path / "out") == sorted(alone) != whole


@pytest.mark.parametrize("form", ["csv", "arrow", "parquet"])
def test_other_formats(pieces: str, tmp_path: Path, form: str) -> None:
    pa = pytest.importorskip("pyarrow") if form != "csv" else None
    for processes in (1, 3):
        done = archive.write(["DnsTransaction"], [pieces], tmp_path / f"{processes}.{form}", format=form, processes=processes)
        assert done.lines > 3
    if form == "csv":
        one, three = ((tmp_path / f"{n}.csv").read_text().splitlines() for n in (1, 3))
        assert one[0] == three[0]
        assert sorted(one) == sorted(three)
        return
    if form == "arrow":
        one, three = (pa.ipc.open_stream((tmp_path / f"{n}.arrow").read_bytes()).read_all() for n in (1, 3))
    else:
        from pyarrow import parquet

        one, three = (parquet.read_table(tmp_path / f"{n}.parquet") for n in (1, 3))
    assert sorted(map(repr, one.to_pylist())) == sorted(map(repr, three.to_pylist()))


def test_a_capture_that_cannot_be_read_is_told_and_the_rest_is_done(pieces: str, whole: list[bytes], tmp_path: Path) -> None:
    (Path(pieces).parent / "bad.pcap").write_bytes(b"this is no capture at all")
    for more in ([], ["--per-file"]):
        out = tmp_path / f"out{len(more)}.jsonl"
        ran = CliRunner().invoke(main, ["log", *TYPES, "-r", pieces, "-o", str(out), "-j", "2", *more])
        assert ran.exit_code == 3
        assert "bad.pcap" in ran.output
        assert f"the others are in {out}" in ran.output
        assert more or lines(out) == whole
    with pytest.raises(SourceError, match=r"bad\.pcap"):
        archive.write(TYPES, [str(Path(pieces).parent / "bad.pcap")], tmp_path / "out")


def test_a_process_that_is_killed_loses_nothing(pieces: str, whole: list[bytes], tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one(done: int, total: int) -> None:
        for child in multiprocessing.active_children()[: 1 - len(killed)]:
            child.kill()
            killed.append(child.pid or 0)

    archive.write(TYPES, [pieces], tmp_path / "out", progress=kill_one)
    assert killed
    assert lines(tmp_path / "out") == whole


def test_a_task_that_always_kills_its_process_ends_the_run(pieces: str, tmp_path: Path) -> None:
    def kill_all(done: int, total: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(LostError, match="has died 3 times"):
        archive.write(TYPES, [pieces], tmp_path / "out", progress=kill_all)


def test_an_interrupted_run_goes_on_where_it_was(pieces: str, whole: list[bytes], tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(done: int, total: int) -> None:
        if list((tmp_path / "out.parts").glob("*[0-9].json")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.write(TYPES, [pieces], out, processes=3, progress=stop)
    assert not out.exists()
    done = archive.write(TYPES, [pieces], out, processes=3)
    assert done.kept >= 1
    assert lines(out) == whole


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_the_one_that_gave_them_work_and_the_next_run_goes_on(pieces: str, whole: list[bytes], tmp_path: Path, sent: int) -> None:
    """The pipe that they have as standard error is at its end when the last of them is gone."""
    out = tmp_path / "out"
    code = f"import sys\nfrom retina_jit.archive import tasks\nfrom retina_jit.cli import main\n{ENDLESS}\nmain(sys.argv[1:])"
    command = [sys.executable, "-c", code, "log", *TYPES, "-r", pieces, "-o", str(out), "--per-file", "-j", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "out.parts").glob(f"*{tasks.UNFINISHED}")) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(sent)
        _, told = process.communicate(timeout=120)
    assert process.returncode == -sent, told
    done = archive.write(TYPES, [pieces], out, per_file=True)
    assert done.counters["frames"] == 150
    assert not (tmp_path / "out.parts").exists()


@pytest.mark.parametrize("per_file", [False, True])
def test_a_capture_that_grows_ends_where_it_was_when_the_work_was_planned(
    pieces: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_file: bool
) -> None:
    archive.write(TYPES, [pieces], tmp_path / "before", per_file=per_file)
    usual = writing.take_over

    def meanwhile(*given: Any) -> None:
        usual(*given)
        for path in Path(pieces).parent.iterdir():
            records = path.read_bytes()[24:]
            with path.open("ab") as file:
                file.write(records)

    monkeypatch.setattr(writing, "take_over", meanwhile)
    done = archive.write(TYPES, [pieces], tmp_path / "out", per_file=per_file)
    assert (done.counters["frames"], done.problems) == (150, [])
    assert lines(tmp_path / "out") == lines(tmp_path / "before")


def test_parts_of_another_question_are_not_taken(pieces: str, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if list((tmp_path / "out.parts").glob("*[0-9].json")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive.write(TYPES, [pieces], tmp_path / "out", progress=stop)
    assert archive.write(["ConnRecord"], [pieces], tmp_path / "out").kept == 0


def test_mistakes_are_told(pieces: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.parts").mkdir()
    (tmp_path / "mine.parts" / "mine").touch()
    with pytest.raises(ConfigError, match=r"mine\.parts: is in the way"):
        archive.write(TYPES, [pieces], tmp_path / "mine")
    ran = CliRunner().invoke(main, ["log", *TYPES, "-r", pieces, "--per-file"])
    assert ran.exit_code == 1
    assert "an output file (-o FILE)" in ran.output
    pytest.importorskip("distributed")
    monkeypatch.setattr(engines, "PATIENCE", 0.2)
    with pytest.raises(ConfigError, match="no Dask scheduler answers there"):
        archive.write(TYPES, [pieces], tmp_path / "out", scheduler="tcp://127.0.0.1:9")


@pytest.mark.filterwarnings("ignore")  # of Dask's own
def test_a_dask_cluster_does_the_same_also_when_a_worker_is_killed(pieces: str, whole: list[bytes], tmp_path: Path) -> None:
    distributed: Any = pytest.importorskip("distributed", reason="Dask is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        archive.write(TYPES, [pieces], tmp_path / "whole", scheduler=cluster.scheduler_address, processes=4)
        assert lines(tmp_path / "whole") == whole
        killed: list[int] = []

        def kill_one(done: int, total: int) -> None:
            if not killed:
                worker = next(iter(cluster.workers.values()))
                killed.append(worker.process.pid)
                os.kill(worker.process.pid, signal.SIGKILL)

        archive.write(TYPES, [pieces], tmp_path / "killed", scheduler=cluster.scheduler_address, processes=4, progress=kill_one)
        assert killed
        assert lines(tmp_path / "killed") == whole
