"""Traffic mixes from a seed: what conversations do to a connection tracker, in all combinations.

A mix is a handful of conversations between a few endpoints of its own: handshakes that are repeated, answered wrongly or
missing, data that is lost, repeated, reordered and overlapping, every way to end, tuples used again, pauses around the
timeouts. It comes as frames in the order of their arrival, with what each side has really sent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from oracle.tracker import MS, Settings
from traffic import CLIENT, SERVER, Frame, TcpConversation, UdpExchange
from traffic.packets import ACK, FIN, PSH, RST, SYN

START = 1_767_225_600 * 10**9


@dataclass
class Mix:
    """Frames in the order of arrival; `sent` holds the whole streams of the conversations that lose nothing."""

    frames: list[Frame] = field(default_factory=list)
    sent: list[tuple[tuple[str, int], bytes, bytes]] = field(default_factory=list)


def pause(rng: random.Random, s: Settings) -> int:
    """Time between two packets [ns]: mostly short, sometimes around a timeout, to the nanosecond."""
    if rng.random() < 0.93:
        return rng.choice((0, 1, 1000, MS, 30 * MS, 400 * MS))
    limit = rng.choice((s.tcp_establish, s.tcp_inactivity, s.udp_inactivity, s.tcp_close)) * MS
    return max(0, limit + rng.choice((-MS, -1, 0, 1, MS, 150 * MS, 2000 * MS)))


def _flags(rng: random.Random) -> int:
    return rng.choice((ACK, ACK | PSH, SYN, SYN | ACK, FIN, FIN | ACK, RST, RST | ACK, 0, SYN | FIN, SYN | RST, FIN | RST | ACK, 0xFF))


def _data(rng: random.Random, most: int = 60) -> bytes:
    first = rng.choice((b"C", b"C", b"C", b"C", b"N", b""))
    return first + rng.randbytes(rng.randint(0, most))


def _open(rng: random.Random, talk: TcpConversation) -> None:
    kind = rng.random()
    if kind < 0.6:
        talk.open()
    elif kind < 0.68:
        # Asked twice, with another number: a new attempt.
        talk.segment(CLIENT, flags=SYN, ack=0)
        talk.next_seq[CLIENT] = rng.getrandbits(32)
        talk.open()
    elif kind < 0.74:
        talk.segment(CLIENT, flags=SYN, ack=0)
        talk.next_seq[CLIENT] = talk.isn[CLIENT]
        talk.open()
    elif kind < 0.79:
        # Both open at once (RFC 9293, 3.5).
        talk.segment(CLIENT, flags=SYN, ack=0)
        talk.segment(SERVER, flags=SYN, ack=0)
        for side in (CLIENT, SERVER):
            talk.segment(side, flags=SYN | ACK, seq=talk.isn[side])
    elif kind < 0.84:
        # An old connection's answer comes first (RFC 9293, 3.5.1).
        talk.segment(CLIENT, flags=SYN, ack=0)
        talk.segment(SERVER, seq=rng.getrandbits(32), ack=rng.getrandbits(32))
        talk.next_seq[CLIENT] = talk.isn[CLIENT]
        talk.open()
    elif kind < 0.89:
        talk.segment(CLIENT, _data(rng), flags=SYN, ack=0)  # data with the SYN (RFC 7413)
        talk.segment(SERVER, flags=SYN | ACK)
        talk.segment(CLIENT)
    elif kind < 0.93:
        talk.segment(CLIENT, flags=SYN, ack=0)
        talk.segment(SERVER, flags=RST | ACK)
    else:
        talk.skip(CLIENT, 1)  # its beginning was not captured
        talk.skip(SERVER, 1)


def _close(rng: random.Random, talk: TcpConversation) -> None:
    by = rng.choice((CLIENT, SERVER))
    kind = rng.random()
    if kind < 0.35:
        talk.close(by)
    elif kind < 0.5:
        talk.half_close(by)
        talk.send(1 - by, _data(rng))
        talk.half_close(1 - by)
    elif kind < 0.6:
        talk.segment(by, _data(rng), flags=FIN | ACK)
        talk.segment(1 - by, _data(rng), flags=FIN | ACK)
        talk.segment(by)
    elif kind < 0.7:
        talk.reset(by)
    elif kind < 0.8:
        talk.segment(by, flags=FIN | ACK)
    elif kind < 0.85:
        talk.segment(by, flags=FIN)
        talk.segment(1 - by, flags=FIN)


def _conversation(rng: random.Random, s: Settings, talk: TcpConversation) -> None:
    _open(rng, talk)
    for _ in range(rng.randint(0, 6)):
        talk.now_ns += pause(rng, s)
        side = rng.choice((CLIENT, SERVER))
        kind = rng.random()
        if kind < 0.55:
            talk.send(side, _data(rng, 200), mss=rng.choice((1, 7, 40, 100)) if rng.random() < 0.3 else 60, ack=rng.random() < 0.6)
        elif kind < 0.65:
            talk.skip(side, rng.choice((1, 10, 70, 5000)))
            talk.send(side, _data(rng))
        elif kind < 0.8:
            # Beside the stream: repeated, overlapping, ahead; often with other bytes.
            shift = rng.choice((-300, -61, -30, -1, 0, 1, 20, 90, 300))
            talk.segment(side, _data(rng, 90), seq=(talk.next_seq[side] + shift) % 2**32)
        elif kind < 0.86:
            talk.segment(side, _data(rng) if rng.random() < 0.3 else b"", flags=_flags(rng))
        elif kind < 0.9:
            talk.segment(side, b"", seq=(talk.next_seq[side] - 1) % 2**32)  # keep-alive
        elif kind < 0.91:
            talk.segment(side, _data(rng), seq=rng.getrandbits(32))  # out of any window
        elif kind < 0.93:
            talk.segment(side, ack=(talk.next_seq[1 - side] + rng.choice((-50, 50, 5000, 2**31))) % 2**32)
        elif kind < 0.96:
            talk.segment(CLIENT, flags=SYN, ack=0, seq=talk.isn[CLIENT])  # a late repetition
        else:
            talk.segment(SERVER, flags=SYN | ACK, seq=talk.isn[SERVER])
    _close(rng, talk)


def _isn(rng: random.Random) -> int:
    return rng.choice((rng.getrandbits(32), 2**32 - rng.randint(1, 150), 2**31 - rng.randint(0, 100), 0))


def _disturb(rng: random.Random, frames: list[Frame]) -> list[Frame]:
    """Lose, repeat, shift and cut frames; their times stay those of the places where they now stand."""
    times = [f.ts_ns for f in frames]
    lose, repeat, move, cut = (rng.choice((0, 0, 0.05, 0.2)) for _ in range(4))
    out: list[Frame] = []
    for f in frames:
        if rng.random() < lose:
            continue
        if rng.random() < cut:
            f = Frame(f.ts_ns, f.data[: rng.randint(40, len(f.data))], f.length)
        out.append(f)
        if rng.random() < repeat:
            out.insert(rng.randint(max(0, len(out) - 4), len(out)), f)
    for n in range(len(out)):
        if rng.random() < move:
            out.insert(min(len(out), n + rng.randint(1, 5)), out.pop(n))
    last = times[-1] if times else 0
    return [replace(f, ts_ns=times[n] if n < len(times) else last) for n, f in enumerate(out)]


def _ends(rng: random.Random, number: int) -> Callable[[int], tuple[str, str]]:
    v6 = rng.random() < 0.25

    def pair(k: int) -> tuple[str, str]:
        if v6:
            return f"2001:db8:{number:x}::{k + 1}", f"2001:db8:{number:x}::f{k}"
        near = f"10.{number >> 8 & 255}.{number & 255}.{k + 1}"
        # The higher address is the server's in one half of the cases.
        return (near, "198.51.100.7") if rng.random() < 0.5 else (near, "9.9.9.9")

    return pair


def mix(seed: int, number: int, settings: Settings) -> Mix:
    """Return the mix of a seed; `number` keeps its addresses apart from those of other mixes."""
    rng = random.Random(seed)
    made = Mix()
    ends = _ends(rng, number)
    frames: list[Frame] = []
    start = START + rng.randint(0, 20_000) * MS
    for k in range(rng.randint(1, 3)):
        client, server = ends(k)
        ports = rng.choice((40000 + k, 33000)), rng.choice((443, 80, 40000))
        at = start + rng.randint(0, 500) * MS
        if rng.random() < 0.2:
            talk = UdpExchange((client, ports[0]), (server, 53), start_ns=at)
            for _ in range(rng.randint(1, 8)):
                talk.datagram(rng.choice((CLIENT, SERVER)), rng.randbytes(rng.randint(0, 80)), checksum=0)
                talk.now_ns += pause(rng, settings)
            frames += _disturb(rng, talk.frames)
            continue
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            # The same tuple again, at once or later.
            tcp = TcpConversation((client, ports[0]), (server, ports[1]), start_ns=at, isn=(_isn(rng), _isn(rng)), step_ns=rng.choice((100_000, 0)))
            _conversation(rng, settings, tcp)
            frames += _disturb(rng, tcp.frames)
            at = tcp.now_ns + pause(rng, settings)
    made.frames = sorted(frames, key=lambda f: f.ts_ns)
    return made


def faithful(seed: int, number: int) -> Mix:
    """Return conversations of which every byte arrives at last: repeated and out of order, but never lost."""
    rng = random.Random(seed)
    made = Mix()
    client, server = _ends(rng, number)(0)
    isn = _isn(rng), _isn(rng)
    talk = TcpConversation((client, 40000), (server, 443), isn=isn, start_ns=START + rng.randint(0, 2000) * MS, step_ns=1000)
    talk.open()
    opening, talk.frames = talk.frames, []
    sent = [b"C" + rng.randbytes(rng.randint(0, 500)) if rng.random() < 0.9 else b"" for _ in range(2)]
    body: list[Frame] = []
    for side in (CLIENT, SERVER):
        at = 0
        while at < len(sent[side]):
            # Each segment begins somewhere in what was sent before it, so that they overlap.
            begin = max(0, at - rng.choice((0, 0, 0, 1, 40)))
            end = min(len(sent[side]), at + rng.randint(1, 60))
            # No acknowledgement of what is not there yet: holes wait.
            talk.segment(side, sent[side][begin:end], seq=(isn[side] + 1 + begin) % 2**32, ack=(isn[1 - side] + 1) % 2**32)
            at = end
    body = talk.frames
    times = [f.ts_ns for f in body]
    body = [f for f in body for _ in range(rng.choice((1, 1, 1, 2)))]
    for n in range(len(body)):
        if rng.random() < 0.3:
            body.insert(rng.randint(0, len(body) - 1), body.pop(n))
    last = times[-1] if times else talk.now_ns
    body = [replace(f, ts_ns=times[n] if n < len(times) else last) for n, f in enumerate(body)]
    talk.frames = []
    talk.next_seq = [(isn[n] + 1 + len(sent[n])) % 2**32 for n in (0, 1)]
    talk.close(rng.choice((CLIENT, SERVER)))
    made.frames = opening + body + talk.frames
    made.sent = [((client, 40000), sent[0], sent[1])]
    return made
