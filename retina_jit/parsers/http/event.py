"""How an HTTP transaction is written into an event; `retina_jit.datatypes.http_transaction` reads it.

The heads are copied whole, and their parts are packed words that point into the copies: any header is there, at the
price of one copy.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.delivery.event import CONTEXT_AT, put_bytes
from retina_jit.jit import entry, kernel
from retina_jit.memory import fill, store64
from retina_jit.parsers.http import state as s
from retina_jit.parsers.http.state import HEAD_AT, MESSAGE_AT, STATE_AT, place
from retina_jit.parsers.wire import u8

REQUEST_PARTS = {
    "method": s.METHOD,
    "uri": s.URI,
    "request_version": s.VERSION,
    "host": s.HOST,
    "user_agent": s.USER_AGENT,
    "cookie": s.COOKIE,
    "referer": s.REFERER,
    "origin": s.ORIGIN,
    "request_content_type": s.CONTENT_TYPE,
    "request_content_encoding": s.CONTENT_ENCODING,
    "request_transfer_encoding": s.TRANSFER_ENCODING,
}
RESPONSE_PARTS = {
    "response_version": s.VERSION,
    "status_msg": s.REASON,
    "server": s.SERVER,
    "location": s.LOCATION,
    "set_cookie": s.SET_COOKIE,
    "response_content_type": s.CONTENT_TYPE,
    "response_content_encoding": s.CONTENT_ENCODING,
    "response_transfer_encoding": s.TRANSFER_ENCODING,
}
"""Name of a part's packed word, and its place in the head."""

RECORD = np.dtype(
    [
        ("flags", "u4"),  # see below
        ("trans_depth", "u4"),
        ("status_code", "u2"),
        ("pad", "u2", 3),
        ("request_ts", "i8"),
        ("response_ts", "i8"),
        ("request_body_len", "i8"),
        ("response_body_len", "i8"),
        ("request_content_length", "i8"),
        ("response_content_length", "i8"),
        ("request_head", "i8"),  # packed words
        ("response_head", "i8"),
        *((name, "i8") for name in REQUEST_PARTS),
        *((name, "i8") for name in RESPONSE_PARTS),
    ]
)
assert RECORD.itemsize % 8 == 0

# RECORD.flags
HAS_REQUEST, HAS_RESPONSE, REQUEST_LENGTH, RESPONSE_LENGTH, INCOMPLETE = (1 << n for n in range(5))

RECORD_AT = memory.at(RECORD)
_SIZE = RECORD.itemsize
_REQUEST, _RESPONSE = RECORD.fields["method"][1], RECORD.fields["response_version"][1]  # type: ignore[index]
_N_REQUEST, _N_RESPONSE = len(REQUEST_PARTS), len(RESPONSE_PARTS)
_PLACES = memory.constant("http_places", bytes([*REQUEST_PARTS.values(), *RESPONSE_PARTS.values()]))


@kernel
def _put_head(context, message, out, places, count):
    """Copy a head, and write the packed words of `count` of its parts to `out`. Returns that of the head."""
    length = np.int64(MESSAGE_AT(message).head_len)
    whole = put_bytes(context, message + HEAD_AT, length + (place(message, s.TRANSFER_ENCODING) & 0xFFFF))
    if whole == 0:
        return 0
    start = whole >> 32
    for n in range(count):
        word = place(message, u8((places, count), n))
        store64(out + 8 * n, ((start + (word >> 16)) << 32) | (word & 0xFFFF) if word else 0)
    return (start << 32) | length


@entry
def project(context):
    """Write a transaction to an event."""
    c = CONTEXT_AT(context)
    row, out = STATE_AT(c.session), c.out + 0
    fill(out, 0, _SIZE)
    r = RECORD_AT(out)
    r.trans_depth = row.depth
    flags = 0
    if row.request:
        m = MESSAGE_AT(row.request)
        flags |= HAS_REQUEST
        if m.content_length >= 0:
            flags |= REQUEST_LENGTH
            r.request_content_length = m.content_length
        if m.flags & (s.CUT | s.GAP):
            flags |= INCOMPLETE
        r.request_ts, r.request_body_len = m.ts, m.body_len
        r.request_head = _put_head(context, row.request + 0, out + _REQUEST, _PLACES(), _N_REQUEST)
    if row.response:
        m = MESSAGE_AT(row.response)
        flags |= HAS_RESPONSE
        if m.content_length >= 0:
            flags |= RESPONSE_LENGTH
            r.response_content_length = m.content_length
        if m.flags & (s.CUT | s.GAP):
            flags |= INCOMPLETE
        r.status_code, r.response_ts, r.response_body_len = m.code, m.ts, m.body_len
        r.response_head = _put_head(context, row.response + 0, out + _RESPONSE, _PLACES() + _N_REQUEST, _N_RESPONSE)
    r.flags = flags
    return 0
