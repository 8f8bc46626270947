"""Running a selection over its source: to the end, or batch by batch."""

from __future__ import annotations

import os
import queue
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from retina_jit.config import RuntimeConfig
from retina_jit.datatypes.base import DataType
from retina_jit.errors import SourceError
from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.runtime import Result, Runtime
from retina_jit.sinks.gather import ROWS, Batch, Choice, Gather
from retina_jit.subscription import Subscription
from retina_jit.tables.source import Source

WAITING = 4
"""Batches that wait for whoever asks for them; then the run waits."""
LOOK = 0.1
"""How often a thread that waits looks whether it shall go on [s]."""


class CaptureWarning(UserWarning):
    """Part of the input could not be read: it is cut, damaged, or of an unknown kind."""


def _nothing(*_: Any) -> None:
    return None


def compiling(done: int, total: int, unit: str) -> None:
    """Say that kernels are compiled, where somebody waits for it: on a terminal, in a notebook."""
    if "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty()):
        end = "\n" if done == total else ""
        print(f"\rretina_jit: compiling kernels, the first time this is asked: {done}/{total}", end=end, file=sys.stderr, flush=True)  # noqa: T201


class Selection:
    """A filter and columns over a source; each run gives the same rows.

    Attributes
    ----------
    filter : str
    types : tuple of DataType classes
    choices : tuple of Choice
        The columns.
    """

    def __init__(self, source: Source, config: RuntimeConfig, filter: str, types: Sequence[type[DataType]], choices: Sequence[Choice]) -> None:  # noqa: A002
        self.source, self.config, self.filter = source, config, filter
        self.types, self.choices = tuple(types), tuple(choices)
        self.used = False
        wanted = self._subscription(None)
        wanted.check()
        compile_filters([FilterSpec(filter, wanted.level, wanted.folder)])  # a fault is told where the table is asked for

    def _subscription(self, sink: Any) -> Subscription:
        return Subscription(self.filter, self.types, _nothing, "sink" if sink else "each", name="select", folder=os.getcwd(), sink=sink)  # noqa: PTH109

    def _runtime(self, sink: Gather) -> Runtime:
        if self.used and not self.source.again:
            raise SourceError(f"{self.source.label} was read already, and can be read only once; keep the rows with .collect()")
        try:
            made = Runtime([self._subscription(sink)], self.source.paths, self.config, progress=compiling)
        except SourceError as error:
            raise SourceError(self.source.told(str(error))) from error
        self.used = True
        return made

    def _run(self, runtime: Runtime) -> Result:
        try:
            result = runtime.run()
        except SourceError as error:
            raise SourceError(self.source.told(str(error))) from error
        for problem in result.problems:
            warnings.warn(self.source.told(problem), CaptureWarning, stacklevel=2)
        return result

    def collect(self, take: Callable[[Batch], None], most: int | None = None) -> Result:
        """Run to the end, or until there are `most` rows or a few more; each batch is given to `take`."""
        rows = 0

        def emit(batch: Batch) -> None:
            nonlocal rows
            take(batch)
            rows += len(batch[0])
            if most is not None and rows >= most:
                runtime.abandon()

        sink = Gather(self.choices, emit, ROWS if most is None else min(ROWS, max(1, most)))
        runtime = self._runtime(sink)
        result = self._run(runtime)
        sink.flush()
        return result

    def stream(self) -> Iterator[Batch]:
        """Run in another thread and give batches as they come; the run waits while they are not asked for."""
        given: queue.Queue[Any] = queue.Queue(WAITING)
        ended = threading.Event()

        def emit(item: Any) -> None:
            while not ended.is_set():
                try:
                    given.put(item, timeout=LOOK)
                except queue.Full:
                    continue
                return

        sink = Gather(self.choices, emit)
        runtime = self._runtime(sink)

        def work() -> None:
            try:
                self._run(runtime)
                sink.flush()
                emit(None)
            except BaseException as error:  # noqa: BLE001 - raised where the batches are asked for
                emit(error)

        thread = threading.Thread(target=work, name="retina_jit table", daemon=True)
        thread.start()
        try:
            while True:
                item = given.get()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            ended.set()
            runtime.abandon()
            thread.join()
