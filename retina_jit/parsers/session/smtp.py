"""SMTP, Simple Mail Transfer Protocol, over TCP: a session per mail that is handed over, or one for a conversation without.

A session begins with MAIL and ends with the server's answer to the mail's data. A conversation that comes to no mail is a
session when it ends, or when it turns to TLS (STARTTLS): what follows is a TLS session of its own. Bodies are skipped line by line
(DATA) or by counting (BDAT); of a mail's header the lines that tell who and what are kept. Only one direction may have
been captured.

Sources: RFC 5321, RFC 3207 (STARTTLS), RFC 3030 (BDAT), RFC 4954 (AUTH), RFC 5322 (header fields).
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import entry, kernel, leaf
from retina_jit.parsers import text
from retina_jit.parsers.protocol import SessionExample, declare, session_field
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP, TURNED
from retina_jit.parsers.text import LINES, STORE, find, keep, kept, starts, trimmed
from retina_jit.parsers.wire import part, u8
from retina_jit.state.layout import INPUT
from retina_jit.status import Probe

__all__ = ["PROBE_LIMIT", "STATE", "TURNS_INTO", "finish", "parse", "probe", "release"]

TURNS_INTO = ("tls",)

PROBE_LIMIT = 512
LINE_LIMIT = 1000
"""RFC 5321, 4.5.3.1.6."""
STORE_LIMIT, TEXT_LIMIT, MOST_RECIPIENTS = 16 << 10, 512, 16
HEADER_LINES = 500
"""Lines of a mail's header that are looked at."""
STRANGE_LIMIT = 20
"""So many lines that are no commands or answers make it another protocol's, or a conversation that cannot be followed."""

# What the client's next line is
COMMAND, ASKED_DATA, HEADER, BODY, SENT, ASKED_TLS, CHUNK = range(7)

STATE = np.dtype(
    [
        ("client", LINES),
        ("server", LINES),
        ("store", STORE),
        ("arena", "i8"),
        ("greeting", "i8"),  # words of the store
        ("helo", "i8"),
        ("auth", "i8"),
        ("mail_from", "i8"),
        ("reply", "i8"),
        ("subject", "i8"),
        ("header_from", "i8"),
        ("header_to", "i8"),
        ("message_id", "i8"),
        ("user_agent", "i8"),
        ("to", "i8", MOST_RECIPIENTS),
        ("size", "i8"),  # bytes of the mail's data
        ("left", "i8"),  # bytes of a BDAT chunk that are still to come
        ("recipients", "i4"),
        ("reply_code", "i4"),
        ("base", "i4"),  # where the store goes on after what belongs to the conversation
        ("strange", "i4"),
        ("lines", "i4"),
        ("depth", "i4"),
        ("owed", "i4"),  # answers that are to come
        ("answer_in", "i4"),  # how many of them until the one to the mail
        ("mode", "u1"),
        ("last", "u1"),  # 1: this BDAT chunk is the last one
        ("begun", "u1"),  # 1: MAIL was seen
        ("tls", "u1"),
        ("delivered", "u1"),  # 1: the session at hand was delivered
        ("over", "u1"),
        ("pad", "u1", 2),
    ]
)
STATE_AT, INPUT_AT = memory.at(STATE), memory.at(INPUT)
_AT = {name: STATE.fields[name][1] for name in STATE.names or ()}  # type: ignore[index]
_CLIENT, _SERVER, _STORE, _TO = _AT["client"], _AT["server"], _AT["store"], _AT["to"]

CERTAIN, UNSURE, REJECTED = int(Probe.CERTAIN), int(Probe.UNSURE), int(Probe.NOT_OURS)
EHLO, HELO, LHLO, MAIL, RCPT, DATA = (int.from_bytes(w, "big") for w in (b"EHLO", b"HELO", b"LHLO", b"MAIL", b"RCPT", b"DATA"))
BDAT, AUTH, RSET, QUIT, NOOP, VRFY = (int.from_bytes(w, "big") for w in (b"BDAT", b"AUTH", b"RSET", b"QUIT", b"NOOP", b"VRFY"))
STARTTLS = int.from_bytes(b"STARTTLS", "big")
SUBJECT, FROM, TO, MESSAGE = (int.from_bytes(w, "big") for w in (b"SUBJECT:", b"FROM:", b"TO:", b"MESSAGE-"))
USER_AGENT, X_MAILER = int.from_bytes(b"USER-AGE", "big"), int.from_bytes(b"X-MAILER", "big")


