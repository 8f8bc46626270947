"""Programs whose filters mix what packets, sessions, whole connections and the user's predicates tell, against a plain twin.

The twin knows no stages: it asks the interpreter whether the filter holds for a packet of the connection, a session of it and
what the predicates, run in Python, have said by then.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.running import config, run_frames
from traffic import Frame, UdpExchange

from retina_jit.datatypes import ConnRecord, DnsTransaction, FiveTuple, ZcFrame
from retina_jit.errors import FilterError
from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.filters.interpret import evaluate
from retina_jit.filters.predicates import ACCEPT, CONTINUE, DROP, forget_predicates, predicate, predicates
from retina_jit.subscription import Every, Subscription

NAMES = (b"a.example", b"b.example", b"www.example")


def big(packet, least=120):
    return packet.length >= least


def named(query_domain, rank):
    return len(query_domain) == 9 and ord(query_domain[0]) >= 97 + rank


class NthAnswer:
    """Decided by the first frame that is too long, or by the nth of the responder."""

    state = np.dtype([("answers", "u4"), ("first", "u2")])

    def new(state, packet):  # noqa: N805
        state.first = packet.length

    def update(state, packet, n):  # noqa: N805
        state.answers += packet.direction
        if packet.length > state.first + 200:
            return DROP
        return ACCEPT if state.answers >= n else CONTINUE

    def clear(state):  # noqa: N805
        state.answers = 0


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    predicate(big), predicate("dns")(named), predicate(NthAnswer)
    yield
    forget_predicates("big", "named", "NthAnswer")


@dataclass
class Flow:
    """One exchange: frames with their sides; sessions with the number of packets that were there by then."""

    port: int
    is_dns: bool
    packets: list[tuple[Frame, int]] = field(default_factory=list)
    sessions: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def row(self, n: int) -> SimpleNamespace:
        frame, side = self.packets[n]
        return SimpleNamespace(length=frame.length, direction=side, ts=frame.ts_ns)

    def watched(self, label: str, until: int, over: bool) -> bool | None:
        """What NthAnswer has said after `until` packets."""
        state, n = SimpleNamespace(answers=0, first=0), int(label[label.index("(") + 1 : -1])
        for k in range(until):
            if k == 0:
                NthAnswer.new(state, self.row(0))
            said = NthAnswer.update(state, self.row(k), n)
            if said != CONTINUE:
                return said == ACCEPT
        return False if over else None


@dataclass
class Facts:
    """What is known of a packet of a flow, after `until` packets, given one of its sessions."""

    flow: Flow
    packet: int
    until: int
    session: dict[str, Any] | None
    over: bool
    turned: bool

    def present(self, protocol: str) -> bool | None:
        if protocol == "dns":
            return self.flow.is_dns
        return protocol in ("udp", "ipv4", "frame", "(watched)", "conn")

    def value(self, protocol: str, name: str) -> Any:
        row = self.flow.row(self.packet)
        if protocol == "(watched)":
            return self.flow.watched(name, self.until, self.over)
        if protocol == "conn":
            return len(self.flow.packets) if self.over else None
        if protocol == "dns":
            if self.session is None:
                return None
            return named(self.session["query_domain"].decode(), int(name[6:-1])) if "(" in name else self.session[name]
        if name.startswith("big("):
            return big(row, int(name[4:-1]))
        if name == "length":
            return row.length
        ports = [self.flow.port, 53]
        return ports[(name == "dst_port") ^ (self.turned and row.direction)]


def _message(ident: int, name: bytes, answer: bool) -> bytes:
    question = b"".join(bytes([len(part)]) + part for part in name.split(b".")) + b"\0\0\1\0\1"
    return ident.to_bytes(2, "big") + (b"\x81\x80" if answer else b"\1\0") + b"\0\1\0\0\0\0\0\0" + question


def traffic(seed: int) -> list[Flow]:
    rng = random.Random(seed)
    flows = []
    for port in range(20000, 20120):
        flow = Flow(port, rng.random() < 0.7)
        talk = UdpExchange(("192.0.2.1", port), ("198.51.100.1", 53), start_ns=10**18 + rng.randrange(10**9))
        asked: list[tuple[int, bytes]] = []
        for k in range(rng.randint(1, 9)):
            side = rng.randint(0, 1) if k else 0
            if not flow.is_dns:
                data = b"hello, no names here " * rng.choice((1, 5, 20))
            elif side and asked:
                ident, name = asked.pop(rng.randrange(len(asked)))
                data = _message(ident, name, True)
                flow.sessions.append((k + 1, {"query_domain": name, "id": ident}))
            else:
                side, name = 0, rng.choice(NAMES)
                asked.append((k + 1, name))
                data = _message(k + 1, name, False)
            if flow.is_dns and rng.random() < 0.3:
                data += bytes(rng.choice((40, 300)))  # behind the message: nobody's
            talk.datagram(side, data, checksum=0)
            flow.packets.append((talk.frames[-1], side))
        # What nobody has answered is complete when the connection ends.
        flow.sessions += [(len(flow.packets) + 1, {"query_domain": name, "id": ident}) for ident, name in sorted(asked)]
        flows.append(flow)
    return flows


def atoms(rng: random.Random) -> str:
    return rng.choice(
        [
            f"frame.len > {rng.choice((70, 100, 200))}", f"big({rng.choice((120, 300))})", "big", "udp.dst_port = 53", f"udp.src_port > {20000 + rng.randrange(120)}",
            "dns", f"dns.query_domain = '{rng.choice(NAMES).decode()}'", f"named({rng.randint(0, 1)})", f"NthAnswer({rng.choice((1, 2, 3))})", "NthAnswer(1)",
        ]
    )  # fmt: skip


def text(rng: random.Random, conn: bool, depth: int = 0) -> str:
    draw = rng.random()
    if depth > 2 or draw < 0.3:
        if conn and rng.random() < 0.25:
            return f"conn.packets {rng.choice(('<=', '>', '<', '!='))} {rng.choice((2, 3, 5))}"
        return atoms(rng)
    if draw < 0.42:
        return f"not ({text(rng, conn, depth + 1)})"
    return "(" + rng.choice((" and ", " or ")).join(text(rng, conn, depth + 1) for _ in range(2)) + ")"


LEVELS = ("packet", "session", "connection", "static", "streaming")


def programs(seed: int, count: int) -> list[tuple[str, str]]:
    """(level, filter) pairs that are not refused, and that watch something or ask for the end."""
    rng, found = random.Random(seed), []
    while len(found) < count:
        level = rng.choice(LEVELS)
        made = text(rng, conn=level in ("connection", "static"))
        try:
            plan = compile_filters([FilterSpec(made, level)])
        except FilterError:
            continue
        if "dns" in plan.meets[0] or level != "session":
            found += [(level, made)] * bool(plan.conjuncts or plan.early or rng.random() < 0.1)
    return found


def wanted(flow: Flow, level: str, term: Any) -> list[int]:
    """Per event a number: of a packet, of a session; 0 for the connection."""
    count = len(flow.packets)
    turned = level == "packet"

    def holds(packets: Any, until: int, session: Any, over: bool) -> bool:
        return any(evaluate(term, Facts(flow, p, until, session, over, turned)) for p in packets)

    every = [None, *(s for _, s in flow.sessions)]
    if level == "packet":
        return [p for p in range(count) if any(holds([p], count, s, True) for s in every)]
    if level == "session":
        return [k for k, (until, s) in enumerate(flow.sessions) if holds(range(min(until, count)), min(until, count), s, False)]
    if level == "streaming":
        for k in range(1, count + 1):
            if any(holds(range(k), k, s, False) for s in [None, *(s for until, s in flow.sessions if until <= k)]):
                return list(range(k, count + 1))
        return []
    return [0] * any(holds(range(count), count, s, True) for s in every)


@pytest.mark.parametrize(("seed", "count"), [(1, 24), (2, 70)], ids=["code", "tables"])
def test_programs_equal_their_twin(seed, count):
    flows = traffic(seed)
    made = programs(seed, count)
    got: dict[int, Any] = defaultdict(lambda: defaultdict(list))
    subscriptions = []
    for n, (level, filter_) in enumerate(made):
        if level == "packet":
            subscriptions.append(Subscription(filter_, (ZcFrame, FiveTuple), lambda z, t, n=n: got[n][t.orig_port].append(z.ts)))
        elif level == "session":
            subscriptions.append(Subscription(filter_, (DnsTransaction, FiveTuple), lambda d, t, n=n: got[n][t.orig_port].append(d.transaction_id)))
        elif level == "streaming":
            subscriptions.append(Subscription(filter_, (FiveTuple,), lambda t, n=n: got[n][t.orig_port].append(0), every=Every("packets", 1)))
        else:
            types = (FiveTuple,) if level == "static" else (ConnRecord, FiveTuple)
            subscriptions.append(Subscription(filter_, types, lambda *a, n=n: got[n][a[-1].orig_port].append(0)))
    frames = sorted((f for flow in flows for f, _ in flow.packets), key=lambda f: f.ts_ns)
    result = run_frames(subscriptions, frames, config(udp_inactivity_timeout=10**6))
    plan = compile_filters([FilterSpec(f, level) for level, f in made])
    assert plan.conjuncts and plan.early and len(predicates()) >= 3
    some, events = 0, 0
    for n, (level, filter_) in enumerate(made):
        for flow in flows:
            want: list[Any] = wanted(flow, level, plan.terms[n])
            if level == "packet":
                # Without a connection there is no five-tuple: what single packets decide is told by the packet.
                want = [flow.packets[p][0].ts_ns for p in want]
                ports = {flow.port} if n not in plan.direct else {flow.port, 53}
                seen = [ts for port in ports for ts in got[n][port] if ts in {f.ts_ns for f, _ in flow.packets}]
            elif level == "session":
                seen, want = sorted(got[n][flow.port]), sorted(_ident(flow, k) for k in want)
            else:
                seen, want = got[n][flow.port], [0] * len(want)
            assert sorted(seen) == sorted(want), (level, filter_, flow.port, [(f.length, side) for f, side in flow.packets])
            events += len(want)
            some += bool(want)
    assert events > 20 * count and some < 120 * count
    assert result.counters["packets_not_kept"] == 0


def _ident(flow: Flow, k: int) -> int:
    """Transaction id of the kth session: that of the packet that asked."""
    return int(flow.sessions[k][1]["id"])
