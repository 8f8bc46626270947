"""What a sink is: something that takes events as bytes, whole pieces of the ring at once, without Python per event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from retina_jit.datatypes.base import DataType

Layout = tuple[Sequence[type[DataType]], Sequence[int]]
"""Data types of a subscription, and where their records stand in its events."""


class Sink(Protocol):
    """Writes the events of one or more subscriptions. The calls come from one thread, in this order."""

    lines: int
    """How many events were written."""

    def units(self, types: Sequence[type[DataType]]) -> list[str]:
        """Return the entries that a subscription to `types` needs; they are compiled before `open`."""

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which of the program's `count` subscriptions write here, by number."""

    def take(self, address: int, length: int) -> int:
        """Write the whole events among `length` bytes from `address` on, passing over those of other subscriptions.

        Returns how many bytes they take: 0 if not even the first is whole. The bytes are borrowed.
        """

    def flush(self) -> None:
        """Write what is gathered."""


class LastingSink(Sink, Protocol):
    """A sink that may have other subscriptions during a run (`run --reload`): `open` is called again then, and what was begun goes on."""

    def prepare(self, mine: Mapping[int, Layout]) -> None:
        """Make ready for these; ConfigError if what was begun cannot go on with them. Another thread may be writing meanwhile."""
