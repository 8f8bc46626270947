"""What is said beside an error of the user's program: where it is, and which name was meant."""

from __future__ import annotations

import difflib
import os
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from retina_jit.datatypes.base import View
from retina_jit.errors import CallbackError


def near(word: str, words: Iterable[str]) -> str:
    """Return the word that was meant, whatever its case; empty if none is like it."""
    by_lower = {w.lower(): w for w in words}
    return next((by_lower[w] for w in difflib.get_close_matches(word.lower(), by_lower, 1)), "")


def hint(error: BaseException) -> str:
    """Return a line that says what there is instead of a name that is not; empty if nothing is known about it."""
    if found := re.match(r"cannot import name '(\w+)' from 'retina_jit' |module 'retina_jit' has no attribute '(\w+)'", str(error)):
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
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    return "\n".join(filter(None, ["".join(lines).rstrip(), hint(error)]))
