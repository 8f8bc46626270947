"""Measuring the filter stages: entries that stand before them, count what goes in and out, and take the time.

`retina-jit explain -r` puts them there. What they note lies right before the array of tables, which every stage is given.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import entry, external, kernel
from retina_jit.memory import call3, call4, call5, load64
from retina_jit.pipeline.access import PACKET_AT, PACKET_SIZE
from retina_jit.state.layout import CONTINUE

MEASURE = np.dtype([("code", "i8"), ("calls", "i8"), ("taken", "i8"), ("given", "i8"), ("ns", "i8"), ("words", "i8")])
"""Address of the stage, how often it was called, what went in and what came out, its time; words in a set."""
PACKET, CONNECTION, PROTOCOL, SESSION, PACKET_DELIVER, WATCH, EARLY, END = range(1, 9)
ORDER = ("packet", "connection", "protocol", "session", "packet_deliver", "watch", "early", "end")
"""Stages by number, the first being 1."""

MEASURE_AT = memory.at(MEASURE)
SIZE = MEASURE.itemsize
MONOTONIC = 1
TIME = memory.stack(2)

clock_gettime = external("clock_gettime", "int32", "int32", "int64")


@kernel
def _now(place):
    clock_gettime(MONOTONIC, place)
    return load64(place) * 1_000_000_000 + load64(place + 8)


@kernel
def _note(m, sets, ns):
    """Note a call that answers in `sets`: behind those asked, who matches and who may match."""
    answer = 0
    words = m.words + 0
    for n in range(words, 3 * words):
        answer |= load64(sets + 8 * n)
    m.calls += 1
    m.taken += 1
    m.given += 1 if answer else 0
    m.ns += ns


@entry
def clock_cost(n):
    """What taking the time adds to what is measured: the sum of `n` measurements of nothing [ns]."""
    place = TIME()
    spent = 0
    for _ in range(n):
        begun = _now(place)
        spent += _now(place) - begun
    return spent


@entry
def packet(tables, rows, n, matches):
    """Measure the packet stage: frames in, and out those that are delivered or go on."""
    m = MEASURE_AT(tables - SIZE * PACKET)
    place = TIME()
    begun = _now(place)
    found = call4(m.code, tables, rows, n, matches)
    m.ns += _now(place) - begun
    m.calls += 1
    m.taken += n
    at = 0
    for k in range(n):
        passes = PACKET_AT(rows + k * PACKET_SIZE).verdict & CONTINUE != 0
        while at < found and load64(matches + 8 * at) >> 32 == k:
            passes = True
            at += 1
        m.given += 1 if passes else 0
    return found


@kernel
def _three(number, tables, row, sets):
    m = MEASURE_AT(tables - SIZE * number)
    place = TIME()
    begun = _now(place)
    call3(m.code, tables, row, sets)
    _note(m, sets, _now(place) - begun)
    return 0


@kernel
def _five(number, tables, row, a, b, sets):
    m = MEASURE_AT(tables - SIZE * number)
    place = TIME()
    begun = _now(place)
    call5(m.code, tables, row, a, b, sets)
    _note(m, sets, _now(place) - begun)
    return 0


@entry
def connection(tables, row, sets):
    """Measure the connection stage."""
    return _three(CONNECTION, tables, row, sets)


@entry
def protocol(tables, row, service, sets):
    """Measure the protocol stage."""
    m = MEASURE_AT(tables - SIZE * PROTOCOL)
    place = TIME()
    begun = _now(place)
    call4(m.code, tables, row, service, sets)
    _note(m, sets, _now(place) - begun)
    return 0


@entry
def session(tables, row, service, parsed, sets):
    """Measure the session stage."""
    return _five(SESSION, tables, row, service, parsed, sets)


@entry
def packet_deliver(tables, row, sets):
    """Measure the stage that tests the packets of connections that match."""
    return _three(PACKET_DELIVER, tables, row, sets)


@entry
def watch(tables, row, sets):
    """Measure the stage that tests packets for what some packet has to fulfil."""
    return _three(WATCH, tables, row, sets)


@entry
def early(tables, row, record, track, sets):
    """Measure the stage that drops connections early."""
    return _five(EARLY, tables, row, record, track, sets)


@entry
def end(tables, row, record, track, sets):
    """Measure the stage at the end of connections."""
    return _five(END, tables, row, record, track, sets)
