"""Entries around kernels of `retina_jit.ingest` that the product calls from kernels only."""

from __future__ import annotations

from retina_jit.ingest.burst import fill
from retina_jit.ingest.guard import is_gone
from retina_jit.jit import entry


@entry
def fill_rows(walk, source, rows, most):
    """Call `fill`."""
    return fill(walk, source, rows, most)


@entry
def fill_all(walk, source, rows):
    """Fill bursts until one is empty. Returns the number of frames."""
    frames = 0
    while True:
        n = fill(walk, source, rows, 64)
        if n == 0:
            return frames
        frames += n


@entry
def gone(source):
    """Call `is_gone`."""
    return 1 if is_gone(source) else 0
