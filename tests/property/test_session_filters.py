"""The session stage against the interpreter: random filters over TLS's fields, on handshakes of real stacks."""

from __future__ import annotations

import numpy as np
import pytest
from support.filters import RowFacts, Rows, Runner, Writer, refusal
from support.sessions import Parser
from support.tls_stacks import conversations
from traffic import packets

from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.filters.interpret import evaluate
from retina_jit.parsers.protocol import protocols

TLS = protocols()["tls"].number
pytestmark = pytest.mark.filterwarnings("ignore")  # old versions of TLS are what some cases are about


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Finished sessions, and the values of their fields as the parser's own tests read them."""
    parser = Parser("tls")
    found = []
    for case in conversations(tmp_path_factory.mktemp("tls")):
        session = parser.run(case.segments)
        found.append((session, session.fields()))
    return found


@pytest.mark.parametrize("engine", ["code", "tables"])
def test_session_stage(sessions, engine):
    pool: dict[tuple[str, str], list[object]] = {}
    for _, values in sessions:
        for name, value in values.items():
            elements = value if isinstance(value, list) else [value]
            pool.setdefault(("tls", name), []).extend(e for e in elements if e is not None)
    fields = [*protocols()["tls"].fields.values()]
    tcp = [f for p in ("tcp", "ipv4") for f in protocols()[p].fields.values() if f.side]
    write = Writer(7, [*fields, *fields, *tcp], ["tls", "tcp", "udp", "ipv6"], pool)
    texts = []
    while len(texts) < 100:
        text = write.filter()
        error = refusal(text, "session")
        if error is None:
            texts += [text] * ("session" in compile_filters([FilterSpec(text, "session")]).units)
        else:
            assert "regular" not in error.reason, str(error)
    plan = compile_filters([FilterSpec(t, "session") for t in texts], engine=engine)
    assert plan.services == {"tls"}
    runner = Runner(plan)
    packet = packets.ipv4("10.0.0.1", "10.0.0.2", 6, packets.tcp("10.0.0.1", "10.0.0.2", 5000, 443, b""))
    rows = Rows([(packet, 101, len(packet))])
    assert np.count_nonzero(rows.array["layers"])
    matches = 0
    for session, values in sessions:
        facts = RowFacts(rows, 0, session_known=True, service="tls", session=values)
        _, alive = runner.decide("connection", rows.at(0))
        _, alive = runner.decide("protocol", rows.at(0), TLS, alive=alive)
        matched, maybe = runner.decide("session", rows.at(0), TLS, session.address, alive=alive)
        want = {s for s in alive if evaluate(plan.terms[s], facts)}
        assert matched == want, [(texts[s], values) for s in matched ^ want]
        assert not maybe
        matches += len(matched)
    assert matches > len(sessions), "the filters are meant to match now and then"


@pytest.mark.parametrize("engine", ["code", "tables"])
def test_packets_of_a_connection_are_tested_one_by_one(sessions, engine):
    """Packet and session predicates in one filter, which Retina refuses (its issue 66)."""
    tls = [f for f in protocols()["tls"].fields.values() if f.name in ("sni", "version", "cipher")]
    pool = {("tls", f.name): [v[f.name] for _, v in sessions if v[f.name] is not None] for f in tls}
    pool |= {("tcp", "src_port"): [5000, 443], ("tcp", "dst_port"): [5000, 443], ("tcp", "flags"): [2, 16, 24]}
    header = [*(protocols()["tcp"].fields[n] for n in ("src_port", "dst_port", "flags", "syn", "psh")), protocols()["frame"].fields["length"]]
    write = Writer(3, [*tls, *tls, *tls, *header], ["tls", "tls", "tcp", "udp"], pool)
    texts = ["tls.version >= 769 and tcp.dst_port = 443", "(tls.sni = 'nobody' and tcp.syn) or (tls and tcp.psh = 1) or tcp.syn"]
    while len(texts) < 60:
        text = write.filter()
        if refusal(text, "packet") is None and compile_filters([FilterSpec(text, "packet")]).per_packet:
            texts.append(text)
    plan = compile_filters([FilterSpec(t, "packet") for t in [*texts, "tls"]], engine=engine)
    assert plan.per_packet == frozenset(range(len(texts)))
    assert len(plan.owners) > len(texts) + 1, "some filters have several parts"
    runner = Runner(plan)
    there = [packets.ipv4("10.0.0.1", "10.0.0.2", 6, packets.tcp("10.0.0.1", "10.0.0.2", 5000, 443, b"x" * n, flags=f)) for f, n in ((2, 0), (16, 0), (24, 900))]
    back = [packets.ipv4("10.0.0.2", "10.0.0.1", 6, packets.tcp("10.0.0.2", "10.0.0.1", 443, 5000, b"y" * n, flags=f)) for f, n in ((18, 0), (24, 50))]
    rows = Rows([(p, 101, len(p)) for p in there + back])
    assert all(runner.packets(rows)[1])
    delivered = 0
    for session, values in sessions:
        matched, alive = runner.decide("connection", rows.at(0))
        for stage, words in (("protocol", (TLS,)), ("session", (TLS, session.address))):
            more, alive = runner.decide(stage, rows.at(0), *words, alive=alive)
            matched |= more
        assert not alive
        for n in range(len(rows.array)):
            facts = RowFacts(rows, n, session_known=True, service="tls", session=values)
            got, _ = runner.decide("packet_deliver", rows.at(n), alive=matched)
            want = {s for s, term in enumerate(plan.terms) if evaluate(term, facts)}
            assert got == want, [texts[s] for s in got ^ want]
            delivered += len(got)
    assert delivered > len(sessions) * len(texts) // 4
