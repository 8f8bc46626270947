"""What is told about a run afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from retina_jit import stats


@dataclass
class Result:
    """What a run did.

    Attributes
    ----------
    counters : dict
        See `retina_jit.stats`; `ledger` is the part that sums up to `frames`.
    problems : list of str
        What was wrong with the input, one line each; the exit status is not 0 then.
    failed : dict
        Subscription name -> how many calls raised.
    seconds : float
        From the first frame to the last delivery, compiling left out.
    interrupted : bool
        Whether it was stopped from outside.
    """

    counters: dict[str, int]
    problems: list[str]
    failed: dict[str, int]
    seconds: float
    interrupted: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def ledger(self) -> dict[str, int]:
        """Where each frame ended; sums up to the frames read."""
        return {name: self.counters[name] for name in stats.LEDGER}

    @property
    def payload(self) -> dict[str, int]:
        """Where each byte of payload of tracked packets ended."""
        return {name: self.counters[name] for name in stats.PAYLOAD}

    @property
    def capture_loss(self) -> float | None:
        """Share of acknowledgements of data that the capture has not seen; None without any (needs ConnRecord)."""
        return stats.capture_loss(self.counters)
