"""Loading a user's app: a Python file with `@subscribe` functions."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from retina_jit.errors import RetinaJitError, SubscriptionError
from retina_jit.subscription import Subscription, load_subscriptions, take_collected

F = TypeVar("F", bound=Callable[..., Any])

_at_end: list[Callable[..., Any]] = []


def at_end(function: F) -> F:
    """Call a function with the `Result` when the run is over (decorator)."""
    _at_end.append(function)
    return function


def take_at_end() -> list[Callable[..., Any]]:
    """Return the functions that `@at_end` has noted since the last call."""
    taken = list(_at_end)
    _at_end.clear()
    return taken


def load(path: str, spec: str | None = None) -> tuple[list[Subscription], list[Callable[..., Any]]]:
    """Execute an app. Returns its subscriptions (and those of `spec`), and what it wants called at the end.

    Raises
    ------
    SubscriptionError
        No such file, or nothing subscribed. What the app itself raises comes through as it is.
    """
    take_collected(), take_at_end()
    module = _execute(Path(path))
    subscriptions = take_collected()
    if spec is not None:
        subscriptions += load_subscriptions(spec, vars(module))
    if not subscriptions:
        raise SubscriptionError(f"{path}: nothing is subscribed; decorate a function with @subscribe(filter), or name a file with --subscriptions")
    return subscriptions, take_at_end()


def _execute(path: Path) -> ModuleType:
    if not path.is_file():
        raise RetinaJitError(f"{path}: no such app; name a Python file")
    name = f"retina_jit_app_{path.stem}"
    loader = importlib.util.spec_from_file_location(name, path)
    if loader is None or loader.loader is None:
        raise RetinaJitError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(loader)
    sys.modules[name] = module
    # As for `python app.py`: modules beside it can be imported.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    loader.loader.exec_module(module)
    return module
