"""The thread that looks each second, and those it tells."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from retina_jit.config_network import MonitorConfig, PrometheusConfig
from retina_jit.monitor.display import Display
from retina_jit.monitor.log import Log
from retina_jit.monitor.page import Server
from retina_jit.monitor.reading import Rates, Reading, rates

SECOND = 1.0


class Monitor:
    """Tells of a run while it goes on; a context manager around it.

    Parameters
    ----------
    read : callable
        Returns a `Reading`; called from several threads.
    config : MonitorConfig, optional
    prometheus : PrometheusConfig, optional
    effective : str
        The configuration in effect as TOML, for the log.
    interval : float
        Of the display [s].
    out : text file, optional
        Where the display goes; standard error by default.

    Attributes
    ----------
    log : Log or None
    servers : list of Server

    Raises
    ------
    ConfigError
        A folder that cannot be made, an address that cannot be had, a package that is missing.
    """

    def __init__(
        self,
        read: Callable[[], Reading],
        config: MonitorConfig | None,
        prometheus: PrometheusConfig | None = None,
        effective: str = "",
        *,
        interval: float = SECOND,
        out: TextIO | None = None,
    ) -> None:
        config = config or MonitorConfig()
        self._read, self._config, self._interval = read, config, interval
        self._first = self._latest = self._before = read()
        self._display = Display(config.display, out) if config.display is not None else None
        self.servers: list[Server] = []
        self.log: Log | None = None
        try:
            if config.page is not None:
                self.servers.append(Server(config.page.ip, config.page.port, self._now, self._first))
            if prometheus is not None:
                self.servers.append(Server(prometheus.ip, prometheus.port, self._now, self._first, metrics_everywhere=True))
            if config.log is not None:
                self.log = Log(config.log, effective)
        except BaseException:
            self._close_servers()
            raise
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._main, name="retina-jit monitor", daemon=True)

    def _now(self) -> tuple[Reading, Rates]:
        """Return a reading of this moment, and the rates since one that is about a second old."""
        now = self._read()
        before = self._latest if now.at - self._latest.at > self._interval / 2 else self._before
        return now, rates(before, now)

    def _main(self) -> None:
        log = self._config.log
        log_interval = log.interval / 1000 if log is not None else self._interval
        begun = self._first.at
        logged = self._first
        next_look, next_log = begun + self._interval, begun + log_interval
        while not self._over.wait(max(min(next_look, next_log) - time.monotonic(), 0)):
            now = self._read()
            if self.log is not None and now.at >= next_log:
                self._write(logged, now)
                logged = now
                # A second that was missed, for the machine was busy, is not made up for.
                next_log += log_interval * (1 + (now.at - next_log) // log_interval)
            elif self.log is None:
                next_log = now.at + SECOND
            if now.at >= next_look:
                self._before, self._latest = self._latest, now
                self._show(Display.show, self._first, self._before, now)
                next_look += self._interval * (1 + (now.at - next_look) // self._interval)
        last = self._read()
        self._write(logged, last)

    def _show(self, what: Callable[..., None], *readings: Reading) -> None:
        """Show something, for as long as somebody looks: the run is worth more than what is told of it."""
        if self._display is None:
            return
        try:
            what(self._display, *readings)
        except (OSError, ValueError, SystemExit) as fault:  # the terminal or the pipe is gone; rich then wants to end the program
            logging.getLogger(__name__).info("nothing more is shown: %s", fault)
            self._display = None

    def _write(self, before: Reading, now: Reading) -> None:
        if self.log is None:
            return
        try:
            self.log.write(before, now)
        except OSError as fault:
            # The run is worth more than what is told of it.
            logging.getLogger(__name__).warning("%s: %s; nothing more is logged there", self.log.folder, fault.strerror)
            self.log = None

    def _close_servers(self) -> None:
        for server in self.servers:
            server.close()

    def __enter__(self) -> Monitor:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        last = self._read()
        self._show(Display.close, self._first, last)
        if self.log is not None:
            with contextlib.suppress(OSError):
                self.log.close(self._first, last)
        self._close_servers()
