"""`read().select()`: the same rows as callbacks get, whatever the source, and in whatever library."""

from __future__ import annotations

import csv
import gzip
import io
import ipaddress
import json
import os
import subprocess
import sys
import threading
from functools import cache

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from support.running import SAMPLES, collect, run_content

import retina_jit as rj
from retina_jit.errors import ConfigError, FilterError, SourceError, SubscriptionError

PATH = SAMPLES / "tls.pcap"
CONTENT = PATH.read_bytes()


@cache
def views(types):
    each, seen = collect(types)
    run_content([each], CONTENT)
    return seen


def connections():
    return rj.read(PATH).connections


def flat(view, before=""):
    found = {}
    for name, value in view.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return found


def same(got, shown):
    """Compare a row with what `to_dict` shows: durations are ns in a row, bytes bytes, tuples lists."""
    if isinstance(got, bytes):
        return got.hex() == shown
    if isinstance(shown, float):
        return abs(got - shown * 10**9) < 1
    return got == (list(shown) if isinstance(shown, tuple) else shown)


@pytest.mark.parametrize("types", ["ConnRecord", "TlsHandshake,FiveTuple"])
def test_rows_are_those_of_callbacks(types):
    rows = rj.read(PATH).select("", *types.split(",")).to_dicts()
    assert len(rows) == len(views(types)) > 10
    for row, view in zip(rows, views(types), strict=True):
        parts = view if isinstance(view, tuple | list) else [view]
        wanted = {}
        for part in parts:
            wanted |= flat(part.to_dict())
        assert set(row) == {"ts", *wanted}
        assert [n for n in wanted if not same(row[n], wanted[n])] == []


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    copy = tmp_path / "x.pcap"
    copy.write_bytes(CONTENT)
    table = rj.read(copy).connections
    assert "ts" in table.columns and table.schema["orig.nb_pkts"] == "uint32" and "not read yet" in repr(table)
    copy.write_bytes(CONTENT[:24])
    assert len(table) == 0


@pytest.mark.parametrize("kind", ["str", "list", "glob", "file", "bytes", "BytesIO", "gzip", "gzip file"])
def test_sources(kind, tmp_path):
    (tmp_path / "a.pcap").write_bytes(CONTENT)
    (tmp_path / "b.pcap.gz").write_bytes(gzip.compress(CONTENT))
    n = len(views("ConnRecord"))
    sources = {
        "str": str(PATH), "list": [PATH], "glob": f"{tmp_path}/*.pcap", "file": PATH.open("rb"), "bytes": CONTENT, "BytesIO": io.BytesIO(CONTENT),
        "gzip": tmp_path / "b.pcap.gz", "gzip file": gzip.open(tmp_path / "b.pcap.gz"),
    }  # fmt: skip
    capture = rj.read(sources[kind])
    for _ in range(2):  # each can be read again
        assert len(capture.connections) == n
    sources["file"].close(), sources["gzip file"].close()


def test_sources_that_cannot_be(tmp_path):
    for wrong, said in ((tmp_path / "no.pcap", "no such file"), (f"{tmp_path}/*.pcap", "no file matches"), (7, "give a path"), ([], "empty list")):
        with pytest.raises(SourceError, match=said):
            rj.read(wrong)
    with pytest.raises(SourceError, match="<5 bytes>: not a capture"):
        rj.read(b"hello").connections.collect()
    with pytest.warns(rj.CaptureWarning, match=r"bytes>: cut at byte"):
        assert len(rj.read(CONTENT[:-3]).connections) > 0


def test_a_pipe_is_read_once(tmp_path):
    fifo = tmp_path / "f"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(CONTENT))
    writer.start()
    capture = rj.read(fifo)
    table = capture.connections
    assert len(table) == len(table.to_dicts()) == len(views("ConnRecord"))
    writer.join()
    with pytest.raises(SourceError, match="only once"):
        table.__class__(table._fields, stream=table._stream, collect=table._collect).to_dicts()


def test_standard_input():
    code = "import retina_jit as rj; print(len(rj.read('-').connections))"
    done = subprocess.run([sys.executable, "-c", code], input=CONTENT, capture_output=True, check=True)
    assert int(done.stdout) == len(views("ConnRecord"))


