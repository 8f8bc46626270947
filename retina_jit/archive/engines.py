"""Who does the tasks: processes of this machine, or a Dask cluster. Both do one that was lost with its process again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from retina_jit.archive.tasks import Done, Question, Task, begun, perform, prepare
from retina_jit.errors import ConfigError, RetinaJitError
from retina_jit.extras import library

TRIES = 3
"""How often a task is begun before its process's death is taken to be its fault."""
PERIOD = 0.2
"""How often whoever waits is told [s]."""

PATIENCE = 10.0
"""How long a Dask scheduler may take to answer [s]."""

MUCH = 4
"""A task is large if it is more than this part of what each process would have to do."""

Waiting = Callable[[], None]


class LostError(RetinaJitError):
    """A task took its process with it again and again."""


class Pool:
    """Processes of this machine.

    Parameters
    ----------
    processes : int
    question : Question
        What they will be asked.
    alone : bool
        Whether nobody else has anything in this process. Then they are copies of it, and begin with all that is loaded here. A
        copy of any process would hold the locks of its threads without the threads, so others start anew; at once, before there
        is a task for them, for that takes as long as planning does.
    """

    def __init__(self, processes: int, question: Question, *, alone: bool = False) -> None:
        self.processes, self._question, self._alone = processes, question, alone
        self._pool: ProcessPoolExecutor | None = None
        if not self._may_copy():
            self._begin()

    def _may_copy(self) -> bool:
        return self._alone and sys.platform == "linux" and threading.active_count() == 1

    def _begin(self) -> ProcessPoolExecutor:
        copied = self._may_copy()
        context = multiprocessing.get_context("fork" if copied else "spawn")
        pool = self._pool = ProcessPoolExecutor(self.processes, context, initializer=_in_service)
        for _ in range(0 if copied else self.processes):
            pool.submit(prepare, self._question)
        return pool

    def take(self) -> ProcessPoolExecutor:
        """Return the processes; others if those before have ended."""
        return self._pool or self._begin()

    def end(self) -> None:
        """End them without waiting for what they are at; afterwards they write nothing more."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            with contextlib.suppress(Exception):
                process.kill()
        for process in processes:
            with contextlib.suppress(Exception):
                process.join(PATIENCE)


def _in_service() -> None:
    """Leave Ctrl-C to whoever gives out the tasks; end with that process, for nobody else ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, name="retina-jit parent", daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def in_processes(tasks: Sequence[Task], pool: Pool, waiting: Waiting) -> Iterator[tuple[Task, Done]]:
    """Do tasks in processes of this machine; they are yielded as they end.

    Raises
    ------
    LostError
        A task that was being done when a process died, `TRIES` times.
    """
    left = dict.fromkeys(tasks, 0)
    while left:
        futures: dict[Future[Done], Task] = {}
        fault: BrokenProcessPool | None = None
        try:
            for task in in_order(left, pool.processes):
                futures[pool.take().submit(perform, task)] = task
            open_ = set(futures)
            while open_:
                ended, open_ = wait(open_, PERIOD, FIRST_COMPLETED)
                waiting()
                for future in ended:
                    if isinstance(found := future.exception(), BrokenProcessPool):
                        fault = found  # told of all that had not ended: those that had are still taken
                        continue
                    task = futures[future]
                    done = future.result()
                    del left[task]
                    yield task, done
        except BrokenProcessPool as error:  # before all were handed over
            fault = error
        finally:
            pool.end()
        if left:
            _count(left, fault)


def in_order(tasks: Iterable[Task], at_once: int) -> list[Task]:
    """Return tasks as they are begun: in their order, for so the output grows, but first those that would be waited for at the end."""
    given = list(tasks)
    much = sum(task.size for task in given) / (MUCH * at_once)
    return sorted(given, key=lambda task: -task.size if task.size > much else 0)


def _count(left: dict[Task, int], fault: BrokenProcessPool | None) -> None:
    """Count a death for the tasks that were being done, for which of them it was is not known; for all if it was at the start."""
    at_work = set[str]().union(*(begun(folder) for folder in {Path(task.part).parent for task in left}))
    for task in [t for t in left if t.part in at_work] or left:
        left[task] += 1
        if left[task] >= TRIES:
            raise _lost(task) from fault


def _lost(task: Task) -> LostError:
    return LostError(f"{', '.join(task.files[:3])}: a process that worked on it has died {TRIES} times; see its part {task.part}")


def on_dask(tasks: Sequence[Task], scheduler: str, waiting: Waiting) -> Iterator[tuple[Task, Done]]:
    """Do tasks on a Dask cluster whose workers see the same files; they are yielded as they end.

    Raises
    ------
    ConfigError
        Nobody answers at the address.
    MissingExtraError
        `distributed` is not installed.
    LostError
        A task whose workers have died again and again; the scheduler has gone.
    """
    distributed = library("distributed", "--scheduler", "dask")
    try:
        client = distributed.Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ConfigError(f"--scheduler {scheduler}: no Dask scheduler answers there ({error})") from error
    with client:
        futures: dict[Any, Task] = {client.submit(perform, task, pure=False, retries=TRIES - 1): task for task in tasks}
        open_ = dict(futures)
        try:
            while open_:
                for future in [f for f in open_ if f.done()]:
                    task = open_.pop(future)
                    yield task, _result(future, task, scheduler)
                waiting()
                time.sleep(PERIOD)
        finally:
            client.cancel(list(open_))


def _result(future: Any, task: Task, scheduler: str) -> Done:
    from distributed import KilledWorker
    from distributed.client import CancelledError

    try:
        done: Done = future.result()
    except KilledWorker as error:
        raise _lost(task) from error
    except CancelledError as error:
        raise LostError(f"--scheduler {scheduler}: it has ended or cannot be reached any more; what is done is kept, the same command goes on from there") from error
    return done
