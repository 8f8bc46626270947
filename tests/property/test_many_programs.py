"""A program of n subscriptions is n programs of one: each fires exactly when its own filter says so, whatever stands beside it.

Every filter of a pool is first a program of its own, which has to agree with the interpreter in all that its stages say: of
each packet, of the connection that it begins, of the connection's protocol, of its sessions, and of the packets delivered
once the session is known. Then random programs of these filters have to say of each exactly what it says alone.

The filters are data here (`engine="any"`): a new program needs no compilation, and the code that reads them is the one that
serves programs of many subscriptions. Some programs are compiled as code as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
from support import filter_kernels
from support.filter_kernels import JOB_WORDS, OF_A_CASE
from support.filters import RowFacts, Rows, Writer
from support.sessions import keeper
from support.suite import one_at_a_time
from traffic import packets

from retina_jit import objects
from retina_jit.errors import FilterError
from retina_jit.filters import FilterSpec, Plan, compile_filters
from retina_jit.filters.conditions import ROOM
from retina_jit.filters.interpret import evaluate
from retina_jit.parsers.protocol import Protocol, protocols
from retina_jit.state.layout import CONTINUE, PACKET

PROGRAMS, AS_CODE = 2000, 24
POOL_OF_PACKETS, POOL_OF_CONNECTIONS, POOL_OF_BOTH = 160, 160, 60
PAIRS = 24

HOSTS4, HOSTS6, PORTS = ("10.0.0.1", "10.0.0.2", "192.0.2.7"), ("2001:db8::1", "fe80::2"), (53, 80, 443, 40000)
FIELDS = {
    "frame": ("length",),
    "vlan": ("id",),
    "ipv4": ("src_addr", "dst_addr", "time_to_live", "df"),
    "ipv6": ("src_addr", "dst_addr", "hop_limit"),
    "tcp": ("src_port", "dst_port", "flags", "syn", "has_mss", "mss"),
    "udp": ("src_port", "dst_port", "length"),
    "tls": ("sni", "version", "cipher", "client_alpn_protocols", "client_extensions"),
    "dns": (),
}
"""What these filters ask for: each field more makes the one stage larger that serves them all."""


@cache
def declared() -> dict[str, Protocol]:
    """The protocols, with these fields only."""
    known = protocols()
    return {p: replace(known[p], fields={f: known[p].fields[f] for f in fields}) for p, fields in FIELDS.items()} | {
        p: replace(known[p], fields={}) for p in known if p not in FIELDS and known[p].level == "packet"
    }


# ------------------------------------------------------------------------------------------------------------ traffic


def _one(rng: random.Random, a: str, b: str, ports: tuple[int, int], tcp: bool, tag: bytes) -> bytes:
    size, ttl = rng.choice((0, 1, 100, 1000)), rng.choice((1, 64, 255))
    options = rng.choice((b"", b"", bytes.fromhex("020405b4")))
    body = (
        packets.tcp(a, b, *ports, b"x" * size, flags=rng.choice((2, 16, 18, 24)), options=options)
        if tcp
        else packets.udp(a, b, *ports, b"y" * size)
    )
    number, six = 6 if tcp else 17, ":" in a
    packet = packets.ipv6(a, b, number, body, hop_limit=ttl) if six else packets.ipv4(a, b, number, body, ttl=ttl, flags_offset=rng.choice((0, 0x4000)))
    return bytes.fromhex("02000000000b02000000000a") + tag + (b"\x86\xdd" if six else b"\x08\0") + packet


@cache
def traffic() -> Rows:
    """Packets of few hosts and ports, so that filters over them match now and then; each beside one of the other direction."""
    rng = random.Random(5)
    frames = []
    for _ in range(PAIRS):
        a, b = rng.sample(HOSTS6 if rng.random() < 0.3 else HOSTS4, 2)
        ports, tcp, tag = (rng.choice(PORTS), rng.choice(PORTS)), rng.random() < 0.7, b"\x81\0\0\x64" * (rng.random() < 0.2)
        frames += [_one(rng, a, b, ports, tcp, tag), _one(rng, b, a, ports[::-1], tcp, tag)]
    return Rows([(f, 1, len(f)) for f in frames])


@dataclass(frozen=True)
class Case:
    """What a connection turns out to be: its protocol, and which session."""

    service: str
    session: Any = None
    values: Any = None

    @property
    def words(self) -> tuple[int, int]:
        """Number of the protocol and address of the session."""
        return protocols()[self.service].number if self.service else 0, self.session.address if self.session else 0


@cache
def cases() -> list[Case]:
    """Nothing known, DNS, and the TLS sessions of the declared examples."""
    found = [Case(""), Case("dns")]
    for example in protocols()["tls"].examples:
        if example.transport == 6 and example.sessions:
            session = keeper("tls").run(example.segments)
            found.append(Case("tls", session, session.fields()))
    return found


# --------------------------------------------------------------------------------------------------------- the answers


@dataclass
class Answers:
    """What is said of each filter: [filter, row, ...]; `of_case` as in `filter_kernels.OF_A_CASE`."""

    packet: np.ndarray[Any, Any]
    goes_on: np.ndarray[Any, Any]
    connection: np.ndarray[Any, Any]
    of_case: np.ndarray[Any, Any]


@cache
def possible() -> np.ndarray[Any, Any]:
    """[row, case]: a connection that this packet begins can be of this kind."""
    rows = traffic()
    found = np.ones((len(rows.array), len(cases())), bool)
    for n in range(len(rows.array)):
        facts = RowFacts(rows, n)
        for c, case in enumerate(cases()):
            found[n, c] = not case.service or facts.present(case.service) is None
    return found


_asked: dict[str, int] = {}


def _address(unit: str) -> int:
    if unit not in _asked:
        with one_at_a_time():
            _asked[unit] = objects.address(unit)
    return _asked[unit]


@cache
def _decide_all() -> objects.Entry:
    return objects.function(f"{Path(filter_kernels.__file__)}:decide_all")


def ask(plan: Plan) -> tuple[list[tuple[int, int]], Answers]:
    """Run all stages of a program. Returns also the (row, subscription) pairs as the packet stage delivers them."""
    rows, n, words = traffic(), len(plan.specs), plan.words
    count = len(rows.array)
    tables = plan.tables
    addresses = np.array([t.ctypes.data for t in tables] or [0], np.int64)
    place = int(addresses.ctypes.data)
    stage = {name: _address(unit) for name, unit in plan.units.items()}
    rows.array["verdict"] &= 0x7F
    room = np.zeros(max(1, count * n), np.int64)
    found = objects.Entry("packet", stage["packet"], 4)(place, rows.address, count, int(room.ctypes.data))
    pairs = [(int(w) >> 32, int(w) & 0xFFFFFFFF) for w in room[:found]]
    packet = np.zeros((n, count), bool)
    for row, s in pairs:
        packet[s, row] = True
    sets = np.zeros(3 * words + ROOM, np.int64)
    out = np.zeros((count, 2 + OF_A_CASE * len(cases()), words), np.int64)
    kinds = np.array([case.words for case in cases()], np.int64)
    job = np.array(
        [
            place, words, rows.address, count, PACKET.itemsize, *(stage.get(s, 0) for s in ("connection", "protocol", "session", "packet_deliver")),
            sets.ctypes.data, out.ctypes.data, kinds.ctypes.data, len(kinds),
        ],
        np.int64,
    )  # fmt: skip
    assert len(job) == JOB_WORDS
    _decide_all()(int(job.ctypes.data))
    bits = np.unpackbits(out.view(np.uint8), axis=2, bitorder="little")[:, :, :n].astype(bool)
    said = np.moveaxis(bits, 2, 0)
    of_case = said[:, :, 2:].reshape(n, count, len(cases()), OF_A_CASE)
    goes_on = np.array([rows.array["verdict"] & CONTINUE != 0])
    return pairs, Answers(packet, goes_on, said[:, :, :2], of_case & possible()[None, :, :, None])


# ------------------------------------------------------------------------------------------------------------ the pool


def _number(address: str) -> int:
    return int(ip_address(address))


def _writers() -> dict[str, Writer]:
    known = declared()
    sides = [f for p in ("ipv4", "ipv6", "tcp", "udp") for f in known[p].fields.values() if f.side]
    header = [f for p in FIELDS for f in known[p].fields.values() if known[p].level == "packet"]
    tls = list(known["tls"].fields.values())
    names = ["tcp", "udp", "ipv4", "ipv6"]
    pool: dict[tuple[str, str], list[Any]] = {
        **{("ipv4", f): [_number(h) for h in HOSTS4] for f in ("src_addr", "dst_addr")},
        **{("ipv6", f): [_number(h) for h in HOSTS6] for f in ("src_addr", "dst_addr")},
        **{(t, f): list(PORTS) for t in ("tcp", "udp") for f in ("src_port", "dst_port")},
        ("ipv4", "time_to_live"): [1, 64, 255], ("ipv6", "hop_limit"): [1, 64, 255], ("tcp", "flags"): [2, 16, 18, 24],
        ("udp", "length"): [8, 9, 108], ("vlan", "id"): [100], ("frame", "length"): [54, 60, 154], ("tcp", "mss"): [1460],
    }  # fmt: skip
    for case in cases():
        for name in FIELDS["tls"] if case.values else ():
            value = case.values[name]
            pool.setdefault(("tls", name), []).extend(v for v in (value if isinstance(value, list) else [value]) if v is not None)
    return {
        "packet": Writer(1, [*sides, *header], [*names, "vlan"], pool),
        "connection": Writer(2, [*sides, *tls], [*names, "tls", "tls", "dns"], pool),
        "both": Writer(3, [*header, *tls, *tls], ["tls", "tls", "tcp"], pool),
    }


def _compiled(specs: Sequence[FilterSpec], engine: str = "any") -> Plan:
    return compile_filters(specs, declared(), engine)


@cache
def pool() -> list[Plan]:
    """Programs of one."""
    found: list[Plan] = []
    writers = _writers()
    for kind, level, wanted in (
        ("packet", "packet", POOL_OF_PACKETS), ("connection", "connection", POOL_OF_CONNECTIONS), ("both", "packet", POOL_OF_BOTH),
    ):  # fmt: skip
        count = 0
        while count < wanted:
            try:
                plan = _compiled([FilterSpec(writers[kind].filter(1), level)])
            except FilterError:
                continue
            if kind == "both" and not plan.per_packet:
                continue
            found.append(plan)
            count += 1
    return found


@cache
def alone() -> Answers:
    """What each filter of the pool says as a program of its own."""
    with one_at_a_time():
        objects.ensure(unit for plan in pool() for unit in plan.units.values())
    found = [ask(plan)[1] for plan in pool()]
    return Answers(*(np.concatenate([getattr(a, name) for a in found]) for name in ("packet", "goes_on", "connection", "of_case")))


@cache
def facts(n: int, turned: bool = False, case: int = -1) -> RowFacts:
    """What is known of a packet, and of its connection if it is of that case."""
    if case < 0:
        return RowFacts(traffic(), n, turned=turned)
    known = cases()[case]
    return RowFacts(traffic(), n, turned=turned, session_known=True, service=known.service, session=known.values)


def _differ(got: np.ndarray[Any, Any], want: np.ndarray[Any, Any], texts: Sequence[str]) -> list[str]:
    return sorted({texts[i] for i in np.argwhere(got != want)[:, 0]})


def test_a_program_of_one_is_what_the_interpreter_says():
    rows, said = traffic(), alone()
    fired = 0
    for i, plan in enumerate(pool()):
        term, text = plan.terms[0], plan.specs[0].text
        for n in range(len(rows.array)):
            first = evaluate(term, facts(n))
            if plan.direct:
                assert said.packet[i, n] == first, text
                assert not said.goes_on[i, n], text
                fired += bool(first)
                continue
            assert not said.packet[i, n], text
            if not plan.per_packet:
                wanted = first is not False or evaluate(term, facts(n, turned=True)) is not False
                assert said.goes_on[i, n] == wanted, text
                assert list(said.connection[i, n]) == [first is True, first is None], text
            for c, case in enumerate(cases()):
                if not possible()[n, c] or (case.service == "tls") != (case.session is not None):
                    continue
                now = evaluate(term, facts(n, case=c))
                fired += now is True
                got = said.of_case[i, n, c]
                if not plan.per_packet and case.session is not None:
                    assert got[0] + got[2] + said.connection[i, n, 0] == now, text
                    assert not got[3], text
                if case.session is not None or now is not None:
                    beside = evaluate(term, facts(n ^ 1, case=c)) if plan.per_packet else now
                    assert list(got[4:]) == [now is True, beside is True], text
    assert fired > 10 * len(pool()), "the filters are meant to match now and then"


def programs(count: int, seed: int) -> Iterable[list[int]]:
    """Which filters of the pool stand in each program."""
    rng = random.Random(seed)
    for _ in range(count):
        size = rng.choice((2, 3, 5, 8)) if rng.random() < 0.98 else 70
        members = rng.sample(range(len(pool())), size)
        yield members + members[: rng.random() < 0.1]  # the same filter twice, now and then


def _compare(members: list[int], engine: str) -> int:
    """Compare a program with programs of one. Returns how many events there were."""
    single = alone()
    plan = _compiled([pool()[i].specs[0] for i in members], engine)
    texts = [spec.text for spec in plan.specs]
    pairs, got = ask(plan)
    assert pairs == [(int(n), int(s)) for n, s in np.argwhere(single.packet[members].T)], texts
    if engine == "any":
        assert not _differ(got.packet, single.packet[members], texts), texts
        assert (got.goes_on[0] == single.goes_on[members].any(axis=0)).all(), texts
    else:
        assert not (single.goes_on[members].any(axis=0) & ~got.goes_on[0]).any(), texts
    # Of what is asked packet by packet only what comes of it is compared: its first halves are numbered otherwise.
    plain = [s for s, i in enumerate(members) if not pool()[i].per_packet]
    kept = [members[s] for s in plain]
    assert not _differ(got.connection[plain], single.connection[kept], [texts[s] for s in plain]), texts
    assert not _differ(got.of_case[plain][..., :4], single.of_case[kept][..., :4], [texts[s] for s in plain]), texts
    packet = [s for s, spec in enumerate(plan.specs) if spec.level == "packet"]
    kept = [members[s] for s in packet]
    assert not _differ(got.of_case[packet][..., 4:], single.of_case[kept][..., 4:], [texts[s] for s in packet]), texts
    return len(pairs) + int(got.of_case[..., ::2].sum())


def test_a_program_of_n_is_n_programs_of_one():
    events = sum(_compare(members, "any") for members in programs(PROGRAMS, 7))
    assert events > 20 * PROGRAMS
    assert len(_asked) < 40, "no program needed code of its own"


def test_a_program_of_n_as_code():
    made = list(programs(AS_CODE, 11))
    with one_at_a_time():
        plans = [_compiled([pool()[i].specs[0] for i in members], "code") for members in made]
        objects.ensure(unit for plan in plans for unit in plan.units.values())
    assert sum(_compare(members, "code") for members in made) > 10 * AS_CODE

