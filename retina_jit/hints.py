"""What is said beside an error of the user's program: where it is, and which name was meant."""

from __future__ import annotations

import difflib
import itertools
import linecache
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from retina_jit.datatypes.base import View
from retina_jit.errors import CallbackError

CONTEXT = 2
"""Lines that are shown before and behind one."""


def near(word: str, words: Iterable[str]) -> str:
    """Return the word that was meant, whatever its case; empty if none is like it."""
    by_lower = {w.lower(): w for w in words}
    return next((by_lower[w] for w in difflib.get_close_matches(word.lower(), by_lower, 1)), "")


def hint(error: BaseException) -> str:
    """Return a line that says what there is instead of a name that is not; empty if nothing is known about it."""
    if found := re.match(r"cannot import name '(\w+)' from 'retina_jit' |module 'retina_jit' has no attribute '(\w+)'$", str(error)):
        names = sys.modules["retina_jit"].__all__
        meant = near(found[1] or found[2], names)
        return f"did you mean {meant}?" if meant else f"retina_jit has {', '.join(names)}"
    if isinstance(error, AttributeError) and isinstance(error.obj, View):
        names = [n for n in dir(error.obj) if n[0].islower()]
        meant = near(error.name or "", names)
        return (f"did you mean {meant}? " if meant else "") + f"{type(error.obj).__name__} has {', '.join(names)}"
    return ""


def described(error: BaseException, app: str) -> str:
    """Return what an app has raised: its lines from its own first one on, the error, a hint."""
    ours = Path(__file__).with_name("__init__.py")  # where names of the package are looked up
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) != ours]
    first = next((n for n, f in enumerate(frames) if Path(f.filename).resolve() == Path(app).resolve()), len(frames))
    return _told(error, frames[first:])


def user_traceback(error: CallbackError) -> str:
    """Return the traceback of a failed callback from the user's first line on; ours is left out."""
    cause = error.__cause__
    if cause is None:
        return str(error)
    frames = traceback.extract_tb(cause.__traceback__)
    package = str(Path(__file__).resolve().parent) + os.sep
    first = next((n for n, f in enumerate(frames) if not str(Path(f.filename).resolve()).startswith(package)), len(frames))
    return f"Traceback (most recent call last):\n{_told(cause, frames[first:])}\n"


def _told(error: BaseException, frames: list[traceback.FrameSummary]) -> str:
    lines = [_named(f, text) for f, text in zip(frames, traceback.format_list(frames), strict=True)] + traceback.format_exception_only(error)
    return "\n".join(filter(None, ["".join(lines).rstrip(), hint(error)]))


# --------------------------------------------------------------------------------------------------------- notebooks


def notebook() -> Any:
    """Return IPython's shell if this runs in one, else None."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def cell(file: str) -> str:
    """Return how a notebook calls the cell whose code has a file name, "Cell In[3]"; empty: it is no cell."""
    name = getattr(getattr(notebook(), "compile", None), "format_code_name", None)
    found = name(file) if name is not None else None
    return " ".join(found) if found else ""


def cell_of(function: Callable[..., Any]) -> str:
    """Return in which cell, and in which of its lines, a function begins; empty: in none."""
    code = getattr(function, "__code__", None)
    found = cell(code.co_filename) if code is not None else ""
    return f"{found}, line {code.co_firstlineno}" if code is not None and found else ""


def notebook_traceback(error: BaseException) -> list[str]:
    """Return lines for an error of ours in a notebook: where the user's code has led to it, and what it says."""
    lines, ours = [], str(Path(__file__).parent) + os.sep
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_shells())]
    for f in itertools.takewhile(lambda f: not f.filename.startswith(ours), frames):
        lines += [f"{cell(f.filename) or f'File {f.filename}'}, line {f.lineno}", *_around(f.filename, f.lineno or 1), ""]
    if isinstance(error, CallbackError):
        return [*lines, user_traceback(error)]
    # A message of several lines points with carets from one into the other.
    apart = "\n" if "\n" in str(error) else " "
    return [*lines, f"{type(error).__name__}:{apart}{error}"]


def _shells() -> tuple[str, ...]:
    """Folders of what runs cells."""
    files = [sys.modules[name].__file__ for name in ("IPython", "ipykernel") if name in sys.modules]
    return tuple(str(Path(file).parent) + os.sep for file in files if file)


def _around(file: str, line: int) -> list[str]:
    first = max(1, line - CONTEXT)
    found = [linecache.getline(file, n).rstrip() for n in range(first, line + CONTEXT + 1)]
    return [f"{'---->' if n == line else '     '} {n} {text}" for n, text in enumerate(found, first) if text or n <= line]


def _named(frame: traceback.FrameSummary, text: str) -> str:
    found = cell(frame.filename)
    return text.replace(f'File "{frame.filename}"', found) if found else text
