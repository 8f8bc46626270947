"""`run --reload`: the app's file is watched, and the run goes over to what it says when it changes."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retina_jit.app import load
from retina_jit.errors import RetinaJitError
from retina_jit.hints import described
from retina_jit.runtime import Runtime

PERIOD = 0.1
"""How often files are looked at [s]; a change counts once it is that old, for editors write in several steps."""

Say = Callable[[str], None]
AtEnd = list[Callable[..., Any]]


class Reloader:
    """Watches an app, the modules beside it and its TOML file while a run goes on; a context manager around the run.

    A change is executed and compiled in a thread of its own while the old program works on. What raises is said, and the
    old program stays.

    Parameters
    ----------
    runtime : Runtime
    app : str
    spec : str or None
        The TOML file of `--subscriptions`.
    say : callable
        Told what has happened.

    Attributes
    ----------
    at_end : list of callable
        What the program in effect wants called at the end; None before the first change.
    """

    def __init__(self, runtime: Runtime, app: str, spec: str | None, say: Say) -> None:
        self._runtime, self._app, self._spec, self._say = runtime, app, spec, say
        self.at_end: AtEnd | None = None
        self._folder = Path(app).resolve().parent
        self._failed: set[str] = set()
        """Files beside the app that a program which could not be taken has come to: what is wrong may be mended there."""
        self._taken = self._files()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._main, name="retina-jit reload", daemon=True)

    def _files(self) -> dict[str, tuple[int, int]]:
        """When each file was changed, and how long it is."""
        found = {}
        for file in {self._app, *filter(None, [self._spec]), *self._modules().values(), *self._failed}:
            try:
                s = Path(file).stat()
            except OSError:
                continue  # between two steps of an editor
            found[file] = s.st_mtime_ns, s.st_size
        return found

    def _modules(self) -> dict[str, str]:
        """Return the modules that lie beside the app, by name."""
        files = ((name, getattr(m, "__file__", None)) for name, m in list(sys.modules.items()) if name != "__main__")
        return {name: f for name, f in files if f and Path(f).parent == self._folder}

    def _main(self) -> None:
        while not self._over.wait(PERIOD):
            now = self._files()
            # What is imported since, or is gone between two steps of an editor, is no change.
            if all(self._taken.get(file, state) == state for file, state in now.items()):
                self._taken |= now
                continue
            if self._over.wait(PERIOD):
                return
            if self._files() != now or self._app not in now:
                continue
            self._taken |= now
            self._take()

    def _take(self) -> None:
        begun = time.perf_counter()
        # Those beside the app are executed anew as well; if that fails, the old ones stay.
        _forget_bytecode([*self._files()])
        modules = {name: sys.modules.pop(name) for name in self._modules()}
        try:
            subscriptions, at_end = load(self._app, self._spec)
            told = self._runtime.go_over(subscriptions)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the app raises
            self._failed = {*self._modules().values(), *(f for f in _files_of(error) if Path(f).parent == self._folder)}
            self._taken = self._files() | self._taken  # whoever reads what is said below may change them at once
            for name in self._modules():
                del sys.modules[name]
            sys.modules.update(modules)
            self._say(f"{self._app} has changed, but cannot be taken; the program before goes on\n{_described(error, self._app)}")
            return
        self._failed = set()
        if told:
            self.at_end = at_end
            self._say(f"{self._app} has changed: {told} ({time.perf_counter() - begun:.2f} s)")

    def __enter__(self) -> Reloader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(1)  # it may be compiling


def _forget_bytecode(files: list[str]) -> None:
    """Have files compiled anew: Python takes bytecode for good if a file is as long as before and was changed in the same second."""
    importlib.invalidate_caches()
    for file in files:
        with contextlib.suppress(OSError, NotImplementedError):
            Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)


def _files_of(error: BaseException) -> list[str]:
    """Return the files in which an error came up."""
    found = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return [*found, error.filename] if isinstance(error, SyntaxError) and error.filename else found


def _described(error: BaseException, app: str) -> str:
    """Our errors speak for themselves."""
    return str(error) if isinstance(error, RetinaJitError) else described(error, app)
