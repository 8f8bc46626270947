"""How the work on an archive is cut, taken over and counted. That it gives what one run gives: see the end-to-end tests."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from retina_jit.archive import engines, output, tasks
from retina_jit.archive.engines import PERIOD, TRIES, LostError, in_order
from retina_jit.archive.folder import alone_in, discard, take_over
from retina_jit.archive.output import Output
from retina_jit.archive.tasks import Capture, Question, Task, digest, in_time_order, plan
from retina_jit.cli import main
from retina_jit.config import RuntimeConfig
from retina_jit.config_network import LogConfig, MonitorConfig, PrometheusConfig
from retina_jit.errors import ConfigError, SourceError
from retina_jit.sinks import joining
from retina_jit.sinks.joining import BUFFER, append

writing = importlib.import_module("retina_jit.archive.write")  # the package's `write` is the function
SAMPLES = Path(__file__).parents[2] / "retina_jit" / "samples"
CAPTURES = [Capture(f"/captures/{n}.pcap", 100 + n, n) for n in range(50)]
SERVICES = RuntimeConfig(monitor=MonitorConfig(log=LogConfig()), prometheus=PrometheusConfig(port=9), user="nobody", workers=3)


def asked(config: RuntimeConfig | None = None) -> Question:
    return Question(("ConnRecord",), "tls", "jsonl", config or RuntimeConfig())


def key(config: RuntimeConfig | None = None) -> str:
    return digest(asked(config), CAPTURES, 2, per_file=True)


def work(folder: Path) -> list[Task]:
    return plan(asked(), CAPTURES, 2, folder, key(), per_file=True)


def begin(task: Task) -> Path:
    made = tasks._beside(Path(task.part), tasks.UNFINISHED)
    made.touch()
    return made


def test_a_death_counts_for_what_was_being_done(tmp_path: Path) -> None:
    left = dict.fromkeys(work(tmp_path), 0)
    unlucky, *others = left
    for n, other in enumerate(others[: 2 * TRIES]):
        if n % 2 == 0:  # each time beside another one
            made = [begin(unlucky), begin(other)]
            if n // 2 == TRIES - 1:
                with pytest.raises(LostError, match=rf"/captures/0\.pcap: .* has died {TRIES} times; see its part .*000000"):
                    engines._count(left, BrokenProcessPool())
            else:
                engines._count(left, BrokenProcessPool())
            assert not any(f.exists() for f in made)
    assert left[unlucky] == TRIES
    assert max(left[t] for t in others) == 1
    assert sum(left[t] for t in others) == TRIES - 1


def test_a_death_before_anything_was_begun_counts_for_all(tmp_path: Path) -> None:
    left = dict.fromkeys(work(tmp_path), 0)
    for _ in range(TRIES - 1):
        engines._count(left, BrokenProcessPool())
    assert set(left.values()) == {TRIES - 1}
    with pytest.raises(LostError):
        engines._count(left, BrokenProcessPool())


CONTENTS = [b"", b"h\n", b"h\none\ntwo\n", b"h\n" + b"three\n" * 70_000, b"", b"h\nfour\n"]


class Steps:
    """Whatever changes files, until one step is the last: before it is done, or after."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int) -> None:
        self.left = last
        for place, name in ((Path, "replace"), (Path, "unlink"), (output, "append"), (Output, "_note")):
            monkeypatch.setattr(place, name, self._counted(getattr(place, name)))

    def _counted(self, do: Any) -> Any:
        def counted(*args: Any, **how: Any) -> Any:
            self._step()
            found = do(*args, **how)
            self._step()
            return found

        return counted

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def do_what_is_left(made: list[Task], joined: int) -> None:
    for n, (task, content) in enumerate(zip(made, CONTENTS, strict=True)):
        if tasks.finished(task, joined=n < joined) is None:
            Path(task.part).write_bytes(content)
            tasks.write_whole(Path(f"{task.part}.json"), json.dumps(vars(tasks.Done({}, []))))


