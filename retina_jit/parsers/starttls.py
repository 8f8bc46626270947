"""Conversations that may turn to TLS, of protocols that no parser is looked for: FTP, IMAP, POP3, XMPP, SMTP.

No protocol of its own, and nothing is delivered: the pipeline puts it in a parser's place where TLS is wanted and the first
bytes are a greeting. It skips what is said, up to a cap, and tells where TLS begins: the client has asked for it, and its
next byte is that of a handshake record, which no line of text begins with; so the server has agreed, whatever its words
were. Where only the server was captured a line that begins so is enough, for `retina_jit.parsers.session.tls` looks at
what follows.

Sources: RFC 3207 (SMTP), RFC 9051 §6.2.1 (IMAP), RFC 2595 §4 (POP3: STLS), RFC 4217 §12 (FTP: AUTH TLS), RFC 6120 §5.4
(XMPP: <starttls/>).
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import entry, kernel
from retina_jit.memory import store8
from retina_jit.parsers.session.contract import LIMITED, STOP, TURNED
from retina_jit.parsers.text import find, starts
from retina_jit.parsers.wire import copy_to, part, u8
from retina_jit.state.layout import INPUT
from retina_jit.status import Probe

__all__ = ["STATE", "TURNS_INTO", "finish", "parse", "probe", "release"]

TURNS_INTO = ("tls",)
CLIENT_LIMIT, SERVER_LIMIT = 4 << 10, 32 << 10
"""Bytes after which nobody is believed to ask for TLS any more."""
LINE_ROOM = 48
"""Bytes of a line that are looked at."""

STATE = np.dtype(
    [
        ("line", "u1", LINE_ROOM),  # the client's line, as far as it has come
        ("head", "u1", 8),  # the server's first bytes
        ("held", "i4"),  # bytes in it
        ("client", "i4"),  # bytes that it has sent
        ("server", "i4"),
        ("end", "u1"),  # what the client's lines end with: LF, or ">" where it speaks XML
        ("asked", "u1"),  # 1: its last line asks for TLS
        ("lost", "u1"),  # 1: the beginning of its line is missing
        ("last", "u1"),  # the server's last byte
        ("heads", "u1"),  # bytes in head
        ("opened", "u1"),  # 1: the client's first line is over
        ("alien", "u1"),  # 1: nobody of ours begins so
        ("pad", "u1"),
    ]
)
STATE_AT, INPUT_AT = memory.at(STATE), memory.at(INPUT)
HEAD_ROOM = 8
_HEAD = STATE.fields["head"][1]  # type: ignore[index]

HANDSHAKE, LF, BLANK, LESS, GREATER = 22, 10, 32, 60, 62  # the first: content type of a TLS record
STARTTLS, AUTH_TLS, AUTH_SSL = (int.from_bytes(w, "big") for w in (b"STARTTLS", b"AUTH TLS", b"AUTH SSL"))
STLS, EHLO, LHLO, AUTH, CAPA = (int.from_bytes(w, "big") for w in (b"STLS", b"EHLO", b"LHLO", b"AUTH", b"CAPA"))
READY_220, OK, STAR_OK, XML, STREAM = (int.from_bytes(w, "big") for w in (b"220", b"+OK", b"* OK", b"<?XML", b"<STREAM"))
CERTAIN, UNSURE, REJECTED = int(Probe.CERTAIN), int(Probe.UNSURE), int(Probe.NOT_OURS)


@kernel
def _is(span, word, length):
    """Whether a span begins with a word, as far as there are bytes."""
    n = min(span[1], length)
    return starts(span, word >> (8 * (length - n)), n)


@kernel
def _opens(span, direction):
    """Whether the first bytes of a direction may begin such a conversation."""
    if _is(span, XML, 5) or _is(span, STREAM, 7):
        return True
    if direction:
        return _is(span, READY_220, 3) or _is(span, OK, 3) or _is(span, STAR_OK, 4)
    return _is(span, EHLO, 4) or _is(span, LHLO, 4) or _is(span, AUTH, 4) or _is(span, STLS, 4) or _is(span, CAPA, 4)


@entry
def probe(address, length, direction, transport):
    """Whether the first bytes of a direction, one at least, may begin such a conversation; `parse` looks at more of them."""
    if length == 0:
        return UNSURE
    return CERTAIN if _opens((address, length), direction) else REJECTED


@kernel
def _check_client(state):
    """See whether the client's first line, as far as it has come, may begin such a conversation; the server's greeting is enough."""
    s = STATE_AT(state)
    if s.opened == 0 and s.heads == 0 and s.held and not _opens((state, np.int64(s.held)), 0):
        s.alien = 1


@kernel
def _asks(line, is_xml):
    """Whether a line of the client asks for TLS."""
    if is_xml:
        return starts(part(line, find(line, LESS, 0) + 1, 8), STARTTLS, 8)
    if starts(line, STARTTLS, 8) or starts(line, STLS, 4) or starts(line, AUTH_TLS, 8) or starts(line, AUTH_SSL, 8):
        return True
    return starts(part(line, find(line, BLANK, 0) + 1, 8), STARTTLS, 8)  # IMAP: behind a tag


@kernel
def _client(state, span, at):
    """Take bytes of the client. Returns where TLS begins, or -1."""
    s = STATE_AT(state)
    while at < span[1]:
        byte = u8(span, at)
        if s.asked and s.held == 0 and byte == HANDSHAKE:
            return at
        if s.end == 0:
            s.end = GREATER if byte == LESS else LF
        at += 1
        if byte == s.end:
            _check_client(state)
            s.opened = 1
            s.asked = 1 if not s.lost and _asks((state, np.int64(s.held)), s.end == GREATER) else 0
            s.held = 0
            s.lost = 0
        elif byte > BLANK or s.held:
            if s.held < LINE_ROOM:
                store8(state + np.int64(s.held), byte)
            s.held = min(np.int64(s.held) + 1, LINE_ROOM)
    _check_client(state)
    return -1


@kernel
def _server(state, span, at):
    """Take bytes of the server. Returns where TLS begins, or -1; if the client was captured it will tell."""
    s = STATE_AT(state)
    if s.heads < HEAD_ROOM:
        s.heads += copy_to(state + _HEAD + np.int64(s.heads), span, at, HEAD_ROOM - np.int64(s.heads))
        s.alien = 0 if _opens((state + _HEAD, np.int64(s.heads)), 1) else 1
    last = np.int64(s.last)
    while at < span[1] and s.client == 0:
        byte = u8(span, at)
        if byte == HANDSHAKE and (last == LF or last == GREATER):
            return at
        last = byte
        at += 1
    s.last = last
    return -1


@entry
def parse(state, given):
    """See the contract."""
    s, i = STATE_AT(state), INPUT_AT(given)
    span, start = (i.address, i.length), i.at + 0
    if i.lost:
        if i.direction == 0:
            s.lost, s.held, s.asked, s.opened = 1, 0, 0, 1
        else:
            s.heads = HEAD_ROOM  # its greeting is lost
        s.last = 0
        i.lost = 0
    if i.direction == 0:
        at = _client(state, span, start)
        s.client = min(np.int64(s.client) + i.length - start, 1 << 30)
    else:
        at = _server(state, span, start)
        s.server = min(np.int64(s.server) + i.length - start, 1 << 30)
    i.at = at if at >= 0 else i.length
    if s.alien:
        return STOP
    if at >= 0:
        return STOP | TURNED
    if s.client > CLIENT_LIMIT or s.server > SERVER_LIMIT:
        return STOP | LIMITED
    return 0


@entry
def finish(state, arena):
    """See the contract."""
    return 0


@entry
def release(state, arena):
    """See the contract."""
    return 0
