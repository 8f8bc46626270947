"""Cores of the machine: which there are for this process, and threads bound to one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator

from retina_jit.errors import ConfigError

MOST = 1 << 20
"""No machine has a core of a higher number; so that a slip of the hand does not make a list of all numbers."""


def usable() -> list[int]:
    """Return the cores that this thread may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def check(key: str, cores: Collection[int]) -> None:
    """Refuse cores that cannot be used.

    Raises
    ------
    ConfigError
    """
    there = usable()
    for core in cores:
        if core not in there:
            raise ConfigError(f"{key}: core {core} is not usable; there are: {written(there) or 'none that threads can be bound to, for that needs Linux'}")


def parse(key: str, text: str) -> tuple[int, ...]:
    """Return the cores of a list such as 0,2-5.

    Raises
    ------
    ConfigError
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not (first.strip().isdecimal() and (last.strip().isdecimal() or not dash)):
            raise ConfigError(f"{key} {text}: numbers of cores, as 0,2-5")
        begin, end = int(first), int(last or first)
        if not begin <= end <= MOST:
            raise ConfigError(f"{key} {text}: {part} is no range of cores, the lower one first and at most {MOST}")
        found += range(begin, end + 1)
    return tuple(found)


def written(cores: Collection[int]) -> str:
    """Return cores as a list such as 0,2-5."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and runs[-1][-1] == core - 1:
            runs[-1].append(core)
        else:
            runs.append([core])
    return ",".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)


@contextlib.contextmanager
def bound(core: int | None) -> Iterator[None]:
    """Keep the thread on a core, and let it go where it could before. None: wherever it may go.

    Not for longer than need be: threads that it starts meanwhile would be kept there as well.
    """
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