@pytest.mark.parametrize(("form", "header"), [("jsonl", False), ("csv", True)])
def test_parts_become_the_file_whenever_it_is_interrupted(tmp_path: Path, form: str, header: bool) -> None:
    expected = b"".join(CONTENTS)
    if header:
        expected = b"h\n" + b"".join(c.removeprefix(b"h\n") for c in CONTENTS)
    for last in range(1000):
        folder, path = tmp_path / f"{last}.parts", tmp_path / f"{last}.out"
        folder.mkdir()
        made = work(folder)[: len(CONTENTS)]
        do_what_is_left(made, 0)
        with pytest.MonkeyPatch.context() as patch:
            steps = Steps(patch, last)
            with contextlib.suppress(KeyboardInterrupt):
                out = Output(path, folder, form, made)
                while out.parts < 4:
                    out.add()
        do_what_is_left(made, (out := Output(path, folder, form, made)).parts)
        out.end(made)
        assert path.read_bytes() == expected, last
        if steps.left > 0:
            break
    assert last > 20


def test_only_a_few_bytes_stand_on_the_disk_twice(tmp_path: Path) -> None:
    made = work(tmp_path)[: len(CONTENTS)]
    do_what_is_left(made, 0)
    out = Output(tmp_path / "out", tmp_path, "jsonl", made)
    for n in range(1, len(made) + 1):
        out.add()
        assert (tmp_path / "joined").stat().st_size == sum(map(len, CONTENTS[:n]))
        assert not Path(made[n - 1].part).exists()


def test_what_failed_is_left_out(tmp_path: Path) -> None:
    made = work(tmp_path)[: len(CONTENTS)]
    do_what_is_left(made, 0)
    out = Output(tmp_path / "out", tmp_path, "jsonl", made)
    out.add()
    out.end([made[0], made[2], made[5]])
    assert (tmp_path / "out").read_bytes() == CONTENTS[2] + CONTENTS[5]
    Output(tmp_path / "none", tmp_path, "jsonl", made[3:]).end([])
    assert (tmp_path / "none").read_bytes() == b""


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **how: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    made = work(tmp_path)[: len(CONTENTS)]
    do_what_is_left(made, 0)
    monkeypatch.setattr(output, "append", full)
    out = Output(tmp_path / "out", tmp_path, "jsonl", made)
    with pytest.raises(ConfigError, match="No space left on device; what is done is kept"):
        out.end(made)


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="pipe: is no file"):
        writing.write(["ConnRecord"], [str(SAMPLES / "tls.pcap")], tmp_path / "pipe")
    ran = CliRunner().invoke(main, ["log", "ConnRecord", "-r", str(SAMPLES / "tls.pcap"), "--per-file", "-o", str(tmp_path / "pipe")])
    assert ran.exit_code == 1
    assert "an output file (-o FILE)" in ran.output
    assert (tmp_path / "pipe").is_fifo()


def test_two_who_do_the_same_write_to_different_files(tmp_path: Path) -> None:
    task = work(tmp_path)[7]
    assert begin(task) != begin(task)
    assert tasks.begun(tmp_path) == {task.part}
    assert tasks.begun(tmp_path) == set()


def test_a_plan_is_known_by_what_is_asked_of_what(tmp_path: Path) -> None:
    declared = tmp_path / "mine.py"
    declared.write_text("# one")
    same = [RuntimeConfig(), SERVICES, RuntimeConfig(read_ahead=False), RuntimeConfig(workers=8)]
    assert len({key(c) for c in same}) == 1
    with_one = key(RuntimeConfig(protocols=(str(declared),)))
    moved = tmp_path / "moved.py"
    moved.write_text("# one")
    assert key(RuntimeConfig(protocols=(str(moved),))) == with_one
    declared.write_text("# two")
    changed = [CAPTURES[:-1], [*CAPTURES[:-1], Capture("/captures/49.pcap", 149, 50)]]
    others = {
        key(), with_one, key(RuntimeConfig(protocols=(str(declared),))), key(RuntimeConfig(sample=0.5)),
        *(digest(asked(), c, 2, per_file=True) for c in changed),
        digest(asked(), CAPTURES, 2, per_file=False), digest(asked(), CAPTURES, 3, per_file=False),
    }  # fmt: skip
    assert len(others) == 8


