"""The cases of the tables beside this file: each filter on each packet, session and connection, on every engine."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.filters import RowFacts, Runner, refusal
from support.running import SAMPLES
from support.suite import (
    ENGINES,
    Ended,
    EndFacts,
    Rows,
    ask_sessions,
    conversation,
    decide,
    keeper,
    program,
    rows,
    terms,
)

from retina_jit.cli import main
from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.filters.interpret import evaluate
from retina_jit.parsers.protocol import protocols

FOLDER = Path(__file__).parent
FILTERS, HEADERS, SESSIONS, CONNECTIONS = (
    tomllib.loads((FOLDER / f"{name}.toml").read_text()) for name in ("filters", "headers", "sessions", "connections")
)
on_each_engine = pytest.mark.parametrize("engine", ENGINES)


@cache
def table(of: str, name: str = "packets") -> tuple[list[str], Rows]:
    """Names and packets of a table."""
    shapes = {"filters": FILTERS, "headers": HEADERS, "connections": CONNECTIONS}[of][name]
    return list(shapes), rows(shapes)


def texts(section: dict[str, object]) -> tuple[str, ...]:
    """The filters of a section."""
    return tuple(section)


# ------------------------------------------------------------------------------------------------------------ packets

PACKETS = tuple({**FILTERS["match"], **HEADERS["match"]})


@cache
def matching_packets(of: str, engine: str) -> dict[str, list[str]]:
    """For each filter the names of the packets that match."""
    names, here = table(of)
    if engine == "interpreter":
        facts = [RowFacts(here, n) for n in range(len(names))]
        return {text: [names[n] for n, f in enumerate(facts) if evaluate(term, f)] for text, term in zip(PACKETS, terms(PACKETS, "packet"))}
    found: dict[str, list[str]] = {text: [] for text in PACKETS}
    for n, s in program(PACKETS, "packet", engine).packets(here)[0]:
        found[PACKETS[s]].append(names[n])
    return found


@on_each_engine
@pytest.mark.parametrize("text", FILTERS["match"])
def test_match(text, engine):
    assert matching_packets("filters", engine)[text] == FILTERS["match"][text]


@on_each_engine
@pytest.mark.parametrize("text", HEADERS["match"])
def test_headers(text, engine):
    assert matching_packets("headers", engine)[text] == HEADERS["match"][text]


# ----------------------------------------------------------------------------------------------------------- sessions


@cache
def matching_sessions(engine: str) -> dict[str, list[str]]:
    return ask_sessions(texts(SESSIONS["match"]), SESSIONS["sessions"], engine)


@on_each_engine
@pytest.mark.parametrize("text", SESSIONS["match"])
def test_sessions(text, engine):
    assert matching_sessions(engine)[text] == SESSIONS["match"][text]


# -------------------------------------------------------------------------------------------------------- connections


@cache
def known_at_once(engine: str) -> dict[str, dict[str, list[str]]]:
    """For each filter the first packets whose connection matches, and those where that is not known yet."""
    asked = (*CONNECTIONS["connection"], *(t for t in CONNECTIONS["maybe"] if t not in CONNECTIONS["connection"]))
    names, here = table("connections")
    tracked = [n for n in range(len(names)) if any(RowFacts(here, n).present(t) for t in ("tcp", "udp"))]
    found: dict[str, dict[str, list[str]]] = {kind: {t: [] for t in asked} for kind in ("connection", "maybe")}
    for n in tracked:
        if engine == "interpreter":
            answers = [evaluate(term, RowFacts(here, n)) for term in terms(asked, "connection")]
            sure, maybe = ({s for s, a in enumerate(answers) if a is wanted} for wanted in (True, None))
        else:
            sure, maybe = program(asked, "connection", engine).decide("connection", here.at(n))
        for kind, numbers in (("connection", sure), ("maybe", maybe)):
            for s in numbers:
                found[kind][asked[s]].append(names[n])
    return found


@on_each_engine
@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind in ("connection", "maybe") for text in CONNECTIONS[kind]])
def test_connections(kind, text, engine):
    assert known_at_once(engine)[kind][text] == CONNECTIONS[kind][text]


@pytest.mark.parametrize("text", CONNECTIONS["continue"])
def test_packets_of_either_direction_go_on(text):
    names, here = table("connections")
    term = terms((text,), "connection")[0]
    facts = [(RowFacts(here, n), RowFacts(here, n, turned=True)) for n in range(len(names))]
    tracked = [there.present("tcp") or there.present("udp") for there, _ in facts]
    meant = [n for n, pair in enumerate(facts) if tracked[n] and any(evaluate(term, f) is not False for f in pair)]
    assert [names[n] for n in meant] == CONNECTIONS["continue"][text]
    # Alone, for what goes on is what any subscription wants. Programs of many are compared in tests/property.
    runner = Runner(compile_filters([FilterSpec(text, "connection")], engine="code"), ["packet"])
    _, kept = runner.packets(here)
    assert [names[n] for n, wanted in enumerate(kept) if wanted] == CONNECTIONS["continue"][text]


@cache
def matching_at_the_end(engine: str) -> dict[str, list[str]]:
    asked = texts(CONNECTIONS["end"])
    names, here = table("connections")
    found: dict[str, list[str]] = {t: [] for t in asked}
    for name, shape in CONNECTIONS["connections"].items():
        ended, n = Ended(shape), names.index(shape["packet"])
        if engine == "interpreter":
            got = {s for s, term in enumerate(terms(asked, "connection")) if evaluate(term, EndFacts(here, n, ended))}
        else:
            runner = program(asked, "connection", engine)
            alive = runner.decide("connection", here.at(n))[0]
            got = runner.decide("end", here.at(n), *ended.words, alive=alive)[0]
        for s in got:
            found[asked[s]].append(name)
    return found


@on_each_engine
@pytest.mark.parametrize("text", CONNECTIONS["end"])
def test_whole_connections(text, engine):
    assert matching_at_the_end(engine)[text] == CONNECTIONS["end"][text]


@cache
def delivered(engine: str) -> dict[str, list[str]]:
    """For each filter of packet and session predicates the packets of each session that it delivers."""
    asked = texts(CONNECTIONS["deliver"])
    names, here = table("connections", "sent")
    found: dict[str, list[str]] = {t: [] for t in asked}
    for name, (protocol, example, which, _) in CONNECTIONS["sessions"].items():
        transport, segments = conversation(protocol, example)
        session = keeper(protocol).run(segments, transport)
        assert session.delivered == which + 1
        values = session.fields()
        matched = set() if engine == "interpreter" else decide(
            program(asked, "packet", engine), here, 0, protocols()[protocol].number, session.address
        )  # fmt: skip
        for n, packet in enumerate(names):
            if engine == "interpreter":
                facts = RowFacts(here, n, session_known=True, service=protocol, session=values)
                got = {s for s, term in enumerate(terms(asked, "packet")) if evaluate(term, facts)}
            else:
                got = program(asked, "packet", engine).decide("packet_deliver", here.at(n), alive=matched)[0]
            for s in got:
                found[asked[s]].append(f"{name}/{packet}")
    return found


@on_each_engine
@pytest.mark.parametrize("text", CONNECTIONS["deliver"])
def test_packets_of_sessions(text, engine):
    assert delivered(engine)[text] == CONNECTIONS["deliver"][text]


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("text", FILTERS["error"])
def test_error(text):
    error = refusal(text, "packet")
    assert error is not None
    assert error.reason == FILTERS["error"][text]
    assert "^" in str(error)


@pytest.mark.parametrize("text", FILTERS["caret"])
def test_only_the_fault_is_underlined(text):
    error = refusal(text, "packet")
    assert error is not None
    assert text[error.start : error.end] == FILTERS["caret"][text]


OF_RETINA = [
    "tcp.port in 90..80", "ipv4.addr = 1.2.3.4/33", "ipv6.addr = 1::/129", "ipv4.addr = 1.2.3.400", "ipv4.addr = 01.02.03.04",
    "ipv6.addr = zzzz::1", "ipv6.addr = 1:2", "tls.sni = |15 1|", "tls.sni = |zz|", "tls.sni = ||", "tcp.port = 70000",
    "tcp.seq_no = 99999999999999999999", "tls.sni ~ '('", "foo", "tcp and udp",
]  # fmt: skip
"""Each kind of error that the notes on Retina list (1.3, 1.4): there a panic, a bare message, or the Rust compiler's."""


@pytest.mark.parametrize("text", [*OF_RETINA, *FILTERS["caret"]])
def test_the_command_line_shows_it_without_a_traceback(text):
    result = CliRunner().invoke(main, ["log", "ZcFrame", "-f", text, "-r", str(SAMPLES / "tls.pcap")])
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    assert any(re.match(r" *\^+ \S", line) for line in result.stderr.splitlines()), result.stderr
    assert "Traceback" not in result.output


def test_there_are_enough_cases():
    counts = [len(section) for file in (FILTERS, HEADERS, SESSIONS, CONNECTIONS) for name, section in file.items() if name in CASES]
    assert sum(counts) >= 300
    assert compile_filters([FilterSpec(t, "packet") for t in PACKETS], engine="code").direct == frozenset(range(len(PACKETS)))


CASES = ("match", "connection", "maybe", "continue", "end", "deliver")
