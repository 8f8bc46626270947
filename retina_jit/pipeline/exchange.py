"""What is needed of kernels when a worker goes over to another program (see `retina_jit.exchange`); between two bursts."""

from __future__ import annotations

from retina_jit.jit import entry
from retina_jit.pipeline.access import WORKER_AT
from retina_jit.pipeline.groups import intern_sets
from retina_jit.state.arena import release


@entry
def intern(w):
    """Number of the group whose sets stand in `mine`."""
    return intern_sets(w)


@entry
def give_back(w, address, size):
    """Give a block back to the byte pool."""
    release(WORKER_AT(w).arena, address, size)
    return 0
