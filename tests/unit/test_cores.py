"""Workers bound to cores, one each; and lists of cores as they are written."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from support.running import SAMPLES, config, runtime, to

from retina_jit import cores
from retina_jit.cli import doctor, main
from retina_jit.config import RuntimeConfig
from retina_jit.config_network import OnlineConfig, PortConfig
from retina_jit.errors import ConfigError
from retina_jit.worker import Worker

THERE = cores.usable()
pytestmark = pytest.mark.skipif(not THERE, reason="threads are bound to cores on Linux only")


@pytest.mark.parametrize(("text", "found"), [("0", (0,)), ("0,2-5", (0, 2, 3, 4, 5)), ("7, 1", (7, 1))])
def test_lists(text: str, found: tuple[int, ...]) -> None:
    assert cores.parse("--cores", text) == found
    assert cores.parse("--cores", cores.written(found)) == tuple(sorted(found))
    assert cores.written(()) == ""


@pytest.mark.parametrize("text", ["", "a", "1,", "-1", "1-", "1-b"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--cores .*numbers of cores, as 0,2-5"):
        cores.parse("--cores", text)


def test_a_worker_is_bound_while_it_processes_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens the next source, and the threads that this starts, may be anywhere."""
    named = tuple(THERE[-2:])
    process, read = Worker._process, Worker._read
    during: dict[int, set[int]] = {}
    after: list[set[int]] = []

    def watched_process(self: Worker, source: object) -> int:
        during[int(self.words["id"])] = os.sched_getaffinity(0)
        return process(self, source)  # type: ignore[arg-type]

    def watched_read(self: Worker, sources: object) -> None:
        read(self, sources)  # type: ignore[arg-type]
        after.append(os.sched_getaffinity(0))

    monkeypatch.setattr(Worker, "_process", watched_process)
    monkeypatch.setattr(Worker, "_read", watched_read)
    seen: list[int] = []
    made = runtime([to("ZcFrame", "", lambda f: seen.append(f.number))], [SAMPLES / "mixed.pcap"], msgspec.structs.replace(config(), cores=named))
    assert [w["bound_core"] for w in made.reading().workers] == list(named)
    result = made.run()
    assert len(set(seen)) == len(seen) == result.counters["frames"]
    assert during == {n: {core} for n, core in enumerate(named)}
    assert after == [set(THERE)] * len(named)
    assert result.extra["cores"] == list(named)


def test_without_a_wish_workers_go_where_the_system_puts_them() -> None:
    made = runtime([to("ZcFrame", "", print)], [SAMPLES / "mixed.pcap"])
    assert [w["bound_core"] for w in made.reading().workers] == [-1]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (RuntimeConfig(cores=(0, 1), workers=3), "a core each, or one of the two"),
        (RuntimeConfig(cores=(0, 0)), "each once"),
        (RuntimeConfig(cores=(100_000,)), "core 100000 is not usable; there are: "),
    ],
)
def test_cores_that_cannot_be(settings: RuntimeConfig, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        runtime([to("ZcFrame", "", print)], [SAMPLES / "mixed.pcap"], settings)


def test_ports_have_their_own() -> None:
    with pytest.raises(ConfigError, match="ports have their own"):
        runtime([to("ZcFrame", "", print)], [], RuntimeConfig(cores=(THERE[0],), online=OnlineConfig((PortConfig("net_null0", (THERE[0],)),))))


def test_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "workers.toml"
    file.write_text("workers = 5\n")
    done = CliRunner().invoke(main, ["log", "ConnRecord", "-c", str(file), "-r", str(SAMPLES / "tls.pcap"), "--cores", cores.written(THERE), "--stats", "json"])
    assert done.exit_code == 0, done.output
    assert f'"cores": {THERE}' in done.stderr
    done = CliRunner().invoke(main, ["log", "ConnRecord", "-r", str(SAMPLES / "tls.pcap"), "--cores", "100000"])
    assert "core 100000 is not usable" in done.stderr


def test_the_doctor_says_which_there_are(tmp_path: Path) -> None:
    assert f"(--cores {cores.written(THERE)}" in doctor._processor()[1]
    for n in THERE:
        (tmp_path / f"sys/devices/system/cpu/cpu{n}/topology").mkdir(parents=True)
        (tmp_path / f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list").write_text("0-99\n")
    assert ("threads of 1 real ones: 0-99" in doctor._cores(tmp_path)) == (len(THERE) > 1)


@pytest.mark.parametrize("text", ["5-2", "0-99999999999", "2000000"])
def test_what_is_no_range_is_refused_at_once(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--cores {text}: {text} is no range of cores"):
        cores.parse("--cores", text)
