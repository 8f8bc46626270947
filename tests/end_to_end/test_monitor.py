"""The monitor over real runs: a pipe that is fed slowly, an interface."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import socket
import sys
import threading
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from oracle.captures import read_capture
from oracle.decode import decode
from prometheus_client import REGISTRY, Counter
from prometheus_client.parser import text_string_to_metric_families as families
from support.running import SAMPLES, config, runtime, to

from retina_jit import stats
from retina_jit.cli import main
from retina_jit.config_network import LogConfig, MonitorConfig, PageConfig, PrometheusConfig
from retina_jit.errors import MissingExtraError
from retina_jit.runtime import Result, Runtime
from retina_jit.state.layout import TCP, UDP

MIXED = SAMPLES / "mixed.pcap"
FRAMES = 150


def get(address: tuple[str, int], path: str) -> str:
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}{path}", timeout=10) as answer:
        return answer.read().decode()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def until(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError("it has not come to hold")


@contextlib.contextmanager
def half_fed(tmp_path: Path, **told: Any) -> Iterator[tuple[Runtime, Callable[[], Result]]]:
    """A run that has got its capture but not the end of it; and what lets it end."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    made = runtime([to("TlsHandshake", "tls", lambda _: None), to("ConnRecord", "", lambda _: None)], [fifo], msgspec.structs.replace(config(), **told))
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(made.run()))
    thread.start()
    with fifo.open("wb") as out:
        out.write(MIXED.read_bytes())
        out.flush()
        until(lambda: made.stats()["frames"] == FRAMES)

        def finish() -> Result:
            out.close()
            thread.join()
            return results[0]

        yield made, finish
    thread.join()


def of_the_capture(layer: int) -> tuple[int, int]:
    """Frames of a transport protocol in the capture, and their bytes on the wire."""
    lengths = [f.length for f in read_capture(MIXED.read_bytes()).frames if decode(f.data, f.link, f.length)["layers"] & layer]
    return len(lengths), sum(lengths)


def test_page_and_metrics_while_it_runs(tmp_path):
    mine = Counter("mine_of_the_test", "A metric of the app's own.")
    mine.inc(5)
    try:
        with half_fed(tmp_path, monitor=MonitorConfig(page=PageConfig(0)), prometheus=PrometheusConfig(free_port())) as (made, finish):
            assert made.monitor is not None
            page, metrics = (s.address for s in made.monitor.servers)
            told = json.loads(get(page, "/stats.json"))
            assert told["counters"]["frames"] == FRAMES and told["ledger"]["tracked"] == told["counters"]["tracked"]
            assert told["sources"] == [str(tmp_path / "fifo")] and told["gauges"]["connections"] == made.workers[0].table["live"] > 0
            assert "<title>retina-jit</title>" in get(page, "/") and "src=" not in get(page, "/")
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(page, "/etc/passwd")
            samples = {(s.name, *sorted(s.labels.items())): s.value for f in families(get(page, "/metrics")) for s in f.samples}
            everywhere = {s.name for f in families(get(metrics, "/any/path")) for s in f.samples}
            counters = finish().counters
    finally:
        REGISTRY.unregister(mine)
    assert samples["retina_worker_received_pkts_total", ("core", "0")] == FRAMES
    assert samples["retina_worker_received_bytes_total", ("core", "0")] == counters["bytes"] == samples["dpdk_ingress_bytes_total",]
    assert samples["retina_tcp_new_connections_total", ("core", "0")] == counters["connections_tcp"]
    for name, layer in (("tcp", TCP), ("udp", UDP)):
        found = tuple(samples[f"retina_{name}_received_{unit}_total", ("core", "0")] for unit in ("pkts", "bytes"))
        assert found == of_the_capture(layer) == (told["received"][f"{name}_frames"], told["received"][f"{name}_bytes"])
    for name in ("ignored_by_packet_filter", "dropped_middle_of_connection_tcp"):
        assert {f"retina_{name}_{unit}_total" for unit in ("pkts", "bytes")} <= everywhere
    assert samples["mine_of_the_test_total",] == 5
    ends = {key[2][1]: value for key, value in samples.items() if key[0] == "retina_jit_frames_total"}
    assert set(ends) == set(stats.LEDGER) and sum(ends.values()) == FRAMES
    assert {"retina_idle_cycles_total", "dpdk_hw_dropped_pkts_total", "retina_jit_memory_bytes"} <= everywhere
    with pytest.raises(OSError, match="refused"):
        get(page, "/")