def test_slices_columns_rows():
    table = connections()
    rows = table.to_dicts()
    assert table[3:7].to_dicts() == rows[3:7] and table[-1] == rows[-1] and table[5] == rows[5]
    assert list(table["orig.nb_pkts"]) == [r["orig.nb_pkts"] for r in rows]
    assert table[["service", "ts"]].to_dicts() == [{"service": r["service"], "ts": r["ts"]} for r in rows]
    assert connections().head(3).to_dicts() == rows[:3] and table.head(3).to_dicts() == rows[:3]
    assert [r for b in connections().batches() for r in b.to_dicts()] == rows
    with pytest.raises(KeyError, match="no column 'sni'; there are: ts"):
        table["sni"]
    with pytest.raises(IndexError):
        table[len(rows)]
    with pytest.raises(ValueError, match="runs of rows"):
        table[::2]


def test_iteration_that_is_left_early_stops_the_run():
    before = threading.active_count()
    rows = iter(connections())
    assert next(rows)["ts"] > 0
    rows.close()
    assert threading.active_count() == before


def test_polars_duckdb_pyarrow_and_numpy_say_the_same():
    table = connections().collect()
    rows = table.to_dicts()
    frame = table.to_polars()
    assert frame.columns == table.columns and frame.schema["ts"] == pl.Datetime("ns", "UTC")
    assert frame["ts"].dt.epoch("ns").to_list() == [r["ts"] for r in rows]
    assert frame["vlan_id"].null_count() == sum(r["vlan_id"] is None for r in rows) > 0
    assert pl.DataFrame(connections()).drop("ts").equals(frame.drop("ts"))  # it streams
    arrow = table.to_arrow()
    arrow.validate(full=True)
    assert arrow["service"].to_pylist() == [r["service"] for r in rows] == frame["service"].to_list()
    conns = connections()  # duckdb finds it by its name here
    assert conns.columns == table.columns
    found = duckdb.sql('select sum("orig.nb_pkt_bytes"), count(service) from conns').fetchall()[0]
    assert found == (sum(r["orig.nb_pkt_bytes"] for r in rows), sum(r["service"] is not None for r in rows))
    arrays = table.to_numpy()
    assert arrays["ts"].dtype == "M8[ns]" and arrays["duration"].dtype == "m8[ns]"
    mixed = rj.read(SAMPLES / "mixed.pcap").connections
    none = [r["rtt_orig"] is None for r in mixed]
    assert np.isnat(mixed.to_numpy()["rtt_orig"]).tolist() == none and any(none)
    assert arrays["vlan_id"].mask.tolist() == [r["vlan_id"] is None for r in rows]


def test_pandas_keeps_nulls_and_types():
    table = connections()
    rows = table.to_dicts()
    frame = table.to_pandas()
    assert str(frame["ts"].dtype) == "datetime64[ns, UTC]" and frame["vlan_id"].dtype == "UInt16" and frame["orig.nb_pkts"].dtype == "uint32"
    assert frame["ts"].astype("int64").tolist() == [r["ts"] for r in rows]
    for name in ("vlan_id", "service", "second_seen_ts", "rtt_orig"):
        assert frame[name].isna().tolist() == [r[name] is None for r in rows]
    assert frame["duration"].dt.total_seconds().sum() == pytest.approx(sum(r["duration"] for r in rows) / 1e9)
    assert isinstance(frame, pd.DataFrame) and list(frame.columns) == table.columns


def test_files(tmp_path):
    table = rj.read(PATH).select("tls", "TlsHandshake", "FiveTuple")
    frame = table.to_polars()
    paths = [tmp_path / f"x.{e}" for e in ("parquet", "csv", "jsonl")]
    n = len(frame)
    assert [table.to_parquet(paths[0]), table.to_csv(paths[1]), table.to_jsonl(paths[2])] == [n, n, n]
    assert pl.read_parquet(paths[0]).equals(frame)
    assert pa.parquet.read_table(paths[0]).num_rows == len(pd.read_parquet(paths[0])) == duckdb.sql(f"select count(*) from '{paths[0]}'").fetchall()[0][0] == n
    lines = [json.loads(line) for line in paths[2].read_text().splitlines()]
    wanted = [flat(tls.to_dict()) | five.to_dict() for tls, five in views("TlsHandshake,FiveTuple")]
    for line, row in zip(lines, wanted, strict=True):
        assert {k: v for k, v in line.items() if k != "ts"} == json.loads(json.dumps(row))
    with paths[1].open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [c["sni"] or None for c in cells] == frame["sni"].to_list()
    assert [json.loads(c["client_alpn_protocols"]) for c in cells] == frame["client_alpn_protocols"].to_list()


