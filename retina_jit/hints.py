"""What is said beside an error of the user's program: where it is, and which name was meant."""

from __future__ import annotations

import difflib
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from retina_jit.datatypes.base import View


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
    told = "".join(traceback.format_list(frames[first:]) + traceback.format_exception_only(error)).rstrip()
    return "\n".join(filter(None, [told, hint(error)]))
