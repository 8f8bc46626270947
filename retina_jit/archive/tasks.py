"""What an archive is cut into, and what one task does, wherever it runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retina_jit import __version__
from retina_jit.config import RuntimeConfig
from retina_jit.errors import SourceError
from retina_jit.ingest.order import first_time
from retina_jit.runtime import Runtime
from retina_jit.sinks import FORMATS
from retina_jit.subscription import Subscription, named


@dataclass(frozen=True)
class Question:
    """What is asked of the captures: data types (each a comma-joined line), filter, format, configuration."""

    types: tuple[str, ...]
    filter: str
    format: str
    config: RuntimeConfig

    def subscriptions(self, sink: Any = None) -> list[Subscription]:
        """Return the subscriptions that write into `sink`."""
        made = []
        for spec in self.types:
            s = named(spec.split(","), self.filter, _nothing, "each")
            s.deliver, s.sink = "sink", sink
            made.append(s)
        return made


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Task:
    """A part of the work: captures in the order of time, and of their connections share `number` of `of`."""

    question: Question
    files: tuple[str, ...]
    number: int
    of: int
    seed: int
    part: str
    """File that the result is written to; `<part>.json` beside it tells that it is whole."""

    @property
    def size(self) -> int:
        """Bytes that it reads."""
        return sum(Path(f).stat().st_size for f in self.files if Path(f).exists())


@dataclass(frozen=True)
class Done:
    """What a task tells: its counters, what was wrong with the input, or why it could not be done at all."""

    counters: dict[str, int]
    problems: list[str]
    lines: int = 0
    failed: str = ""


def perform(task: Task) -> Done:
    """Do a task in this process. The part appears whole or not at all.

    Raises
    ------
    RetinaJitError
        A mistake in filter, data types or configuration; a capture that cannot be read is told in `Done.failed`.
    """
    unfinished = Path(f"{task.part}.unfinished")
    with unfinished.open("wb") as out:
        sink = FORMATS[task.question.format](out)
        try:
            share = (task.number, task.of, task.seed)
            read = _Position(task)
            runtime = Runtime(task.question.subscriptions(sink), task.files, task.question.config, tick=read, share=share)
            result = runtime.run()
        except SourceError as error:
            done = Done({}, [], failed=str(error))
        else:
            if result.interrupted:
                raise KeyboardInterrupt
            done = Done(result.counters, result.problems if task.number == 0 else [])
        finally:
            sink.close()
    if done.failed:
        unfinished.unlink()
    else:
        done = Done(done.counters, done.problems, sink.lines)
        unfinished.replace(task.part)
    _write_whole(Path(f"{task.part}.json"), json.dumps(vars(done)))
    return done


class _Position:
    """Notes now and then how far a task is, in a file that whoever waits for it may read."""

    def __init__(self, task: Task) -> None:
        self._path = Path(f"{task.part}.read")
        self._before, self._name, self._last = 0, "", 0

    def __call__(self, worker: Any) -> None:
        source = worker.source
        if source is None:
            return
        if source.name != self._name:
            self._before, self._name = self._before + self._last, source.name
        self._last = source.position
        _write_whole(self._path, str(self._before + self._last))


def position(task: Task) -> int:
    """Return how many bytes a task has read by now."""
    try:
        return int(Path(f"{task.part}.read").read_text())
    except (OSError, ValueError):
        return 0


def finished(task: Task) -> Done | None:
    """Return what a task has told if it was done before, in this run or another one."""
    try:
        done = Done(**json.loads(Path(f"{task.part}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return done if not done.failed and Path(task.part).exists() else None


def _write_whole(path: Path, text: str) -> None:
    made = path.with_name(f"{path.name}.{os.getpid()}")
    made.write_text(text)
    made.replace(path)


# ------------------------------------------------------------------------------------------------------------- planning


def in_time_order(files: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the captures in the order of their first packets, and those that cannot be read with the reason.

    A capture without any packet comes first; which begin at the same time keep the order given.
    """
    times, failed = {}, {}
    for file in files:
        try:
            times[file] = first_time(file)
        except SourceError as error:
            failed[file] = str(error)
    return sorted(times, key=lambda file: times[file]), failed


def plan(question: Question, files: Sequence[str], shares: int, folder: Path, *, per_file: bool) -> list[Task]:
    """Cut the work into tasks: one per capture, or `shares` of the connections of all captures."""
    key = digest(question, files, shares, per_file=per_file)
    seed = int(key[:15], 16)
    if per_file:
        return [Task(question, (file,), 0, 1, seed, str(folder / f"{n:06d}")) for n, file in enumerate(files)]
    return [Task(question, tuple(files), n, shares, seed, str(folder / f"{n:06d}")) for n in range(shares)]


def digest(question: Question, files: Sequence[str], shares: int, *, per_file: bool) -> str:
    """Return what the parts of a plan are known by: they are of use to nobody who asks anything else of anything else."""
    stats = [(str(Path(f).resolve()), Path(f).stat().st_size, Path(f).stat().st_mtime_ns) for f in files]
    said = [__version__, question.types, question.filter, question.format, repr(question.config), stats, per_file or shares]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
