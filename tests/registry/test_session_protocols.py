"""What holds for every session protocol: the contract of `retina_jit.parsers.session.contract`."""

from __future__ import annotations

import importlib
import os
import random
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sessions import Shown, Timed, parser

from retina_jit import objects
from retina_jit.datatypes import data_types
from retina_jit.jit import Kernel
from retina_jit.parsers.protocol import SessionExample, protocols
from retina_jit.parsers.user import load_protocol
from retina_jit.status import Probe

if os.environ.get("RETINA_JIT_TEST_PROTOCOL"):  # a protocol of a user's own, see docs/protocols.md
    load_protocol(os.environ["RETINA_JIT_TEST_PROTOCOL"])

NAMES = sorted(name for name, protocol in protocols().items() if protocol.level == "session")
ENTRIES = {"probe": 4, "parse": 2, "finish": 2, "release": 2}

each = pytest.mark.parametrize("name", NAMES)
segments = st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=60), st.sampled_from([0, 0, 0, 2, 500])), max_size=10)


@each
def test_it_has_what_the_pipeline_calls(name: str) -> None:
    module = importlib.import_module(protocols()[name].module)
    for entry, arity in ENTRIES.items():
        found = getattr(module, entry)
        assert isinstance(found, Kernel)
        assert (found.role, found.arity) == ("entry", arity)
    assert 0 < module.STATE.itemsize <= 512
    assert 0 < module.PROBE_LIMIT <= 512


@each
def test_its_fields_have_a_sentence(name: str) -> None:
    fields = protocols()[name].fields
    assert fields
    for field in fields.values():
        assert field.doc.endswith("."), field.name


@each
def test_a_data_type_shows_it(name: str) -> None:
    shown = [t for t in data_types().values() if name == t.SERVICE]
    assert shown
    for data_type in shown:
        assert objects.function(data_type.PROJECT)


@each
def test_nothing_is_delivered_of_nothing(name: str) -> None:
    with parser(name).run([]) as session:
        assert session.delivered == 0
        session.fields()
    with parser(name).run([(0, b""), (1, b"")]) as session:
        assert (session.delivered, session.stopped) == (0, False)


@each
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(pieces=segments)
def test_any_bytes_break_nothing(name: str, pieces: list[tuple[int, bytes, int]]) -> None:
    with parser(name).run(pieces) as session:
        session.fields()
        session.event()
    assert parser(name).used == 0, "memory was not given back"


@each
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=600))
def test_the_probe_makes_up_its_mind_and_keeps_to_it(name: str, data: bytes) -> None:
    limit = parser(name).module.PROBE_LIMIT
    answers = [parser(name).probe(data[:n]) for n in range(min(len(data), limit + 2) + 1)]
    assert set(answers) <= set(Probe)
    decided = [answer for answer in answers if answer != Probe.UNSURE]
    assert len(set(decided)) <= 1, "it changed its mind"
    if len(data) >= limit:
        assert decided, f"{limit} bytes were not enough"


# ------------------------------------------------------------------------------------------------------------- examples

EXAMPLES = [pytest.param(name, e, id=f"{name}-{e.name}") for name in NAMES for e in protocols()[name].examples]
STREAMS = [p for p in EXAMPLES if p.values[1].transport == 6]  # type: ignore[union-attr]
TRANSPORTS = {6: "tcp", 17: "udp"}
MOST_CUTS = 200
"""Places at which an example is cut off; all of them if it is not longer."""

each_example = pytest.mark.parametrize(("name", "example"), EXAMPLES)
each_stream = pytest.mark.parametrize(("name", "example"), STREAMS)


def timed(example: SessionExample) -> list[Timed]:
    return [(n, direction, data) for n, (direction, data) in enumerate(example.segments, 1)]


def whole(name: str, example: SessionExample) -> tuple[list[Shown], list[Shown]]:
    keys = {key: None for expected in example.sessions for value in expected.values() if isinstance(value, dict) for key in value}
    return parser(name).conversation(timed(example), example.transport, keys)


