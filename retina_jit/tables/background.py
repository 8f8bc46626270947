"""Callbacks that run in the background: a cell returns at once, and shows how far it is."""

from __future__ import annotations

import html
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from retina_jit.config import RuntimeConfig
from retina_jit.errors import CallbackError
from retina_jit.hints import cell_of, notebook, user_traceback
from retina_jit.runtime import Result, Runtime
from retina_jit.subscription import Subscription
from retina_jit.tables.running import compiling
from retina_jit.tables.source import Source

SHOWN = ("frames", "connections", "sessions", "events", "dropped", "events_lost")
PERIOD = 0.5
"""How often the display of a notebook is brought up to date [s]."""

SHOWN_WITHIN = 2.0
"""When a notebook has shown a run whose callback fails at once [s]."""

_running: dict[str, Background] = {}
_lock = threading.Lock()
"""Held while `_running` is looked at or changed."""


class Background:
    """A run in a thread of its own.

    Running a cell again ends the run that a function of the same name has in the background.

    Attributes
    ----------
    result : Result or None
        When it is over.
    error : BaseException or None
        Why it ended early: `CallbackError` for what a callback has raised.
    """

    def __init__(self, source: Source, subscriptions: Sequence[Subscription], config: RuntimeConfig) -> None:
        self.names = list(dict.fromkeys(s.name for s in subscriptions))
        with _lock:
            before = self._namesakes()
        for run in before:
            run.stop()
        for s in subscriptions:
            s.where = s.where or (f"{s.name} in {place}" if (place := cell_of(s.callback)) else "")
        self._subscriptions = list(subscriptions)
        self._label = source.label
        self._runtime = Runtime(list(subscriptions), source.paths, config, progress=compiling)
        self._source = source  # its files stay open as long as the run may read them
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._begun = time.perf_counter()
        self._seconds = 0.0
        self._is_shown = False
        self._thread = threading.Thread(target=self._work, name=f"retina_jit {', '.join(self.names)}", daemon=True)
        with _lock:
            # Those that another thread has begun meanwhile: of two at the same time the later one goes on.
            before = self._namesakes()
            _running.update(dict.fromkeys(self.names, self))
            self._thread.start()
        for run in before:
            run.stop()

    def _namesakes(self) -> set[Background]:
        return {_running[name] for name in self.names if name in _running}

    def _work(self) -> None:
        try:
            self.result = self._runtime.run()
        except BaseException as error:  # noqa: BLE001 - shown and kept for whoever waits
            self.error = error
            # A notebook mostly shows the run, and with it why it has ended: then it is not said twice.
            if notebook() is not None:
                timer = threading.Timer(SHOWN_WITHIN, self._tell)
                timer.daemon = True
                timer.start()
            else:
                self._tell()
        finally:
            self._seconds = time.perf_counter() - self._begun
            with _lock:
                for name in self.names:
                    if _running.get(name) is self:
                        del _running[name]

    def _tell(self) -> None:
        if not self._is_shown:
            print(self.failure, file=sys.stderr)  # noqa: T201 - where nobody waits for it

    @property
    def failure(self) -> str:
        """What went wrong, from the user's first line on; empty if nothing did."""
        if self.error is None:
            return ""
        return user_traceback(self.error) if isinstance(self.error, CallbackError) else self._source.told(f"{type(self.error).__name__}: {self.error}")

    @property
    def is_running(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def stop(self) -> Background:
        """End it: what was seen until now is delivered. Waits for that."""
        if self._thread.is_alive():
            self._runtime.stop()
            if threading.current_thread() is not self._thread:
                self._thread.join()
        return self

    def wait(self, timeout: float | None = None) -> Result | None:
        """Wait for the end. Returns the result; None if it is not over in time.

        Raises
        ------
        Exception
            What has ended it early.
        """
        self._thread.join(timeout)
        if self.error is not None:
            self._is_shown = True
            raise self.error
        return self.result

    @property
    def results(self) -> dict[str, Any]:
        """What compiled callbacks have made of their `state`, by name; when the run is over."""
        return {s.name: s.result for s in self._subscriptions if s.state is not None}

    def stats(self) -> dict[str, int]:
        """Return the counters as they are now."""
        return self._runtime.stats()

    # ------------------------------------------------------------------------------------------------------- display

    def _rows(self) -> list[tuple[str, str]]:
        counters = self.stats()
        state = "running" if self.is_running else "failed" if self.error is not None else "done"
        seconds = time.perf_counter() - self._begun if self.is_running else self._seconds
        rows = [(", ".join(self.names), f"{state}, {seconds:.1f} s, {self._label}")]
        return rows + [(name.replace("_", " "), f"{counters[name]:,}") for name in SHOWN if counters[name] or name in SHOWN[:4]]

    def __repr__(self) -> str:
        return "\n".join(f"{name:<12} {value}" for name, value in self._rows())

    def _table(self) -> str:
        rows = "".join(f"<tr><td>{html.escape(n)}</td><td>{html.escape(v)}</td></tr>" for n, v in self._rows())
        failure = f"<pre>{html.escape(self.failure)}</pre>" if self.error is not None else ""
        return f"<table>{rows}</table>{failure}"

    def _ipython_display_(self) -> None:
        """Show a table that keeps itself up to date, and a button that stops the run where ipywidgets is installed; in a terminal text."""
        if not _on_a_page():
            print(repr(self))  # noqa: T201 - a failure comes later, and is told then
            return
        from IPython.display import HTML, display

        self._is_shown = True
        button = _stop_button(self.stop) if self.is_running else None
        if button is not None:
            display(button)
        shown = display(HTML(self._table()), display_id=True)

        def follow() -> None:
            while self.is_running:
                self._thread.join(PERIOD)
                shown.update(HTML(self._table()))
            if button is not None:
                button.disabled = True

        if self.is_running:
            threading.Thread(target=follow, name="retina_jit display", daemon=True).start()


def _on_a_page() -> bool:
    """Whether what a cell has shown can be changed; IPython in a terminal only prints."""
    shell = notebook()
    return shell is not None and not any(c.__module__.startswith("IPython.terminal") for c in type(shell).__mro__)


def _stop_button(stop: Callable[[], Any]) -> Any:
    try:
        from ipywidgets import Button
    except ImportError:
        return None
    button = Button(description="Stop")

    def clicked(_: Any) -> None:
        stop()
        button.disabled = True

    button.on_click(clicked)
    return button
