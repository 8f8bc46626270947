"""Whole processes, measured: time, processor time, memory of their own."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Cost:
    """One process, its children included."""

    seconds: float
    cpu: float
    out: str
    err: str


def environment(**changes: str) -> dict[str, str]:
    """Return the environment in which this checkout is what `retina_jit` means, with its bytecode kept, as an installed package's is."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])), **changes}


def once(command: Sequence[str], **changes: str) -> Cost:
    """Run a command to its end.

    Raises
    ------
    RuntimeError
        It failed; with what it said.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment(**changes))
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode(errors="replace"))
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}: {said[1][-2000:]}")
    return Cost(seconds, used.ru_utime + used.ru_stime, *said)


def memory(command: Sequence[str]) -> float:
    """Return the most memory of its own that a command had, mapped files left out [MB]; looks every 5 ms."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    peak = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.005):
            try:
                status = Path(f"/proc/{child.pid}/status").read_text()
            except OSError:
                return
            own = [int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssShmem"))]
            peak = max(peak, sum(own))

    watcher = threading.Thread(target=watch)
    watcher.start()
    child.wait()
    over.set()
    watcher.join()
    return peak * 1024 / 1e6


def note(benchmark: Any, count: int, unit: str = "packet", *, less: float = 0.0, **more: Any) -> float:
    """Write ns per unit, of the best round, beside a result of pytest-benchmark; `less`: seconds that are not counted.

    Returns the seconds of the best round; 0 where nothing is measured (`--benchmark-disable`).
    """
    benchmark.extra_info.update(more)
    if benchmark.stats is None:
        return 0.0
    seconds = float(benchmark.stats.stats.min)
    benchmark.extra_info[f"ns_per_{unit}"] = round((seconds - less) * 1e9 / max(count, 1), 2)
    return seconds
