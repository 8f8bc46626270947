"""The query and the response of a transaction as JSON objects, written from the messages in an event."""

from __future__ import annotations

import numpy as np

from retina_jit.formats import number as decimal
from retina_jit.jit import entry, kernel, leaf
from retina_jit.links import linked
from retina_jit.memory import call5, constant, copy, load16, store8, store32, store64
from retina_jit.parsers.dns.event import RECORD_AT
from retina_jit.parsers.dns.message import (
    AA,
    AD,
    CD,
    HEADER,
    OPT,
    QUESTION_TAIL,
    RA,
    RCODE,
    RD,
    RECORD_TAIL,
    TC,
    count_of,
    flags_of,
    shown_class,
    skip_name,
)
from retina_jit.parsers.dns.names import CLASS, OPTION, TYPE
from retina_jit.parsers.dns.names import RCODE as RCODE_NAME
from retina_jit.parsers.dns.render import COMMA, ROOM_FOR_NAME, put_bytes, put_data, put_name, put_named
from retina_jit.parsers.wire import has, part, u16, u32

# What stands before values, in the order in which it is written; an object begins with a brace in place of the comma.
_KEYS = (
    *("response_code", "authoritative", "truncated", "recursion_available", "authenticated_data", "checking_disabled"),
    *("num_answers", "num_nameservers", "num_additional"),
    *("num_questions", "recursion_desired", "authenticated_data", "checking_disabled"),
    *("questions", "answers", "nameservers", "additionals", "edns"),
    *("name", "type", "class", "ttl", "data"),
    *("udp_size", "version", "do", "extended_response_code", "options", "code"),
)
_OPENING = {"response_code", "num_questions", "name", "udp_size", "code"}
_PIECES = [f'{"{" if key in _OPENING else ","}"{key}":'.encode() for key in _KEYS]
_FLAGS = (0, AA, TC, RA, AD, CD, 0, 0, 0, 0, RD, AD, CD)
_ends = constant("dns_key_ends", np.cumsum([0, *map(len, _PIECES)]).astype("<u2").tobytes())
_text = constant("dns_keys", b"".join(_PIECES))
_flags = constant("dns_key_flags", np.array(_FLAGS, "<u2").tobytes())

RESPONSE_CODE, AUTHORITATIVE, NUM_ANSWERS, NUM_QUESTIONS, RECURSION_DESIRED, QUESTIONS, EDNS, NAME, UDP_SIZE, CODE = (
    *(_KEYS.index(key) for key in ("response_code", "authoritative", "num_answers", "num_questions", "recursion_desired")),
    *(_KEYS.index(key) for key in ("questions", "edns", "name", "udp_size", "code")),
)
_write_message = linked("retina_jit.parsers.dns.objects:write_message")
_BRACKET, _BRACE = 93, 125
_NULL, _FALSE = 0x6C6C756E, 0x65736C6166


@kernel
def _key(out, n):
    """Write what stands before the value of key number `n`."""
    start = load16(_ends() + 2 * n)
    length = load16(_ends() + 2 * n + 2) - start
    copy(out, _text() + start, length)
    return out + length


@kernel
def _flag(out, value):
    if value:
        store32(out, 0x65757274)
        return out + 4
    store64(out, _FALSE)
    return out + 5


@kernel
def _put_edns(out, limit, message, tail):
    """Write an OPT record (RFC 6891, 6.1) whose type stands at `tail`, and its key; null for 0."""
    out = _key(out, EDNS)
    if tail == 0:
        store32(out, _NULL)
        return out + 4
    options = part(message, tail + RECORD_TAIL, u16(message, tail + 8))
    if limit - out < 512 + 16 * options[1]:
        return 0
    for n in range(5):
        out = _key(out, UDP_SIZE + n)
        if n == 2:
            out = _flag(out, u16(message, tail + 6) & 0x8000)
        elif n < 4:
            word = u16(message, tail + 2) if n == 0 else u16(message, tail + 4)
            out = decimal.unsigned(out, word & 0xFF if n == 1 else word >> 8 if n == 3 else word)
    store8(out, 91)
    out += 1
    at = 0
    while has(options, at, 4) and has(options, at + 4, u16(options, at + 2)):
        if at:
            store8(out, COMMA)
            out += 1
        out = decimal.unsigned(_key(out, CODE), u16(options, at))
        out = _key(out, NAME)
        store8(out - 8, COMMA)
        out = put_named(out, OPTION | u16(options, at), 1)
        out = _key(out, NAME + 4)
        out = put_bytes(out, part(options, at + 4, u16(options, at + 2)), 4, 1)
        store8(out, _BRACE)
        out += 1
        at += 4 + u16(options, at + 2)
    store8(out, _BRACKET)
    store8(out + 1, _BRACE)
    return out + 2


