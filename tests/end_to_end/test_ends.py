"""How runs end when something goes wrong beside the packets: workers, monitors, pauses; nothing hangs, nothing is left open."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from support.running import SAMPLES, config, runtime, to

from retina_jit.config_network import DisplayConfig, LogConfig, MonitorConfig, OnlineConfig, PageConfig
from retina_jit.errors import ConfigError
from retina_jit.monitor.monitor import Monitor
from retina_jit.reload import PERIOD, Reloader
from retina_jit.status import Status
from retina_jit.worker import ABANDON, PAUSE, RUN, STOP, Worker

MIXED = SAMPLES / "mixed.pcap"
STOPPED, DONE = Status.STOPPED, Status.DONE


class Interrupted:
    """A control word beside which, when it is written first, somebody asks for the end: as a signal may."""

    def __init__(self, worker: Worker) -> None:
        self.word, self.worker, self.quiet = RUN, worker, False

    def __getitem__(self, n: int) -> int:
        return self.word

    def __setitem__(self, n: int, word: int) -> None:
        if not self.quiet:
            self.quiet = True
            self.worker.control(STOP)
        self.word = word


@pytest.mark.parametrize("step", ["pause", "resume"])
def test_an_end_that_is_asked_for_within_a_pause_is_not_forgotten(step: str) -> None:
    w = Worker.__new__(Worker)
    w._asked, w._go_on = RUN, threading.Event()
    w._control = Interrupted(w)  # type: ignore[assignment]
    if step == "resume":
        w._control.word = PAUSE  # type: ignore[attr-defined]
    getattr(w, step)()
    assert w._control[0] == STOP
    assert w._go_on.is_set()


def test_a_pause_that_is_over_before_it_is_noticed_ends_nothing() -> None:
    """The kernel has returned for it; by the time Python looks, it has been called off."""
    w = Worker.__new__(Worker)
    w._asked, w._go_on, w._control = RUN, threading.Event(), np.zeros(1, np.int64)
    w.paused, w.exchanging, w.address = threading.Event(), threading.Lock(), 0
    answers = iter([int(STOPPED), int(DONE)])
    w._run = lambda _: next(answers)  # type: ignore[assignment,method-assign]
    assert w._process(None) == DONE  # type: ignore[arg-type]


def test_a_worker_that_fails_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def process(self: Worker, source: Any) -> int:
        if int(self.words["id"]) == 0:
            raise RuntimeError("of worker 0")
        while self._control[0] < ABANDON:  # as an interface, it has no end of its own
            time.sleep(0.01)
        return int(STOPPED)

    monkeypatch.setattr(Worker, "_process", process)
    settings = msgspec.structs.replace(config(), workers=2)
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="of worker 0"):
        runtime([to("ConnRecord", "", lambda _: None)], [MIXED], settings).run()
    assert time.monotonic() - begun < 30


def test_a_thread_that_cannot_be_had_for_memory_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refused(self: threading.Thread) -> None:
        if self.name == "retina-jit backing":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", refused)
    assert runtime([to("ConnRecord", "", lambda _: None)], [MIXED]).run().counters["frames"] == 150


def test_what_was_opened_is_closed_if_the_monitor_cannot_begin(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = msgspec.structs.replace(config(), monitor=MonitorConfig(page=PageConfig(taken.getsockname()[1])))
        s = to("ConnRecord", "", lambda _: None)
        s.deliver, s.sink = "sink", str(tmp_path / "out.jsonl")
        made = runtime([s], [MIXED], settings)
        with pytest.raises(ConfigError):
            made.run()
    assert made._paths._files == []


def test_the_duration_of_ports_does_not_cut_a_capture(tmp_path: Path) -> None:
    fifo, content = tmp_path / "fifo", MIXED.read_bytes()
    os.mkfifo(fifo)

    def feed() -> None:
        with fifo.open("wb") as out:
            out.write(content[:5000])
            out.flush()
            time.sleep(1.3)
            out.write(content[5000:])

    feeder = threading.Thread(target=feed)
    feeder.start()
    settings = msgspec.structs.replace(config(), online=OnlineConfig(duration=1))
    result = runtime([to("ConnRecord", "", lambda _: None)], [fifo], settings).run()
    feeder.join()
    assert result.counters["frames"] == 150
    assert not result.problems


class Gone:
    """A terminal that is gone."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise BrokenPipeError

    flush = isatty = fileno = lambda self: False


