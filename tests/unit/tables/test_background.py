"""Callbacks in the background: they end, can be stopped, and are replaced by their namesakes."""

from __future__ import annotations

import os
import threading
import time

import pytest
from support.running import SAMPLES

import retina_jit as rj
from retina_jit.errors import CallbackError, SourceError, SubscriptionError

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