@kernel
def _says_smtp(span):
    """Whether a greeting names the protocol: "220 host ESMTP ..."."""
    for at in range(4, span[1] - 3):
        if starts(part(span, at, 4), 0x534D5450, 4):
            return True
    return False


@entry
def probe(address, length, direction, transport):
    """What the first bytes of a direction look like: a greeting that names SMTP, or the client's EHLO, HELO, LHLO."""
    span = (address, length)
    if length == 0:
        return UNSURE
    if direction == 0:
        word = 0
        for n in range(min(length, 4)):
            byte = u8(span, n)
            word = (word << 8) | (byte - 32 if 97 <= byte <= 122 else byte)
        short = 8 * (4 - min(length, 4))
        if word != EHLO >> short and word != HELO >> short and word != LHLO >> short:
            return REJECTED
        if length < 5:
            return UNSURE
        return CERTAIN if u8(span, 4) == 32 else REJECTED
    if u8(span, 0) != 50 or (length > 1 and u8(span, 1) != 50) or (length > 2 and u8(span, 2) != 48):
        return REJECTED
    if length > 3 and u8(span, 3) != 32 and u8(span, 3) != 45:
        return REJECTED
    end = find(span, 10, 0)
    if _says_smtp(part(span, 0, end)):
        return CERTAIN
    return UNSURE if length < PROBE_LIMIT else REJECTED


# ------------------------------------------------------------------------------------------------------------ parsing


@kernel
def _keep(state, span):
    return keep(STATE_AT(state).arena, state + _STORE, span, TEXT_LIMIT, STORE_LIMIT)


@kernel
def _new_mail(state):
    """Forget the mail before; what belongs to the conversation stays."""
    s = STATE_AT(state)
    text.STORE_AT(state + _STORE).held = s.base
    s.mail_from, s.reply, s.subject, s.header_from, s.header_to, s.message_id, s.user_agent = 0, 0, 0, 0, 0, 0, 0
    s.size, s.recipients, s.reply_code, s.lines, s.begun, s.delivered = 0, 0, 0, 0, 0, 0


@kernel
def _note(state, span):
    """Store a text that belongs to the conversation: only before the first mail, for mails are stored behind it."""
    word = _keep(state, span)
    s = STATE_AT(state)
    if s.begun == 0:
        s.base = text.STORE_AT(state + _STORE).held
    return word


@kernel
def _path(line, at):
    """The mailbox between < and > in MAIL FROM and RCPT TO, or what stands there without them."""
    line = trimmed(part(line, at, line[1]))
    if line[1] and u8(line, 0) == 60:
        return part(line, 1, find(line, 62, 1) - 1)
    return part(line, 0, find(line, 32, 0))


@kernel
def _header(state, line):
    """A line of the mail's header."""
    s = STATE_AT(state)
    value = trimmed(part(line, find(line, 58, 0) + 1, line[1]))
    if starts(line, SUBJECT, 8) and s.subject == 0:
        s.subject = _keep(state, value)
    elif starts(line, FROM, 5) and s.header_from == 0:
        s.header_from = _keep(state, value)
    elif starts(line, TO, 3) and s.header_to == 0:
        s.header_to = _keep(state, value)
    elif starts(line, MESSAGE, 8) and s.message_id == 0:
        s.message_id = _keep(state, value)
    elif (starts(line, USER_AGENT, 8) or starts(line, X_MAILER, 8)) and s.user_agent == 0:
        s.user_agent = _keep(state, value)


@leaf
def _end_data(state, last):
    """The data of a mail, or a chunk of it, has ended; the answer to it is the last one that is owed."""
    s = STATE_AT(state)
    s.mode = SENT if last else COMMAND
    s.answer_in = s.owed