def test_sizes_are_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(SAMPLES / name) for name in ("mixed.pcap", "tls.pcap")]
    sizes = {p: Path(p).stat().st_size for p in paths}
    captures, failed = in_time_order([*paths, paths[0], str(tmp_path / "none.pcap")])
    assert {c.path: c.size for c in captures} == sizes
    assert len(captures) == len(paths)
    assert list(failed) == [str(tmp_path / "none.pcap")]

    def refused(self: Path, **how: Any) -> Any:
        raise AssertionError(f"{self} is looked at again")

    monkeypatch.setattr(Path, "stat", refused)
    made = plan(asked(), captures, 2, tmp_path, digest(asked(), captures, 2, per_file=True), per_file=True)
    assert [t.size for t in made] == [sizes[c.path] for c in captures]


def test_waiting_does_not_look_at_all_files_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    looked: list[float] = []
    (tmp_path / f"000003{tasks.READ}").write_text("90")
    (tmp_path / f"000004{tasks.READ}").write_text("")  # being written
    positions = tasks.positions

    def counted(folder: Path) -> int:
        looked.append(time.monotonic())
        return positions(folder)

    monkeypatch.setattr(writing, "positions", counted)
    waiting = writing._Waiting(lambda done, total: told.append((done, total)), tmp_path, 1000, 0)
    begun = time.monotonic()
    for _ in range(100):
        waiting()
        waiting.done += 10
    assert told == [(min(10 * n + 90, 1000), 1000) for n in range(100)]
    assert 1 <= len(looked) <= 1 + (time.monotonic() - begun) / PERIOD
    writing._Waiting(None, tmp_path / "nowhere", 1000, 0)()


def taken(folder: Path, key: str) -> None:
    with alone_in(folder):
        take_over(folder, key)


def test_an_empty_folder_of_parts_is_taken(tmp_path: Path) -> None:
    """What a machine leaves that fails in between."""
    folder = tmp_path / "out.parts"
    folder.mkdir()
    taken(folder, "k")
    (folder / "000000").write_text("done")
    left = folder / f"000001.h.1.2{tasks.UNFINISHED}"
    left.touch()
    taken(folder, "k")
    assert (folder / "000000").exists()
    assert not left.exists()
    taken(folder, "another")
    assert sorted(p.name for p in folder.iterdir()) == ["lock", "plan.json"]
    (tmp_path / "file.parts").write_text("")
    (tmp_path / "mine.parts").mkdir()
    (tmp_path / "mine.parts" / "mine").write_text("")
    for name in ("file.parts", "mine.parts"):
        with pytest.raises(ConfigError, match="is in the way"):
            taken(tmp_path / name, "k")
    assert (tmp_path / "mine.parts" / "mine").exists()


