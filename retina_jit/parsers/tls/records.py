"""TLS over a byte stream: records and handshake messages, in each direction, for any cut of the stream.

A record header and a message header are gathered byte by byte where they are cut; the bodies of the few messages that
are reported are copied, whole, one after another, into one arena block per direction; all else is skipped by counting.
So what is known after a byte does not depend on how the bytes came.

When is a session complete?
---------------------------
When neither side can say anything more that is reported. A side is *over* after

=========  ==========================================================================================
either     a fatal alert or close_notify; bytes that are no TLS; ChangeCipherSpec (up to TLS 1.2: what
           follows is encrypted); application data
server     a ServerHello of TLS 1.3 that is no HelloRetryRequest
client     the server's ServerHello of TLS 1.3, or its ChangeCipherSpec without ServerHelloDone (a resumed
           session), or its fatal alert; but never before the ClientHello, and after a
           HelloRetryRequest the second ClientHello, were seen
=========  ==========================================================================================

A side that is silent (only the other one is captured) is given up after PATIENCE bytes of application data.

Sources: RFC 5246 §6 and §7, RFC 8446 §4, §5 and appendix D.4 (ChangeCipherSpec means nothing in TLS 1.3), RFC 6101
appendix E (ClientHello in the format of SSL 2.0).
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import load32, store32
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.parsers.tls import hello
from retina_jit.parsers.wire import copy_to, u8, u32
from retina_jit.state import arena as pool
from retina_jit.state.layout import INPUT

RECORD_LIMIT = 16384 + 2048
"""Longest record: RFC 5246, 6.2.3. TLS 1.3 allows less, SSL 3.0 as much."""
MESSAGE_LIMIT = 128 << 10
"""Longest handshake message that is believed; RFC 8446 allows 16 MiB, OpenSSL refuses chains above 100 KiB."""
HELLO_LIMIT = 32 << 10
"""Longest hello; post-quantum key shares make two KiB, twenty PSK identities about ten."""
HELD_LIMIT = 256 << 10
"""Most bytes kept of one direction."""
PATIENCE = 32 << 10

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA, HEARTBEAT = 20, 21, 22, 23, 24
HELLO_REQUEST, CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET, HELLO_RETRY_REQUEST = 0, 1, 2, 4, 6
CERTIFICATE, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE = 11, 12, 13, 14
CLIENT_KEY_EXCHANGE, CERTIFICATE_STATUS = 16, 22
FATAL, CLOSE_NOTIFY = 2, 0

# Message types that may stand in clear: 0-6, 8, 11-16, 20-25, 67 (next protocol), 254.
_KNOWN = 0b0011_1111_0001_1111_1001_0111_1111

# SIDE.flags
CCS, DATA, ENDED, BROKEN, GAP = 1, 2, 4, 8, 16
TLS13, RETRY, DONE, TICKET, ASKED, STATUS, FATAL_SENT = 32, 64, 128, 256, 512, 1024, 2048

SIDE = np.dtype(
    [
        ("buffer", "i8"),  # arena block with the bodies that are kept
        ("room", "i4"),  # its size as asked for
        ("held", "i4"),  # bytes in it
        ("hello_at", "i4"),
        ("hello_len", "i4"),
        ("chain_at", "i4"),  # body of Certificate
        ("chain_len", "i4"),
        ("key_at", "i4"),  # body of ServerKeyExchange or ClientKeyExchange
        ("key_len", "i4"),
        ("head", "i8"),  # header of a record, as far as it has come
        ("message_head", "i8"),  # header of a message, or body of an alert
        ("left", "i4"),  # bytes of the record that are still to come
        ("rest", "i4"),  # bytes of the message that are still to come
        ("begun", "i4"),  # where the message that is being kept begins
        ("veiled", "i4"),  # bytes of application data
        ("have", "u1"),  # bytes in head
        ("message_have", "u1"),
        ("content", "u1"),  # type of the record
        ("message", "u1"),  # type of the message
        ("keep", "u1"),
        ("hellos", "u1"),
        ("records", "u1"),  # 1: a record has begun
        ("tried", "u1"),  # 1: this record comes after ChangeCipherSpec and may be a hello in clear
        ("flags", "u4"),
        ("retry_group", "u4"),
    ]
)
assert SIDE.itemsize == 88

MAX_ALERTS = 4
STATE = np.dtype(
    [
        ("side0", SIDE),  # from the originator
        ("side1", SIDE),
        ("arena", "i8"),
        ("derived", "i8"),  # arena block with text made on demand, see retina_jit.parsers.session.tls
        ("derived_len", "i4"),
        ("ja3_len", "i4"),
        ("ja3s_len", "i4"),
        ("made", "u4"),
        ("alerts", "u4", MAX_ALERTS),  # direction << 16 | level << 8 | description
        ("alert_count", "u1"),
        ("client", "u1"),  # direction of the client
        ("roles", "u1"),  # 1: a hello has told which side is the client
        ("delivered", "u1"),
        ("pad", "u4"),
    ]
)
assert STATE.itemsize <= 256
SIDE_AT, STATE_AT, INPUT_AT = memory.at(SIDE), memory.at(STATE), memory.at(INPUT)
_SIDE = SIDE.itemsize
_ALERTS = STATE.fields["alerts"][1]  # type: ignore[index]


@leaf
def side_of(state, direction):
    """Address of the SIDE of a direction."""
    return state + _SIDE * direction


@leaf
def client_side(state):
    """Address of the client's SIDE."""
    return state + _SIDE * np.int64(STATE_AT(state).client)