def test_a_display_that_nobody_sees_takes_neither_the_log_nor_the_run_with_it(tmp_path: Path) -> None:
    made = runtime([to("ConnRecord", "", lambda _: None)], [MIXED])
    settings = MonitorConfig(display=DisplayConfig(), log=LogConfig(directory=str(tmp_path)))
    monitor = Monitor(made.reading, settings, None, out=Gone())  # type: ignore[arg-type]
    with monitor:
        result = made._run()
    assert result.counters["frames"] == 150
    assert monitor.log is not None
    assert (monitor.log.folder / "throughputs.json").exists()


class Running:
    """A run that takes any program."""

    def go_over(self, subscriptions: Any) -> str:
        return f"gone over to {subscriptions[0].name}"


def test_a_module_that_a_change_brings_with_it_is_no_second_change(tmp_path: Path) -> None:
    app = tmp_path / "changing_app.py"
    text = "from retina_jit import ConnRecord, subscribe\n{}\n\n@subscribe('')\ndef seen(conn: ConnRecord): ...\n"
    app.write_text(text.format(""))
    said: list[str] = []

    with Reloader(Running(), str(app), None, said.append):  # type: ignore[arg-type]
        (tmp_path / "a_helper_of_the_app.py").write_text("X = 1\n")
        app.write_text(text.format("import a_helper_of_the_app"))
        deadline = time.monotonic() + 20
        while not said and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(8 * PERIOD)
        assert len(said) == 1, said
        (tmp_path / "a_helper_of_the_app.py").write_text("X = 22\n")
        while len(said) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert len(said) == 2


def until_said(said: list[str], count: int) -> str:
    deadline = time.monotonic() + 60
    while len(said) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(said) == count
    return said[-1]


def test_a_new_module_that_was_wrong_can_be_mended(tmp_path: Path) -> None:
    app, helper = tmp_path / "mended_app.py", tmp_path / "a_wrong_helper_of_the_app.py"
    text = "from retina_jit import ConnRecord, subscribe\n{}\n\n@subscribe('')\ndef seen(conn: ConnRecord): ...\n"
    app.write_text(text.format(""))
    said: list[str] = []
    with Reloader(Running(), str(app), None, said.append):  # type: ignore[arg-type]
        helper.write_text("X = (\n")
        app.write_text(text.format("import a_wrong_helper_of_the_app"))
        assert "SyntaxError" in until_said(said, 1)
        helper.write_text("X = 1 / 0\n")
        assert "ZeroDivisionError" in until_said(said, 2)
        helper.write_text("X = 1\n")
        assert "gone over" in until_said(said, 3)


def test_a_change_of_the_same_length_in_the_same_second_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    app = tmp_path / "quickly_changed_app.py"
    text = "from retina_jit import ConnRecord, subscribe\n\n@subscribe('')\ndef {}(conn: ConnRecord): ...\n"
    second = 10**9 * int(time.time())
    said: list[str] = []

    def write(name: str, ns: int) -> None:
        made = tmp_path / "made"
        made.write_text(text.format(name))
        os.utime(made, ns=(second + ns, second + ns))
        made.replace(app)

    write("one", 0)
    with Reloader(Running(), str(app), None, said.append):  # type: ignore[arg-type]
        for n, name in enumerate(("two", "six")):
            write(name, n + 1)
            assert f"gone over to {name}" in until_said(said, n + 1)