@kernel
def _put_entry(out, limit, message, at, tail, length):
    """Write a question (length -1) or a record. Returns 0 if there was no room."""
    if limit - out < 2 * ROOM_FOR_NAME:
        return 0
    out = put_name(_key(out, NAME), message, at, 1)
    out = put_named(_key(out, NAME + 1), TYPE | u16(message, tail), 1)
    out = put_named(_key(out, NAME + 2), CLASS | shown_class(u16(message, tail + 2)), 1)
    if length >= 0:
        out = decimal.unsigned(_key(out, NAME + 3), u32(message, tail + 4))
        out = put_data(_key(out, NAME + 4), limit, message, tail + RECORD_TAIL, length, u16(message, tail), 1)
        if out == 0:
            return 0
    store8(out, _BRACE)
    return out + 1


@kernel
def _put_sections(out, limit, message, response):
    """Write the sections, and EDNS. Of a response the questions are left out, of a query sections without records."""
    at, opt = HEADER, 0
    for section in range(4):
        if limit - out < 1024:
            return 0
        begin = out
        out = _key(out, QUESTIONS + section)
        store8(out, 91)
        out += 1
        shown = 0
        for _ in range(count_of(message, section) if at > 0 else 0):
            tail = skip_name(message, at)
            size = QUESTION_TAIL if section == 0 else RECORD_TAIL
            if tail < 0 or not has(message, tail, size):
                at = -1
                break
            length = u16(message, tail + 8) if section else -1
            if section and not has(message, tail + RECORD_TAIL, length):
                at = -1
                break
            if section and u16(message, tail) == OPT:
                opt = tail
            elif section or response == 0:
                if shown:
                    store8(out, COMMA)
                    out += 1
                out = _put_entry(out, limit, message, at, tail, length)
                if out == 0:
                    return 0
                shown += 1
            at = tail + size + max(length, 0)
        store8(out, _BRACKET)
        out += 1
        if shown == 0 and (section == 0 if response else section > 0):
            out = begin
    if limit - out < 1024:
        return 0
    return _put_edns(out, limit, message, opt)


@entry
def write_message(out, limit, address, size, response):
    """`put_message`, of the message of `size` bytes at `address`."""
    return _put_message(out, limit, (address, size), response)


@leaf
def put_message(out, limit, message, response):
    """Write a query (0) or a response (1) as a JSON object. Returns where it ends, or 0 if there was no room."""
    return call5(_write_message(), out, limit, message[0], message[1], response)


@kernel
def _put_message(out, limit, message, response):
    """See `put_message`."""
    if out == 0 or limit - out < 2048:
        return 0
    if message[1] < HEADER:
        store32(out, _NULL)
        return out + 4
    flags = flags_of(message)
    if response:
        out = put_named(_key(out, RESPONSE_CODE), RCODE_NAME | (flags & RCODE), 1)
    else:
        out = decimal.unsigned(_key(out, NUM_QUESTIONS), count_of(message, 0))
    for n in range(AUTHORITATIVE if response else RECURSION_DESIRED, NUM_ANSWERS if response else QUESTIONS):
        out = _flag(_key(out, n), flags & load16(_flags() + 2 * n))
    for n in range(3 if response else 0):
        out = decimal.unsigned(_key(out, NUM_ANSWERS + n), count_of(message, 1 + n))
    out = _put_sections(out, limit, message, response)
    if out == 0:
        return 0
    store8(out, _BRACE)
    return out + 1


@entry
def write_query(record, event, out, limit):
    """Custom column: the query."""
    word = RECORD_AT(record).query_message + 0
    return put_message(out, limit, (event + (word >> 32), word & 0xFFFFFFFF), 0)


@entry
def write_response(record, event, out, limit):
    """Custom column: the response."""
    word = RECORD_AT(record).response_message + 0
    return put_message(out, limit, (event + (word >> 32), word & 0xFFFFFFFF), 1)
