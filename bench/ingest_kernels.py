"""Loops that keep a measurement inside one kernel call, as the product's worker does."""

from __future__ import annotations

from retina_jit.ingest.burst import fill
from retina_jit.ingest.refill import read_more
from retina_jit.jit import entry
from retina_jit.memory import call3
from retina_jit.parsers.packet.decode import decode_burst


@entry
def walk_all(walk, source, rows):
    """Walk a source to its end. Returns the number of frames."""
    frames = 0
    while True:
        n = call3(walk, source, rows, 64)
        if n == 0 and not read_more(source):
            return frames
        frames += n


@entry
def walk_and_decode_all(walk, source, rows):
    """Walk a source to its end in steps of 64 and decode every frame: what `fill` does better."""
    pending = 0
    while True:
        n = call3(walk, source, rows, 64)
        if n == 0 and not read_more(source):
            return pending
        pending += decode_burst(rows, n)


@entry
def fill_all(walk, source, rows):
    """Fill bursts of 64 until the source ends. Returns the number of frames."""
    frames = 0
    while True:
        n = fill(walk, source, rows, 64)
        if n == 0:
            return frames
        frames += n


@entry
def decode_again(rows, n, times):
    """Decode the same rows many times."""
    pending = 0
    for _ in range(times):
        pending += decode_burst(rows, n)
    return pending


@entry
def fill_rows(walk, source, rows, most):
    """Fill `most` rows of a mapped source, burst by burst. Returns how many there are."""
    frames = 0
    while frames < most:
        n = fill(walk, source, rows + frames * 128, min(64, most - frames))
        if n == 0:
            break
        frames += n
    return frames
