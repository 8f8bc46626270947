"""Conversations that turn to TLS: the standard library's clients of SMTP, IMAP, POP3 and FTP, and one of XMPP by hand, each
against a small server on the loopback, behind a relay that notes what either side says, in order.
"""

from __future__ import annotations

import ftplib
import imaplib
import poplib
import select
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from traffic.sample import Sample
from traffic.tls_cases import TlsCases

Segment = tuple[int, bytes]
HOST = "localhost"


@dataclass
class Case:
    """A conversation and what the client's stack says of TLS."""

    name: str
    segments: list[Segment]
    version: str
    cipher_id: int


class Server:
    """A server's end of a connection: lines, and the turn to TLS."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self.context = context

    def say(self, text: str) -> None:
        self.sock.sendall(text.encode())

    def until(self, end: bytes) -> bytes:
        """Read byte by byte: nothing of what comes after the turn may be taken before it."""
        data = b""
        while not data.endswith(end) and (byte := self.sock.recv(1)):
            data += byte
        return data

    def turn(self) -> None:
        self.sock = self.context.wrap_socket(self.sock, server_side=True)


def _lines(greeting: str, answers: dict[str, str], ask: str, untagged: dict[str, str] | None = None) -> Callable[[Server], None]:
    """A server that answers by the command's word, turns behind its answer to `ask`, and ends with QUIT or LOGOUT.

    untagged: IMAP, where answers bear the command's tag, and what comes before some of them.
    """

    def serve(end: Server) -> None:
        end.say(greeting)
        while words := end.until(b"\n").decode().split():
            tag, command = ("", words[0]) if untagged is None else (f"{words[0]} ", words[1])
            end.say((untagged or {}).get(command, "") + tag + answers.get(command, answers["*"]))
            if command == ask:
                end.turn()
            if command in ("QUIT", "LOGOUT"):
                return

    return serve


def _xmpp_server(end: Server) -> None:
    tls = "urn:ietf:params:xml:ns:xmpp-tls"
    head = "<?xml version='1.0'?><stream:stream from='localhost' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
    end.until(b"version='1.0'>")
    end.say(head + f"<stream:features><starttls xmlns='{tls}'><required/></starttls></stream:features>")
    end.until(b"/>")
    end.say(f"<proceed xmlns='{tls}'/>")
    end.turn()
    end.until(b"version='1.0'>")
    end.say(head + "<stream:features/>")
    end.until(b"</stream:stream>")


SERVERS: dict[str, Callable[[Server], None]] = {
    "smtp": _lines("220 mail.example.org ESMTP ready\r\n", {"ehlo": "250-mail.example.org\r\n250 STARTTLS\r\n", "STARTTLS": "220 go ahead\r\n",
                   "QUIT": "221 bye\r\n", "*": "250 ok\r\n"}, "STARTTLS"),
    "imap": _lines("* OK IMAP4rev1 ready\r\n", {"*": "OK done\r\n"}, "STARTTLS",
                   {"CAPABILITY": "* CAPABILITY IMAP4rev1 STARTTLS\r\n", "LOGOUT": "* BYE\r\n"}),
    "pop3": _lines("+OK ready\r\n", {"CAPA": "+OK\r\nSTLS\r\n.\r\n", "*": "+OK\r\n"}, "STLS"),
    "ftp": _lines("220-welcome\r\n220 (ftp 1.0)\r\n", {"AUTH": "234 go on\r\n", "QUIT": "221 bye\r\n", "*": "200 ok\r\n"}, "AUTH"),
    "xmpp": _xmpp_server,
}  # fmt: skip


def _smtp(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    client = smtplib.SMTP(HOST, port, local_hostname="client.example.com")
    client.starttls(context=context)
    client.ehlo()
    return _end(client.sock, client.quit)


def _imap(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    client = imaplib.IMAP4(HOST, port)
    client.starttls(ssl_context=context)
    client.noop()
    return _end(client.sock, client.logout)


def _pop3(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    client = poplib.POP3(HOST, port)
    client.stls(context=context)
    client.noop()
    return _end(client.sock, client.quit)


def _ftp(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    client = ftplib.FTP_TLS(context=context)
    client.connect(HOST, port)
    client.auth()
    client.sendcmd("NOOP")
    return _end(client.sock, client.quit)


def _xmpp(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    head = b"<?xml version='1.0'?><stream:stream to='localhost' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
    plain = socket.create_connection((HOST, port))
    plain.sendall(head)
    while b"</stream:features>" not in plain.recv(4096):
        pass
    plain.sendall(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    while b"<proceed" not in plain.recv(4096):
        pass
    client = context.wrap_socket(plain, server_hostname=HOST)
    client.sendall(head)
    client.recv(4096)
    return _end(client, lambda: client.sendall(b"</stream:stream>"))


CLIENTS = {"smtp": _smtp, "imap": _imap, "pop3": _pop3, "ftp": _ftp, "xmpp": _xmpp}


def _end(sock: ssl.SSLSocket, leave: Callable[[], object]) -> ssl.SSLSocket:
    """Note what the stack says while it still says it, and leave."""
    told = sock.version(), sock.cipher()
    leave()
    sock.told = told  # type: ignore[attr-defined]
    return sock


def _relay(client: socket.socket, server: socket.socket, segments: list[Segment]) -> None:
    """Carry bytes both ways until both sides have ended."""
    ends = {client: (0, server), server: (1, client)}
    while ends:
        for sock in select.select([*ends], [], [])[0]:
            side, other = ends[sock]
            try:
                data = sock.recv(1 << 16)
            except ConnectionError:
                data = b""
            if data:
                segments.append((side, data))
                other.sendall(data)
            else:
                del ends[sock]
                try:
                    other.shutdown(socket.SHUT_WR)
                except OSError:
                    pass


def converse(name: str, client_context: ssl.SSLContext, server_context: ssl.SSLContext) -> Case:
    """Let a client and a server of a protocol talk."""
    segments: list[Segment] = []
    with socket.create_server(("127.0.0.1", 0)) as front, socket.create_server(("127.0.0.1", 0)) as back:
        for s in (front, back):
            s.settimeout(20)

        def relay() -> None:
            with front.accept()[0] as inside, socket.create_connection(back.getsockname()) as outside:
                _relay(inside, outside, segments)

        def serve() -> None:
            end = Server(back.accept()[0], server_context)
            end.sock.settimeout(20)
            try:
                SERVERS[name](end)
            except (OSError, ssl.SSLError):
                pass  # the client is gone without a good-bye
            end.sock.close()

        threads = [threading.Thread(target=t) for t in (relay, serve)]
        for t in threads:
            t.start()
        client = CLIENTS[name](front.getsockname()[1], client_context)
        client.close()
        for t in threads:
            t.join(20)
            assert not t.is_alive()
    version, cipher = client.told  # type: ignore[attr-defined]
    number = next(int(c["id"]) & 0xFFFF for c in client_context.get_ciphers() if c["name"] == cipher[0])
    return Case(name, segments, version, number)


@cache
def cases() -> list[Case]:
    """Each protocol with TLS 1.2 and with TLS 1.3, made once per process."""
    with TemporaryDirectory() as directory:
        make = TlsCases(Sample(), Path(directory))
        found = []
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client, server = make.client(versions=(version, version)), make.server()
            found += [converse(name, client, server) for name in CLIENTS]
        return found
