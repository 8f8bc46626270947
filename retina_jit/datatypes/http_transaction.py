"""An HTTP transaction: a request and the response to it."""

from __future__ import annotations

from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.column import UTF8, ZERO, flag, number, raw, text, unless
from retina_jit.parsers.http import event
from retina_jit.parsers.http.event import RECORD

_REQUEST, _RESPONSE = unless(RECORD, "flags", event.HAS_REQUEST), unless(RECORD, "flags", event.HAS_RESPONSE)
_REQUEST_LENGTH, _RESPONSE_LENGTH = unless(RECORD, "flags", event.REQUEST_LENGTH), unless(RECORD, "flags", event.RESPONSE_LENGTH)

Headers = list[tuple[str, str]]


def split_headers(head: bytes) -> list[tuple[bytes, bytes]]:
    """Return names and values of the header lines of a head, in their order."""
    found = []
    for line in head.split(b"\n")[1:]:
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t\r")
        if colon and name:
            found.append((name, value.strip(b" \t\r")))
    return found


@register
class HttpTransaction(DataType):
    r"""A request, its response, or both.

    Numbers are 0 and text is "" where nothing was seen; `to_dict` gives None for those. In a text that is not UTF-8 each
    byte beyond ASCII is shown as \xNN; `headers` and `response_headers` are Latin-1 text, and `raw_headers` what stands on the wire.
    """

    __slots__ = ()

    LEVEL = "session"
    RECORD = RECORD
    PROJECT = f"{event.__name__}:project"
    SERVICE = "http"

    trans_depth = number(RECORD, "trans_depth", "Number of the request on its connection, from 0.")
    method = text(RECORD, "method", "Method.", encoding=UTF8)
    uri = text(RECORD, "uri", "Target of the request, as it was sent.")
    request_version = text(RECORD, "request_version", "Version in the request line, HTTP/1.1.")
    host = text(RECORD, "host", "Host header.")
    user_agent = text(RECORD, "user_agent", "User-Agent header.")
    cookie = text(RECORD, "cookie", "Cookie header.")
    referer = text(RECORD, "referer", "Referer header.")
    origin = text(RECORD, "origin", "Origin header.")
    request_content_length = number(
        RECORD, "request_content_length", "Content-Length of the request.", null=_REQUEST_LENGTH, absent=0, unit="byte"
    )
    request_content_type = text(RECORD, "request_content_type", "Content-Type of the request.")
    request_content_encoding = text(RECORD, "request_content_encoding", "Content-Encoding of the request.")
    request_transfer_encoding = text(RECORD, "request_transfer_encoding", "Transfer-Encoding of the request, in lower case.")
    request_body_len = number(
        RECORD, "request_body_len", "Length of the request's body; what is missing in the capture counts.", null=_REQUEST, absent=0, unit="byte"
    )
    request_ts = number(RECORD, "request_ts", "Capture time of the request's first packet.", null=_REQUEST, absent=0, unit="ns")
    response_version = text(RECORD, "response_version", "Version in the status line, HTTP/1.1.")
    status_code = number(RECORD, "status_code", "Status code.", null=ZERO, absent=0)
    status_msg = text(RECORD, "status_msg", "Reason phrase.")
    server = text(RECORD, "server", "Server header.")
    location = text(RECORD, "location", "Location header.")
    set_cookie = text(RECORD, "set_cookie", "Set-Cookie header, the last one.")
    response_content_length = number(
        RECORD, "response_content_length", "Content-Length of the response.", null=_RESPONSE_LENGTH, absent=0, unit="byte"
    )
    response_content_type = text(RECORD, "response_content_type", "Content-Type of the response.")
    response_content_encoding = text(RECORD, "response_content_encoding", "Content-Encoding of the response.")
    response_transfer_encoding = text(RECORD, "response_transfer_encoding", "Transfer-Encoding of the response, in lower case.")
    response_body_len = number(
        RECORD, "response_body_len", "Length of the response's body; what is missing in the capture counts.", null=_RESPONSE, absent=0, unit="byte"
    )
    response_ts = number(RECORD, "response_ts", "Capture time of the response's first packet.", null=_RESPONSE, absent=0, unit="ns")
    incomplete = flag(RECORD, "flags", event.INCOMPLETE, "Whether bytes of the transaction are missing.")

    has_request = flag(RECORD, "flags", event.HAS_REQUEST, "Whether a request was seen.", shown=False)
    has_response = flag(RECORD, "flags", event.HAS_RESPONSE, "Whether a response was seen.", shown=False)
    request_head = raw(RECORD, "request_head", "Request line and header lines, as they were sent.", shown=False)
    response_head = raw(RECORD, "response_head", "Status line and header lines, as they were sent.", shown=False)

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values of the request's headers, in their order."""
        return split_headers(self.request_head)

    @property
    def raw_response_headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values of the response's headers, in their order."""
        return split_headers(self.response_head)

    @property
    def headers(self) -> Headers:
        """Names and values of the request's headers, in their order, as Latin-1 text."""
        return [(n.decode("latin-1"), v.decode("latin-1")) for n, v in self.raw_headers]

    @property
    def response_headers(self) -> Headers:
        """Names and values of the response's headers, in their order, as Latin-1 text."""
        return [(n.decode("latin-1"), v.decode("latin-1")) for n, v in self.raw_response_headers]

    def header(self, name: str) -> str | None:
        """Return a header of the request by its name, whatever its case; None without one, the last one of several."""
        return _last(self.headers, name)

    def response_header(self, name: str) -> str | None:
        """Return a header of the response by its name, whatever its case; None without one, the last one of several."""
        return _last(self.response_headers, name)


def _last(headers: Headers, name: str) -> str | None:
    wanted = name.lower()
    return next((value for n, value in reversed(headers) if n.lower() == wanted), None)
