"""Real client and server stacks that talk through memory: OpenSSL (`ssl`), h11, dnspython.

Each function drives both ends of one conversation, carries every byte that they write over a `TcpConversation` or a
`UdpExchange`, and returns what the stacks themselves say about it. Nothing is parsed here: what a test compares the
parsers with is the stacks' word.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone
import h11

from traffic.synth import CLIENT, SERVER, TcpConversation, UdpExchange

Report = dict[str, Any]


# --------------------------------------------------------------------------------------------------------------- TLS


@dataclass
class TlsRun:
    """What happened in `tls`: the ends, for a session to resume, and the report."""

    client: ssl.SSLObject
    server: ssl.SSLObject
    report: Report = field(default_factory=dict)


def tls(
    talk: TcpConversation,
    client_context: ssl.SSLContext,
    server_context: ssl.SSLContext,
    *,
    server_name: str | None = None,
    session: ssl.SSLSession | None = None,
    exchange: Sequence[tuple[bytes, bytes]] = ((b"hello\n", b"hello yourself\n"),),
    close_notify: bool = True,
    end_by_reset: bool = False,
) -> TlsRun:
    """Shake hands, exchange application data, close; `talk` must be open and is closed at the end.

    Parameters
    ----------
    server_name : str
        Sent as SNI; None sends no extension.
    session : ssl.SSLSession
        To be resumed; must come from a run with the same client context.
    exchange : sequence of (bytes, bytes)
        What client and server say in turn. Empty: none.
    close_notify : bool
        Whether both say good-bye with an alert before the FIN.
    end_by_reset : bool
        Whether the client ends the connection with RST.

    Returns
    -------
    TlsRun
        Its report has: sni; version, cipher, cipher_id, alpn (what was not agreed on, or what OpenSSL does not
        tell of a handshake that broke off, is None); resumed, completed, client_error, server_error;
        messages, each "client NAME" or "server NAME" with OpenSSL's name of a handshake message or
        "ALERT NAME", in order, up to the end of the handshake, encrypted ones included.
    """
    messages: list[str] = []
    versions: list[str] = []
    shaking = True

    def note(side: int, direction: str, version: Any, content: Any, message: Any) -> None:
        """Keep what an end says that it sends."""
        if direction == "write" and shaking and content.name in ("HANDSHAKE", "ALERT", "CHANGE_CIPHER_SPEC"):
            name = getattr(message, "name", str(message))
            alert = "ALERT " if content.name == "ALERT" else ""
            messages.append(("client ", "server ")[side] + alert + name)
            if name == "SERVER_HELLO":
                versions.append(version.name.replace("_", "."))

    _watch(client_context, partial(note, CLIENT))
    _watch(server_context, partial(note, SERVER))
    client_in, client_out, server_in, server_out = (ssl.MemoryBIO() for _ in range(4))
    client = client_context.wrap_bio(client_in, client_out, server_hostname=server_name, session=session)
    server = server_context.wrap_bio(server_in, server_out, server_side=True)
    ends = (client, server)
    errors: list[str | None] = [None, None]
    done = [False, False]

    def carry() -> bool:
        """Move what was written to the other end; whether there was any."""
        request, answer = client_out.read(), server_out.read()
        if request:
            talk.to_server(request)
            server_in.write(request)
        if answer:
            talk.to_client(answer)
            client_in.write(answer)
        return bool(request or answer)

    def attempt(side: int, action: Callable[[], object]) -> bool:
        """Let one end act as far as it can; whether it came to the end of the action."""
        try:
            action()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            errors[side] = error.reason or str(error)
            return False
        return True

    moved = True
    while moved:
        moved = False
        for side in (CLIENT, SERVER):
            if not done[side] and errors[side] is None:
                done[side] = attempt(side, ends[side].do_handshake)
            moved |= carry()
    if all(done):
        assert versions[-1] == client.version(), "the debugging callback and the stack must agree"
    # In TLS 1.3 the client is done before the server has looked at its certificate, so a read may still fail.
    for side in (SERVER, CLIENT):
        if done[side]:
            attempt(side, partial(ends[side].read, 1))
            carry()
    shaking = False
    completed = all(done) and not any(errors)
    if completed:
        for question, answer in exchange:
            client.write(question)
            carry()
            received = server.read(len(question))
            assert received == question, (received, question)
            server.write(answer)
            carry()
            client.read(len(answer))
        if close_notify:
            for side in (CLIENT, SERVER):
                attempt(side, ends[side].unwrap)
                carry()
    if end_by_reset:
        talk.reset(by=CLIENT)
    elif errors[SERVER] is not None:
        talk.close(by=SERVER)
    else:
        talk.close(by=CLIENT)
    agreed = client.cipher() or server.cipher()
    report: Report = {
        "sni": server_name,
        "version": versions[-1] if versions else None,
        "cipher": agreed[0] if agreed else None,
        "cipher_id": _cipher_id(client_context, agreed[0]) if agreed else None,
        "alpn": server.selected_alpn_protocol() if done[SERVER] else None,
        "resumed": bool(client.session_reused),
        "completed": completed,
        "client_error": errors[CLIENT],
        "server_error": errors[SERVER],
        "messages": messages,
    }
    return TlsRun(client, server, report)


def _watch(context: ssl.SSLContext, note: Callable[[str, Any, Any, Any], None]) -> None:
    """Have OpenSSL tell of each message; the attribute is CPython's, made for debugging, hence underscored."""

    def callback(_end: Any, direction: str, version: Any, content: Any, message: Any, _data: bytes) -> None:
        note(direction, version, content, message)

    context._msg_callback = callback  # type: ignore[attr-defined]