def test_addresses():
    names = [rj.read(PATH).select("", "orig_addr", "FiveTuple", addresses=a) for a in ("str", "bytes")]
    text, raw = (t.to_dicts() for t in names)
    assert [ipaddress.ip_address(r["orig_addr"]).packed for r in text] == [r["orig_addr"] for r in raw]
    assert {len(r["orig_addr"]) for r in raw} == {4, 16}
    numbers = rj.read(PATH).select("ipv4", "five_tuple.resp_addr", addresses="int").to_dicts()
    assert [int(ipaddress.ip_address(r["resp_addr"])) for r in text if "." in r["resp_addr"]] == [r["five_tuple.resp_addr"] for r in numbers]
    with pytest.raises(ConfigError, match="128 bits"):
        rj.read(PATH).select("", "five_tuple.resp_addr", addresses="int").collect()
    with pytest.raises(ConfigError, match="one of str, int, bytes"):
        rj.read(PATH).select("", addresses="hex")


def test_single_columns_by_many_names():
    read = rj.read(PATH)
    table = read.select("tls", "ts", "sni", "tls.version", "tls_handshake.ja4", "five_tuple.orig_port")
    assert table.columns == ["ts", "sni", "tls.version", "tls_handshake.ja4", "five_tuple.orig_port"]
    assert [r["sni"] for r in table] == [tls.sni or None for tls, _ in views("TlsHandshake,FiveTuple")]
    assert read.select("tls", "tls.handshake.extensions_server_name").to_dicts() == [{"tls.handshake.extensions_server_name": r["sni"]} for r in table]
    assert read.select("", "conn_record.orig.nb_pkts").schema == {"conn_record.orig.nb_pkts": "uint32"}


def test_wrong_names_are_explained():
    read = rj.read(PATH)
    for what, said in (
        (["tls.snj"], "did you mean sni"), (["TlsHandshak"], "did you mean TlsHandshake"), (["orig_adr"], "did you mean .*orig_addr"),
        (["sni"], "is a column of TlsHandshake, .*write tls_handshake.sni"), (["ZcFrame", "ConnRecord"], "take two subscriptions"),
    ):  # fmt: skip
        with pytest.raises(SubscriptionError, match=said):
            read.select("", *what)
    with pytest.raises(FilterError, match="did you mean"):
        read.select("tls.snj = 'x'", "FiveTuple").collect()


def test_shown_as_text_and_html():
    table = rj.read(PATH).select("tls", "ts", "tls.sni", "tls.client_alpn_protocols").collect()
    text, html = repr(table), table._repr_html_()
    assert text.splitlines()[0].split() == ["ts", "tls.sni", "tls.client_alpn_protocols"] and f"[{len(table)} rows, 3 columns; {len(table) - 10} more rows]" in text
    assert html.count("<tr>") == 11 and "2026-01-01 00:00:00.006655000" in html and f"{len(table) - 10:,} more rows" in html
    evil = rj.Table(table._fields, table._batches, label="<script>")
    assert "<script>" not in evil._repr_html_()


def test_packets_have_their_bytes():
    packets = rj.read(PATH).packets.to_dicts()
    at = 24
    for n, p in enumerate(packets, 1):
        caplen = int.from_bytes(CONTENT[at + 8 : at + 12], "little")
        assert (p["number"], p["caplen"], p["data"]) == (n, caplen, CONTENT[at + 16 : at + 16 + caplen])
        at += 16 + caplen
    assert at == len(CONTENT)


def test_sessions_by_protocol():
    sessions = rj.read(PATH).sessions
    assert {"tls", "dns", "http", "quic", "ssh"} <= set(sessions)
    assert len(sessions["tls"]) == len(views("TlsHandshake,FiveTuple"))
    with pytest.raises(KeyError, match="no session protocol 'tsl'"):
        sessions["tsl"]


def test_without_pyarrow_rows_still_go_to_polars_and_pandas():
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import retina_jit as rj\n"
        f"t = rj.read({str(PATH)!r}).connections\n"
        "print(len(t.to_polars()), len(t.to_pandas()))\n"
        "try: t.to_arrow()\n"
        "except rj.RetinaJitError as e: print(e)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    n = len(views("ConnRecord"))
    assert done.stdout.splitlines() == [f"{n} {n}", "to_arrow needs pyarrow: pip install 'retina-jit[arrow]'"]