def test_a_task_that_kills_dask_workers_is_named(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")

    class Killed:
        def result(self) -> None:
            raise distributed.KilledWorker("perform-1", None, 3)

    with pytest.raises(LostError, match=r"/captures/4\.pcap: a process that worked on it"):
        engines._result(Killed(), work(tmp_path)[4], "tcp://a:1")

    class Cancelled:
        def result(self) -> None:
            raise distributed.client.FutureCancelledError("perform-1", "scheduler-connection-lost")

    with pytest.raises(LostError, match=r"tcp://a:1: it has ended or cannot be reached any more; what is done is kept"):
        engines._result(Cancelled(), work(tmp_path)[4], "tcp://a:1")


def test_tasks_are_the_same_in_another_folder_and_do_not_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Task] = []

    def take(work: list[Task], **_: Any) -> Any:
        given.extend(work)
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "in_processes", take)
    monkeypatch.setattr(writing, "Program", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    Path("a.pcap").write_bytes((SAMPLES / "tls.pcap").read_bytes())
    with pytest.raises(KeyboardInterrupt):
        writing.write(["ConnRecord"], ["a.pcap"], "out", config=SERVICES, per_file=True)
    (task,) = given
    assert task.files == (str(tmp_path / "a.pcap"),)
    assert task.part == str(tmp_path / "out.parts" / "000000")
    used = task.question.config
    assert (used.workers, used.monitor, used.prometheus, used.user) == (None, None, None, None)
    assert used.metrics() is None
    assert used.monitoring() == MonitorConfig()


@pytest.mark.parametrize("option", [["--monitor"], ["--monitor-log", "f"], ["--status", "9"], ["--prometheus", "9"], ["--user", "nobody"]])
def test_what_is_for_one_process_is_refused(tmp_path: Path, option: list[str]) -> None:
    ran = CliRunner().invoke(main, ["log", "ConnRecord", "-r", str(SAMPLES / "tls.pcap"), "--per-file", "-o", str(tmp_path / "o"), *option])
    assert ran.exit_code == 1
    assert f"{option[0]}: for one process" in ran.output


def test_processes_are_copies_only_of_one_that_is_alone() -> None:
    def methods(*, alone: bool) -> set[str]:
        pool = engines.Pool(1, asked(), alone=alone)
        try:
            pool.take().submit(abs, -1).result()
            return {type(p).__name__ for p in pool.take()._processes.values()}
        finally:
            pool.end()

    before = threading.active_count()
    copied = methods(alone=True)
    assert copied == ({"ForkProcess"} if before == 1 and sys.platform == "linux" else {"SpawnProcess"})
    stop = threading.Event()
    beside = threading.Thread(target=stop.wait)
    beside.start()
    try:
        assert methods(alone=True) == {"SpawnProcess"}
    finally:
        stop.set()
        beside.join()
    assert methods(alone=False) == {"SpawnProcess"}


@pytest.mark.parametrize(("form", "alone", "copied"), [("jsonl", True, True), ("jsonl", False, False), ("csv", True, True), ("parquet", True, False)])
def test_copies_are_made_only_where_this_package_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, alone: bool, copied: bool) -> None:
    """Other libraries may have threads."""
    asked_for: list[bool] = []

    def pool(processes: int, question: Question, *, alone: bool) -> Any:
        asked_for.append(alone)
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "Pool", pool)
    with pytest.raises(KeyboardInterrupt):
        writing.write(["ConnRecord"], [str(SAMPLES / "tls.pcap")], tmp_path / "out", format=form, alone=alone)
    assert asked_for == [copied]


