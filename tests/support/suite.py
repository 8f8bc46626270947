"""The cases of `tests/suite`: packets and sessions by name, and what a set of filters says of them, engine by engine."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from traffic import packets

from retina_jit.filters import FilterSpec, Plan, compile_filters
from retina_jit.filters.interpret import evaluate
from retina_jit.parsers.protocol import protocols
from retina_jit.stamp import cache_dir
from retina_jit.state.layout import CONNECTION, HISTORY_LETTERS, TRACK
from support.filters import RowFacts, Rows, Runner
from support.sessions import keeper

ENGINES = ("interpreter", "plain", "code", "tables")
"""The meaning; each filter as code of its own; all filters merged into tries; all filters as data."""
Shape = dict[str, Any]
MACS = {"dst_mac": "02:00:00:00:00:0b", "src_mac": "02:00:00:00:00:0a"}


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Compile in one process of several that run tests: the others find what it has made."""
    with (cache_dir() / "suite.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ------------------------------------------------------------------------------------------------------------ packets


def frame(shape: Shape) -> bytes:
    """The frame that a line of a table describes."""
    kind = shape["kind"]
    dst, src = (bytes.fromhex(shape.get(name, default).replace(":", "")) for name, default in MACS.items())
    if kind == "arp":
        return b"\xff" * 6 + src + b"\x08\x06" + packets.arp(src, "10.0.0.1", "10.0.0.2")[-28:]
    packet = _packet(shape)
    six = packet[0] >> 4 == 6
    tags = shape.get("vlan", [])
    shim = b"".join((b"\x81\0" if tag is tags[-1] else b"\x88\xa8") + tag.to_bytes(2, "big") for tag in tags)
    return dst + src + shim + (b"\x86\xdd" if six else b"\x08\0") + packet


def _packet(shape: Shape) -> bytes:
    src, dst, kind = shape["src"], shape["dst"], shape["kind"]
    payload = shape.get("payload", "").encode() + bytes.fromhex(shape.get("payload_hex", "")) + b"x" * shape.get("size", 0)
    ports = shape.get("sport", 0), shape.get("dport", 0)
    if kind == "tcp":
        number, keys = 6, ("flags", "seq", "ack", "window", "urgent")
        named = {k: shape[k] for k in keys if k in shape}
        message = packets.tcp(src, dst, *ports, payload, options=bytes.fromhex(shape.get("options", "")), **named)
    elif kind == "icmp":
        number, message = 1, packets.icmp(shape["type"], shape["code"])
    elif kind == "icmpv6":
        number, message = 58, packets.icmpv6(src, dst, shape["type"], shape["code"])
    elif kind == "other":
        number, message = shape["protocol"], payload
    else:
        number, message = 17, packets.udp(src, dst, *ports, payload)
    if ":" in src:
        before = ((0, b""),) if shape.get("hop_by_hop") else ()
        return packets.ipv6(
            src, dst, number, message, extensions=before, traffic_class=shape.get("tos", 0), flow_label=shape.get("label", 0),
            hop_limit=shape.get("ttl", 64),
        )  # fmt: skip
    return packets.ipv4(
        src, dst, number, message, ident=shape.get("ident", 0), flags_offset=shape.get("fragment", 0x4000), ttl=shape.get("ttl", 64),
        tos=shape.get("tos", 0), options=bytes.fromhex(shape.get("ip_options", "")),
    )  # fmt: skip


def rows(shapes: dict[str, Shape]) -> Rows:
    """Decoded frames of a table, in its order."""
    frames = [frame(shape) for shape in shapes.values()]
    return Rows([(f[: s.get("caplen", len(f))], 1, len(f)) for f, s in zip(frames, shapes.values())])


# ----------------------------------------------------------------------------------------------------------- programs


@cache
def plan(texts: tuple[str, ...], level: str, engine: str) -> Plan:
    """All filters in one program."""
    return compile_filters([FilterSpec(text, level) for text in texts], engine=engine)


@cache
def program(texts: tuple[str, ...], level: str, engine: str) -> Runner:
    """The same, compiled."""
    with one_at_a_time():
        return Runner(plan(texts, level, engine))


def terms(texts: tuple[str, ...], level: str) -> Sequence[Any]:
    """What the interpreter evaluates."""
    return plan(texts, level, "tables").terms


# ----------------------------------------------------------------------------------------------------------- sessions


@cache
def conversation(protocol: str, name: str) -> tuple[int, tuple[tuple[int, bytes], ...]]:
    """Transport and segments of a declared example."""
    for example in protocols()[protocol].examples:
        if example.name == name:
            return example.transport, example.segments
    raise LookupError(f"{protocol} declares no example {name!r}")


def ask_sessions(texts: tuple[str, ...], wanted: dict[str, list[Any]], engine: str) -> dict[str, list[str]]:
    """For each filter the names of the sessions that match."""
    found: dict[str, list[str]] = {text: [] for text in texts}
    together: dict[tuple[str, str, int], dict[int, str]] = {}
    for name, (protocol, example, which, port) in wanted.items():
        together.setdefault((protocol, example, port), {})[which] = name
    runner = None if engine == "interpreter" else program(texts, "session", engine)
    for (protocol, example, port), names in together.items():
        transport, segments = conversation(protocol, example)
        kind = {6: "tcp", 17: "udp"}[transport]
        here = rows({"": {"kind": kind, "src": "10.0.0.1", "dst": "192.0.2.7", "sport": 50000, "dport": port, "flags": 2}})
        session = keeper(protocol).session(transport)

        def asked(session: Any = session, names: dict[int, str] = names, here: Rows = here, protocol: str = protocol) -> None:
            name = names.get(session.delivered - 1)
            if name is None:
                return
            if runner is None:
                facts = RowFacts(here, 0, session_known=True, service=protocol, session=_Keyed(session))
                got = {n for n, term in enumerate(terms(texts, "session")) if evaluate(term, facts)}
            else:
                got = decide(runner, here, 0, protocols()[protocol].number, session.address)
            for n in sorted(got):
                found[texts[n]].append(name)

        session.on_delivery = asked
        for n, segment in enumerate(segments):
            session.feed(*segment, ts=(n + 1) * 10**9)
            if session.stopped:
                break
        session.finish()
        assert session.delivered > max(names), (protocol, example)
    order = list(wanted)
    return {text: sorted(names, key=order.index) for text, names in found.items()}


class _Keyed:
    """Fields of a session as the interpreter asks for them: a keyed field answers for any key."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __getitem__(self, field: str) -> Any:
        if self.session.parser.protocol.fields[field].keyed:
            return _Values(self.session, field)
        return self.session[field]


class _Values:
    def __init__(self, session: Any, field: str) -> None:
        self.session, self.field = session, field

    def get(self, key: bytes, default: bytes) -> bytes:
        found = self.session.keyed(self.field, key.decode())
        return default if found is None else found


def decide(runner: Runner, here: Rows, n: int, service: int, session: int) -> set[int]:
    """Subscriptions that match, over all stages up to the session's."""
    matched, alive = runner.decide("connection", here.at(n))
    for stage, words in (("protocol", (service,)), ("session", (service, session))):
        more, alive = runner.decide(stage, here.at(n), *words, alive=alive)
        matched |= more
    assert not alive, "nothing is open once the session is known"
    return matched


# -------------------------------------------------------------------------------------------------------- connections


class Ended:
    """A connection at its end."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.connection, self.track = np.zeros(1, CONNECTION), np.zeros(1, TRACK)
        self.connection["first"], self.connection["last"] = 10**18, 10**18 + self.nanoseconds
        for side in (0, 1):
            for field, name in (("nb_pkts", "packets"), ("nb_pkt_bytes", "bytes"), ("nb_payload_bytes", "payload")):
                self.track[f"{field}{side}"] = shape[name][side]
        letters = "?" + HISTORY_LETTERS + "?" + HISTORY_LETTERS.lower()
        self.track["history"] = sum(letters.index(letter) << 4 * n for n, letter in enumerate(shape["history"]))

    @property
    def nanoseconds(self) -> int:
        return round(self.shape["seconds"] * 1e9)

    @property
    def words(self) -> tuple[int, int]:
        """Addresses of both records."""
        return int(self.connection.ctypes.data), int(self.track.ctypes.data)

    def value(self, field: str) -> Any:
        """What a filter's field means, from the table's line alone."""
        if field == "history":
            return self.shape["history"].encode()
        if field.startswith("duration"):
            return self.nanoseconds // {"duration": 10**9, "duration_ms": 10**6, "duration_ns": 1}[field]
        side, what = (field[:4], field[5:]) if field[:5] in ("orig_", "resp_") else ("", field)
        pair = self.shape[{"packets": "packets", "bytes": "bytes", "payload_bytes": "payload"}[what]]
        return pair[0] if side == "orig" else pair[1] if side == "resp" else sum(pair)


class EndFacts(RowFacts):
    """A connection that had no session, at its end."""

    def __init__(self, here: Rows, n: int, ended: Ended) -> None:
        super().__init__(here, n, session_known=True)
        self.ended = ended

    def present(self, protocol: str) -> bool | None:
        return True if protocol == "conn" else super().present(protocol)

    def value(self, protocol: str, field: str) -> Any:
        return self.ended.value(field) if protocol == "conn" else super().value(protocol, field)
