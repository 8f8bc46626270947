"""What an archive is cut into, and what one task does, wherever it runs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from retina_jit import __version__
from retina_jit.config import RuntimeConfig
from retina_jit.errors import SourceError
from retina_jit.filters.parse import parse
from retina_jit.ingest.order import first_time
from retina_jit.parsers.user import load_protocol
from retina_jit.runtime import Runtime
from retina_jit.sinks import FORMATS
from retina_jit.subscription import Subscription, named

UNFINISHED, READ = ".unfinished", ".read"
"""Ends of names beside a part: what a task has written so far, and how far it has read."""


@dataclass(frozen=True)
class Question:
    """What is asked of the captures: data types (each a comma-joined line), filter, format, configuration."""

    types: tuple[str, ...]
    filter: str
    format: str
    config: RuntimeConfig

    def subscriptions(self, sink: Any = None) -> list[Subscription]:
        """Return the subscriptions that write into `sink`."""
        for file in self.config.protocols:
            load_protocol(file)
        made = []
        for spec in self.types:
            s = named(spec.split(","), self.filter, _nothing, "each")
            s.deliver, s.sink = "sink", sink
            made.append(s)
        return made


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Capture:
    """A capture as it was when the work was planned."""

    path: str
    size: int
    changed: int
    """When [ns since 1970]."""


@dataclass(frozen=True, eq=False)
class Task:
    """A part of the work: captures in the order of time, and of their connections share `number` of `of`."""

    question: Question
    files: tuple[str, ...]
    number: int
    of: int
    seed: int
    part: str
    """File that the result is written to; `<part>.json` beside it tells that it is whole."""

    sizes: tuple[int, ...]
    """Of the captures when the work was planned [byte]: one that is still being written ends there for all tasks."""

    @property
    def size(self) -> int:
        """Bytes that it reads."""
        return sum(self.sizes)


@dataclass(frozen=True)
class Done:
    """What a task tells: its counters, what was wrong with the input, or why it could not be done at all."""

    counters: dict[str, int]
    problems: list[str]
    lines: int = 0
    failed: str = ""


def prepare(question: Question) -> None:
    """Load what tasks will need into this process."""
    with Path("/dev/null").open("wb") as nowhere:
        question.subscriptions(FORMATS[question.format](nowhere))
    parse(question.filter)


def perform(task: Task) -> Done:
    """Do a task in this process. The part appears whole or not at all.

    Raises
    ------
    RetinaJitError
        A mistake in filter, data types or configuration; a capture that cannot be read is told in `Done.failed`.
    """
    unfinished = _beside(Path(task.part), UNFINISHED)
    with unfinished.open("wb") as out:
        sink = FORMATS[task.question.format](out)
        try:
            ends = dict(zip(task.files, task.sizes, strict=True))
            share = (task.number, task.of, task.seed)
            read = _Position(task)
            runtime = Runtime(task.question.subscriptions(sink), task.files, task.question.config, tick=read, share=share, ends=ends)
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
    write_whole(Path(f"{task.part}.json"), json.dumps(vars(done)))
    Path(f"{task.part}{READ}").unlink(missing_ok=True)
    return done


class _Position:
    """Notes now and then how far a task is, in a file that whoever waits for it may read."""

    def __init__(self, task: Task) -> None:
        self._path = Path(f"{task.part}{READ}")
        self._before, self._name, self._last = 0, "", 0

    def __call__(self, worker: Any) -> None:
        source = worker.source
        if source is None:
            return
        if source.name != self._name:
            self._before, self._name = self._before + self._last, source.name
        self._last = source.position
        # In place: whoever reads half of it reads again. Replacing a file has its bytes brought to the disk at once.
        with self._path.open("wb", buffering=0) as file:
            file.write(b"%d" % (self._before + self._last))


def positions(folder: Path) -> int:
    """Return how many bytes the tasks that are being done have read by now."""
    found = 0
    for path in _ending(folder, READ):
        with contextlib.suppress(OSError, ValueError):  # the task ends just now
            found += int(path.read_text())
    return found


def begun(folder: Path) -> set[str]:
    """Return the parts of tasks that were begun and have not ended, and forget that they were."""
    left = _ending(folder, UNFINISHED)
    for path in left:
        path.unlink(missing_ok=True)
    return {str(folder / path.name.partition(".")[0]) for path in left}


def _ending(folder: Path, ending: str) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(e.path) for e in entries if e.name.endswith(ending)]


def finished(task: Task, *, joined: bool = False) -> Done | None:
    """Return what a task has told if it was done before, in this run or another one; its part is gone if it was joined."""
    try:
        done = Done(**json.loads(Path(f"{task.part}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return done if not done.failed and (joined or Path(task.part).exists()) else None


def write_whole(path: Path, text: str) -> None:
    """Write a small file that appears whole or not at all."""
    made = _beside(path, ".new")
    made.write_text(text)
    made.replace(path)


def _beside(path: Path, ending: str) -> Path:
    """Return a name that no other writer has: a task that was taken for lost may still be at work, on another machine too."""
    return path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}{ending}")


# ------------------------------------------------------------------------------------------------------------- planning


def in_time_order(files: Sequence[str]) -> tuple[list[Capture], dict[str, str]]:
    """Return the captures in the order of their first packets, and those that cannot be read with the reason.

    A capture without any packet comes first; which begin at the same time keep the order given.
    """
    times, failed = {}, {}
    for file in dict.fromkeys(files):
        try:
            found = Path(file).stat()
            if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
                failed[file] = f"{file}: is no file, and an archive's captures are opened more than once; read it alone, without -j and --per-file"
                continue
            time = first_time(file)
        except SourceError as error:
            failed[file] = str(error)
        except OSError as fault:
            failed[file] = f"{file}: {fault.strerror}"
        else:
            times[Capture(file, found.st_size, found.st_mtime_ns)] = time
    return sorted(times, key=lambda capture: times[capture]), failed


def plan(question: Question, captures: Sequence[Capture], shares: int, folder: Path, key: str, *, per_file: bool) -> list[Task]:
    """Cut the work into tasks: one per capture, or `shares` of the connections of all captures; `key` is its `digest`."""
    seed = int(key[:15], 16)
    if per_file:
        return [Task(question, (c.path,), 0, 1, seed, str(folder / f"{n:06d}"), (c.size,)) for n, c in enumerate(captures)]
    files, sizes = tuple(c.path for c in captures), tuple(c.size for c in captures)
    return [Task(question, files, n, shares, seed, str(folder / f"{n:06d}"), sizes) for n in range(shares)]


def digest(question: Question, captures: Sequence[Capture], shares: int, *, per_file: bool) -> str:
    """Return what the parts of a plan are known by: they are of use to nobody who asks anything else of anything else.

    How a machine goes about it is not in it, so that the work may go on on another one.
    """
    config = msgspec.structs.replace(without_services(question.config), protocols=(), read_ahead=None)
    protocols = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in question.config.protocols]
    files = [(c.path, c.size, c.changed) for c in captures]
    said = [__version__, question.types, question.filter, question.format, repr(config), protocols, files, per_file or shares]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def without_services(config: RuntimeConfig) -> RuntimeConfig:
    """Return a configuration without what many processes cannot each do: serve a port, write a log, give up rights."""
    return msgspec.structs.replace(config, workers=None, cores=(), monitor=None, prometheus=None, online=None, user=None)