HOLDS = """
import sys
from pathlib import Path
from retina_jit.archive.folder import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_commands_do_not_write_the_same_output(tmp_path: Path) -> None:
    command = ["log", "ConnRecord", "-r", str(SAMPLES / "tls.pcap"), "--per-file", "-o", str(tmp_path / "out"), "-q"]
    holder = [sys.executable, "-c", HOLDS, str(tmp_path / "out.parts")]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        ran = CliRunner().invoke(main, command)
        first.kill()
    assert ran.exit_code == 1
    assert "out.parts: another command is writing this output; wait for its end" in ran.output
    assert not (tmp_path / "out").exists()
    assert CliRunner().invoke(main, command).exit_code == 0
    assert (tmp_path / "out").read_bytes()
    assert not (tmp_path / "out.parts").exists()


def test_a_folder_that_goes_while_it_is_waited_for_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, usual, left = tmp_path / "out.parts", fcntl.lockf, [3]

    def locks(file: Any, how: int) -> None:
        usual(file, how)
        if left[0]:  # who had it before has just come to its end
            left[0] -= 1
            discard(folder)

    monkeypatch.setattr(fcntl, "lockf", locks)
    with alone_in(folder):
        assert (left, [p.name for p in folder.iterdir()]) == ([0], ["lock"])


def test_large_tasks_are_begun_first_the_others_in_their_order() -> None:
    asking = asked()
    made = [Task(asking, (str(n),), 0, 1, 0, str(n), (size,)) for n, size in enumerate([3, 90, 2, 2, 80, 100, 3])]
    assert [t.files[0] for t in in_order(made, 1)] == ["5", "1", "4", "0", "2", "3", "6"]
    same = [Task(asking, (str(n),), 0, 1, 0, str(n), (1, 1)) for n in range(20)]
    assert in_order(same, 2) == same
    assert in_order(same[:2], 8) == same[:2]


@pytest.mark.parametrize("refused", [None, OSError(errno.EXDEV, "Invalid cross-device link"), AttributeError("copy_file_range")])
@pytest.mark.parametrize("header", [False, True])
def test_a_part_is_appended_whoever_copies_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Exception | None, header: bool) -> None:
    (tmp_path / "part").write_bytes(b"h\n" + b"x" * (3 * BUFFER + 1))
    (tmp_path / "out").write_bytes(b"before")
    asked_for = []

    def copy(*given: int) -> int:
        asked_for.append(given)
        if refused is not None:
            raise refused
        return usual(*given[:2], 1000) if len(asked_for) < 100 else 0  # less than asked for

    usual = os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", copy)
    with (tmp_path / "out").open("r+b", buffering=0) as out:
        n = append(tmp_path / "part", out, header=header)
    content = b"h\n"[2 * header :] + b"x" * (3 * BUFFER + 1)
    assert n == len(content)
    assert (tmp_path / "out").read_bytes() == b"before" + content
    assert asked_for


def test_what_is_no_file_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.pcap")
    (tmp_path / "folder.pcap").mkdir()
    captures, failed = in_time_order([str(tmp_path / "x.pcap"), str(tmp_path / "folder.pcap"), str(SAMPLES / "tls.pcap")])
    assert [c.path for c in captures] == [str(SAMPLES / "tls.pcap")]
    assert "x.pcap: is no file" in failed[str(tmp_path / "x.pcap")]
    assert "is a folder" in failed[str(tmp_path / "folder.pcap")]


def test_a_mistake_leaves_nothing_behind(tmp_path: Path) -> None:
    command = ["log", "ConnRecord", "DnsTransaction", "-T", "parquet", "-r", str(SAMPLES / "tls.pcap"), "--per-file", "-o", str(tmp_path / "out")]
    ran = CliRunner().invoke(main, command)
    assert ran.exit_code == 1
    assert "a table has one kind of row" in ran.output
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_while_parts_are_written_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    monkeypatch.setattr(writing, "in_processes", full)
    to = tmp_path / "o.jsonl"
    with pytest.raises(ConfigError, match=r"o\.jsonl\.parts: No space left on device; what is done is kept"):
        writing.write(["ConnRecord"], [str(SAMPLES / "tls.pcap")], to, per_file=True, alone=True)
    assert (tmp_path / "o.jsonl.parts" / "plan.json").exists()
    assert not to.exists()


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    there, link = tmp_path / "there" / "o.jsonl", tmp_path / "o.jsonl"
    there.parent.mkdir()
    link.symlink_to(there)
    written = writing.write(["ConnRecord"], [str(SAMPLES / "tls.pcap")], link, per_file=True, alone=True)
    assert link.is_symlink()
    assert len(there.read_bytes().splitlines()) == written.lines > 0


@pytest.mark.parametrize("per_file", [False, True])
def test_nothing_to_do_and_nobody_to_do_it(tmp_path: Path, per_file: bool) -> None:
    with pytest.raises(SourceError, match="no capture to read"):
        writing.write(["ConnRecord"], [], tmp_path / "o.jsonl", per_file=per_file)
    with pytest.raises(ConfigError, match="processes = 0: at least 1"):
        writing.write(["ConnRecord"], [str(SAMPLES / "tls.pcap")], tmp_path / "o.jsonl", processes=0, per_file=per_file)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_could_not_be_joined_is_taken_away(tmp_path: Path) -> None:
    def full(_: Any, out: Any) -> None:
        out.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        joining._whole(full)([], tmp_path / "o.parquet")
    assert list(tmp_path.iterdir()) == []


def test_two_threads_do_not_write_the_same_output(tmp_path: Path) -> None:
    folder = tmp_path / "o.parts"
    with alone_in(folder):
        with pytest.raises(ConfigError, match="another command is writing this output"), alone_in(folder):
            pass
        ran = subprocess.run(
            [sys.executable, "-c", f"from pathlib import Path\nfrom retina_jit.archive.folder import alone_in\nwith alone_in(Path({str(folder)!r})): pass"],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert "another command is writing this output" in ran.stderr  # whoever was refused has not let others in
    with alone_in(folder):
        pass
