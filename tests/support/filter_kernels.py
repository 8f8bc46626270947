"""Asks the stages of a set of filters about many packets, connections and sessions in one call."""

from __future__ import annotations

from retina_jit.jit import entry, kernel
from retina_jit.memory import call3, call4, call5, load64, store64

# Words of a job.
TABLES, WORDS, ROWS, COUNT, ROW_SIZE, CONNECTION, PROTOCOL, SESSION, DELIVER, SETS, OUT, CASES, CASE_COUNT = range(13)
JOB_WORDS = 13
OF_A_CASE = 6
"""Sets of subscriptions per case: matched and open at the protocol stage, matched and open at the session stage, what is
delivered of the packet itself and of the packet of the other direction that stands beside it."""


@kernel
def _fresh(sets, words, alive):
    """Begin with those alive at `alive` (all: 0), nothing matched, nothing open."""
    for w in range(words):
        store64(sets + 8 * w, load64(alive + 8 * w) if alive else -1)
        store64(sets + 8 * (words + w), 0)
        store64(sets + 8 * (2 * words + w), 0)


@kernel
def _keep(sets, words, out):
    """Write the matched, then the open, to `out`."""
    for w in range(2 * words):
        store64(out + 8 * w, load64(sets + 8 * (words + w)))


@entry
def decide_all(job):
    """For each row: [matched, open] at the connection stage, then `OF_A_CASE` sets for each (service, session)."""
    tables, words, rows, size = load64(job), load64(job + 8 * WORDS), load64(job + 8 * ROWS), load64(job + 8 * ROW_SIZE)
    sets, out = load64(job + 8 * SETS), load64(job + 8 * OUT)
    connection, protocol = load64(job + 8 * CONNECTION), load64(job + 8 * PROTOCOL)
    session, deliver = load64(job + 8 * SESSION), load64(job + 8 * DELIVER)
    each = 8 * words
    for k in range(load64(job + 8 * COUNT)):
        row = rows + size * k
        _fresh(sets, words, 0)
        if connection:
            call3(connection, tables, row, sets)
        at_connection = out
        _keep(sets, words, out)
        out += 2 * each
        for c in range(load64(job + 8 * CASE_COUNT)):
            case = load64(job + 8 * CASES) + 16 * c
            _fresh(sets, words, at_connection + each)
            if protocol:
                call4(protocol, tables, row, load64(case), sets)
            _keep(sets, words, out)
            _fresh(sets, words, out + each)
            if session and load64(case + 8):
                call5(session, tables, row, load64(case), load64(case + 8), sets)
            _keep(sets, words, out + 2 * each)
            for side in range(2):
                place = out + (4 + side) * each
                for w in range(words):
                    found = load64(at_connection + 8 * w) | load64(out + 8 * w) | load64(out + 2 * each + 8 * w)
                    store64(place + 8 * w, found)
                if deliver:
                    _fresh(sets, words, place)
                    call3(deliver, tables, rows + size * (k ^ side), sets)
                    for w in range(words):
                        store64(place + 8 * w, load64(sets + 8 * (words + w)))
            out += OF_A_CASE * each
    return 0