@kernel
def _command(state, line):
    """A command of the client. Returns False if a mail has to be delivered before it counts."""
    s = STATE_AT(state)
    if starts(line, MAIL, 4):
        if s.begun:
            return False
        s.begun = 1
        s.depth += 1
        s.mail_from = _keep(state, _path(line, find(line, 58, 4) + 1))
    elif starts(line, RCPT, 4):
        if s.recipients < MOST_RECIPIENTS:
            word = _keep(state, _path(line, find(line, 58, 4) + 1))
            memory.store64(state + _TO + 8 * np.int64(s.recipients), word)
        s.recipients += 1
    elif starts(line, DATA, 4):
        s.mode = ASKED_DATA
    elif starts(line, BDAT, 4):
        s.left = min(max(text.decimal(line, 5, 12), 0), 1 << 40)
        s.last = 1 if line[1] >= 4 and starts(part(line, line[1] - 4, 4), 0x4C415354, 4) else 0
        s.mode = CHUNK
        if s.left == 0:
            _end_data(state, s.last)
    elif starts(line, EHLO, 4) or starts(line, HELO, 4) or starts(line, LHLO, 4):
        if s.helo == 0:
            s.helo = _note(state, trimmed(part(line, 5, line[1])))
    elif starts(line, STARTTLS, 8):
        s.mode = ASKED_TLS
    elif starts(line, AUTH, 4):
        if s.auth == 0:
            s.auth = _note(state, part(line, 5, find(line, 32, 5) - 5))
    elif starts(line, RSET, 4):
        if s.begun:
            return False
    elif not starts(line, QUIT, 4) and not starts(line, NOOP, 4) and not starts(line, VRFY, 4):
        s.strange += 1
    s.owed += 1
    return True


@kernel
def _client_line(state, line):
    """A line of the client. Returns False if a mail has to be delivered before it counts."""
    s = STATE_AT(state)
    mode = s.mode + 0
    if mode == ASKED_DATA:  # the client goes on, so the server has agreed
        s.mode = HEADER
        mode = HEADER + 0
    if mode == HEADER or mode == BODY:
        if line[1] == 1 and u8(line, 0) == 46:
            s.owed += 1
            _end_data(state, 1)
        elif mode == HEADER:
            s.lines += 1
            _header(state, line)
            if line[1] == 0 or s.lines >= HEADER_LINES:
                s.mode = BODY
        return True
    if mode == SENT and s.begun and not starts(line, MAIL, 4):
        s.owed += 1
        return True
    if mode != ASKED_TLS:
        s.mode = COMMAND
    return _command(state, line)


@kernel
def _server_line(state, line):
    """A line of the server. Returns True if the mail is complete."""
    s = STATE_AT(state)
    code = text.decimal(line, 0, 3)
    if code < 200 or code > 599:
        s.strange += 1
        return False
    if s.greeting == 0 and code == 220 and s.helo == 0 and s.begun == 0:
        s.greeting = _note(state, part(line, 4, line[1]))
        return False
    if line[1] > 3 and u8(line, 3) == 45:  # more lines of this answer follow
        return False
    s.owed = max(np.int64(s.owed) - 1, 0)
    s.answer_in -= 1
    if s.mode == ASKED_DATA:
        if code == 354:
            s.mode = HEADER
        elif s.owed == 0:
            s.mode = COMMAND
    elif s.mode == ASKED_TLS:
        if code == 220:
            s.tls = 1
            s.over = 1
        elif s.owed == 0:
            s.mode = COMMAND
    elif s.mode == SENT and s.begun and s.answer_in <= 0:
        s.mode = COMMAND
        s.reply_code = code
        s.reply = _keep(state, part(line, 4, line[1]))
        return True
    if code >= 400 and s.begun:
        s.reply_code = code
    if code == 221:
        s.over = 1
    return False