def plain(value: Any) -> Any:
    """An expected value as the reader gives it."""
    if isinstance(value, str):
        return value.encode()
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def cut_anew(rng: random.Random, segments: list[Timed]) -> list[Timed]:
    """The same bytes in other pieces."""
    found = []
    for seconds, direction, data in segments:
        places = sorted(rng.randint(0, len(data)) for _ in range(rng.choice((0, 1, 2, 5, 20))))
        found += [(seconds, direction, data[a:b]) for a, b in zip([0, *places], [*places, len(data)])]
    return found


def cut_off(segments: list[Timed], length: int, whole_ones: bool) -> list[Timed]:
    """The first `length` bytes of a conversation; if told so, no part of a segment."""
    found = []
    for seconds, direction, data in segments:
        if length < len(data) and whole_ones:
            break
        if length:
            found.append((seconds, direction, data[:length]))
        length -= min(length, len(data))
    return found


@each
def test_it_has_examples(name: str) -> None:
    assert protocols()[name].examples
    assert all(isinstance(e, SessionExample) for e in protocols()[name].examples)


@each_example
def test_an_example_gives_its_sessions(name: str, example: SessionExample) -> None:
    parsed, finished = whole(name, example)
    found = parsed + finished
    assert len(found) == len(example.sessions)
    for session, expected in zip(found, example.sessions):
        for field, value in expected.items():
            if isinstance(value, dict):
                assert {key: session[field][key] for key in value} == {key: plain(v) for key, v in value.items()}, field
            else:
                assert session[field] == plain(value), field
    assert parser(name).used == 0, "memory was not given back"


@each_example
def test_the_probe_knows_an_example(name: str, example: SessionExample) -> None:
    first = example.segments[0][0]
    segments = [data for direction, data in example.segments if direction == first]
    seen = segments if example.transport == 17 else list(accumulate(segments))
    answers = [parser(name).probe(data, first, example.transport) for data in seen]
    assert Probe.CERTAIN in answers
    assert Probe.NOT_OURS not in answers[: answers.index(Probe.CERTAIN)]


@each
def test_the_probe_leaves_the_examples_of_others(name: str) -> None:
    for other in NAMES:
        for example in protocols()[other].examples:
            if protocols()[other].module != protocols()[name].module and TRANSPORTS[example.transport] in protocols()[name].within:
                for direction, data in example.segments:
                    first = next(d for side, d in example.segments if side == direction)
                    if data is first or example.transport == 17:
                        assert parser(name).probe(data, direction, example.transport) != Probe.CERTAIN, (other, example.name)


@each_stream
def test_any_cut_of_the_stream_gives_the_same_sessions(name: str, example: SessionExample) -> None:
    expected = parser(name).conversation(timed(example))
    rng = random.Random(example.name)
    byte_by_byte = [(seconds, direction, data[n : n + 1]) for seconds, direction, data in timed(example) for n in range(len(data))]
    for pieces in [byte_by_byte, *[cut_anew(rng, timed(example)) for _ in range(40)]]:
        assert parser(name).conversation(pieces) == expected
    assert parser(name).used == 0


@each_example
def test_what_is_cut_off_gives_the_first_sessions(name: str, example: SessionExample) -> None:
    """What was complete before the end stays as it was; what was not is shown at the end, as far as it goes, or not."""
    parsed, finished = parser(name).conversation(timed(example), example.transport)
    size = sum(len(data) for _, data in example.segments)
    for length in sorted(random.Random(1).sample(range(size), min(size, MOST_CUTS))):
        before, after = parser(name).conversation(cut_off(timed(example), length, example.transport == 17), example.transport)
        assert before == parsed[: len(before)]
        assert len(before) + len(after) <= len(parsed) + len(finished)
    assert parser(name).used == 0


@each_example
def test_damage_breaks_nothing(name: str, example: SessionExample) -> None:
    rng = random.Random(example.name)
    for _ in range(60):
        segments = [(seconds, direction, bytearray(data)) for seconds, direction, data in timed(example)]
        for _ in range(rng.choice((1, 1, 3))):
            data = rng.choice(segments)[2]
            at = rng.randint(0, len(data))
            data[at : at + rng.choice((0, 1, 4))] = rng.randbytes(rng.choice((0, 1, 2, 30)))
        damaged = [(seconds, direction, bytes(data)) for seconds, direction, data in segments]
        parser(name).conversation(damaged, example.transport)
    assert parser(name).used == 0, "memory was not given back"
