"""Predicates of the user's own: what is refused when they are declared, named in a filter, or compiled."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from support.running import collect, run_frames
from traffic import UdpExchange

from retina_jit.errors import FilterError, PredicateError
from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.filters import predicates as registry
from retina_jit.filters.predicates import ACCEPT, CONTINUE, predicate
from retina_jit.program import Program
from retina_jit.subscription import named

STATE = np.dtype([("n", "i8")])


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    before = registry.predicates()
    yield
    registry.forget_predicates(*registry.predicates())
    registry._known.update(before)


def big(packet, least=1000, most=9000):
    return least <= packet.length <= most


def of_nothing(): ...


def strange(packet, least=None):
    return True


def starred(packet, *more):
    return True


def notable(packet):
    return True


def tls(packet):
    return True


def sni_first(most, sni):
    return True


def late(version, most, sni):
    return True


def listed(alerts):
    return True


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (lambda: predicate(of_nothing), "predicate of_nothing: its first parameter is not `packet`"),
        (lambda: predicate(strange), "default of 'least' is None"),
        (lambda: predicate(starred), "parameter 'more': write plain parameters"),
        (lambda: predicate(notable), "filters would read `not`"),
        (lambda: predicate(tls), "the name is a protocol's"),
        (lambda: predicate("tcp")(big), "'tcp' is no session protocol; there are conn, "),
        (lambda: predicate("tls")(sni_first), "its first parameter is no field of tls"),
        (lambda: predicate("tls")(late), "the field 'sni' stands behind values"),
        (lambda: predicate("tls")(listed), "tls.alerts is a list"),
        (lambda: predicate(5), "a function or a class is needed"),
        (lambda: predicate("tls")(type("X", (), {})), "a class is asked of connections"),
        (lambda: predicate(type("X", (), {"state": STATE})), "predicate X: no `update"),
        (lambda: predicate(type("X", (), {"update": lambda state: 0})), r"update takes \(state, packet, ...\)"),
        (lambda: predicate(type("X", (), {"state": np.dtype([("x", "S4")]), "update": lambda state, packet: 0})), "field 'x' is"),
        (lambda: predicate(type("X", (), {"state": np.dtype("i8"), "update": lambda state, packet: 0})), "state has no fields"),
        (lambda: predicate(type("X", (), {"update": lambda state, packet, n: 0, "new": lambda state, packet, m: None})), "new takes"),
    ],
)
def test_declarations_that_are_refused(what, reason):
    with pytest.raises(PredicateError, match=reason):
        what()


@pytest.mark.parametrize(
    ("text", "start", "reason"),
    [
        ("tcp and bigg(5)", 8, "there is no predicate bigg; did you mean big?"),
        ("bigg", 0, "there is no protocol bigg; did you mean big?"),
        ("big(1, 2, 3)", 0, r"big takes 0 to 2 values \(least, most\), not 3"),
        ("nth", 0, r"nth takes 1 value \(n\), not 0"),
        ("big(10.0.0.1)", 4, "a predicate takes numbers, true, false and 'texts'"),
        ("big({1})", 4, "a predicate takes numbers"),
        ("big(99999999999999999999)", 4, "a predicate takes numbers"),
        ("big(1", 3, "a parenthesis is not closed|expected|missing"),
        ("big(1) = 1", 7, "expected here"),
        ("big > 1", 0, "big is a predicate: it stands alone"),
        ("udp and few and tcp", 0, "exclude each other|does not run over"),
    ],
)
def test_filters_that_are_refused(text, start, reason):
    predicate(big)

    @predicate("tls")
    def few(sni):
        return len(sni) < 5

    @predicate
    class nth:  # noqa: N801
        state = STATE

        def update(state, packet, n):  # noqa: N805
            return CONTINUE

    with pytest.raises(FilterError, match=reason) as caught:
        compile_filters([FilterSpec(text, "connection")])
    if "exclude" not in reason:
        assert caught.value.start == start


def test_a_session_predicate_is_for_its_protocol():
    @predicate("tls")
    def few(sni):
        return len(sni) < 5

    plan = compile_filters([FilterSpec("few or dns", "connection"), FilterSpec("few(\n)", "session")])
    assert plan.services_of == ({"tls", "dns"}, {"tls"})
    predicate("conn")(at_the_end)
    with pytest.raises(FilterError, match="fires before"):
        compile_filters([FilterSpec("at_the_end", "session")])


def at_the_end(duration_ms, history):
    return duration_ms >= 0 and "D" in history


def asks_for_colour(packet):
    return packet.colour > 3


def test_what_does_not_compile_names_the_users_line():
    predicate(asks_for_colour)

    @predicate
    class forgets:  # noqa: N801
        state = STATE

        def update(state, packet):  # noqa: N805, RET503
            if packet.length > 3:
                return ACCEPT

    with pytest.raises(PredicateError, match=r"predicate asks_for_colour: call [\s\S]*(test_predicates\.py|colour)"):
        Program([named(["ZcFrame"], "asks_for_colour", print, "each")])
    with pytest.raises(PredicateError, match=r"update \(.*test_predicates.py, line \d+\) gives .*it must give ACCEPT, DROP or CONTINUE on every way"):
        Program([named(["ConnRecord"], "forgets", print, "each")])


def test_texts_bools_and_the_end_of_connections():
    """What the property test does not write: str arguments, `conn` predicates, a predicate declared again, bools."""

    @predicate("dns")
    def ends(query_domain, has_response, suffix, answered=True):
        return query_domain.endswith(suffix) and has_response == answered

    predicate("conn")(at_the_end)
    question = b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\3www\7example\0\0\1\0\1"
    talk = UdpExchange(("192.0.2.1", 5000), ("198.51.100.1", 53))
    talk.to_server(question)
    talk.to_client(question[:2] + b"\x81\x80" + question[4:])
    made = {
        text: collect("DnsTransaction" if "ends" in text else "ConnRecord", text)
        for text in ("ends('.example')", "ends('.example', false)", "ends(\"\\x2eexample\", true)", "ends('.com')", "at_the_end", "at_the_end and conn.packets > 2")
    }
    run_frames([s for s, _ in made.values()], talk.frames)
    assert [len(rows) for _, rows in made.values()] == [1, 0, 1, 0, 1, 0]


def test_a_predicate_declared_again_takes_the_place_of_the_first():
    for least in (1, 5000):

        @predicate
        def long_one(packet):
            return packet.length > least  # noqa: B023 - compiled as it is now

        talk = UdpExchange(("192.0.2.1", 5000), ("198.51.100.1", 9))
        talk.to_server(b"x")
        s, rows = collect("ZcFrame", "long_one")
        run_frames([s], talk.frames)
        assert len(rows) == (least == 1)
