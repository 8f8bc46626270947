"""The folder of an archive's parts: whose it is, what it is for, how it goes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from retina_jit.archive.tasks import begun
from retina_jit.errors import ConfigError

PLAN, LOCK = "plan.json", "lock"
"""What the parts are of; what whoever writes them holds."""

TRIES = 100

_ours: set[Path] = set()
_guard = threading.Lock()
"""Folders that this process has, for locks of files keep only other processes out; held while it is looked at or changed."""


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make the folder, and keep others out of it.

    Raises
    ------
    ConfigError
        Another command is at work in it; it is something else; it cannot be made.
    """
    with _guard:
        if folder in _ours:
            raise _taken(folder)
        _ours.add(folder)
    try:
        try:
            _check(folder)
            held = _lock(folder)
        except OSError as fault:
            raise ConfigError(f"{folder}: {fault.strerror}") from fault
        with held:
            yield
    finally:
        _ours.discard(folder)


def _taken(folder: Path) -> ConfigError:
    return ConfigError(f"{folder}: another command is writing this output; wait for its end, or take another -o")


def _check(folder: Path) -> None:
    """Refuse what is no folder of parts. An empty one is: somebody came to an end between making it and saying what it is for."""
    with contextlib.suppress(FileNotFoundError):
        if folder.exists() and (not folder.is_dir() or (not {p.name for p in folder.iterdir()} <= {LOCK} and not (folder / PLAN).exists())):
            raise ConfigError(f"{folder}: is in the way; parts of the output are kept there")


def _lock(folder: Path) -> contextlib.ExitStack:
    for _ in range(TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            try:
                file = opened.enter_context((folder / LOCK).open("ab"))
            except FileNotFoundError:
                continue  # whoever had it is done, and took the folder away
            try:
                # Of this process, not of those that it makes: they may live a moment longer.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as fault:
                if fault.errno in (errno.EAGAIN, errno.EACCES):
                    raise _taken(folder) from fault
                # A file system without locks.
            with contextlib.suppress(FileNotFoundError):
                if (folder / LOCK).stat().st_ino == os.fstat(file.fileno()).st_ino:
                    return opened.pop_all()
    raise ConfigError(f"{folder}: comes and goes; another command is writing this output")


def take_over(folder: Path, key: str) -> None:
    """Go on with the parts of an earlier run of the same plan; those of another one are thrown away."""
    noted = folder / PLAN
    with contextlib.suppress(OSError, ValueError):
        if json.loads(noted.read_text()) == key:
            begun(folder)  # which of them were begun is told of this run
            return
    _empty(folder)
    noted.write_text(json.dumps(key))


def _empty(folder: Path) -> None:
    """Remove all but the lock; what tells that it is a folder of parts goes last. A task that was done twice may still write to it."""
    for _ in range(3):
        left = sorted((p for p in folder.iterdir() if p.name != LOCK), key=lambda path: path.name == PLAN)
        if not left:
            return
        for path in left:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def discard(folder: Path) -> None:
    """Remove the folder; whoever holds its lock does."""
    _empty(folder)
    with contextlib.suppress(OSError):
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
