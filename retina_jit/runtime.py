"""A run: sources, program, workers, delivery; and what is told about it afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retina_jit import jit, stats
from retina_jit.config import RuntimeConfig
from retina_jit.delivery.dispatch import Dispatcher
from retina_jit.errors import CallbackError
from retina_jit.ingest.source import open_sources
from retina_jit.parsers.user import load_protocol
from retina_jit.program import Program
from retina_jit.subscription import Subscription
from retina_jit.worker import ABANDON, STOP, Worker

SHORTEST_NAP, LONGEST_NAP = 0.0005, 0.01
"""How long the delivery thread sleeps while there is little in the ring [s]: between these, so that it wakes to a ring
that is about half full at most. Small deliveries cost the worker a core: 700 batches of a run instead of 40 took 70 ns/packet."""
LITTLE, MUCH = 1 / 8, 1 / 2
"""Shares of the ring: with less it is worth while to wait for more, with more the nap was too long."""


@dataclass
class Result:
    """What a run did.

    Attributes
    ----------
    counters : dict
        See `retina_jit.stats`; `ledger` is the part that sums up to `frames`.
    problems : list of str
        What was wrong with the input, one line each; the exit status is not 0 then.
    failed : dict
        Subscription name -> how many calls raised.
    seconds : float
        From the first frame to the last delivery, compiling left out.
    interrupted : bool
        Whether it was stopped from outside.
    """

    counters: dict[str, int]
    problems: list[str]
    failed: dict[str, int]
    seconds: float
    interrupted: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def ledger(self) -> dict[str, int]:
        """Where each frame ended; sums up to the frames read."""
        return {name: self.counters[name] for name in stats.LEDGER}

    @property
    def payload(self) -> dict[str, int]:
        """Where each byte of payload of tracked packets ended."""
        return {name: self.counters[name] for name in stats.PAYLOAD}

    @property
    def capture_loss(self) -> float | None:
        """Share of acknowledgements of data that the capture has not seen; None without any (needs ConnRecord)."""
        return stats.capture_loss(self.counters)


Tick = Callable[[Worker], None]


class Runtime:
    """Runs subscriptions over captures.

    Parameters
    ----------
    subscriptions : sequence of Subscription
    sources : paths, patterns or "-"
    config : RuntimeConfig, optional
    progress : callable, optional
        Told about compilation: done, total, name of the entry.
    tick : callable, optional
        Called some times per second with the worker, for a progress bar.
    after_drain : callable, optional
        Called after each delivery round (sinks flush here).

    Raises
    ------
    RetinaJitError
        From the constructor: anything wrong with filters, data types, configuration. From `run`: a source that cannot
        be opened, a callback that raised.
    """

    def __init__(
        self,
        subscriptions: Sequence[Subscription],
        sources: Iterable[str | os.PathLike[str]],
        config: RuntimeConfig | None = None,
        *,
        progress: jit.Progress | None = None,
        tick: Tick | None = None,
    ) -> None:
        self.config = (config or RuntimeConfig()).check()
        for file in self.config.protocols:
            load_protocol(file)
        self.sources = open_sources(sources)
        self.program = Program(subscriptions, progress, self.config.tunnels())
        self.worker = Worker(self.program, self.config)
        self.dispatcher = Dispatcher(self.worker.words, self.program.subscriptions, self.program.offsets, self.config.delivery.on_error)
        self._tick = tick
        self._stop_asked = False

    def stop(self) -> None:
        """Ask the run to end: the burst at hand is finished, open connections are ended and delivered."""
        self._stop_asked = True
        self.worker.control(STOP)

    def run(self) -> Result:
        """Process the sources to their end. Ctrl-C stops early, with all that was seen delivered."""
        worker = self.worker
        begun = time.perf_counter()
        worker.start(self.sources)
        try:
            with self._interruptible():
                self._deliver()
        except BaseException:
            # Whatever it is (a callback's error, sys.exit in it): the worker must not wait for us.
            worker.control(ABANDON)
            raise
        finally:
            worker.join()
        if worker.error is not None:
            raise worker.error
        for n, s in enumerate(self.program.subscriptions):
            state = worker.states[n]
            if state is not None:
                s.workers = [state]
                s.result = s.merge([state[0]]) if s.merge else state[0]
        return self._result(time.perf_counter() - begun)

    def _deliver(self) -> None:
        """Drain until the worker is done and the ring is empty, or nothing more is wanted."""
        worker, dispatcher = self.worker, self.dispatcher
        next_tick, nap = 0.0, SHORTEST_NAP
        while True:
            done = worker.finished.is_set()
            delivered = dispatcher.drain()
            if done and delivered == 0:
                return
            if not done and dispatcher.filled() < LITTLE:
                if delivered == 0:
                    dispatcher.idle()
                worker.finished.wait(nap)
                filled = dispatcher.filled()
                if filled > MUCH:
                    nap = max(nap / 2, SHORTEST_NAP)
                elif filled < LITTLE:
                    nap = min(nap * 2, LONGEST_NAP)
            if self._tick is not None and (now := time.perf_counter()) > next_tick:
                self._tick(worker)
                next_tick = now + 0.1

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let Ctrl-C ask for the end instead of raising wherever the program is: a callback is finished, nothing is lost.

        A second one raises, for a callback may hang; the rest of the events is given up then.
        """

        def interrupted(*_: Any) -> None:
            if self._stop_asked:
                raise KeyboardInterrupt
            self.stop()

        mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if mine:
            signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        except KeyboardInterrupt:
            self.stop()
            self.worker.control(ABANDON)
        finally:
            if mine:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def stats(self) -> dict[str, int]:
        """Return the counters as they are now."""
        return stats.snapshot(self.worker.counters)

    def _result(self, seconds: float) -> Result:
        failed = {s.name: n for s, n in zip(self.program.subscriptions, self.dispatcher.failed, strict=True) if n}
        extra = {
            "live_peak": int(self.worker.table["peak"]),
            "arena_peak": int(self.worker.arena["peak"]),
            "arena_left": int(self.worker.arena["used"]),
        }
        return Result(self.stats(), list(self.worker.problems), failed, seconds, self._stop_asked, extra)


def user_traceback(error: CallbackError) -> str:
    """Return the traceback of a failed callback from the user's first line on; ours is left out."""
    cause = error.__cause__
    if cause is None:
        return str(error)
    frames = traceback.extract_tb(cause.__traceback__)
    package = str(Path(__file__).resolve().parent) + os.sep
    first = next((n for n, f in enumerate(frames) if not str(Path(f.filename).resolve()).startswith(package)), len(frames))
    shown = "".join(traceback.format_list(frames[first:])) + "".join(traceback.format_exception_only(cause))
    return f"Traceback (most recent call last):\n{shown}"


def run(
    subscriptions: Sequence[Subscription],
    *sources: str | os.PathLike[str],
    config: RuntimeConfig | None = None,
) -> Result:
    """Run subscriptions over captures; see `Runtime`."""
    return Runtime(subscriptions, sources, config).run()


__all__ = ["Result", "Runtime", "run", "user_traceback"]