@leaf
def server_side(state):
    """Address of the server's SIDE."""
    return state + _SIDE * (1 - np.int64(STATE_AT(state).client))


@leaf
def hello_of(side):
    """Body of the side's hello; (0, 0) if none was seen."""
    s = SIDE_AT(side)
    if s.hello_len == 0:
        return (0, 0)
    return (s.buffer + np.int64(s.hello_at), np.int64(s.hello_len))


@kernel
def is_complete(state):
    """Whether nothing more can come that is reported: the rules of the table above."""
    c, s = SIDE_AT(client_side(state)), SIDE_AT(server_side(state))
    ours, theirs = np.int64(c.flags), np.int64(s.flags)
    retry = 1 if theirs & RETRY else 0
    answered = s.hellos > 0
    if c.veiled > PATIENCE or s.veiled > PATIENCE:
        return True
    server_over = (
        theirs & (ENDED | BROKEN | DATA | TLS13) != 0
        or (theirs & CCS != 0 and (answered or retry == 0))
        or (ours & ENDED != 0 and theirs & DONE != 0)
    )
    if c.hellos > retry:
        resumed = theirs & CCS != 0 and theirs & DONE == 0 and answered
        client_over = ours & (CCS | DATA | ENDED | BROKEN) != 0 or theirs & (TLS13 | ENDED) != 0 or resumed
    elif c.hellos == 0:
        client_over = ours & (CCS | DATA | ENDED | BROKEN) != 0
    else:
        client_over = ours & (ENDED | BROKEN) != 0
    return server_over and client_over


@leaf
def alert_at(state, n):
    """The `n`-th alert: direction << 16 | level << 8 | description."""
    return load32(state + _ALERTS + 4 * n)


@leaf
def has_hello(state):
    """Whether there is anything worth delivering."""
    return SIDE_AT(state).hello_len > 0 or SIDE_AT(state + _SIDE).hello_len > 0


@kernel
def is_resumed(state):
    """Whether the server has taken up an earlier session: a pre-shared key in TLS 1.3, no ServerHelloDone before."""
    s = SIDE_AT(server_side(state))
    body = hello_of(server_side(state))
    if s.flags & TLS13:
        return hello.find(hello.server_extensions(body), hello.PRE_SHARED_KEY)[0] != 0
    return body[1] > 0 and s.flags & CCS != 0 and s.flags & (DONE | GAP) == 0


