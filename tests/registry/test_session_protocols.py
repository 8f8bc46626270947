"""What holds for every session protocol: the contract of `retina_jit.parsers.session.contract`."""

from __future__ import annotations

import importlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sessions import parser

from retina_jit.datatypes import data_types
from retina_jit.jit import Kernel
from retina_jit.parsers.protocol import protocols
from retina_jit.status import Probe

NAMES = sorted(name for name, protocol in protocols().items() if protocol.level == "session")
ENTRIES = {"probe": 4, "parse": 2, "finish": 2, "release": 2, "project": 1}

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
    assert [t for t in data_types().values() if name == t.SERVICE]


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
