"""What is remembered of a TLS connection, and when its session is complete.

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
Which side is the client follows from the hellos, for a connection that is taken up in its middle may be known the
wrong way round.

Sources: RFC 5246 §7.3, RFC 5077 §3.1, RFC 8446 §2.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import load32, store32
from retina_jit.parsers.tls import hello
from retina_jit.parsers.tls.derived import TEXTS, TEXTS_AT

PATIENCE = 32 << 10

# SIDE.flags; CUT: the capture has only the beginning of the hello
CCS, DATA, ENDED, BROKEN, GAP = 1, 2, 4, 8, 16
TLS13, RETRY, DONE, TICKET, ASKED, STATUS, OLD_HELLO, CUT = 32, 64, 128, 256, 512, 1024, 2048, 4096

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
        ("texts", TEXTS),  # text made on demand
        ("alerts", "u4", MAX_ALERTS),  # direction << 16 | level << 8 | description
        ("alert_count", "u1"),
        ("client", "u1"),  # direction of the client
        ("roles", "u1"),  # 1: a hello has told which side is the client
        ("delivered", "u1"),
        ("pad", "u4"),
    ]
)
assert STATE.itemsize <= 256
SIDE_AT, STATE_AT = memory.at(SIDE), memory.at(STATE)
_SIDE = SIDE.itemsize
_ALERTS, _TEXTS = STATE.fields["alerts"][1], STATE.fields["texts"][1]  # type: ignore[index]


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


@leaf
def is_whole(side):
    """Whether the hello of a side has a fingerprint: it is all there, and not in the format of SSL 2.0."""
    return SIDE_AT(side).flags & (OLD_HELLO | CUT) == 0


@leaf
def texts_of(state):
    """Address of the TEXTS of a session, ready for `derived`."""
    texts = state + _TEXTS
    TEXTS_AT(texts).arena = STATE_AT(state).arena
    return texts


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
        resumed = theirs & CCS != 0 and theirs & (DONE | GAP) == 0 and answered
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
def add_alert(state, direction, level, description):
    """Remember an alert; the first four are enough."""
    row = STATE_AT(state)
    if row.alert_count < MAX_ALERTS:
        store32(state + _ALERTS + 4 * np.int64(row.alert_count), (direction << 16) | (level << 8) | description)
        row.alert_count += 1


@leaf
def set_client(state, direction):
    """A hello tells which side is the client; the first one counts."""
    row = STATE_AT(state)
    if row.roles == 0:
        row.roles = 1
        row.client = direction


@kernel
def has_session(state):
    """Whether there is anything worth delivering: a hello.

    One in the format of SSL 2.0 alone is not enough, the other side has to answer with a record: Skype begins with such
    a hello and goes on with noise.
    """
    if hello_of(server_side(state))[1]:
        return True
    client = SIDE_AT(client_side(state))
    return client.hello_len > 0 and (client.flags & OLD_HELLO == 0 or SIDE_AT(server_side(state)).records > 0)


@kernel
def is_established(state):
    """Whether keys were agreed on: both sides have changed to encryption, or the server has where the client follows."""
    c, s = SIDE_AT(client_side(state)), SIDE_AT(server_side(state))
    if s.hello_len == 0 or (c.flags | s.flags) & ENDED:
        return False
    if s.flags & TLS13:
        return True
    # A session that is taken up is complete with the server's ChangeCipherSpec, so the client's was not waited for.
    return s.flags & CCS != 0 and (c.flags & CCS != 0 or is_resumed(state))


@kernel
def is_resumed(state):
    """Whether the server has taken up an earlier session: a pre-shared key in TLS 1.3, no ServerHelloDone before."""
    s = SIDE_AT(server_side(state))
    body = hello_of(server_side(state))
    if s.flags & TLS13:
        return hello.find(hello.server_extensions(body), hello.PRE_SHARED_KEY)[0] != 0
    return body[1] > 0 and s.flags & CCS != 0 and s.flags & (DONE | GAP) == 0