# ------------------------------------------------------------------------------------------------------------ messages


@leaf
def _set_client(state, direction):
    row = STATE_AT(state)
    if row.roles == 0:
        row.roles = 1
        row.client = direction


@leaf
def is_message_type(kind):
    """Whether a handshake message of this type may stand in clear."""
    return (kind < 28 and (_KNOWN >> kind) & 1 != 0) or kind == 67 or kind == 254


@kernel
def _wants(side, kind):
    """Whether the body of a message of this type is to be kept."""
    s = SIDE_AT(side)
    if kind == CLIENT_HELLO or kind == SERVER_HELLO:
        return 1 if s.hello_len == 0 else 0
    if kind == CERTIFICATE:
        return 1 if s.chain_len == 0 else 0
    if kind == SERVER_KEY_EXCHANGE or kind == CLIENT_KEY_EXCHANGE:
        return 1 if s.key_len == 0 else 0
    return 0


@kernel
def _begin_message(state, side):
    """The header of a message is complete: note what comes. Returns False if it is no message."""
    s = SIDE_AT(side)
    kind, length = s.message_head >> 24, s.message_head & 0xFFFFFF
    s.message_head = 0
    s.message_have = 0
    if not is_message_type(kind) or length > MESSAGE_LIMIT:
        return False
    is_hello = kind == CLIENT_HELLO or kind == SERVER_HELLO
    if is_hello and (length < hello.SHORTEST or length > HELLO_LIMIT):
        return False
    s.message = kind
    s.rest = length
    s.keep = _wants(side, kind)
    s.begun = s.held
    if s.keep and np.int64(s.held) + length > HELD_LIMIT:
        return False
    return True


@kernel
def _end_message(state, side, direction):
    """A message is complete: file it."""
    s = SIDE_AT(side)
    kind = np.int64(s.message)
    body = (s.buffer + np.int64(s.begun), np.int64(s.held) - np.int64(s.begun))
    if kind == CLIENT_HELLO:
        _set_client(state, direction)
        s.hellos = min(np.int64(s.hellos) + 1, 255)
        if s.keep:
            s.hello_at, s.hello_len = s.begun, body[1]
    elif kind == SERVER_HELLO:
        _set_client(state, 1 - direction)
        if s.keep and hello.is_retry(body):
            share = hello.find(hello.server_extensions(body), hello.KEY_SHARE)
            s.retry_group = hello.number16(share, 0)
            s.flags |= RETRY
            s.held = s.begun
        else:
            s.hellos = min(np.int64(s.hellos) + 1, 255)
            if s.keep:
                s.hello_at, s.hello_len = s.begun, body[1]
                version = hello.selected_version(body)
                if hello.is_tls13(version if version else hello.legacy_version(body)):
                    s.flags |= TLS13
    elif kind == HELLO_RETRY_REQUEST:  # up to draft 21
        _set_client(state, 1 - direction)
        s.flags |= RETRY
    elif kind == CERTIFICATE:
        if s.keep:
            s.chain_at, s.chain_len = s.begun, body[1]
    elif kind == SERVER_KEY_EXCHANGE or kind == CLIENT_KEY_EXCHANGE:
        if s.keep:
            s.key_at, s.key_len = s.begun, body[1]
    elif kind == SERVER_HELLO_DONE:
        s.flags |= DONE
    elif kind == NEW_SESSION_TICKET:
        s.flags |= TICKET
    elif kind == CERTIFICATE_REQUEST:
        s.flags |= ASKED
    elif kind == CERTIFICATE_STATUS:
        s.flags |= STATUS
    s.keep = 0


@leaf
def _drop_message(side):
    """Forget a message that has begun."""
    s = SIDE_AT(side)
    if s.keep:
        s.held = s.begun
    s.keep = 0
    s.rest = 0
    s.message_have = 0
    s.message_head = 0


