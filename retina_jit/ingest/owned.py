"""Walking a pcap file that several workers read: what is noted as another worker's is passed over without a look.

What is not noted is given out, and who gets it decides (`retina_jit.pipeline.share`, `retina_jit.ingest.burst`).
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.ingest.layout import OWNED_AHEAD, SOURCE
from retina_jit.ingest.noting import OWN, PLACE, WORD
from retina_jit.ingest.pcap import fill_row, stop
from retina_jit.jit import entry
from retina_jit.memory import load64, prefetch_read
from retina_jit.state.layout import PACKET
from retina_jit.state.owner import OURS

SOURCE_AT, ROW_AT = memory.at(SOURCE), memory.at(PACKET)
ROW_LEN = PACKET.itemsize


@entry
def walk(source, rows, most):
    """Fill up to `most` rows with the next frames that may be this worker's. Returns how many; if none, `status` says why.

    Rows are as those of `retina_jit.ingest.pcap.walk`, with OURS or 0 in `hash`. What is passed over counts for `frames` and
    `number`, not for lengths.
    """
    s = SOURCE_AT(source)
    s.idle = 0
    at, end, swap, unit, header, link = s.at, s.end, s.swap, s.unit, s.header, s.link
    wire, captured, number = s.bytes, s.captured, s.number
    hints, hints_end, base, first, before = s.hints, s.hints_end, s.hints_base, s.noted_first, s.noted_number
    noted = s.noted != 0 and s.left_out != 0
    n, unsure = 0, 0
    if s.frames == 0 and fill_row(rows, at, end, swap, unit, header, link)[0] >= 0:
        # Of the first frame, whoever's it is: the wheel turns alike for all workers.
        s.clock = max(s.clock + 0, ROW_AT(rows).ts)
    while n < most:
        hash_ = 0
        # A record that the end of the chunk before has cut stands in front of the first one that is noted.
        if noted and at >= first:
            if hints < hints_end:
                hint = load64(hints)
                soon = base + (load64(hints + 8 * OWNED_AHEAD) & WORD)
                prefetch_read(soon)
                prefetch_read(soon + 64)
                hints += 8
                at = base + (hint & WORD)
                number = before + ((hint & (OWN - 1)) >> PLACE)
                hash_ = OURS if hint & OWN else 0
            else:
                at, number = s.noted_after + 0, before + s.noted_count
                noted = False
        row = rows + n * ROW_LEN
        caplen, length = fill_row(row, at, end, swap, unit, header, link)
        if caplen < 0:
            break
        n += 1
        number += 1
        ROW_AT(row).number = number
        ROW_AT(row).hash = hash_
        unsure += 1 - hash_
        wire += length
        captured += caplen
        at += header + caplen
    s.noted = 1 if noted else 0
    s.unsure += unsure
    s.frames += number - s.number
    s.at, s.hints, s.bytes, s.captured, s.number = at, hints, wire, captured, number
    if n == 0:
        stop(source)
    return n
