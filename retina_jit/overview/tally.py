"""What is counted of very many connections in little memory: sums by number, and distributions."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MOST_KEYS = 1 << 20
"""How many keys a tally keeps; see there for what becomes of others."""
PENDING = 1 << 18
"""How many entries a tally lets come together before it sums them up."""
PER_DECADE, DECADES = 100, 19
"""Bins of a distribution: what it tells is at most 2.4 % above what was there."""

_ENTRY = np.dtype([("kind", "u1"), ("high", "i8"), ("low", "i8"), ("sum", "i8")])


class Tally:
    """Sums by keys of three numbers (`kind`, `high`, `low`), told by name as a `Counter` tells them.

    When there are more than `MOST_KEYS`, the half with the smallest sums is counted together as "(others)": the largest
    stay, and what is told of one that came back is what it had since.
    """

    def __init__(self, name: Callable[[int, int, int], str], most: int = MOST_KEYS) -> None:
        self.others = 0
        """The sum of keys that there was no room for."""
        self._name, self._most = name, most
        self._kept = np.empty(0, _ENTRY)
        self._pending: list[Array] = []
        self._waiting = 0

    def add(self, kind: Array | int, high: Array | int, low: Array, value: Array | int) -> None:
        """Add values, one per key."""
        made = np.empty(len(low), _ENTRY)
        made["kind"], made["high"], made["low"], made["sum"] = kind, high, low, value
        self._pending.append(made)
        self._waiting += len(made)
        if self._waiting >= PENDING:
            self._sum_up()

    def _sum_up(self) -> Array:
        if self._pending:
            found = np.concatenate([self._kept, *self._pending])
            self._pending, self._waiting = [], 0
            found = found[np.lexsort((found["low"], found["high"], found["kind"]))]
            new = np.ones(len(found), bool)
            new[1:] = (np.diff(found["low"]) != 0) | (np.diff(found["high"]) != 0) | (found["kind"][1:] != found["kind"][:-1])
            sums = np.add.reduceat(found["sum"], np.flatnonzero(new)) if len(found) else found["sum"]
            self._kept = found[new]
            self._kept["sum"] = sums
            if len(self._kept) > self._most:
                order = np.argsort(-sums, kind="stable")
                self.others += int(sums[order[self._most // 2 :]].sum())
                self._kept = self._kept[np.sort(order[: self._most // 2])]
        return self._kept

    def most_common(self, most: int | None = None) -> list[tuple[str, int]]:
        """Return names and sums, the largest first."""
        kept = self._sum_up()
        order = np.argsort(-kept["sum"], kind="stable")[:most]
        rows = [(self._name(int(e["kind"]), int(e["high"]), int(e["low"])), int(e["sum"])) for e in kept[order]]
        told = [*rows, ("(others)", self.others)] if self.others else rows
        return heapq.nlargest(len(told) if most is None else most, told, key=lambda row: row[1])

    def items(self) -> Iterable[tuple[str, int]]:
        """Return all of it, the largest first."""
        return self.most_common()

    def total(self) -> int:
        """Return the sum of all."""
        return int(self._sum_up()["sum"].sum()) + self.others

    def __len__(self) -> int:
        return len(self._sum_up()) + bool(self.others)


class Distribution:
    """How often which values were there: bins of equal width on a logarithmic axis, `PER_DECADE` each; zeros on their own.

    Parameters
    ----------
    unit : float
        What the numbers that are added are multiples of; none is below 1 but 0.
    """

    def __init__(self, unit: float = 1.0) -> None:
        self.total = 0
        """Sum of the numbers that were added."""
        self._unit = unit
        self._zeros, self._least, self._most = 0, 0, 0
        self._bins = np.zeros(PER_DECADE * DECADES, np.int64)

    def add(self, values: Array) -> None:
        """Add whole numbers; negative ones count as 0."""
        positive = values[values > 0]
        self._zeros += len(values) - len(positive)
        if len(positive) == 0:
            return
        least, most = int(positive.min()), int(positive.max())
        self._least, self._most = min(self._least or least, least), max(self._most, most)
        self.total += (int((positive >> 32).sum()) << 32) + int((positive & 0xFFFFFFFF).sum())  # exact
        self._bins += np.bincount(np.floor(PER_DECADE * np.log10(positive)).astype(np.int64), minlength=len(self._bins))

    def __len__(self) -> int:
        return self._zeros + int(self._bins.sum())

    def points(self) -> list[tuple[float, float]]:
        """Return values above 0, and which share is at most as large as each; with the least and the largest there was."""
        count = len(self)
        up_to = (self._zeros + np.cumsum(self._bins)) / max(count, 1)
        used = np.flatnonzero(self._bins)
        ends = np.clip(10.0 ** ((used + 1) / PER_DECADE), self._least, self._most) * self._unit
        rows = list(zip(ends.tolist(), up_to[used].tolist(), strict=True))
        return [(self._least * self._unit, (self._zeros + 1) / count), *rows] if rows else []

    def quantiles(self, at: Iterable[float]) -> list[float]:
        """Return the values that these shares are below or equal to; nothing without any value."""
        if len(self) == 0:
            return []
        points = [(0.0, self._zeros / len(self)), *self.points()] if self._zeros else self.points()
        values, shares = np.array(points).T
        return [float(values[min(int(np.searchsorted(shares, share - 1e-12)), len(values) - 1)]) for share in at]
