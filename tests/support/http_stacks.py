"""HTTP conversations between http.client (or bytes by hand) and http.server on the loopback, and between two h11 ends.

Each gives the bytes of both directions, in the client's order, and what the stacks themselves say.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Segment = tuple[int, bytes]
Pairs = list[tuple[str, str]]


@dataclass
class Told:
    """What the two ends say of a transaction; None where an end does not tell."""

    method: str
    uri: str
    request_headers: Pairs
    request_body: int
    status: int = 0
    reason: str = ""
    response_headers: Pairs = field(default_factory=list)
    response_body: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # several responses in one segment

    def setup(self) -> None:
        super().setup()
        self.told: list[Told] = self.server.told  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _body(self) -> int:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            total = 0
            while size := int(self.rfile.readline().split(b";")[0], 16):
                total += len(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return total
        return len(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_GET(self) -> None:
        body = self._body()
        self.told.append(Told(self.command, self.path, list(self.headers.items()), body))
        what = self.path.rsplit("/", 1)[-1].partition("?")[0]
        content = b"<p>\r\n\r\nHTTP/1.1 200 OK\r\n</p>" * 40
        if what.isdigit():
            self.send_response(int(what))
        else:
            self.send_response(404 if what == "missing" else 200, "Fine Thing" if what == "phrase" else None)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        if what == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Trailer", "X-Sum")
            self.end_headers()
            for size in (1, 300, 15, 16):
                self.wfile.write(b"%x;name=value\r\n%s\r\n" % (size, content[:size]))
            self.wfile.write(b"0\r\nX-Sum: GET / HTTP/1.1\r\n\r\n")
        elif what == "close":
            self.close_connection = True
            self.end_headers()
            self.wfile.write(content)
        elif what in ("204", "304"):
            self.end_headers()
        else:
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)


for _method in ("POST", "PUT", "HEAD", "DELETE", "PROPFIND"):
    setattr(_Handler, f"do_{_method}", _Handler.do_GET)


@contextmanager
def server() -> Iterator[ThreadingHTTPServer]:
    """Run http.server; what its handlers have seen is in its `told`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as made:
        made.daemon_threads = True
        made.told = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


class _Raw(io.RawIOBase):
    def __init__(self, sock: socket.socket, segments: list[Segment]) -> None:
        self.sock, self.segments = sock, segments

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.sock.recv(min(len(buffer), 1000))
        if data:
            self.segments.append((1, data))
        buffer[: len(data)] = data
        return len(data)


class _Recorder:
    """Stands for the client's socket."""

    def __init__(self, sock: socket.socket, segments: list[Segment]) -> None:
        self.sock, self.segments = sock, segments
        self._file = io.BufferedReader(_Raw(sock, segments))

    def sendall(self, data: Any) -> None:
        self.segments.append((0, bytes(data)))
        self.sock.sendall(data)

    def makefile(self, _mode: str) -> Any:
        return _Kept(self._file)

    def close(self) -> None:
        """http.client closes it as soon as it knows that the connection will end, and reads on from the file."""


class _Kept(io.BufferedReader):
    """http.client closes the file after each response; what is buffered belongs to the next one."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._shared = file
        super().__init__(file.raw)

    def __getattribute__(self, name: str) -> Any:
        if name in ("read", "readline", "readinto", "read1", "peek"):
            return getattr(object.__getattribute__(self, "_shared"), name)
        return object.__getattribute__(self, name)

    def close(self) -> None:
        pass

    def __del__(self) -> None:
        pass


Request = tuple[str, str, Any, dict[str, str]]
"""Method, target, body (bytes, or a list of chunks), headers."""


def by_client(requests: list[Request]) -> tuple[list[Segment], list[Told]]:
    """Let http.client send requests over one connection, one after another."""
    segments: list[Segment] = []
    with server() as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.server_port)
        sock = socket.create_connection(("127.0.0.1", running.server_port))
        connection.sock = _Recorder(sock, segments)  # type: ignore[assignment]
        answers = []
        for method, target, body, headers in requests:
            connection.request(method, target, iter(body) if isinstance(body, list) else body, headers, encode_chunked=isinstance(body, list))
            response = connection.getresponse()
            answers.append((response.status, response.reason, response.getheaders(), len(response.read())))
        connection.close()
        sock.close()
        told = running.told  # type: ignore[attr-defined]
    for one, (status, reason, headers_, length) in zip(told, answers, strict=True):
        one.status, one.reason, one.response_headers, one.response_body = status, reason, headers_, length
    return segments, told


def by_hand(data: bytes, pieces: int = 1) -> tuple[list[Segment], list[Told]]:
    """Send bytes (the last request must close) and read to the end; what the server has seen, without responses."""
    segments: list[Segment] = []
    with server() as running, socket.create_connection(("127.0.0.1", running.server_port)) as sock:
        size = -(-len(data) // pieces)
        for at in range(0, len(data), size):
            segments.append((0, data[at : at + size]))
            sock.sendall(data[at : at + size])
        while received := sock.recv(700):
            segments.append((1, received))
        told: list[Told] = running.told  # type: ignore[attr-defined]
    return segments, told
