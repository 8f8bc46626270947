"""Callbacks in the background: they end, can be stopped, and are replaced by their namesakes."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest
from support.running import SAMPLES

import retina_jit as rj
from retina_jit.errors import CallbackError, SourceError, SubscriptionError
from retina_jit.runtime import Runtime
from retina_jit.subscription import take_collected
from retina_jit.tables import background, read

PATH = SAMPLES / "tls.pcap"


@rj.subscribe("")
def connection(conn: rj.ConnRecord) -> None:
    SEEN.append(conn)


SEEN: list[rj.ConnRecord] = []


def test_it_runs_and_ends():
    SEEN.clear()
    run = rj.read(PATH).run(connection)
    result = run.wait()
    assert result.counters["connections"] == len(SEEN) > 10 and not run.is_running
    assert f"{len(SEEN):,}" in repr(run) and "done" in repr(run) and "<table>" in run._table()


def test_a_namesake_replaces_it_and_stop_ends_it(tmp_path):
    fifo = tmp_path / "f"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.open("wb"))  # and closes it at once: nothing comes
    slow = rj.read(fifo)
    first = slow.run(connection)
    assert first.is_running
    rj.read(PATH).run(connection).wait()
    assert not first.is_running
    second = rj.read(fifo).run(connection)
    time.sleep(0.05)
    assert second.stop() is second and not second.is_running and second.error is None
    del writer


def test_of_two_namesakes_that_begin_at_the_same_time_one_goes_on(tmp_path, monkeypatch):
    both = threading.Barrier(2)

    def made(*args: Any, **more: Any) -> Runtime:
        runtime = Runtime(*args, **more)
        both.wait(300)  # neither is in the list of those that run yet
        return runtime

    monkeypatch.setattr(background, "Runtime", made)
    fifo = tmp_path / "f"
    os.mkfifo(fifo)
    with fifo.open("r+b", buffering=0):  # nothing comes, and it does not end
        runs: list[background.Background] = []
        threads = [threading.Thread(target=lambda: runs.append(rj.read(fifo).run(connection))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        assert sorted(run.is_running for run in runs) == [False, True]
        for run in runs:
            run.stop()
    assert not background._running


def test_all_subscriptions_of_a_function_run(monkeypatch):
    ran: list[list[tuple[str, str]]] = []
    monkeypatch.setattr(read, "Background", lambda source, found, config: ran.append([(s.name, s.filter) for s in found]))

    def function(name: str, *filters: str) -> Any:
        def callback(conn: rj.ConnRecord) -> None:
            pass

        callback.__name__ = name
        for text in filters:
            rj.subscribe(text)(callback)
        return callback

    take_collected()
    twice, namesake = function("twice", "tcp", "udp"), function("twice", "icmp")
    capture = rj.read(PATH)
    capture.run(twice, namesake, twice)
    function("twice", "tls")
    function("other", "dns")
    function("twice", "ssh", "http")
    capture.run()
    assert ran == [
        [("twice", "tcp"), ("twice", "udp"), ("twice", "icmp")],
        [("other", "dns"), ("twice", "ssh"), ("twice", "http")],
    ]


def test_errors_are_kept_and_raised_where_one_waits(capsys):
    @rj.subscribe("")
    def failing(conn: rj.ConnRecord) -> None:
        raise KeyError("mine")

    run = rj.read(PATH).run(failing)
    with pytest.raises(CallbackError, match="failing"):
        run.wait()
    assert "KeyError: 'mine'" in run.failure and "test_background.py" in run.failure and run.failure in capsys.readouterr().err
    with pytest.raises(SubscriptionError, match="not subscribed"):
        rj.read(PATH).run(print)
    with pytest.raises(SourceError, match="there are: mixed, ssh, tls"):
        rj.sample_capture("none")


def test_the_button_stops_a_run(tmp_path):
    pytest.importorskip("ipywidgets")
    fifo = tmp_path / "f"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR)  # nothing comes, and no end
    try:
        run = rj.read(fifo).run(connection)
        button = background._stop_button(run.stop)
        assert run.is_running and not button.disabled
        button.click()
        assert not run.is_running and run.error is None and button.disabled
    finally:
        os.close(held)


def test_in_a_terminal_it_prints_and_a_failure_is_told_once(monkeypatch, capsys):
    terminal = pytest.importorskip("IPython.terminal.interactiveshell").TerminalInteractiveShell

    class Shell(terminal):
        def __init__(self) -> None:
            pass

    class Later:
        def __init__(self, _: float, tell: Any) -> None:
            tells.append(tell)

        def start(self) -> None:
            pass

    tells: list[Any] = []
    go_on = threading.Event()
    monkeypatch.setattr(background, "notebook", Shell)
    monkeypatch.setattr(threading, "Timer", Later)

    @rj.subscribe("")
    def failing(conn: rj.ConnRecord) -> None:
        go_on.wait(300)
        raise KeyError("mine")

    shown = rj.read(PATH).run(failing)
    shown._ipython_display_()
    out, err = capsys.readouterr()
    assert out.startswith("failing      running") and "object>" not in out and not err
    go_on.set()
    shown._thread.join(300)
    tells.pop()()
    assert capsys.readouterr().err.count("KeyError: 'mine'") == 1

    with pytest.raises(CallbackError):
        rj.read(PATH).run(failing).wait()
    tells.pop()()  # what is raised has told it
    assert not capsys.readouterr().err
