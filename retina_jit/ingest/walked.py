"""What every source tells of itself: what its walker has written down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retina_jit.ingest.bpf import Instruction
from retina_jit.status import Status


class Walked:
    """Base of the sources that workers read from.

    Attributes
    ----------
    address : int
        Of the `SOURCE` record; the first argument of the walker.
    """

    address: int
    idle_polls = 0
    """Times that nothing was there, of sources that the kernel itself asks; any thread may look."""
    polls: int | None = None
    """Times that the kernel asked, where these are counted."""
    core: int | None = None
    """Core that the source has bound its worker to."""
    _words: Any
    """That record."""

    def refuse_early(self, program: Sequence[Instruction]) -> None:
        """Learn what will be refused, if that is of use: a program for this link type, which judges all frames later."""

    @property
    def record(self) -> Any:
        """The `SOURCE` record."""
        return self._words

    @property
    def status(self) -> Status:
        """Why the last walk gave no frame."""
        return Status(int(self._words["status"]))

    def leave_out(self, which: int) -> None:
        """Where several workers read it: whether frames of others are passed over (NONE, BY_CONNECTION, BY_TURN). Not every source can."""

    @property
    def frames(self) -> int:
        """Frames given out."""
        return int(self._words["frames"])

    @property
    def number(self) -> int:
        """Number of the last frame in the run (of a worker's, if it shares the packets of a port)."""
        return int(self._words["number"])