@kernel
def _take(state, given, direction):
    """Take one line, or a part of a chunk. Returns whether a mail is to be delivered."""
    s, i = STATE_AT(state), INPUT_AT(given)
    span = (i.address, i.length)
    if direction == 0 and s.mode == CHUNK:
        count = min(i.length - i.at, s.left)
        i.at += count
        s.left -= count
        s.size += count
        if s.left == 0:
            _end_data(state, s.last)
        return False
    lines = state + (_CLIENT if direction == 0 else _SERVER)
    fresh = not text.is_in_line(lines) and text.LINES_AT(lines).again == 0
    if s.mode == ASKED_TLS and direction == 0 and fresh and u8(span, i.at) == 22:
        s.tls = 1
        s.over = 1
        return False
    start = i.at
    end, address, length = text.next_line(s.arena, lines, span, start, LINE_LIMIT)
    i.at = end
    if direction == 0 and (s.mode == HEADER or s.mode == BODY):
        s.size += end - start
    if address == 0:
        return False
    if direction:
        return _server_line(state, (address, length))
    if _client_line(state, (address, length)):
        return False
    text.take_back(s.arena, lines, (address, length), LINE_LIMIT)
    return True


@entry
def parse(state, given):
    """See the contract."""
    s, i = STATE_AT(state), INPUT_AT(given)
    s.arena = i.arena
    if s.delivered:
        _new_mail(state)
    direction = i.direction
    lines = state + (_CLIENT if direction == 0 else _SERVER)
    if i.lost > 0:
        text.drop_line(lines)
        if direction == 0 and s.mode == CHUNK:
            s.left = max(s.left - i.lost, 1)
        i.lost = 0
    while (i.at < i.length or text.LINES_AT(lines).again) and not s.over:
        if _take(state, given, direction):
            s.delivered = 1
            return READY
        if s.strange > STRANGE_LIMIT:
            i.at = i.length
            if s.greeting == 0 and s.helo == 0 and s.depth == 0:
                return NOT_OURS | STOP
            s.over = 1
    if s.over == 0:
        return 0
    if s.tls:
        return STOP | TURNED | _conclude(state)
    i.at = i.length
    return STOP | _conclude(state)


@kernel
def _conclude(state):
    """READY if there is a mail, or a conversation without any, that was not delivered."""
    s = STATE_AT(state)
    s.over = 1
    if s.delivered or (s.begun == 0 and (s.depth > 0 and s.tls == 0)) or (s.greeting == 0 and s.helo == 0 and s.begun == 0):
        return 0
    s.delivered = 1
    return READY


@entry
def finish(state, arena):
    """See the contract."""
    if STATE_AT(state).delivered and not STATE_AT(state).over:
        _new_mail(state)
    return _conclude(state)


@entry
def release(state, arena):
    """See the contract."""
    s = STATE_AT(state)
    text.free(arena, state + _CLIENT)
    text.free(arena, state + _SERVER)
    text.free(arena, state + _STORE)
    s.greeting, s.helo, s.auth = 0, 0, 0
    s.base = 0
    _new_mail(state)
    s.over = 1
    s.delivered = 1
    return 0


# ------------------------------------------------------------------------------------------------------------- fields


@leaf
def _text(session, word):
    return kept(session + _STORE, word)


@session_field("text", "The server's greeting, without its code.")
def greeting(session):
    return _text(session, STATE_AT(session).greeting)


@session_field("text", "Name that the client gives for itself (EHLO, HELO, LHLO).")
def helo(session):
    return _text(session, STATE_AT(session).helo)


@session_field("text", "Mechanism of the client's authentication.", aliases=("smtp.auth.mechanism",))
def auth(session):
    return _text(session, STATE_AT(session).auth)


@session_field("text", "Sender of the envelope (MAIL FROM), empty for notices of non-delivery.")
def mail_from(session):
    return _text(session, STATE_AT(session).mail_from)


@session_field("texts", "Recipients of the envelope (RCPT TO), the first sixteen.")
def rcpt_to(session, n):
    s = STATE_AT(session)
    if n < 0:
        return (0, min(np.int64(s.recipients), MOST_RECIPIENTS))
    return kept(session + _STORE, memory.load64(session + _TO + 8 * n))


@session_field("int", "How many recipients were named.", bits=32)
def recipients(session):
    return np.int64(STATE_AT(session).recipients)


@session_field("text", "Subject of the mail, as it is encoded.")
def subject(session):
    return _text(session, STATE_AT(session).subject)


