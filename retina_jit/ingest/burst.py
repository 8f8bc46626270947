"""A burst: frames walked and decoded in small steps.

Walking waits for memory, decoding computes. In steps of a few frames the prefetches of the one run beside the other, and
headers are still in the first-level cache: 28 ns per packet instead of 34 in steps of 64 (750 bytes per packet).
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.ingest.guard import is_gone
from retina_jit.ingest.layout import SOURCE
from retina_jit.ingest.refill import read_more
from retina_jit.jit import kernel
from retina_jit.memory import call3
from retina_jit.parsers.packet.decode import decode_burst
from retina_jit.state.layout import PACKET
from retina_jit.status import Status

SOURCE_AT = memory.at(SOURCE)
ROW_LEN = PACKET.itemsize
NEED_INPUT, SHRUNK = int(Status.NEED_INPUT), int(Status.SHRUNK)
STEP = 16


@kernel
def fill(walk, source, rows, most):
    """Fill up to `most` rows with decoded frames, `walk` being the walker's address. Returns how many; if none, `status`.

    Rows of a step in which a mapped file was found to be shorter are not among them: the source is back at its beginning.
    """
    filled = 0
    while filled < most:
        at = rows + filled * ROW_LEN
        n = call3(walk, source, at, min(STEP, most - filled))
        if n <= 0:
            # Not before the rows of earlier steps are used: reading overwrites their frames.
            if filled == 0 and SOURCE_AT(source).status == NEED_INPUT and read_more(source):
                continue
            break
        decode_burst(at, n)
        if is_gone(source):
            # What was decoded may be zeros where the file ended.
            rewind(source)
            SOURCE_AT(source).status = SHRUNK
            break
        filled += n
    return filled


@kernel
def rewind(source):
    """Go back to where the last walk began."""
    s = SOURCE_AT(source)
    s.number -= s.frames - s.burst_frames
    s.at, s.frames, s.bytes, s.captured = s.burst_at, s.burst_frames, s.burst_bytes, s.burst_captured
    s.interface_count, s.unknown = s.burst_interfaces, s.burst_unknown
    return 0
