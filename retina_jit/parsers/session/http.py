"""HTTP/1.0 and HTTP/1.1 over TCP. Many sessions per connection: each is a request and its response.

A transaction is delivered when the body of its response is complete; one without response at the end of the connection.
A response whose request was not captured is a session of its own. Interim responses (1xx) are passed over. After a
response 101 and after a CONNECT that was granted the connection speaks something else, and nothing more is looked at.

`headers` are the request's, `response_headers` the response's; the key is compared without case, and of several
headers with one name the last counts. Text is what stands in the head, byte for byte, without white space around it.

Sources: RFC 9110, RFC 9112; the reading of the stream is in `retina_jit.parsers.http.stream`.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import entry, kernel, leaf
from retina_jit.parsers.http import lookup, stream
from retina_jit.parsers.http import state as s
from retina_jit.parsers.http.event import RECORD, project
from retina_jit.parsers.http.examples import EXAMPLES
from retina_jit.parsers.http.scan import CR, LF, find_newline
from retina_jit.parsers.http.start import (
    NO,
    UNSURE,
    begins_response,
    is_known_method,
    method_length,
    version_at,
)
from retina_jit.parsers.http.state import MESSAGE_AT, STATE, STATE_AT, head_of, part_of
from retina_jit.parsers.protocol import declare, session_field
from retina_jit.parsers.wire import part, u8
from retina_jit.status import Probe

__all__ = ["PROBE_LIMIT", "RECORD", "STATE", "finish", "parse", "probe", "project", "release"]

PROBE_LIMIT = 256
"""A longer request line is believed if its method is a common one."""

_CERTAIN, _UNSURE, _NOT_OURS = int(Probe.CERTAIN), int(Probe.UNSURE), int(Probe.NOT_OURS)
_EMPTY_LINES = 4
_SLASH, _STAR, _H = 0x2F, 0x2A, 0x68


@entry
def probe(address, length, direction, transport):
    """What the first bytes of a direction look like."""
    span = (address, min(length, PROBE_LIMIT))
    at = 0
    while at < min(span[1], _EMPTY_LINES) and (u8(span, at) == CR or u8(span, at) == LF):  # RFC 9112, 2.2
        at += 1
    line = part(span, at, span[1] - at)
    if line[1] == 0:
        return _UNSURE
    n = method_length(line)
    if n == 0:
        answer = begins_response(line)
        return _NOT_OURS if answer == NO else (_UNSURE if answer == UNSURE else _CERTAIN)
    end = find_newline(line, 0)
    if end >= 0:
        return _CERTAIN if version_at(part(line, 0, end)) > n > 0 else _NOT_OURS
    if length < PROBE_LIMIT:
        return _UNSURE
    if n < 0 or not is_known_method(line, n):
        return _NOT_OURS
    first = u8(line, n + 1)
    return _CERTAIN if first == _SLASH or first == _STAR or first | 0x20 == _H else _NOT_OURS


@entry
def parse(state, given):
    """See the contract."""
    return stream.feed(state, given)


@entry
def finish(state, arena):
    """See the contract."""
    return stream.conclude(state, arena)


@entry
def release(state, arena):
    """See the contract."""
    s.free(state, arena)
    return 0


# --------------------------------------------------------------------------------------------------------------- request


@leaf
def _request(session):
    return STATE_AT(session).request + 0


@leaf
def _response(session):
    return STATE_AT(session).response + 0


@leaf
def _length(message):
    """What Content-Length says; 0 if it is absent."""
    return max(MESSAGE_AT(message).content_length + 0, 0) if message else 0


@leaf
def _body(message):
    return MESSAGE_AT(message).body_len + 0 if message else 0


@session_field("text", "Method, as it was sent.", aliases=("http.request.method",))
def method(session):
    return part_of(_request(session), s.METHOD)


@session_field("text", "Target of the request: path, absolute URI, authority or asterisk.", aliases=("http.request.uri",))
def uri(session):
    return part_of(_request(session), s.URI)


@session_field("text", "Version in the request line, HTTP/1.1.", aliases=("http.request.version",))
def request_version(session):
    return part_of(_request(session), s.VERSION)


@session_field("text", "Host header.")
def host(session):
    return part_of(_request(session), s.HOST)


@session_field("text", "User-Agent header.")
def user_agent(session):
    return part_of(_request(session), s.USER_AGENT)


@session_field("text", "Cookie header.")
def cookie(session):
    return part_of(_request(session), s.COOKIE)


@session_field("text", "Referer header.")
def referer(session):
    return part_of(_request(session), s.REFERER)


@session_field("text", "Origin header.")
def origin(session):
    return part_of(_request(session), s.ORIGIN)


@session_field("int", "Content-Length of the request; 0 if it has none.", unit="byte")
def request_content_length(session):
    return _length(_request(session))


@session_field("text", "Content-Type of the request.")
def request_content_type(session):
    return part_of(_request(session), s.CONTENT_TYPE)


@session_field("text", "Content-Encoding of the request.")
def request_content_encoding(session):
    return part_of(_request(session), s.CONTENT_ENCODING)


@session_field("text", "Transfer-Encoding of the request, in lower case.")
def request_transfer_encoding(session):
    return part_of(_request(session), s.TRANSFER_ENCODING)


@session_field("int", "Length of the request's body, without chunk sizes; what is missing in the capture counts.", unit="byte")
def request_body_len(session):
    return _body(_request(session))


@session_field("text", "A header of the request: http.headers['X-Forwarded-For'].", keyed=True)
def headers(session, key):
    return lookup.find_header(head_of(_request(session)), key)


@kernel
def _name(session, message, n):
    """Name of a header line; (0, how many) for n = -1."""
    if n < 0:
        return (0, lookup.count_headers(head_of(message)))
    return lookup.header_name(session, head_of(message), n)


@session_field("texts", "Names of the request's headers, as they were sent.")
def header_names(session, n):
    return _name(session, _request(session), n)


# -------------------------------------------------------------------------------------------------------------- response


@session_field("text", "Version in the status line, HTTP/1.1.", aliases=("http.response.version",))
def response_version(session):
    return part_of(_response(session), s.VERSION)


@session_field("int", "Status code of the response; 0 without one.", bits=16, aliases=("http.response.code",))
def status_code(session):
    message = _response(session)
    return np.int64(MESSAGE_AT(message).code) if message else 0


@session_field("text", "Reason phrase of the response.", aliases=("http.response.phrase",))
def status_msg(session):
    return part_of(_response(session), s.REASON)


@session_field("text", "Server header.")
def server(session):
    return part_of(_response(session), s.SERVER)


@session_field("text", "Location header.")
def location(session):
    return part_of(_response(session), s.LOCATION)


@session_field("text", "Set-Cookie header, the last one.")
def set_cookie(session):
    return part_of(_response(session), s.SET_COOKIE)


@session_field("int", "Content-Length of the response; 0 if it has none.", unit="byte")
def response_content_length(session):
    return _length(_response(session))


@session_field("text", "Content-Type of the response.", aliases=("http.content_type",))
def response_content_type(session):
    return part_of(_response(session), s.CONTENT_TYPE)


@session_field("text", "Content-Encoding of the response.", aliases=("http.content_encoding",))
def response_content_encoding(session):
    return part_of(_response(session), s.CONTENT_ENCODING)


@session_field("text", "Transfer-Encoding of the response, in lower case.", aliases=("http.transfer_encoding",))
def response_transfer_encoding(session):
    return part_of(_response(session), s.TRANSFER_ENCODING)


@session_field("int", "Length of the response's body, without chunk sizes; what is missing in the capture counts.", unit="byte")
def response_body_len(session):
    return _body(_response(session))


@session_field("text", "A header of the response: http.response_headers['Server'].", keyed=True)
def response_headers(session, key):
    return lookup.find_header(head_of(_response(session)), key)


@session_field("texts", "Names of the response's headers, as they were sent.")
def response_header_names(session, n):
    return _name(session, _response(session), n)


# ----------------------------------------------------------------------------------------------------------- transaction


@session_field("int", "Number of the request on its connection, from 0.", bits=32)
def trans_depth(session):
    return np.int64(STATE_AT(session).depth)


@session_field("bool", "A request was seen.")
def has_request(session):
    return _request(session) != 0


@session_field("bool", "A response was seen.")
def has_response(session):
    return _response(session) != 0


declare("http", "Hypertext Transfer Protocol, versions 1.0 and 1.1", level="session", within=["tcp"], examples=EXAMPLES)
