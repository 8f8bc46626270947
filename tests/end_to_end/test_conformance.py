"""Real captures against what TShark and Suricata agree on (facts that this version has)."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter, defaultdict
from functools import cache
from typing import Any

import pytest
from parsezeeklogs import read_zeek
from support.running import SHARED, check, collect, config, runtime

from retina_jit.errors import SourceError
from retina_jit.formats import zeek
from retina_jit.ingest.source import open_source
from retina_jit.sinks import FOLDERS, wanted_types
from retina_jit.sinks.zeek import OF_TYPE
from retina_jit.subscription import named

TRUTH = SHARED / "truth.jsonl"
pytestmark = pytest.mark.skipif(not TRUTH.exists(), reason=f"{SHARED} is not here: captures of others, not part of the project")
FACTS = ("flow5", "flow5+pkts+bytes", "tls", "tls+sni", "tls+ja3")
CAPTURES = sorted((SHARED / "pcaps").glob("*")) if TRUTH.exists() else []


@cache
def score() -> Any:
    spec = importlib.util.spec_from_file_location("score", SHARED / "score.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refused(path: Any) -> str:
    """Why a capture is not read at all; empty if it is."""
    try:
        with open_source(path):
            return ""
    except SourceError as error:
        return str(error)


@cache
def lines(path: Any) -> list[str]:
    """What `log ConnRecord TlsHandshake,FiveTuple --midstream --decap all` prints."""
    out: list[str] = []
    if "link type" in refused(path):
        return out
    conn, records = collect("ConnRecord")
    tls, handshakes = collect("TlsHandshake,FiveTuple")
    result = runtime([conn, tls], [path], config(midstream=True, decap=("all",))).run()
    check(result)
    assert result.counters["frames"] > 0
    # What is inside a tunnel is tracked beside the packet that carries it.
    assert sum(c.total_pkts for c in records) >= result.counters["tracked"]
    out += [json.dumps({"conn_record": r.to_dict()}) for r in records]
    out += [json.dumps({"tls_handshake": h.to_dict(), "five_tuple": t.to_dict()}) for h, t in handshakes]
    return out


@pytest.mark.parametrize("path", CAPTURES, ids=lambda p: p.name)
def test_capture_runs_and_ledger_holds(path):
    if reason := refused(path):
        assert "link type" in reason
        pytest.skip(reason)
    lines(path)


def test_recall():
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for row in map(json.loads, TRUTH.read_text().splitlines()):
        path = SHARED / "pcaps" / row["name"]
        if not path.exists():
            continue
        ours = score().keys_of(lines(path))
        for fact in FACTS:
            must, may, tunnel = (score().truth_keys(fact, row[kind].get(fact, [])) for kind in ("must", "may", "tunnel"))
            extra = ours[fact] - (must + may + tunnel)
            total[fact].update(must=must.total(), hit=(must & ours[fact]).total(), extra=extra.total())
            total[fact].update(inside=tunnel.total(), inside_hit=(tunnel & ours[fact]).total())
    recall = {fact: total[fact]["hit"] / total[fact]["must"] for fact in FACTS}
    assert all(r >= 0.98 for r in recall.values()), recall
    # What the peers agree on inside tunnels; one flow stands in sFlow's samples of packets, which are no tunnel.
    assert total["flow5"]["inside"] > 10
    assert total["flow5"]["inside_hit"] >= total["flow5"]["inside"] - 1
    assert all(total[f]["extra"] <= 0.01 * total[f]["must"] for f in FACTS if f != "flow5+pkts+bytes"), dict(total)


def test_zeek_logs_of_all_captures_are_read_back(tmp_path):
    """One run over all of them, as `retina-jit log ... -T zeek -o FOLDER`: every line has every column, and is of the type that the header says."""
    sink, made = FOLDERS["zeek"](tmp_path), []
    for kind in OF_TYPE:
        s = named(wanted_types("zeek", [kind]), "", print, "sink")
        s.sink = sink
        made.append(s)
    result = runtime(made, [p for p in CAPTURES if not refused(p)], config(midstream=True, decap=("all",))).run()
    written = sink.lines
    sink.close()
    check(result)
    assert {p.stem for p in tmp_path.iterdir()} == set(zeek.LOGS)
    rows = {log: list(read_zeek(tmp_path / f"{log}.log")) for log in zeek.LOGS}
    assert sum(len(r) for log, r in rows.items() if log != "x509") == written and all(rows.values()), {log: len(r) for log, r in rows.items()}
    is_of = {"count": int, "port": int, "time": float, "interval": float, "bool": bool}
    for log, columns in zeek.LOGS.items():
        for row in rows[log]:
            assert list(row) == [name for name, _ in columns]
            for name, kind in columns:
                value, one = row[name], kind.rpartition("[")[2].rstrip("]")
                for v in [] if value is None else value if "[" in kind else [value]:
                    assert isinstance(v, is_of.get(one, str)), (log, name, v)
    uids = {r["uid"] for r in rows["conn"]}
    for log in set(rows) - {"x509"}:
        assert {r["uid"] for r in rows[log]} <= uids, log
    chains = {f for r in rows["ssl"] for side in ("", "client_") for f in r[f"{side}cert_chain_fps"] or []}
    assert {r["fingerprint"] for r in rows["x509"]} <= chains
