"""Start lines: what a line has to look like to begin a request or a response.

Read with tolerance, as RFC 9112, 2.2 and 3 advise: white space may be doubled, a method is any token, a target any
bytes. Only what says "HTTP/1." in the right place is a start line; so RTSP, SIP and ICAP are none.

Sources: RFC 9112 §3 and §4; SHOUTcast's status line "ICY 200 OK".
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.parsers.http.scan import LF, SP, first_word, is_space, is_token_char, trimmed, word_of
from retina_jit.parsers.http.state import (
    IS_CONNECT,
    IS_HEAD,
    MESSAGE_AT,
    METHOD,
    REASON,
    URI,
    VERSION,
    set_place,
)
from retina_jit.parsers.wire import has, u8, u32, u64_le

NO, UNSURE, YES = range(3)

METHOD_LIMIT = 24
"""Longest method: VERSION-CONTROL and BASELINE-CONTROL have 15 and 16 letters."""

_HTTP_1 = int.from_bytes(b"HTTP/1.", "little")
_ICY = int.from_bytes(b"ICY ", "big")
_SEVEN = (1 << 56) - 1
W_GET, W_HEAD, W_POST, W_PUT, W_DELETE = (word_of(m) for m in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE"))
W_OPTIONS, W_PATCH, W_CONNECT, W_PROPFIND = (word_of(m) for m in (b"OPTIONS", b"PATCH", b"CONNECT", b"PROPFIND"))

@leaf
def _is_http_1(span, at):
    """Whether "HTTP/1." and a digit stand at `at`."""
    if not has(span, at, 8):
        return False
    word = u64_le(span, at)
    return word & _SEVEN == _HTTP_1 and 0x30 <= u8(span, at + 7) <= 0x39


@leaf
def _is_digits(span, at, count):
    for n in range(count):
        if not has(span, at + n, 1) or not 0x30 <= u8(span, at + n) <= 0x39:
            return False
    return True


@kernel
def begins_response(span):
    """Whether a line that begins so may be a status line: NO, UNSURE, or YES up to the status code."""
    version = 8
    if has(span, 0, 4) and u32(span, 0) == _ICY:
        version = 3
    elif not _is_http_1(span, 0):
        for n in range(min(span[1], 8)):
            c = u8(span, n)
            http = c == (_HTTP_1 >> (8 * n)) & 0xFF if n < 7 else 0x30 <= c <= 0x39
            icy = n < 4 and c == (_ICY >> (24 - 8 * n)) & 0xFF
            if not http and not (icy and u8(span, 0) == 0x49):
                return NO
        return UNSURE
    at = version
    while has(span, at, 1) and u8(span, at) == SP:
        at += 1
    if not has(span, at, 1):
        return UNSURE
    if at == version:
        return NO
    for n in range(3):
        if not has(span, at + n, 1):
            return UNSURE
        if not 0x30 <= u8(span, at + n) <= 0x39:
            return NO
    if not has(span, at + 3, 1):
        return UNSURE
    return YES if is_space(u8(span, at + 3)) or u8(span, at + 3) == LF else NO


@kernel
def method_length(span):
    """Length of the token before the first space; 0: there is none, -1: not yet, but there may be."""
    for n in range(min(span[1], METHOD_LIMIT + 1)):
        c = u8(span, n)
        if c == SP:
            return n
        if not is_token_char(c):
            return 0
    return -1 if span[1] <= METHOD_LIMIT else 0


@leaf
def version_at(line):
    """Where "HTTP/1.1" begins, behind white space at the end of a line; 0 if it does not stand there."""
    end = line[1]
    while end > 0 and is_space(u8(line, end - 1)):
        end -= 1
    at = end - 8
    if at < 3 or not _is_http_1(line, at) or not is_space(u8(line, at - 1)):
        return 0
    return at


@kernel
def is_known_method(span, length):
    """Whether a method is one of those that nearly all requests use."""
    word = first_word(span, 0, length)
    if length == 3:
        return word == W_GET or word == W_PUT
    if length == 4:
        return word == W_POST or word == W_HEAD
    if length == 5:
        return word == W_PATCH
    if length == 6:
        return word == W_DELETE
    if length == 7:
        return word == W_OPTIONS or word == W_CONNECT
    return length == 8 and word == W_PROPFIND


@kernel
def read_request_line(message, line):
    """Note the parts of a request line, given without its LF. Returns whether it is one."""
    n = method_length(line)
    at = version_at(line)
    if n <= 0 or at <= n:
        return False
    start, end = trimmed(line, n, at)
    if start >= end:
        return False
    m = MESSAGE_AT(message)
    m.code = 0
    set_place(message, METHOD, 0, n)
    set_place(message, URI, start, end - start)
    set_place(message, VERSION, at, 8)
    word = first_word(line, 0, n)
    if n == 4 and word == W_HEAD:
        m.flags |= IS_HEAD
    elif n == 7 and word == W_CONNECT:
        m.flags |= IS_CONNECT
    return True


@kernel
def read_status_line(message, line):
    """Note the parts of a line that `begins_response`, given without its LF. Returns whether it is a status line."""
    version = 3 if u8(line, 0) == 0x49 else 8
    at = version
    while u8(line, at) == SP:
        at += 1
    code = np.int64(0)
    for n in range(3):
        code = code * 10 + u8(line, at + n) - 0x30
    if code == 0:
        return False
    MESSAGE_AT(message).code = code
    start, end = trimmed(line, at + 3, line[1])
    set_place(message, VERSION, 0, version)
    set_place(message, REASON, start, end - start)
    return True