def test_log_of_a_run(tmp_path):
    log = LogConfig(directory=str(tmp_path / "log"), interval=50)
    with half_fed(tmp_path, monitor=MonitorConfig(log=log)) as (made, finish):
        assert made.monitor is not None and made.monitor.log is not None
        folder = made.monitor.log.folder
        until(lambda: (folder / "throughput.csv").exists() and (folder / "throughput.csv").read_text().count("\n") > 3)
        result = finish()
    rows = list(csv.DictReader((folder / "throughput.csv").read_text().splitlines()))
    assert [int(r["packets"]) for r in rows] == sorted(int(r["packets"]) for r in rows) and int(rows[-1]["packets"]) == FRAMES
    seconds = [(int(b["ts"]) - int(a["ts"])) / 1000 for a, b in itertools.pairwise(rows)]
    counted = sum(float(r["process_pps"]) * s for r, s in zip(rows[1:], seconds, strict=True))
    assert abs(counted + int(rows[0]["packets"]) - FRAMES) < FRAMES / 10
    workers = list(csv.DictReader((folder / "workers.csv").read_text().splitlines()))
    assert {n: int(workers[-1][n]) for n in stats.COUNTERS} == result.counters
    ended = json.loads((folder / "throughputs.json").read_text())
    assert ended["counters"] == result.counters and ended["tot_dropped_pkts"] == 0 and ended["avg_process_pps"] > 0
    assert tomllib.loads((folder / "config.toml").read_text())["monitor"]["log"]["interval"] == 50


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("types", ["ConnRecord", "ZcFrame"])
def test_volumes_in_the_log(tmp_path, types, workers):
    settings = msgspec.structs.replace(config(), workers=workers, monitor=MonitorConfig(log=LogConfig(directory=str(tmp_path / "log"))))
    result = runtime([to(types, "udp", lambda _: None)], [MIXED], settings).run()
    (folder,) = (tmp_path / "log").iterdir()
    received = json.loads((folder / "throughputs.json").read_text())["received"]
    assert (received["udp_frames"], received["udp_bytes"]) == of_the_capture(UDP) and received["tcp_frames"] == received["not_syn_bytes"] == 0
    # What is no frame of TCP or UDP is counted elsewhere.
    assert (result.counters["filtered"], received["filtered_bytes"]) == of_the_capture(TCP)
    rows = list(csv.DictReader((folder / "workers.csv").read_text().splitlines()))[-workers:]
    assert {n: sum(int(r[n]) for r in rows) for n in stats.VOLUMES} == received


def test_monitor_on_the_command_line(tmp_path):
    found = CliRunner().invoke(main, ["log", "ConnRecord", "-r", str(MIXED), "-o", str(tmp_path / "x"), "--monitor", "--monitor-log", str(tmp_path), "--status", "0"])
    assert found.exit_code == 0, found.stderr
    assert "AVERAGE Process: " in found.stderr and "status: http://127.0.0.1:" in found.stderr
    (folder,) = (p for p in tmp_path.iterdir() if p.is_dir())
    assert json.loads((folder / "throughputs.json").read_text())["counters"]["frames"] == FRAMES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--status", "x:y"], "--status x:y: a port or IP:PORT"),
        (["--status", "70000"], "--status 70000: a port or IP:PORT"),
        (["--monitor-log", "/proc/nowhere"], "monitor.log.directory = '/proc/nowhere': "),
        (["--prometheus", "192.0.2.1:9898"], "192.0.2.1:9898: cannot listen there"),
    ],
)
def test_what_cannot_be_told_is_said_before_the_run(words, message):
    found = CliRunner().invoke(main, ["log", "ConnRecord", "-r", str(MIXED), "-o", "/dev/null", *words])
    assert found.exit_code == 1 and message in found.stderr


def test_metrics_without_their_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    settings = msgspec.structs.replace(config(), prometheus=PrometheusConfig(0))
    with pytest.raises(MissingExtraError, match=r"pip install 'retina-jit\[metrics\]'"):
        runtime([to("ConnRecord", "", print)], [MIXED], settings).run()


def test_a_page_without_the_library_of_metrics(tmp_path, monkeypatch):
    with half_fed(tmp_path, monitor=MonitorConfig(page=PageConfig(0))) as (made, finish):
        monkeypatch.setitem(sys.modules, "prometheus_client", None)
        assert made.monitor is not None
        (page,) = (server.address for server in made.monitor.servers)
        with pytest.raises(urllib.error.HTTPError) as told:
            get(page, "/metrics")
        assert told.value.code == 501 and b"pip install 'retina-jit[metrics]'" in told.value.read()
        finish()


def test_two_tables_of_one_thing_are_refused(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text("[monitor.display]\n[online.monitor.display]\n")
    found = CliRunner().invoke(main, ["config", "-c", str(file)])
    assert found.exit_code == 1 and "[monitor] and [online.monitor]: one of them" in found.stderr
