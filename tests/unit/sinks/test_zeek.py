"""Zeek's logs: read back by parsezeeklogs, they say what the views say, in Zeek's columns."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsezeeklogs import read_zeek
from support.running import SAMPLES, config, runtime

from retina_jit.errors import ConfigError
from retina_jit.formats import zeek
from retina_jit.sinks import FOLDERS, wanted_types
from retina_jit.subscription import named

SESSIONS = ("conn", "ssl", "http", "dns", "quic", "ssh")
KINDS = ("ConnRecord", "TlsHandshake", "HttpTransaction", "DnsTransaction", "QuicStream", "SshHandshake")
_ID = "ts:time uid:string id.orig_h:addr id.orig_p:port id.resp_h:addr id.resp_p:port "
COLUMNS = {  # of Zeek 8.0, as its reference says them log by log; written down by hand, apart from those of the package
    "conn": _ID + "proto:enum service:string duration:interval orig_bytes:count resp_bytes:count conn_state:string local_orig:bool local_resp:bool "
    "missed_bytes:count history:string orig_pkts:count orig_ip_bytes:count resp_pkts:count resp_ip_bytes:count tunnel_parents:set[string] ip_proto:count",
    "ssl": _ID + "version:string cipher:string curve:string server_name:string resumed:bool last_alert:string next_protocol:string established:bool "
    "ssl_history:string cert_chain_fps:vector[string] client_cert_chain_fps:vector[string] sni_matches_cert:bool",
    "http": _ID + "trans_depth:count method:string host:string uri:string referrer:string version:string user_agent:string origin:string "
    "request_body_len:count response_body_len:count status_code:count status_msg:string info_code:count info_msg:string tags:set[enum] username:string "
    "password:string proxied:set[string] orig_fuids:vector[string] orig_filenames:vector[string] orig_mime_types:vector[string] "
    "resp_fuids:vector[string] resp_filenames:vector[string] resp_mime_types:vector[string]",
    "dns": _ID + "proto:enum trans_id:count rtt:interval query:string qclass:count qclass_name:string qtype:count qtype_name:string rcode:count "
    "rcode_name:string AA:bool TC:bool RD:bool RA:bool Z:count answers:vector[string] TTLs:vector[interval] rejected:bool",
    "quic": _ID + "version:string client_initial_dcid:string client_scid:string server_scid:string server_name:string client_protocol:string history:string",
    "ssh": _ID + "version:count auth_success:bool auth_attempts:count direction:enum client:string server:string cipher_alg:string mac_alg:string "
    "compression_alg:string kex_alg:string host_key_alg:string host_key_fingerprint:string",
    "x509": "ts:time fingerprint:string certificate.version:count certificate.serial:string certificate.subject:string certificate.issuer:string "
    "certificate.not_valid_before:time certificate.not_valid_after:time certificate.key_alg:string certificate.sig_alg:string certificate.key_type:string "
    "certificate.key_length:count certificate.exponent:string certificate.curve:string san.dns:vector[string] san.uri:vector[string] "
    "san.email:vector[string] san.ip:vector[addr] basic_constraints.ca:bool basic_constraints.path_len:count host_cert:bool client_cert:bool",
}  # fmt: skip


def write(form, target, *kinds, name="mixed.pcap"):
    """Write logs of a sample, and collect what the views say."""
    sink, seen, made = FOLDERS[form](target), {k: [] for k in kinds}, []
    for kind in kinds:
        types = wanted_types("zeek", [kind])
        s = named(types, "", print, "sink")
        s.sink = sink
        each = named(types, "", lambda *views, kind=kind: seen[kind].append(views), "each")
        made += [s, each]
    runtime(made, [SAMPLES / n for n in name.split()], config()).run()
    sink.close()
    return seen


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zeek")
    seen = write("zeek", folder / "tsv", *KINDS, name="mixed.pcap tls.pcap ssh.pcap")
    write("zeek-json", folder / "json", *KINDS, name="mixed.pcap tls.pcap ssh.pcap")
    return folder, seen


def test_columns_and_their_types_are_zeeks(logs):
    assert sorted(p.stem for p in (logs[0] / "tsv").iterdir()) == sorted(COLUMNS)
    for log, columns in COLUMNS.items():
        names, kinds = zip(*(c.rsplit(":", 1) for c in columns.split()), strict=True)
        lines = (logs[0] / "tsv" / f"{log}.log").read_text().splitlines()
        assert lines[:5] == ["#separator \\x09", "#set_separator\t,", "#empty_field\t(empty)", "#unset_field\t-", f"#path\t{log}"]
        assert lines[5].startswith("#open\t") and lines[6] == "\t".join(["#fields", *names]) and lines[7] == "\t".join(["#types", *kinds])
        assert lines[-1].startswith("#close\t")


def test_lines_say_what_the_views_say(logs):
    folder, seen = logs
    rows = {log: list(read_zeek(folder / "tsv" / f"{log}.log")) for log in SESSIONS}
    assert [len(rows[log]) for log in rows] == [len(seen[k]) for k in KINDS] and all(rows[log] for log in rows if log != "quic")
    for row, (conn, _, ip) in zip(rows["conn"], seen["ConnRecord"], strict=True):
        t = conn.five_tuple
        assert (row["id.orig_h"], row["id.orig_p"], row["id.resp_h"], row["id.resp_p"], row["proto"]) == (*t.orig, *t.resp, t.proto)
        assert abs(row["ts"] - conn.first_seen_ts / 1e9) < 2e-6 and row["conn_state"] == conn.conn_state and row["orig_pkts"] == conn.orig.nb_pkts
        assert (row["orig_ip_bytes"], row["resp_ip_bytes"]) == (ip.orig, ip.resp)
        assert row["duration"] is None or abs(row["duration"] - conn.duration) < 2e-6
    for row, (tls, *_) in zip(rows["ssl"], seen["TlsHandshake"], strict=True):
        assert (row["server_name"], row["cipher"], row["established"]) == (tls.sni or None, tls.cipher or None, tls.established)
    assert {r["version"] for r in rows["ssl"]} >= {"TLSv12", "TLSv13"} and any(r["cert_chain_fps"] for r in rows["ssl"])
    for row, (http, *_) in zip(rows["http"], seen["HttpTransaction"], strict=True):
        assert (row["method"], row["host"], row["uri"], row["status_code"]) == (http.method or None, http.host or None, http.uri or None, http.status_code or None)
    for row, (dns, *_) in zip(rows["dns"], seen["DnsTransaction"], strict=True):
        assert (row["query"], row["qtype"], row["rcode"], row["trans_id"]) == (dns.query_domain or None, dns.qtype, dns.response_code, dns.transaction_id)
    assert any(r["answers"] and len(r["answers"]) == len(r["TTLs"]) for r in rows["dns"])
    assert all(r["server_name"] == q.sni for r, (q, *_) in zip(rows["quic"], seen["QuicStream"], strict=True))
    assert all(r["version"] == 2 and r["client"].startswith("SSH-2.0-") for r in rows["ssh"])


def test_uids_join_sessions_to_their_connections(logs):
    folder, _ = logs
    conns = {r["uid"]: r for r in read_zeek(folder / "tsv" / "conn.log")}
    assert len(conns) == len(list(read_zeek(folder / "tsv" / "conn.log"))) and all(re.fullmatch(r"C[0-9A-Za-z]{17}", u) for u in conns)
    ends = ("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p")
    for log in ("ssl", "http", "dns", "quic", "ssh"):
        for row in read_zeek(folder / "tsv" / f"{log}.log"):
            assert [row[e] for e in ends] == [conns[row["uid"]][e] for e in ends]


def test_json_has_the_same_values_without_what_is_unset(logs):
    folder, _ = logs
    for log in zeek.LOGS:
        for line, row in zip((folder / "json" / f"{log}.log").read_text().splitlines(), read_zeek(folder / "tsv" / f"{log}.log"), strict=True):
            assert json.loads(line) == {k: v for k, v in row.items() if v is not None}


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=("Cs",))), min_size=7, max_size=7), st.none() | st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), max_size=3))
def test_any_text_comes_back(texts, listed):
    row = [1_500_000_000_123_456_789, "C1", "192.0.2.1", 1, "2001:db8::1", 2, *texts, *[None] * 2, listed, None, True]
    line = zeek.tsv_line("ssl", row)
    assert line.count(b"\n") == 1
    (read,) = read_zeek(io.StringIO(zeek.head("ssl", "x").decode() + line.decode(), newline="\n"))
    got = list(read.values())
    assert got[0] == pytest.approx(1_500_000_000.123456) and got[6:10] == texts[:4] and got[14 + 1] == listed


def test_what_zeek_has_no_log_of_is_refused():
    for kinds, target, said in ((["FiveTuple"], io.BytesIO(), "no log of Zeek's; there are ConnRecord"), (KINDS[:2], io.BytesIO(), "name a folder with -o")):
        made = [named(wanted_types("zeek", [k]), "", print, "sink") for k in kinds]
        sink = FOLDERS["zeek"](target)
        for s in made:
            s.sink = sink
        with pytest.raises(ConfigError, match=said):
            runtime(made, [SAMPLES / "mixed.pcap"], config()).run()