@session_field("text", "From in the mail's header.", aliases=("imf.from",))
def header_from(session):
    return _text(session, STATE_AT(session).header_from)


@session_field("text", "To in the mail's header.", aliases=("imf.to",))
def header_to(session):
    return _text(session, STATE_AT(session).header_to)


@session_field("text", "Message-ID in the mail's header.", aliases=("imf.message_id",))
def message_id(session):
    return _text(session, STATE_AT(session).message_id)


@session_field("text", "User-Agent or X-Mailer in the mail's header.")
def user_agent(session):
    return _text(session, STATE_AT(session).user_agent)


@session_field("int", "Bytes of the mail, header included.", unit="byte")
def size(session):
    return STATE_AT(session).size + 0


@session_field("int", "Code of the server's answer to the mail, or of its last refusal.", bits=16, absent=0,
               aliases=("smtp.response.code",))  # fmt: skip
def reply_code(session):
    return np.int64(STATE_AT(session).reply_code)


@session_field("text", "Text of the server's answer to the mail.")
def reply(session):
    return _text(session, STATE_AT(session).reply)


@session_field("int", "Number of this mail in the connection, from 1; 0: there is none.")
def trans_depth(session):
    return np.int64(STATE_AT(session).depth)


@session_field("bool", "The conversation turns to TLS.")
def starttls(session):
    return STATE_AT(session).tls != 0


_TALK = (
    (1, b"220 mx.example.org ESMTP ready\r\n"),
    (0, b"EHLO client.example.com\r\n"),
    (1, b"250-mx.example.org\r\n250-PIPELINING\r\n250 STARTTLS\r\n"),
)
EXAMPLES = (
    SessionExample(
        "two mails",
        (
            *_TALK,
            (0, b"MAIL FROM:<a@example.com> SIZE=100\r\nRCPT TO:<b@example.org>\r\nrcpt to:<c@example.org>\r\nDATA\r\n"),
            (1, b"250 ok\r\n250 ok\r\n250 ok\r\n354 go on\r\n"),
            (0, b"Subject: Hello\r\nFrom: A <a@example.com>\r\n\r\nSubject: not this\r\n..\r\n.\r\n"),
            (1, b"250 2.0.0 queued as 1\r\n"),
            (0, b"MAIL FROM:<>\r\nRCPT TO:<d@example.org>\r\nBDAT 5 LAST\r\nQUIT\nQUIT\r\n"),
            (1, b"250 ok\r\n550-no\r\n550 such user\r\n554 no valid recipients\r\n221 bye\r\n"),
        ),
        (
            {
                "greeting": "mx.example.org ESMTP ready", "helo": "client.example.com", "mail_from": "a@example.com",
                "rcpt_to": ["b@example.org", "c@example.org"], "recipients": 2, "subject": "Hello", "trans_depth": 1,
                "header_from": "A <a@example.com>", "reply_code": 250, "reply": "2.0.0 queued as 1", "starttls": False,
            },
            {"mail_from": None, "rcpt_to": ["d@example.org"], "subject": None, "size": 5, "helo": "client.example.com", "trans_depth": 2,
             "reply_code": 554, "reply": "no valid recipients"},
        ),
    ),
    SessionExample(
        "turns to TLS",
        (*_TALK, (0, b"STARTTLS\r\n"), (1, b"220 go ahead\r\n"), (0, b"\x16\x03\x01\x00\x05hello")),
        ({"helo": "client.example.com", "starttls": True, "mail_from": None, "trans_depth": 0},),
    ),
    SessionExample(
        "only the client was captured",
        ((0, b"HELO x\r\n"), (0, b"MAIL FROM:<a@b>\r\n"), (0, b"RCPT TO:<c@d>\r\n"), (0, b"DATA\r\n"), (0, b"To: c\r\n\r\nbody\r\n.\r\n"), (0, b"QUIT\r\n")),
        ({"helo": "x", "mail_from": "a@b", "header_to": "c", "reply_code": 0, "greeting": None},),
    ),
)  # fmt: skip

declare("smtp", "Simple Mail Transfer Protocol", level="session", within=["tcp"], examples=EXAMPLES)
