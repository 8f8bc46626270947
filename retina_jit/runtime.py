"""A run: sources, program, workers, delivery."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from retina_jit import cores, objects, privileges, stats
from retina_jit.config import RuntimeConfig, to_toml
from retina_jit.config_network import MonitorConfig
from retina_jit.delivery.dispatch import Dispatcher
from retina_jit.delivery.sinks import Sinks
from retina_jit.errors import ConfigError, SubscriptionError
from retina_jit.exchange import Exchange, go_over
from retina_jit.ingest.bpf import compile_for_all
from retina_jit.monitor.reading import Ports, Reading, failures, read
from retina_jit.opening import opened
from retina_jit.parsers.user import load_protocol
from retina_jit.program import Program
from retina_jit.result import Result
from retina_jit.sinks import FLOWS
from retina_jit.sinks.paths import Paths, format_of
from retina_jit.subscription import Subscription, resolved, subscriptions_of
from retina_jit.worker import ABANDON, STOP, Worker, left_out

if TYPE_CHECKING:
    from retina_jit.monitor.monitor import Monitor

SHORTEST_NAP, LONGEST_NAP = 0.0005, 0.01
"""How long the delivery thread sleeps while there is little in the ring [s]: between these, so that it wakes to a ring
that is about half full at most. Small deliveries cost the worker a core: 700 batches of a run instead of 40 took 70 ns/packet."""
LITTLE, MUCH = 1 / 8, 1 / 2
"""Shares of the ring: with less it is worth while to wait for more, with more the nap was too long."""

LONGEST_PAUSE = 0.5
"""How long one worker stands still for another, before both go on and it is tried again [s]."""
GRACE = 0.5
"""How long slow callbacks go on after a run over an interface was asked to end [s]."""


Tick = Callable[[Worker], None]


class Runtime:
    """Runs subscriptions over captures.

    Parameters
    ----------
    subscriptions : sequence of Subscription
    sources : paths, patterns, "-", "af_packet:INTERFACE", "dpdk:DEVICE", or "live:NAME": what of the two can
        Empty: the ports of the configuration's [online].
    config : RuntimeConfig, optional
    progress : callable, optional
        Told about compilation: done, total, name of the entry.
    tick : callable, optional
        Called some times per second with the worker, for a progress bar.
    share : (int, int, int), optional
        Of all connections only this share: its number, how many there are, the seed that all have in common. For one of
        several processes that read the same captures; there is one worker then.
    ends : dict, optional
        Capture -> where it ends [byte], though it may have grown since: for several runs that shall see the same.

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
        progress: objects.Progress | None = None,
        tick: Tick | None = None,
        share: tuple[int, int, int] | None = None,
        ends: Mapping[str, int] | None = None,
    ) -> None:
        self.config = (config or RuntimeConfig()).check()
        for file in self.config.protocols:
            load_protocol(file)
        prefilter = compile_for_all(self.config.bpf) if self.config.bpf else None
        self._user = privileges.account(self.config.user) if self.config.user else None
        cores.check("cores", self.config.cores)
        what = opened(self.config, tuple(sources), ends)
        self.config, self.sources, self._receiver, self._from_online = what.config, what.sources, what.receiver, what.from_online
        count = len(self.sources)
        self._paths = Paths()
        try:
            self.program = Program([self._with_sink(s) for s in subscriptions], progress, self.config.tunnels(), self.config.sample < 1)
            if self._receiver is not None:
                from retina_jit import online

                self._receiver.rules = online.hardware_rules(self.config, self.program.plan.first)
            seed = secrets.randbits(63)
            if what.readers is not None:
                what.readers.by, what.readers.seed = left_out(self.program.loop, self.config), seed
            shares = [(n, count, seed) for n in range(count)] if share is None else [share]
            self.workers = [Worker(self.program, self.config, *one, prefilter) for one in shares]
        except BaseException:
            self._paths.close()
            if self._receiver is not None:
                self._receiver.close()
            raise
        self._sinks: Sinks | None = None
        self.dispatchers = self._dispatchers()
        self._former: list[Dispatcher] = []
        self._next: tuple[Exchange, Sinks, threading.Event] | None = None
        self._pause_at = 0.0
        self._going_over = threading.Lock()
        self._over = threading.Event()
        self._tick = tick
        self._stop_asked = False
        self._ports: Ports = {}
        self.monitor: Monitor | None = None
        self.on_monitor: Callable[[Monitor], None] | None = None

    def _with_sink(self, s: Subscription) -> Subscription:
        """Open the file that a subscription names as its sink."""
        if not isinstance(s.sink, str):
            return s
        if s.every is not None and format_of(s.sink)[0] in FLOWS:
            raise SubscriptionError(f"{s.where or s.name}: sink={s.sink!r} takes connections that are over: without every_..., for a collector adds up what it gets")
        types = resolved(self._paths.types(s.sink, s.types), s.where or s.name)
        return replace(s, types=types, sink=self._paths.get(s.sink, s.rotate))

    def _dispatchers(self, former: Sequence[tuple[Dispatcher, Mapping[int, int]]] = (), sinks: Sinks | None = None) -> list[Dispatcher]:
        p = self.program
        # None: a program that writes to no sink knows those that are open all the same.
        self._sinks = sinks = Sinks(p.subscriptions, p.offsets) if sinks is None else sinks
        on_error = self.config.delivery.on_error
        before: Sequence[tuple[Dispatcher, Mapping[int, int]] | None] = former or [None] * len(self.workers)
        return [Dispatcher(w.words, p.subscriptions, p.offsets, on_error, sinks, f) for w, f in zip(self.workers, before, strict=True)]

    def go_over(self, subscriptions: Sequence[Subscription]) -> str:
        """Let a run that goes on have other subscriptions; its connections live on (see `retina_jit.exchange`).

        Compiles in the calling thread, which must not be that of `run`, and waits until it is done.

        Returns
        -------
        str
            How many subscriptions go on, are new, are gone; empty if the run has ended before.

        Raises
        ------
        RetinaJitError
            Anything wrong with filters, data types, callbacks. The run goes on as it was.
        """
        if self._receiver is not None and self._receiver.hardware_rules:
            raise SubscriptionError(
                "the card lets only through what the program at the start wanted; to change it during a run, set hardware_assist = false in [online]"
            )
        with self._going_over:
            if self._over.is_set():
                return ""
            with self._paths.trying():
                program = Program([self._with_sink(s) for s in subscriptions], None, self.config.tunnels(), self.config.sample < 1)
                exchange = Exchange(self.program, program)
                sinks = Sinks(program.subscriptions, program.offsets, self._sinks, len(self.workers))
            done = threading.Event()
            self._pause_at = time.perf_counter()
            self._next = exchange, sinks, done
            while not done.wait(0.05):
                if self._over.is_set():
                    self._paths.close()  # those that were opened since
                    return ""
            return exchange.summary()

    def _exchange(self, exchange: Exchange, sinks: Sinks, done: threading.Event) -> None:
        """Go over to the other program, if by now all workers stand still."""
        now = time.perf_counter()
        if now < self._pause_at:
            return
        for w in self.workers:
            w.pause()
        with contextlib.ExitStack() as held:
            for w in self.workers:
                held.enter_context(w.exchanging)
            if not all(w.paused.is_set() or w.finished.is_set() for w in self.workers):
                if now > self._pause_at + LONGEST_PAUSE and len(self.workers) > 1:
                    # Workers that read one file together wait for one another: let them go on, and try again.
                    self._pause_at = now + LONGEST_PAUSE / 10
                    for w in self.workers:
                        w.resume()
                return
            reached = max((w.source.number for w in self.workers if w.source is not None), default=0)
            for w in self.workers:
                go_over(w, exchange, reached)
            self.program, deadline = exchange.new, self.dispatchers[0].deadline
            dispatchers = self._dispatchers([(d, exchange.subscriptions) for d in self.dispatchers], sinks)
            for d in dispatchers:
                d.deadline = deadline
            # At once: who reads the counters meanwhile must not find a dispatcher twice.
            self._former, self.dispatchers = [*self._former, *self.dispatchers], dispatchers
        for w in self.workers:
            w.resume()
        self._next = None
        done.set()

    def stop(self) -> None:
        """Ask the run to end: the burst at hand is finished, open connections are ended and delivered.

        Of an interface, only what callbacks manage within `GRACE`; the rest is counted as lost.
        """
        self._stop_asked = True
        self._end()

    def _end(self) -> None:
        if any(w.source is not None and w.source.is_live for w in self.workers):
            for dispatcher in self._former + self.dispatchers:
                dispatcher.deadline = time.perf_counter() + GRACE
        self._control(STOP)

    def abandon(self) -> None:
        """Ask the run to end at once: nothing more is delivered."""
        self._control(ABANDON)

    def _control(self, word: int) -> None:
        for worker in self.workers:
            worker.control(word)

    def run(self) -> Result:
        """Process the sources to their end. Ctrl-C or SIGTERM stops early, with all that was seen delivered."""
        try:
            with self._monitored():
                return self._run()
        finally:
            self._over.set()
            self._close()

    def _close(self) -> None:
        """Give back what the constructor has opened; again does no harm."""
        try:
            if self._receiver is not None:
                self._receiver.close()
        finally:
            self._paths.close()

    def reading(self) -> Reading:
        """Return all that a monitor shows, as it is now; from any thread."""
        return read(self.workers, self._former + self.dispatchers, self._ports)

    @contextlib.contextmanager
    def _monitored(self) -> Iterator[None]:
        """Tell of the run while it goes on, as the configuration asks for it."""
        config, metrics = self.config.monitoring(), self.config.metrics()
        if config == MonitorConfig() and metrics is None:
            yield
            return
        from retina_jit.monitor.monitor import Monitor

        for worker in self.workers:
            worker.count_volumes()
        self.monitor = Monitor(self.reading, config, metrics, to_toml(self.config))
        with self.monitor:
            if self.on_monitor is not None:
                self.on_monitor(self.monitor)
            yield

    def _run(self) -> Result:
        begun = time.perf_counter()
        try:
            for worker, sources in zip(self.workers, self.sources, strict=True):
                worker.start(sources)
            with self._interruptible():
                self._give_up_rights()
                self._deliver()
        except BaseException:
            # Whatever it is (a callback's error, sys.exit in it): the worker must not wait for us.
            self._control(ABANDON)
            raise
        finally:
            self._over.set()
            for worker in self.workers:
                worker.join()
            self._close()
        for worker in self.workers:
            if worker.error is not None:
                raise worker.error
        for n, s in enumerate(self.program.subscriptions):
            s.workers = [state for worker in self.workers if (state := worker.states[n]) is not None]
            if s.workers:
                s.result = s.merge([state[0] for state in s.workers]) if s.merge else s.workers[0][0]
        return self._result(time.perf_counter() - begun)

    def _give_up_rights(self) -> None:
        """Become the user that the configuration names, now that sources are open."""
        if self._user is None:
            return
        for worker in self.workers:
            worker.opened.wait()
        if self.monitor is not None and self.monitor.log is not None:
            os.chown(self.monitor.log.folder, self._user.pw_uid, self._user.pw_gid)
        privileges.become(self._user)
        for folder in {f for s in self.program.subscriptions if (f := getattr(s.sink, "later", None)) is not None}:
            if not os.access(folder, os.W_OK | os.X_OK):
                name = self._user.pw_name
                raise ConfigError(f"{folder}: files are begun anew here, and user {name} may not make any. Fix: sudo chown {name} {folder}, or write elsewhere")

    def _deliver(self) -> None:
        """Drain until the workers are done and their rings empty, or nothing more is wanted."""
        next_tick, nap = 0.0, SHORTEST_NAP
        online = self.config.online
        # Of ports; a capture that is read with the same configuration has its own end.
        until = time.perf_counter() + online.duration if self._from_online and online is not None and online.duration else math.inf
        while True:
            if time.perf_counter() > until:
                self._end()
                until = math.inf
            working = next((w for w in self.workers if not w.finished.is_set()), None)
            if working is not None and any(w.error is not None for w in self.workers):
                self._control(ABANDON)  # the others may have no end of their own; it is raised when they are done
            delivered = sum([d.drain() for d in self.dispatchers])
            if self._next is not None and not self._stop_asked:
                self._exchange(*self._next)
            if working is None:
                if delivered == 0 and not any(d.filled() for d in self.dispatchers):
                    return
            elif self._filled() < LITTLE:
                if delivered == 0:
                    self.dispatchers[0].idle()
                working.finished.wait(nap)
                filled = self._filled()
                if filled > MUCH:
                    nap = max(nap / 2, SHORTEST_NAP)
                elif filled < LITTLE:
                    nap = min(nap * 2, LONGEST_NAP)
            if self._tick is not None and (now := time.perf_counter()) > next_tick:
                self._tick(self.workers[0])
                next_tick = now + 0.1

    def _filled(self) -> float:
        return max(d.filled() for d in self.dispatchers)

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let Ctrl-C, and SIGTERM, ask for the end instead of raising wherever the program is: a callback is finished, nothing is lost.

        So what stops a service leaves whole files, and interfaces as they were. A second one raises, for a callback may hang; the rest of the events is given up then.
        """

        def interrupted(*_: Any) -> None:
            if self._stop_asked:
                raise KeyboardInterrupt
            self.stop()

        usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
        # The handlers of the program around us, and those of other threads' runs, stay.
        mine = [s for s, was in usual.items() if signal.getsignal(s) is was] if threading.current_thread() is threading.main_thread() else []
        for number in mine:
            signal.signal(number, interrupted)
        try:
            yield
        except KeyboardInterrupt:
            self.stop()
            self._control(ABANDON)
        finally:
            for number in mine:
                signal.signal(number, usual[number])

    def stats(self) -> dict[str, int]:
        """Return the counters as they are now."""
        merged = stats.merge([w.snapshot() for w in self.workers])
        merged["events_lost"] += sum(d.given_up for d in self._former + self.dispatchers)
        return merged

    def _result(self, seconds: float) -> Result:
        failed = {name: n for name, n in failures(self._former + self.dispatchers).items() if n}
        extra = {
            "live_peak": sum(int(w.table["peak"]) for w in self.workers),
            "arena_peak": sum(int(w.arena["peak"]) for w in self.workers),
            "arena_left": sum(int(w.arena["used"]) for w in self.workers),
            "cores": [w.core for w in self.workers],
        }
        if self._receiver is not None:
            r = self._receiver
            extra |= {"buffers_left": r.left, "frames_sunk": r.sunk, "hardware_rules": r.hardware_rules}
        return Result(self.stats(), [*self.workers[0].problems, *self._paths.problems], failed, seconds, self._stop_asked, extra)


def run(
    subscriptions: Subscription | Callable[..., Any] | Sequence[Subscription | Callable[..., Any]],
    *sources: str | os.PathLike[str],
    config: RuntimeConfig | None = None,
) -> Result:
    """Run subscriptions over captures.

    Parameters
    ----------
    subscriptions : function, Subscription, or a sequence of them
        Functions are those decorated with `subscribe`.
    *sources : paths, patterns or "-"
    config : RuntimeConfig, optional

    Raises
    ------
    RetinaJitError
        See `Runtime`.
    """
    several = subscriptions if isinstance(subscriptions, Sequence) else [subscriptions]
    return Runtime([one for given in several for one in subscriptions_of(given)], sources, config).run()


__all__ = ["Result", "Runtime", "run"]
