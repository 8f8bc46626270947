"""Adding to the worker's counters from kernels."""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import leaf
from retina_jit.memory import load64, store64
from retina_jit.pipeline.layout import WORKER
from retina_jit.stats import INDEX

WORKER_AT = memory.at(WORKER)


def counter(name):
    """Byte position of a counter in the array."""
    return 8 * INDEX[name]


@leaf
def add(w, at, amount):
    """Add to the counter at byte position `at` (see `counter`)."""
    address = WORKER_AT(w).stats + at
    store64(address, load64(address) + amount)