@kernel
def _keep_bytes(state, side, span, at, count):
    """Append bytes to what is kept. Returns False if the arena is full."""
    s = SIDE_AT(side)
    wanted = np.int64(s.held) + count
    if s.buffer == 0 or wanted > s.room:
        grown = pool.enlarge(STATE_AT(state).arena, s.buffer, np.int64(s.held), np.int64(s.room), wanted)
        if grown == 0:
            return False
        s.buffer = grown
        s.room = pool.capacity(wanted)
    s.held += copy_to(s.buffer + np.int64(s.held), span, at, count)
    return True


@kernel
def _take_handshake(state, side, direction, span, at, count):
    """Take up to `count` bytes of a handshake record. Returns how many (up to the end of a message), or -1: no TLS."""
    s = SIDE_AT(side)
    used = np.int64(0)
    if s.rest == 0:
        while used < count and s.message_have < 4:
            s.message_head = (s.message_head << 8) | u8(span, at + used)
            s.message_have += 1
            used += 1
        if s.message_have < 4:
            return used
        if not _begin_message(state, side):
            return -1
        if s.rest:
            return used
    else:
        used = min(count, np.int64(s.rest))
        if s.keep and not _keep_bytes(state, side, span, at, used):
            return -1
        s.rest -= used
    if s.rest == 0:
        _end_message(state, side, direction)
    return used


# ------------------------------------------------------------------------------------------------------------- records


@kernel
def _break_off(side):
    """These are no records, or not any more: this direction is not looked at again."""
    s = SIDE_AT(side)
    _drop_message(side)
    s.left = 0
    s.have = 0
    s.flags |= BROKEN


@kernel
def _begin_record(state, side):
    """The header of a record is complete: note what comes. Returns False if it is no record."""
    s = SIDE_AT(side)
    content, version, length = s.head >> 32, (s.head >> 16) & 0xFFFF, s.head & 0xFFFF
    s.head = 0
    s.have = 0
    if content < CHANGE_CIPHER_SPEC or content > HEARTBEAT or version < 0x0300 or version > 0x0304:
        return False
    if length > RECORD_LIMIT:
        return False
    s.records = 1
    s.content = content
    s.left = length
    if content == APPLICATION_DATA:
        s.flags |= DATA
        s.veiled = min(np.int64(s.veiled) + length, 1 << 30)
    if content != HANDSHAKE and (s.rest or s.message_have):
        _drop_message(side)
    s.tried = 1 if content == HANDSHAKE and s.flags & (CCS | DATA) else 0
    return True


@leaf
def _is_veiled(side):
    """Whether the body of the present record is only counted."""
    s = SIDE_AT(side)
    if s.content == HANDSHAKE:
        # TLS 1.3 hides its messages in records of application data, so after a retry a hello comes in clear.
        return s.flags & (CCS | DATA) != 0 and s.tried == 0
    return s.content == APPLICATION_DATA


@kernel
def _note_alert(state, side, direction):
    """Both bytes of an alert are here: file it, and see whether it ends the connection."""
    s, row = SIDE_AT(side), STATE_AT(state)
    level, description = (s.message_head >> 8) & 0xFF, s.message_head & 0xFF
    s.message_head = 0
    s.message_have = 0
    if level == 0 or level > FATAL:
        return
    if row.alert_count < MAX_ALERTS:
        store32(state + _ALERTS + 4 * np.int64(row.alert_count), (direction << 16) | (level << 8) | description)
        row.alert_count += 1
    if level == FATAL or description == CLOSE_NOTIFY:
        s.flags |= ENDED


