"""What fields of a DNS transaction give that does not stand in its messages as it is: text, and places of records.

Text is made when a filter asks for it, in arena blocks: one for the name, one for what was asked for last. Without memory
for it the text is absent.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel
from retina_jit.parsers.dns.event import queried
from retina_jit.parsers.dns.message import (
    HEADER,
    NAME_ROOM,
    OPT,
    QUESTION_TAIL,
    RECORD_TAIL,
    count_of,
    skip_name,
    skip_question,
    skip_questions,
    skip_record,
    write_name,
)
from retina_jit.parsers.dns.objects import put_message
from retina_jit.parsers.dns.render import put_data
from retina_jit.parsers.dns.state import STATE_AT
from retina_jit.parsers.wire import has, u16
from retina_jit.state import arena as pool

ROOM, MOST_ROOM = 4096, 4 << 20


@kernel
def query_domain(state):
    """Name of the first question."""
    row = STATE_AT(state)
    message = queried(state)
    if message[1] == 0 or row.arena == 0:
        return (0, 0)
    if row.domain == 0:
        row.domain = pool.allocate(row.arena, NAME_ROOM)
        if row.domain == 0:
            return (0, 0)
    if row.domain_len == 0:
        row.domain_len = write_name(row.domain + 0, message, HEADER) - row.domain
    return (row.domain + 0, np.int64(row.domain_len))


@kernel
def _room(state, size):
    """Address of the block for text, with `size` bytes at least; what was in it is lost. 0 if the arena is full."""
    row = STATE_AT(state)
    if row.arena == 0:
        return 0
    if row.text_room < size:
        pool.release(row.arena, row.text, np.int64(row.text_room))
        row.text = pool.allocate(row.arena, size)
        row.text_room = size if row.text else 0
    return row.text + 0


@kernel
def response_of(state):
    """The response as a span."""
    row = STATE_AT(state)
    return (row.response + 0, np.int64(row.response_len))


@kernel
def count_records(message, section):
    """How many records of a section are there: what the header says, unless the message ends before or breaks a rule."""
    at = skip_questions(message) if message[1] else -1
    for s in range(1, section + 1):
        found = 0
        for _ in range(count_of(message, s) if at > 0 else 0):
            at = skip_record(message, at)
            if at < 0:
                break
            found += 1
        if s == section:
            return found + 0
    return 0


@kernel
def _behind(message, section):
    """Where a section begins (1 answers, 2 authority, 3 additional), or a negative number."""
    at = skip_questions(message)
    for s in range(1, section):
        for _ in range(count_of(message, s) if at > 0 else 0):
            at = skip_record(message, at)
            if at < 0:
                break
    return at


@kernel
def place_of(state, section, n):
    """Where the `n`-th record of a section of the response begins, or a negative number.

    The last place is remembered: going through a list costs no more than going through the message.
    """
    row = STATE_AT(state)
    message = response_of(state)
    if message[1] == 0 or n >= count_of(message, section):
        return -1
    if row.walk_section == section and row.walk_at > 0 and row.walk_n <= n:
        at, k = np.int64(row.walk_at), np.int64(row.walk_n)
    else:
        at, k = _behind(message, section), 0
    while k < n and at > 0:
        at = skip_record(message, at)
        k += 1
    if at > 0:
        row.walk_section, row.walk_n, row.walk_at = section, n, at
    return at


@kernel
def _tail_of(state, section, n):
    """Where type, class, TTL and length of a record stand, all of which is there, or a negative number."""
    message = response_of(state)
    at = place_of(state, section, n)
    if at < 0 or skip_record(message, at) < 0:
        return -1
    return skip_name(message, at)


@kernel
def record_data(state, section, n):
    """Data of a record in plain text; (0, how many) for n = -1."""
    message = response_of(state)
    if n < 0:
        return (0, count_records(message, section))
    tail = _tail_of(state, section, n)
    if tail < 0 or u16(message, tail) == OPT:
        return (0, 0)
    size = ROOM
    while size <= MOST_ROOM:
        out = _room(state, size)
        if out == 0:
            break
        end = put_data(out, out + size, message, tail + RECORD_TAIL, u16(message, tail + 8), u16(message, tail), 0)
        if end:
            return (out, end - out)
        size *= 4
    return (0, 0)


@kernel
def record_name(state, section, n):
    """Name of a record; (0, how many) for n = -1."""
    message = response_of(state)
    if n < 0:
        return (0, count_records(message, section))
    at = place_of(state, section, n)
    out = _room(state, ROOM) if at > 0 else 0
    return (out, write_name(out, message, at) - out) if out else (0, 0)


@kernel
def record_word(state, section, n, offset):
    """Two bytes of a record at `offset` behind its name: 0 type, 2 class, 4 and 6 TTL; how many records for n = -1."""
    message = response_of(state)
    if n < 0:
        return count_records(message, section)
    tail = _tail_of(state, section, n)
    return u16(message, tail + offset) if tail > 0 else 0


@kernel
def question_name(state, n):
    """Name of a question; (0, how many) for n = -1. The last place is remembered, as that of a record is."""
    row = STATE_AT(state)
    message = queried(state)
    at = HEADER + 0
    if message[1] == 0:
        return (0, 0)
    if n < 0:
        found = 0
        for _ in range(count_of(message, 0)):
            at = skip_question(message, at)
            if at < 0:
                break
            found += 1
        return (0, found + 0)
    k = 0
    if row.walk_section == 0 and row.walk_at > 0 and row.walk_n <= n:
        at, k = np.int64(row.walk_at), np.int64(row.walk_n)
    while k < n:
        at = skip_question(message, at)
        if at < 0:
            return (0, 0)
        k += 1
    row.walk_section, row.walk_n, row.walk_at = 0, n, at
    out = _room(state, ROOM)
    return (out, write_name(out, message, at) - out) if out else (0, 0)


@kernel
def question_word(state, offset):
    """Type (0) or class (2) of the first question."""
    message = queried(state)
    tail = skip_name(message, HEADER) if message[1] else -1
    return u16(message, tail + offset) if tail > 0 and has(message, tail, QUESTION_TAIL) else 0


@kernel
def opt_tail(message):
    """Where class and TTL of the OPT record stand, less two, or -1 if there is none."""
    at = skip_questions(message) if message[1] else -1
    for section in range(1, 4):
        for _ in range(count_of(message, section) if at > 0 else 0):
            tail = skip_name(message, at)
            at = skip_record(message, at)
            if at < 0:
                return -1
            if u16(message, tail) == OPT:
                return tail
    return -1


@kernel
def response_json(state):
    """The response as JSON."""
    message = response_of(state)
    if message[1] == 0:
        return (0, 0)
    size = 16 * ROOM
    while size <= MOST_ROOM:
        out = _room(state, size)
        if out == 0:
            break
        end = put_message(out, out + size, message, 1)
        if end:
            return (out, end - out)
        size *= 4
    return (0, 0)