def _cipher_id(context: ssl.SSLContext, name: str) -> int | None:
    for cipher in context.get_ciphers():
        if cipher["name"] == name:
            return int(cipher["id"]) & 0xFFFF  # OpenSSL puts 0x0300 before the IANA number
    return None


# -------------------------------------------------------------------------------------------------------------- HTTP


@dataclass(frozen=True, slots=True)
class Request:
    """A request and what the server will answer."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    status: int = 200
    reason: str = "OK"
    answer: bytes = b""
    answer_type: str = "text/plain"
    chunked: bool = False


def http(talk: TcpConversation, requests: Iterable[Request], *, pipelined: bool = False) -> list[Report]:
    """HTTP/1.1 transactions by h11 on both ends; `talk` must be open and is closed at the end.

    With `pipelined` all requests are on the wire before the first answer.

    Returns
    -------
    list of dict
        Per transaction: method, uri, host, user_agent, status_code.
    """
    requests = list(requests)
    server = h11.Connection(h11.SERVER)
    # One h11 client per request: a single one would not write the next request before it has read the answer.
    clients = [h11.Connection(h11.CLIENT) for _ in requests]
    written = [_http_request(client, request) for client, request in zip(clients, requests, strict=True)]
    if pipelined:
        for data in written:
            talk.to_server(data, ack=False)
            server.receive_data(data)
    reports: list[Report] = []
    for client, request, data in zip(clients, requests, written, strict=True):
        if not pipelined:
            talk.to_server(data)
            server.receive_data(data)
        seen = _events(server)[0]
        answer = _http_answer(server, request)
        talk.to_client(answer)
        client.receive_data(answer)
        status = next(event.status_code for event in _events(client) if isinstance(event, h11.Response))
        headers = {bytes(name): bytes(value).decode() for name, value in seen.headers}
        reports.append(
            {
                "method": seen.method.decode(),
                "uri": seen.target.decode(),
                "host": headers.get(b"host"),
                "user_agent": headers.get(b"user-agent"),
                "status_code": status,
            }
        )
        server.start_next_cycle()
    talk.close(by=CLIENT)
    return reports


def _http_request(end: h11.Connection, request: Request) -> bytes:
    headers = list(request.headers)
    if request.body:
        headers.append(("Content-Length", str(len(request.body))))
    out = end.send(h11.Request(method=request.method, target=request.target, headers=headers)) or b""
    if request.body:
        out += end.send(h11.Data(data=request.body)) or b""
    return out + (end.send(h11.EndOfMessage()) or b"")


def _http_answer(end: h11.Connection, request: Request) -> bytes:
    headers = [("Server", "sample/1.0"), ("Content-Type", request.answer_type)]
    headers.append(
        ("Transfer-Encoding", "chunked") if request.chunked else ("Content-Length", str(len(request.answer)))
    )
    out = end.send(h11.Response(status_code=request.status, reason=request.reason, headers=headers)) or b""
    if request.method != "HEAD" and request.answer:
        size = 700 if request.chunked else len(request.answer)
        for at in range(0, len(request.answer), size):
            out += end.send(h11.Data(data=request.answer[at : at + size])) or b""
    return out + (end.send(h11.EndOfMessage()) or b"")


def _events(end: h11.Connection) -> list[Any]:
    out: list[Any] = []
    while True:
        event = end.next_event()
        if event in (h11.NEED_DATA, h11.PAUSED):
            return out
        out.append(event)
        if isinstance(event, h11.EndOfMessage):
            return out


# --------------------------------------------------------------------------------------------------------------- DNS


def responder(zone: dns.zone.Zone, *, udp_limit: int = 1232) -> Callable[[bytes, bool], bytes]:
    """Return a name server for one zone, read with `relativize=False`: (query, over TCP) -> answer."""

    origin = zone.origin
    assert origin is not None
    start = zone.get_rrset(origin, "SOA")
    assert start is not None

    def answer(wire: bytes, over_tcp: bool) -> bytes:
        query = dns.message.from_wire(wire)
        reply = dns.message.make_response(query, recursion_available=True)
        reply.flags |= dns.flags.AA
        name, kind = query.question[0].name, query.question[0].rdtype
        if not name.is_subdomain(origin):
            reply.set_rcode(dns.rcode.REFUSED)
            return reply.to_wire()
        found = False
        while zone.get_node(name) is not None:
            found = True
            alias = zone.get_rrset(name, dns.rdatatype.CNAME)
            rrset = zone.get_rrset(name, kind)
            if rrset is not None:
                reply.answer.append(rrset)
            elif alias is not None:
                reply.answer.append(alias)
                name = alias[0].target
                continue
            break
        if not reply.answer:
            reply.authority.append(start)
            if not found:
                reply.set_rcode(dns.rcode.NXDOMAIN)
        if over_tcp:
            return reply.to_wire()
        limit = query.payload if query.edns >= 0 else 512
        try:
            return reply.to_wire(max_size=min(limit, udp_limit))
        except dns.exception.TooBig:
            short = dns.message.make_response(query, recursion_available=True)
            short.flags |= dns.flags.TC
            return short.to_wire()

    return answer


def dns_report(query: dns.message.Message, answer: bytes | None) -> Report:
    """Return transaction_id, query_domain, qtype, response_code, has_query, has_response of a transaction."""
    reply = None if answer is None else dns.message.from_wire(answer, ignore_trailing=True)
    return {
        "transaction_id": query.id,
        "query_domain": query.question[0].name.to_text(omit_final_dot=True),
        "qtype": int(query.question[0].rdtype),
        "response_code": None if reply is None else int(reply.rcode()),
        "truncated": None if reply is None else bool(reply.flags & dns.flags.TC),
        "answers": None if reply is None else sum(len(rrset) for rrset in reply.answer),
        "has_query": True,
        "has_response": reply is not None,
    }


def dns_udp(
    talk: UdpExchange,
    answer: Callable[[bytes, bool], bytes],
    queries: Iterable[dns.message.Message],
    *,
    answered: bool = True,
) -> list[Report]:
    """Ask each query in turn; without `answered` the server keeps silent."""
    reports = []
    for query in queries:
        wire = query.to_wire()
        talk.to_server(wire)
        talk.wait(2_000_000)
        reply = answer(wire, False) if answered else None
        if reply is not None:
            talk.to_client(reply)
        reports.append(dns_report(query, reply))
    return reports


def dns_tcp(
    talk: TcpConversation, answer: Callable[[bytes, bool], bytes], queries: Iterable[dns.message.Message]
) -> list[Report]:
    """Ask all queries at once on one connection (RFC 7766), answer them in reverse order."""
    queries = list(queries)
    talk.open()
    talk.to_server(b"".join(query.to_wire(prepend_length=True) for query in queries))
    replies = [answer(query.to_wire(), True) for query in queries]
    for reply in reversed(replies):
        talk.to_client(len(reply).to_bytes(2, "big") + reply)
    talk.close(by=CLIENT)
    return [dns_report(query, reply) for query, reply in zip(queries, replies, strict=True)]
