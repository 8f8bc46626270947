"""How a DNS transaction is written into an event; `retina_jit.datatypes` reads it.

Both messages are copied whole: records are decoded where they are asked for.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.delivery.event import CONTEXT_AT, packed, put_bytes, reserve_bytes
from retina_jit.jit import entry, kernel
from retina_jit.memory import fill
from retina_jit.parsers.dns.message import (
    HEADER,
    NAME_ROOM,
    QUESTION_TAIL,
    RCODE,
    count_of,
    flags_of,
    shown_class,
    skip_name,
    transaction_id_of,
    write_name,
)
from retina_jit.parsers.dns.state import STATE_AT
from retina_jit.parsers.wire import has, u16

# RECORD.has
QUERY, RESPONSE, QUESTION, BOTH, UNICAST_RESPONSE = 1, 2, 4, 8, 16

RECORD = np.dtype(
    [
        ("query_ts", "i8"),
        ("response_ts", "i8"),
        ("query_message", "i8"),  # packed words
        ("response_message", "i8"),
        ("query_domain", "i8"),
        ("transaction_id", "u2"),
        ("query_flags", "u2"),
        ("response_flags", "u2"),
        ("qtype", "u2"),
        ("qclass", "u2"),
        ("repeated", "u2"),
        ("has", "u1"),
        ("asker", "u1"),  # 1: the responder of the connection has asked
        ("opcode", "u1"),
        ("response_code", "u1"),
    ]
)
assert RECORD.itemsize == 56
RECORD_AT = memory.at(RECORD)
_SIZE = RECORD.itemsize


@kernel
def queried(state):
    """The message that holds the question: the query, else the response; an empty span if neither has one."""
    row = STATE_AT(state)
    query, response = (row.query + 0, np.int64(row.query_len)), (row.response + 0, np.int64(row.response_len))
    if query[1] and count_of(query, 0):
        return query
    if response[1] and count_of(response, 0):
        return response
    return (0, 0)


@entry
def project(context):
    """Write the transaction at hand to an event."""
    c = CONTEXT_AT(context)
    row = STATE_AT(c.session)
    fill(c.out, 0, _SIZE)
    r = RECORD_AT(c.out)
    r.asker, r.repeated = row.asker, row.repeated
    if row.query_len:
        message = (row.query + 0, np.int64(row.query_len))
        r.has |= QUERY
        r.query_ts = row.query_ts
        r.transaction_id, r.query_flags = transaction_id_of(message), flags_of(message)
        r.query_message = put_bytes(context, message[0], message[1])
    if row.response_len:
        message = (row.response + 0, np.int64(row.response_len))
        r.has |= RESPONSE
        r.response_ts = row.response_ts
        r.transaction_id, r.response_flags = transaction_id_of(message), flags_of(message)
        r.response_message = put_bytes(context, message[0], message[1])
    if r.has == QUERY | RESPONSE:
        r.has |= BOTH
    r.opcode = ((r.query_flags if r.has & QUERY else r.response_flags) >> 11) & 0xF
    r.response_code = r.response_flags & RCODE
    message = queried(c.session)
    end = skip_name(message, HEADER) if message[1] else -1
    if end > 0 and has(message, end, QUESTION_TAIL):
        r.has |= QUESTION
        r.qtype, r.qclass = u16(message, end), shown_class(u16(message, end + 2))
        if r.qclass != u16(message, end + 2):
            r.has |= UNICAST_RESPONSE
        at = reserve_bytes(context, NAME_ROOM)
        if at:
            end = write_name(at, message, HEADER)
            c.cursor = end
            r.query_domain = packed(context, at, end - at)
    return 0
