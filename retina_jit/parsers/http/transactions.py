"""Which response answers which request.

Responses answer the requests of a connection in their order (RFC 9112, 9.3.2). What makes it hard is what was not
captured, or late:

* After a hole that may have swallowed a response the next one is taken to answer the last request: clients hardly ever
  send a request before the answer to the one before.
* A response without request waits for a while: if a request comes that was captured before it, and was only held back
  by a hole in front of it, the two belong together. Otherwise it is delivered alone.
* A request whose head has no end in the capture is delivered with its response, or not at all.

Sources: RFC 9112 §6.3 and §9, RFC 9110 §9.3.2, §9.3.6, §15.2.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.parsers.http import head as heads
from retina_jit.parsers.http.body import begin_body
from retina_jit.parsers.http.state import (
    ANSWER,
    CODED,
    CUT,
    IS_CONNECT,
    IS_HEAD,
    LINE,
    MESSAGE_AT,
    SIDE_AT,
    STATE_AT,
    UNTIL_CLOSE,
    drop,
    pop_request,
    push_request,
    show,
    side_of,
)
from retina_jit.parsers.session.contract import LIMITED, READY


@leaf
def server_side(state):
    """Address of the SIDE of the responses."""
    return side_of(state, 1 - np.int64(STATE_AT(state).client))


@kernel
def end_body(state, direction):
    """The body is complete, or given up. Returns READY if that completes a transaction."""
    side = side_of(state, direction)
    s, row = SIDE_AT(side), STATE_AT(state)
    s.phase = LINE
    s.opened = 0
    message = s.open + 0
    s.open = 0
    if direction == np.int64(row.client):
        return 0
    request = row.asked + 0
    row.asked = 0
    if request:
        show(state, request, message)
        return READY
    if message and s.owing == 0 and row.over == 0:
        row.orphan = message
        return 0
    if message:
        show(state, 0, message)
        return READY
    return 0


@kernel
def show_orphan(state):
    """Deliver the response that has waited for a request. Returns READY."""
    row = STATE_AT(state)
    orphan = row.orphan + 0
    row.orphan = 0
    row.flush = 0
    show(state, 0, orphan)
    return READY


@kernel
def show_unanswered(state):
    """Deliver the request that waits longest without response. Returns READY, or 0 if its head is not whole."""
    row = STATE_AT(state)
    if row.unanswered:
        row.unanswered -= 1
    request = pop_request(state)
    show(state, request, 0)
    if request == 0:
        return 0
    if MESSAGE_AT(request).flags & CUT:
        show(state, 0, 0)
        return 0
    return READY


@kernel
def take_request(state, direction, span, length):
    """The head of a request is complete. Returns READY if its response was there before."""
    side = side_of(state, direction)
    s, row = SIDE_AT(side), STATE_AT(state)
    other = SIDE_AT(server_side(state))
    orphan = row.orphan + 0
    if orphan == 0 and other.opened and row.asked == 0 and other.owing == 0:
        orphan = other.open + 0
    late = orphan != 0 and s.message.ts <= MESSAGE_AT(orphan).ts
    if late:
        s.message.depth = MESSAGE_AT(orphan).depth
    else:
        s.message.depth = row.requests
        row.requests += 1
    block = heads.keep(state, side, span, length)
    if not begin_body(side, block):
        s.phase = LINE
        s.opened = 0
        s.open = 0
    if other.phase == UNTIL_CLOSE and not late:
        other.phase = LINE  # a client that asks again must have seen the end of the response
    if block == 0:
        row.notes |= LIMITED
        if not late:
            row.owed += 1
        return 0
    if late and row.orphan == 0:
        row.asked = block  # its response is still coming
        return 0
    if late:
        row.orphan = 0
        show(state, block, orphan)
        return READY
    if row.orphan:
        row.flush = 1
    push_request(state, block)
    return 0


@kernel
def take_head(state, direction, span, length):
    """The head of a message is complete, or cut. Returns READY if that completes a transaction."""
    side = side_of(state, direction)
    s, row = SIDE_AT(side), STATE_AT(state)
    code = np.int64(s.message.code)
    if row.roles == 0:
        row.roles = 1
        row.client = 1 - direction if code else direction
    if (code == 0) != (direction == np.int64(row.client)):
        # Begun before the other direction has told the roles, and nonsense since.
        heads.discard(state, side)
        s.phase = LINE
        return 0
    if code == 0:
        return take_request(state, direction, span, length)
    row.answer = heads.keep(state, side, span, length)
    if row.answer == 0:
        row.notes |= LIMITED
    s.phase = ANSWER
    return 0


@kernel
def answer(state, direction):
    """The head of a response is complete: find its request, and what its body is. Returns READY or 0.

    It has to be called again, with the requests that are to be given up delivered, as long as the phase is ANSWER.
    """
    side = side_of(state, direction)
    s, row = SIDE_AT(side), STATE_AT(state)
    if s.opened:
        ready = end_body(state, direction)
        s.phase = ANSWER
        return ready
    code, block = np.int64(s.message.code), row.answer + 0
    if code < 200 and code != 101:
        row.answer = 0
        drop(state, block)
        s.phase = LINE
        return 0
    if row.orphan:
        return show_orphan(state)
    if s.gap:
        s.gap = 0
        if row.pending > 1:
            row.unanswered = row.pending - 1
            return 0
    row.answer = 0
    request = np.int64(0)
    s.owing = 1 if row.owed else 0
    if row.owed:
        row.owed -= 1
    else:
        request = pop_request(state)
        if request == 0:
            row.requests += 1
    if block:
        MESSAGE_AT(block).depth = MESSAGE_AT(request).depth if request else row.requests - 1
    row.asked = request
    asked = np.int64(MESSAGE_AT(request).flags) if request else np.int64(0)
    tunnel = code == 101 or (asked & IS_CONNECT != 0 and code < 300)
    bare = tunnel or asked & IS_HEAD != 0 or code == 204 or code == 304
    counted = begin_body(side, block)
    if not bare and counted:
        return 0
    empty = s.message.content_length == 0 and s.message.flags & CODED == 0
    if not bare and not empty and s.message.flags & CUT == 0:
        s.phase = UNTIL_CLOSE
        return 0
    if tunnel:
        row.over = 1
    return end_body(state, direction)
