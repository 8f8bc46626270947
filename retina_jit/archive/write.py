"""A log of many captures: plan, do what is not done yet, put the parts together."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from retina_jit import stats
from retina_jit.archive import tasks as planning
from retina_jit.archive.engines import PERIOD, LostError, Pool, in_processes, on_dask
from retina_jit.archive.folder import alone_in, discard, take_over
from retina_jit.archive.output import Output
from retina_jit.archive.tasks import (
    Capture,
    Done,
    Question,
    Task,
    finished,
    in_time_order,
    plan,
    positions,
    without_services,
)
from retina_jit.config import RuntimeConfig
from retina_jit.errors import ConfigError, RetinaJitError, SourceError
from retina_jit.ingest.sources import expand
from retina_jit.program import Program
from retina_jit.sinks import FORMATS
from retina_jit.sinks.joining import HEADERS, JOIN

Engine = Callable[..., Iterator[tuple[Task, Done]]]
Progress = Callable[[int, int], None]
"""Told how many bytes of how many are read."""


@dataclass
class Written:
    """What came of it.

    Attributes
    ----------
    counters : dict
        As of a run over all captures in one; see `retina_jit.stats`.
    lines : int
        Events written.
    problems : list of str
        Captures that were cut or damaged: what could be read was.
    failed : dict
        Capture -> why it could not be read at all.
    kept : int
        Parts that an earlier, interrupted run had done.
    """

    counters: dict[str, int]
    lines: int = 0
    problems: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    kept: int = 0


def write(
    types: Sequence[str],
    sources: Iterable[str],
    output: str | Path,
    *,
    filter: str = "",  # noqa: A002 - the word of the field
    format: str = "jsonl",  # noqa: A002 - likewise
    config: RuntimeConfig | None = None,
    processes: int = 2,
    scheduler: str = "",
    per_file: bool = False,
    progress: Progress | None = None,
    alone: bool = False,
) -> Written:
    """Write what is found in many captures into one file, with several processes.

    Connections that go on in the next capture are joined: the captures are read in the order of their first packets, by each
    process for its share of the connections. With `per_file` each capture stands for itself, and is read once.

    What is done of it lies in `<output>.parts` until all is; if the run is interrupted, the next one goes on there.

    Parameters
    ----------
    types : sequence of str
        Data types, as for `retina-jit log`: each entry a kind of line, a comma joins several.
    sources : paths or patterns of captures
    output : path
    filter, format : str
    config : RuntimeConfig, optional
    processes : int
        How many at once; how many shares.
    scheduler : str
        Address of a Dask scheduler whose workers see the same files; empty: processes of this machine.
    per_file : bool
        A task per capture.
    progress : callable, optional
    alone : bool
        Whether this process does nothing else, as the command line's: then the others are copies of it and begin sooner.

    Raises
    ------
    RetinaJitError
        A mistake in filter, data types, format or configuration; no capture that can be read.
    """
    if format not in FORMATS:
        raise ConfigError(f"-T {format}: not a format; known: {', '.join(FORMATS)}")
    if format not in (*HEADERS, *JOIN):
        known = ", ".join([*HEADERS, *JOIN])
        raise ConfigError(f"-T {format}: its files cannot be put together from parts; leave out -j and --per-file, or take one of {known}")
    output = Path(output)
    if output.is_symlink():
        output = output.resolve()  # what it leads to is written, as by one process, and stays where it is
    if output.exists() and not output.is_file():
        raise ConfigError(f"-o {output}: is no file; an archive's parts become a file, which takes its place")
    if processes < 1:
        raise ConfigError(f"processes = {processes}: at least 1")
    base = (config or RuntimeConfig()).check()
    # Where there is a process for every core, threads that help would only be in the way.
    chosen = msgspec.structs.replace(
        without_services(base),
        read_ahead=base.reads_ahead and processes < len(os.sched_getaffinity(0)),
        protocols=tuple(str(Path(file).expanduser().resolve()) for file in base.protocols),
    )
    question = Question(tuple(types), filter, format, chosen)
    # Whoever does a task may have another working folder.
    files = [str(Path(file).resolve()) for file in expand(sources)]
    if not files:
        raise SourceError("no capture to read")
    with contextlib.ExitStack() as ending:
        engine: Engine = partial(on_dask, scheduler=scheduler)
        if not scheduler:
            # Libraries that other formats are written with, and modules of users, may have threads that nobody here knows of.
            ours = alone and format in HEADERS and not chosen.protocols
            pool = Pool(min(processes, len(files)) if per_file else processes, question, alone=ours)
            ending.callback(pool.end)
            engine = partial(in_processes, pool=pool)
        return _write(question, files, output, processes, engine, progress, per_file=per_file)


def _write(
    question: Question, files: Sequence[str], output: Path, shares: int, engine: Engine, progress: Progress | None, *, per_file: bool
) -> Written:
    captures, failed = in_time_order(files)
    if not captures:
        raise SourceError("\n".join(failed.values()))
    # Compiled once, here: the processes find the object files.
    with Path("/dev/null").open("wb") as nowhere:
        config = question.config
        Program(question.subscriptions(FORMATS[question.format](nowhere)), None, config.tunnels(), config.sample < 1)
    folder = Path(f"{output}.parts").resolve()
    with alone_in(folder):
        try:
            return _write_parts(question, captures, failed, output, folder, shares, engine, progress, per_file=per_file)
        except OSError as fault:
            if isinstance(fault, BrokenPipeError) or (isinstance(fault.filename, str) and not fault.filename.startswith(str(folder))):
                raise  # not of the parts
            what = fault.strerror or str(fault)
            raise ConfigError(f"{folder}: {what}; what is done is kept, the same command goes on from there") from fault


def _write_parts(
    question: Question, captures: Sequence[Capture], failed: dict[str, str], output: Path, folder: Path, shares: int, engine: Engine,
    progress: Progress | None, *, per_file: bool,
) -> Written:  # fmt: skip
    key = planning.digest(question, captures, shares, per_file=per_file)
    take_over(folder, key)
    work = plan(question, captures, shares, folder, key, per_file=per_file)
    out = Output(output, folder, question.format, work)
    done = {task: known for n, task in enumerate(work) if (known := finished(task, joined=n < out.parts))}
    kept = len(done)
    left = [task for task in work if task not in done]
    waiting = _Waiting(progress, folder, sum(task.size for task in work), sum(task.size for task in done))
    try:
        for task, told in engine(left, waiting=waiting):
            done[task] = told
            waiting.done += task.size
            while out.grows and out.parts < len(work) and (found := done.get(work[out.parts])) and not found.failed:
                out.add()
    except RetinaJitError as error:
        if not done and not isinstance(error, LostError):
            discard(folder)  # a mistake in what is asked: nothing is worth keeping
        raise
    if not per_file and (lost := [d.failed for d in done.values() if d.failed]):
        raise SourceError(f"{lost[0]}; what is done is kept in {folder}")
    return _finish(work, done, failed, kept, out, folder, per_file=per_file)


class _Waiting:
    """Tells how far the work is; looks at what is being done once in a while, for it may be many files."""

    def __init__(self, progress: Progress | None, folder: Path, total: int, done: int) -> None:
        self.done = done
        """Bytes of the tasks that have ended."""
        self._progress, self._folder, self._total = progress, folder, total
        self._being_read, self._next = 0, 0.0

    def __call__(self) -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        if now >= self._next:
            self._being_read = positions(self._folder)
            self._next = now + max(PERIOD, 10 * (time.monotonic() - now))
        self._progress(min(self.done + self._being_read, self._total), self._total)


def _finish(
    work: Sequence[Task], done: dict[Task, Done], failed: dict[str, str], kept: int, out: Output, folder: Path, *, per_file: bool
) -> Written:
    told = [done[task] for task in work]
    good = [task for task in work if not done[task].failed]
    failed |= {task.files[0]: done[task].failed for task in work if done[task].failed}
    out.end(good)
    discard(folder)
    parts = [d.counters for d in told if not d.failed]
    if per_file:
        counters = {name: sum(p[name] for p in parts) for name in stats.COUNTERS}
    else:
        counters = stats.merge(parts)  # each has seen all captures
    return Written(counters, sum(d.lines for d in told), [p for d in told for p in d.problems], failed, kept)
