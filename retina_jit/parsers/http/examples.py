"""Examples of HTTP transactions; the generic tests run them."""

from __future__ import annotations

from retina_jit.parsers.protocol import SessionExample

_GET = (
    b"GET /index.html?q=1 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.1\r\n"
    b"X-Forwarded-For: 192.0.2.7\r\ncookie: a=b\r\n\r\n"
)
_OK = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"

EXAMPLES = (
    SessionExample(
        "request and response",
        ((0, _GET), (1, _OK)),
        (
            {
                "method": "GET",
                "uri": "/index.html?q=1",
                "request_version": "HTTP/1.1",
                "host": "www.example.com",
                "user_agent": "curl/8.1",
                "cookie": "a=b",
                "request_content_length": 0,
                "request_body_len": 0,
                "headers": {"x-forwarded-FOR": "192.0.2.7", "Host": "www.example.com", "X-Forwarded": None},
                "header_names": ["Host", "User-Agent", "X-Forwarded-For", "cookie"],
                "status_code": 200,
                "status_msg": "OK",
                "server": "nginx",
                "response_content_type": "text/html",
                "response_content_length": 5,
                "response_body_len": 5,
                "response_headers": {"SERVER": "nginx"},
                "trans_depth": 0,
            },
        ),
    ),
    SessionExample(
        "pipelining, HEAD, chunks with a trailer, an interim response, no body",
        (
            (0, b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\nPUT /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n"),
            (0, b"3\r\nGET\r\nA;x=y\r\n / HTTP/1.\r\n0\r\nT: v\r\n\r\nGET /c HTTP/1.0\n\n"),
            (1, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"),
            (1, b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.0 404 Not Found\r\n\r\nuntil the end"),
        ),
        (
            {"method": "HEAD", "status_code": 200, "response_content_length": 1000, "response_body_len": 0, "trans_depth": 0},
            {"method": "PUT", "request_transfer_encoding": "gzip, chunked", "request_body_len": 13, "status_code": 204},
            {"uri": "/c", "request_version": "HTTP/1.0", "host": None, "status_msg": "Not Found", "response_body_len": 13, "trans_depth": 2},
        ),
    ),
    SessionExample(
        "a change of protocol",
        (
            (0, b"GET /chat HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
            (1, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x05GET /"),
            (0, b"GET / HTTP/1.1\r\n\r\n"),
        ),
        ({"uri": "/chat", "status_code": 101, "response_headers": {"Upgrade": "websocket"}},),
    ),
    SessionExample(
        "only responses, then a folded header and an unanswered request",
        (
            (1, b"HTTP/1.1 301\r\nLocation: /new\r\nX-Long: one\r\n two\r\n\tthree\r\nContent-Length: 0\r\n\r\n"),
            (0, b"\r\nVERSION-CONTROL http://x/y%20z HTTP/1.1\r\nHost:\r\nContent-Length: 4\r\n\r\nbody"),
        ),
        (
            {
                "method": None,
                "has_request": False,
                "status_code": 301,
                "status_msg": "",
                "location": "/new",
                "response_headers": {"x-long": "one   two  \tthree"},
            },
            {"method": "VERSION-CONTROL", "uri": "http://x/y%20z", "host": "", "request_body_len": 4, "has_response": False, "trans_depth": 1},
        ),
    ),
)
