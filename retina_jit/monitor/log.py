"""Readings as files: a folder per run, CSV for what has a time axis, JSON for what is left at the end."""

from __future__ import annotations

import csv
import itertools
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from retina_jit.config_network import LogConfig
from retina_jit.errors import ConfigError
from retina_jit.monitor.reading import Reading, rates

THROUGHPUTS = ("ingress_bps", "ingress_pps", "good_bps", "good_pps", "process_bps", "process_pps")


class Log:
    """Writes `<directory>/<time>/`.

    `config.toml` (what was in effect), `throughput.csv` (rates, drops, connections, memory), `workers.csv` (every counter of
    every worker), `port<n>.csv` (the counters of a device) and, at the end, `throughputs.json` (averages and drops).

    Raises
    ------
    ConfigError
        The folder cannot be made.
    """

    def __init__(self, config: LogConfig, effective: str) -> None:
        self._config = config
        self._files: list[IO[str]] = []
        self._writers: dict[str, Any] = {}
        self._columns: dict[str, list[str]] = {}
        self._numbers: dict[str, int] = {}
        try:
            self.folder = _new_folder(Path(config.directory))
            (self.folder / "config.toml").write_text(effective)
        except OSError as fault:
            raise ConfigError(f"monitor.log.directory = {config.directory!r}: {fault.strerror}; name a folder that can be written") from fault

    def _row(self, name: str, values: dict[str, Any]) -> None:
        if name not in self._writers:
            file = (self.folder / name).open("w", newline="")
            self._files.append(file)
            self._columns[name] = list(values)
            self._writers[name] = csv.writer(file)
            self._writers[name].writerow(values)
        # A counter that a device has no more, or has anew, does not move the others.
        self._writers[name].writerow([values.get(c, "") for c in self._columns[name]])

    def write(self, before: Reading, now: Reading) -> None:
        """Write one row to each file."""
        ts = round(now.ts * 1000)
        r = asdict(rates(before, now))
        ledger = {f"{name}_pps": f"{rate:.4f}" for name, rate in r.pop("ledger").items()}
        shown = {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in r.items()}
        gauges = {**now.gauges, "delivered": now.delivered, "failed": sum(now.failed.values())}
        self._row("throughput.csv", {"ts": ts, **shown, **gauges, **ledger})
        for n, worker in enumerate(now.workers):
            self._row("workers.csv", {"ts": ts, "core": n, **worker})
        for name, port in now.ports.items():
            number = self._numbers.setdefault(name, len(self._numbers))
            wanted = {k: v for k, v in port.items() if k.startswith("mempool_") or any(w in k for w in self._config.port_stats)}
            self._row(f"port{number}.csv", {"ts": ts, "device": name, **wanted})
        for file in self._files:
            file.flush()

    def close(self, first: Reading, last: Reading) -> None:
        """Write the averages of the whole run."""
        r = rates(first, last)
        total = r.hw_dropped + r.sw_dropped
        body = {f"avg_{name}": getattr(r, name) for name in THROUGHPUTS}
        body |= {"hw_dropped_pkts": r.hw_dropped, "sw_dropped_pkts": r.sw_dropped, "tot_dropped_pkts": total, "percent_dropped": r.share(total)}
        body |= {"seconds": last.at - first.at, "counters": last.counters, "received": last.received, "failed": last.failed}
        (self.folder / "throughputs.json").write_text(json.dumps(body, indent=1) + "\n")
        for file in self._files:
            file.close()


def _new_folder(parent: Path) -> Path:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S")
    for n in itertools.count():
        folder = parent / (f"{stamp}.{n}" if n else stamp)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if parent.exists() and not parent.is_dir():
                raise
            continue
        return folder
    raise AssertionError
