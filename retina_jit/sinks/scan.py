"""Whole events among bytes of the ring."""

from __future__ import annotations

from typing import Any

import numpy as np

from retina_jit import objects
from retina_jit.delivery.event import EVENT

SCAN = "retina_jit.delivery.scan:scan"
NUMBER = 0xFFFFFFFF
"""Bits of an event's word that name its subscription; above them: where it begins."""


class Scanner:
    """Finds events. The entry `SCAN` has to be compiled before it is made."""

    def __init__(self) -> None:
        self._scan = objects.function(SCAN)

    def __call__(self, address: int, length: int) -> tuple[int, np.ndarray[Any, Any]]:
        """Return how many bytes the whole events take among `length` from `address` on, and a word for each of them."""
        found = np.zeros(length // EVENT.itemsize + 2, np.int64)
        count = self._scan(address, length, found.ctypes.data, len(found) - 1)
        return int(found[count]) if count else 0, found[:count]
