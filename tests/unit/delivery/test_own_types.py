"""Data types of the user's own: what they are shown, when they are cleared, what is refused."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support.running import config, run_frames
from traffic import Frame, UdpExchange

from retina_jit import data_type
from retina_jit.datatypes import ConnRecord, FiveTuple, base
from retina_jit.errors import SubscriptionError
from retina_jit.program import Program
from retina_jit.subscription import Every, Subscription

STATE = np.dtype([("first", "u4"), ("longest", "u4"), ("packets", "i8"), ("answers", "u2")])


@pytest.fixture(autouse=True)
def _forget_types() -> Iterator[None]:
    before = dict(base._types)
    yield
    base._types.clear()
    base._types.update(before)


def sizes(clears: bool = False, above: int = 0) -> Any:
    """A data type that counts frames longer than `above`, which is a variable of the closure."""

    class Sizes:
        """Lengths of frames."""

        state = STATE

        def new(state, packet):  # noqa: N805
            state.first = packet.length

        def update(state, packet):  # noqa: N805
            if packet.length > above:
                state.packets += 1
                state.longest = max(state.longest, packet.length)
                state.answers += packet.direction

        if clears:

            def clear(state):  # noqa: N805
                state.packets = 0
                state.longest = 0
                state.answers = 0

        @property
        def span(self) -> int:
            return self.longest - self.first  # type: ignore[attr-defined,no-any-return]

    return data_type(Sizes)


def traffic() -> dict[int, list[Frame]]:
    rng = random.Random(1)
    flows = {}
    for port in range(20000, 20050):
        flow = UdpExchange(("192.0.2.1", port), ("198.51.100.1", 9), start_ns=10**18 + rng.randrange(10**9))
        for k in range(rng.randint(1, 12)):
            flow.datagram(rng.randint(0, 1) if k else 0, b"." * rng.choice((1, 60, 500)), checksum=0)
        flows[port] = flow.frames
    return flows


def merged(flows: dict[int, list[Frame]]) -> list[Frame]:
    return sorted((f for frames in flows.values() for f in frames), key=lambda f: f.ts_ns)


def summary(first: Frame, frames: list[Frame], above: int = 0) -> tuple[int, int, int, int]:
    counted = [f for f in frames if f.length > above]
    answers = sum(int.from_bytes(f.data[34:36], "big") == 9 for f in counted)
    return first.length, max([f.length for f in counted], default=0), len(counted), answers


def values(s: Any) -> tuple[int, int, int, int]:
    return s.first, s.longest, s.packets, s.answers


def test_records_at_the_end_of_connections():
    flows = traffic()
    every, above = sizes(), sizes(above=100)
    got: list[dict[int, Any]] = [{}, {}, {}]
    spans: dict[int, int] = {}

    def both(t: FiveTuple, a: Any, c: ConnRecord) -> None:
        got[0][t.orig_port] = values(a)
        spans[t.orig_port] = a.span
        assert a.packets == c.total_pkts

    subscriptions = [
        Subscription("", (FiveTuple, every, ConnRecord), both),
        Subscription("udp", (above, FiveTuple), lambda a, t: got[1].update({t.orig_port: values(a)})),
        Subscription("tls", (every,), lambda a: got[2].update({0: a})),
    ]
    run_frames(subscriptions, merged(flows))
    assert got[0] == {port: summary(f[0], f) for port, f in flows.items()}
    assert got[1] == {port: summary(f[0], f, 100) for port, f in flows.items()}
    assert spans == {port: max(x.length for x in f) - f[0].length for port, f in flows.items()}
    assert got[2] == {}


@pytest.mark.parametrize("clears", [False, True])
def test_streams_clear_what_they_were_given(clears):
    # Upstream clears a copy (retina.md 3.5): what is delivered grows from call to call.
    flows = traffic()
    mine = sizes(clears)
    got: dict[int, list[Any]] = defaultdict(list)
    ends: dict[int, Any] = {}
    subscriptions = [
        Subscription("", (FiveTuple, mine), lambda t, a: got[t.orig_port].append(values(a)), every=Every("packets", 3, True)),
        Subscription("", (FiveTuple, mine), lambda t, a: ends.update({t.orig_port: values(a)})),  # is not cleared by the other
    ]
    run_frames(subscriptions, merged(flows), config(udp_inactivity_timeout=10**6))
    want: dict[int, list[Any]] = {}
    for port, frames in flows.items():
        stops = [*range(1, len(frames) + 1, 3), len(frames)]
        starts = [0, *stops[:-1]] if clears else [0] * len(stops)
        want[port] = [summary(frames[0], frames[a:b]) for a, b in zip(starts, stops)]
    assert got == want
    assert ends == {port: summary(f[0], f) for port, f in flows.items()}


def test_batches_and_compiled_callbacks_get_the_record():
    flows = traffic()
    mine = sizes()
    columns: list[int] = []
    state = np.zeros(1, [("packets", "i8")])

    def count(record, total):
        total.packets += record.packets

    compiled = Subscription("", (mine,), count, "jit", state)
    run_frames([Subscription("", (mine,), lambda c: columns.extend(c["packets"].tolist()), "batch"), compiled], merged(flows))
    assert sorted(columns) == sorted(map(len, flows.values()))
    assert compiled.result["packets"] == sum(columns)


def nothing(state, packet): ...


def wrong_field(state, packet):
    state.packets += packet.colour


@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        ({"update": nothing}, "no `state`"),
        ({"state": STATE}, "no `update"),
        ({"state": np.dtype("i8"), "update": nothing}, "state has no fields"),
        ({"state": np.dtype([("x", "S4")]), "update": nothing}, "field 'x' is"),
    ],
)
def test_what_lacks_something_is_refused(inside, reason):
    with pytest.raises(SubscriptionError, match=reason):
        data_type(type("Mine", (), inside))


def test_names_of_built_in_types_are_taken():
    with pytest.raises(SubscriptionError, match="the name is taken"):
        data_type(type("ConnRecord", (), {"state": STATE, "update": nothing}))


def test_a_field_that_is_not_there_is_named():
    mine = data_type(type("Mine", (), {"state": STATE, "update": wrong_field}))
    with pytest.raises(SubscriptionError, match=r"data type Mine: update (asks for|does not compile)[\s\S]*colour"):
        Program([Subscription("", (mine,), print)])