@kernel
def _take_record(state, side, direction, span, at, count):
    """Take up to `count` bytes of the present record. Returns how many, or -1: no TLS."""
    s = SIDE_AT(side)
    count = min(count, np.int64(s.left))
    if _is_veiled(side):
        used = count
    elif s.content == HANDSHAKE:
        if s.tried and s.message_have == 0 and s.rest == 0 and not _may_be_hello(side, direction, u8(span, at)):
            s.tried = 0
            used = count
        else:
            used = _take_handshake(state, side, direction, span, at, count)
            if used < 0:
                return used
    elif s.content == ALERT and not s.flags & CCS:
        used = count
        for n in range(count):
            if s.message_have < 2:
                s.message_head = (s.message_head << 8) | u8(span, at + n)
            s.message_have = min(np.int64(s.message_have) + 1, 3)
    else:
        used = count
    s.left -= used
    if s.left == 0:
        if s.content == CHANGE_CIPHER_SPEC:
            s.flags |= CCS
        elif s.content == ALERT and not s.flags & CCS:
            if s.message_have == 2:
                _note_alert(state, side, direction)
            s.message_have = 0
            s.message_head = 0
    return used


@leaf
def _may_be_hello(side, direction, first):
    """Whether a handshake record after ChangeCipherSpec begins with the hello that may come then."""
    s = SIDE_AT(side)
    return (first == CLIENT_HELLO and s.hellos == 1) or (first == SERVER_HELLO and s.flags & RETRY != 0 and s.hellos == 0)


@kernel
def _skip_lost(side, lost):
    """Bytes are missing: if all of them belong to what is only counted, count them; else look for a record next."""
    s = SIDE_AT(side)
    if s.left >= lost and (_is_veiled(side) or (s.content == HANDSHAKE and s.rest >= lost and s.keep == 0)):
        s.left -= lost
        if s.content == HANDSHAKE and not _is_veiled(side):
            s.rest -= lost
        return
    _drop_message(side)
    s.left = 0
    s.have = 0
    s.head = 0
    s.flags |= GAP


@kernel
def feed(state, input_at):
    """Take the bytes of one INPUT: the `parse` of the contract."""
    row, given = STATE_AT(state), INPUT_AT(input_at)
    row.arena = given.arena
    direction = given.direction
    side = side_of(state, direction)
    s = SIDE_AT(side)
    span = (given.address, given.length)
    at, length = given.at, given.length
    if row.delivered:
        given.at = length
        return STOP
    if given.lost > 0:
        _skip_lost(side, given.lost)
        given.lost = 0
    over = False
    while at < length and not over and not s.flags & BROKEN:
        if s.left == 0:
            if s.have == 0 and length - at >= 5:
                s.head = (u8(span, at) << 32) | u32(span, at + 1)
                s.have = 5
                at += 5
            else:
                s.head = (s.head << 8) | u8(span, at)
                s.have += 1
                at += 1
            if s.have < 5:
                continue
            if not _begin_record(state, side):
                _break_off(side)
            event = True
        else:
            used = _take_record(state, side, direction, span, at, length - at)
            if used < 0:
                _break_off(side)
            else:
                at += used
            event = s.left == 0 or s.rest == 0
        over = event and is_complete(state)
    given.at = at
    if s.flags & BROKEN:
        given.at = length
        if s.records == 0 and SIDE_AT(side_of(state, 1 - direction)).records == 0:
            return NOT_OURS | STOP
        over = over or is_complete(state)
    if not over:
        return 0
    if not has_hello(state):
        return STOP
    row.delivered = 1
    return READY | STOP


@kernel
def conclude(state):
    """The connection has ended: the `finish` of the contract."""
    row = STATE_AT(state)
    if row.delivered or not has_hello(state):
        return 0
    row.delivered = 1
    return READY


@kernel
def free(state, arena):
    """Give back all that lies in the arena."""
    row = STATE_AT(state)
    for direction in range(2):
        s = SIDE_AT(side_of(state, direction))
        pool.release(arena, s.buffer, np.int64(s.room))
        s.buffer = 0
        s.room = 0
        s.held = 0
        s.hello_len = 0
        s.chain_len = 0
        s.key_len = 0
    pool.release(arena, row.derived, np.int64(row.derived_len))
    row.derived = 0
    row.made = 0
    row.delivered = 1
