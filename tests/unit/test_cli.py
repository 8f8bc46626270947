"""The command line: exit codes, messages, formats, pipes, Ctrl-C. Most run in this process; what needs a process gets one."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.running import SAMPLES
from traffic import pcap_bytes

from retina_jit.cli import main
from retina_jit.subscription import take_collected

TLS, MIXED = str(SAMPLES / "tls.pcap"), str(SAMPLES / "mixed.pcap")
ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "retina_jit"]
ENV = {**os.environ, "PYTHONPATH": str(ROOT)}


def call(*words: str) -> Result:
    take_collected()
    result = CliRunner().invoke(main, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def app(folder: Path, body: str) -> str:
    path = folder / "app.py"
    path.write_text(f"from retina_jit import *\n\n{body}")
    return str(path)


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# ------------------------------------------------------------------------------------------------------ exit codes


def test_success(tmp_path):
    found = call("run", app(tmp_path, "@subscribe('tls')\ndef seen(tls: TlsHandshake):\n    print(tls.sni)\n"), "-r", TLS, "-q")
    assert found.exit_code == 0 and "www.example.com" in found.stdout and found.stderr == ""


def test_summary_names_the_ledger(tmp_path):
    found = call("log", "ConnRecord", "-r", TLS)
    assert found.exit_code == 0 and "416 frames" in found.stderr and "tracked" in found.stderr


def test_statistics_as_json():
    found = call("log", "ConnRecord", "-r", TLS, "--stats", "json")
    told = json.loads(found.stderr.splitlines()[-1])
    assert sum(told["ledger"].values()) == told["frames"] == 416


def test_cut_file_is_processed_and_told(tmp_path):
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(Path(TLS).read_bytes()[:-7])
    found = call("log", "ZcFrame", "-r", str(cut), "-q")
    assert found.exit_code == 3
    assert len(rows(found.stdout)) == 415
    assert f"{cut}: cut at byte" in found.stderr and len(found.stderr.splitlines()) == 1


def test_callback_error_shows_the_users_line(tmp_path):
    found = call("run", app(tmp_path, "@subscribe('tls')\ndef seen(tls: TlsHandshake):\n    return 1 / 0\n"), "-r", TLS, "-q")
    assert found.exit_code == 4
    assert "return 1 / 0" in found.stderr and "ZeroDivisionError" in found.stderr and "'seen'" in found.stderr
    assert "retina_jit/delivery" not in found.stderr


def test_wrong_usage():
    assert call("log").exit_code == 2
    assert call("run").exit_code == 2
    assert call("nonsense").exit_code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["log", "ConnRecord", "-r", "/no/such.pcap"], "/no/such.pcap: no such file"),
        (["log", "ConnRecord", "-r", __file__], "not a capture file"),
        (["log", "ConnRecord"], "no input"),
        (["log", "ConnRecord", "-r", "/"], "is a folder"),
        (["log", "ConnRecord", "-r", "/nowhere/*.pcap"], "no file matches"),
        (["log", "ConRecord", "-r", TLS], "did you mean ConnRecord?"),
        (["log", "Nonsense12", "-r", TLS], "no data type 'Nonsense12'"),
        (["log", "ConnRecord", "-T", "xml", "-r", TLS], "-T xml"),
        (["log", "ConnRecord", "-o", "/no/folder/x", "-r", TLS], "/no/folder/x"),
        (["log", "ConnRecord", "-c", "/no.toml", "-r", TLS], "/no.toml: No such file"),
        (["run", "/no/app.py", "-r", TLS], "/no/app.py: no such app"),
        (["fields", "tsl"], "did you mean 'tls'"),
    ],
)
def test_one_clear_line(words, message):
    found = call(*words)
    assert found.exit_code == 1
    assert message in found.stderr
    assert len(found.stderr.splitlines()) == 1 and found.stderr.startswith("retina-jit: ")


def test_unknown_link_type_is_named(tmp_path):
    path = tmp_path / "usb.pcap"
    path.write_bytes(pcap_bytes([], link_type=189))
    found = call("log", "ConnRecord", "-r", str(path))
    assert found.exit_code == 1 and "189" in found.stderr and len(found.stderr.splitlines()) == 1


def test_wrong_filter_is_shown_with_a_caret():
    found = call("log", "ConnRecord", "-f", "tcp.prot = 443", "-r", TLS)
    assert found.exit_code == 1
    lines = found.stderr.splitlines()
    assert lines[0] == "retina-jit:" and lines[1] == "tcp.prot = 443"
    assert lines[2].startswith("^^^^^^^^ ") and "did you mean port?" in lines[2]


def test_app_without_subscription(tmp_path):
    found = call("run", app(tmp_path, "x = 1\n"), "-r", TLS)
    assert found.exit_code == 1 and "nothing is subscribed" in found.stderr


def test_app_that_does_not_load_shows_its_own_error(tmp_path):
    found = call("run", app(tmp_path, "undefined_name\n"), "-r", TLS)
    assert found.exit_code == 1 and "line 3, in <module>\n    undefined_name\n" in found.stderr
    assert found.stderr.endswith("NameError: name 'undefined_name' is not defined\n") and "cli/" not in found.stderr


def test_missing_callback_in_toml(tmp_path):
    spec = tmp_path / "spec.toml"
    spec.write_text('[[subscriptions]]\nfilter = "tls"\ndatatypes = ["TlsHandshake"]\ncallback = "sen"\n')
    found = call("run", app(tmp_path, "def seen(tls): print(tls.sni)\n"), "--subscriptions", str(spec), "-r", TLS)
    assert found.exit_code == 1 and "no function 'sen'; did you mean 'seen'?" in found.stderr
    spec.write_text(spec.read_text().replace('"sen"', '"seen"'))
    found = call("run", app(tmp_path, "def seen(tls): print(tls.sni)\n"), "--subscriptions", str(spec), "-r", TLS, "-q")
    assert found.exit_code == 0 and "www.example.com" in found.stdout


# --------------------------------------------------------------------------------------------------------- formats

TUPLE = {"orig_addr", "orig_port", "resp_addr", "resp_port", "proto"}
KEYS = {
    "five_tuple": TUPLE,
    "conn_record": {"five_tuple", "orig", "resp", "first_seen_ts", "last_seen_ts", "history"},
    "tls_handshake": {
        "sni", "version", "client_version", "server_version", "cipher", "cipher_suite", "client_alpn_protocols", "ja3_hash", "ja3s_hash", "ja4",
    },
    "zc_frame": {"ts", "length", "caplen"},
}  # fmt: skip


def test_keys_of_json_lines():
    found = call("log", "ConnRecord", "TlsHandshake,FiveTuple", "ZcFrame", "-r", TLS, "-q")
    assert found.exit_code == 0
    kinds = {}
    for row in rows(found.stdout):
        kinds[tuple(row)] = row
        for kind, keys in KEYS.items():
            assert kind not in row or keys <= set(row[kind]), row
    assert set(kinds) == {("conn_record",), ("tls_handshake", "five_tuple"), ("zc_frame",)}
    conn = kinds["conn_record",]["conn_record"]
    assert TUPLE <= set(conn["five_tuple"])
    assert all({"nb_pkts", "nb_pkt_bytes", "nb_payload_bytes"} <= set(conn[side]) for side in ("orig", "resp"))
    assert isinstance(conn["first_seen_ts"], int) and isinstance(conn["five_tuple"]["orig_port"], int)
    tls = kinds["tls_handshake", "five_tuple"]["tls_handshake"]
    assert isinstance(tls["version"], int) and isinstance(tls["client_alpn_protocols"], list)


def test_csv_has_a_header_and_the_same_values():
    table = list(csv.DictReader(io.StringIO(call("log", "ConnRecord", "-r", TLS, "-q", "-T", "csv").stdout)))
    lines = rows(call("log", "ConnRecord", "-r", TLS, "-q").stdout)
    assert [r["conn_record.five_tuple.orig_port"] for r in table] == [str(r["conn_record"]["five_tuple"]["orig_port"]) for r in lines]
    assert [r["conn_record.orig.nb_pkts"] for r in table] == [str(r["conn_record"]["orig"]["nb_pkts"]) for r in lines]


def test_csv_of_two_subscriptions_is_refused():
    found = call("log", "ConnRecord", "ZcFrame", "-T", "csv", "-r", TLS)
    assert found.exit_code == 1 and "csv" in found.stderr


def test_output_file_and_filter(tmp_path):
    target = tmp_path / "out.jsonl"
    found = call("log", "TlsHandshake", "-f", "tls.sni = 'www.example.com'", "-r", TLS, "-o", str(target), "-q")
    assert found.exit_code == 0 and found.stdout == ""
    assert {r["tls_handshake"]["sni"] for r in rows(target.read_text())} == {"www.example.com"}


def test_several_files_and_patterns():
    both = call("log", "ZcFrame", "-r", TLS, "-r", MIXED, "-q").stdout
    assert call("log", "ZcFrame", "-r", f"{SAMPLES}/[mt]*.pcap", "-q").stdout.count("\n") == both.count("\n") == 416 + 150


def test_config_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[conntrack]\nmidstraem = true\n")
    found = call("log", "ConnRecord", "-c", str(path), "-r", TLS)
    assert found.exit_code == 1 and "midstream" in found.stderr
    path.write_text("[conntrack]\nmax_connections = 5\n")
    found = call("log", "ConnRecord", "-c", str(path), "-r", TLS, "--stats", "json")
    assert json.loads(found.stderr.splitlines()[-1])["ledger"]["table_full"] > 0


def test_explain_and_fields():
    assert "tcp.port" in call("fields", "tcp").stdout
    assert "tls" in call("fields").stdout
    found = call("explain", "tls.sni ~ 'x' and tcp.port = 443")
    assert found.exit_code == 0 and "443" in found.stdout
    assert call("explain", "tls.", "-t", "TlsHandshake").exit_code == 1


# -------------------------------------------------------------------------------------------------------- processes


def test_standard_input():
    found = subprocess.run([*COMMAND, "log", "ZcFrame", "-r", "-", "-q"], input=Path(TLS).read_bytes(), capture_output=True, env=ENV, check=False)
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 416


def test_reader_that_goes_away_is_no_error():
    command = " ".join([*COMMAND, "log", "ZcFrame", "ConnRecord", "-q", *["-r", TLS] * 40])
    found = subprocess.run(["bash", "-c", f"{command} | head -1; echo ${{PIPESTATUS[0]}}"], capture_output=True, env=ENV, text=True, check=False)
    assert found.stderr == ""
    assert found.stdout.splitlines()[-1] == "0"


def interrupt(process: subprocess.Popen[bytes], by: signal.Signals = signal.SIGINT) -> tuple[bytes, bytes]:
    """Press Ctrl-C; the process has to end soon."""
    process.send_signal(by)
    return process.communicate(timeout=20)


def until(condition: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def has_open(process: subprocess.Popen[bytes], path: Path) -> bool:
    files = Path(f"/proc/{process.pid}/fd")
    with contextlib.suppress(OSError):  # one is closed meanwhile
        return any(file.readlink() == path for file in files.iterdir())
    return False


@pytest.mark.parametrize("given", ["everything", "header", "nothing", "no writer"])
def test_ctrl_c_on_a_silent_pipe(tmp_path, given):
    pipe, out = tmp_path / "pipe", tmp_path / "out"
    os.mkfifo(pipe)
    process = subprocess.Popen([*COMMAND, "log", "ZcFrame", "ConnRecord", "-r", str(pipe), "-o", str(out)], stdout=-1, stderr=-1, env=ENV)
    try:
        writer = None
        if given != "no writer":
            writer = os.open(pipe, os.O_WRONLY)
            content = Path(TLS).read_bytes()
            if given != "nothing":
                os.write(writer, content if given == "everything" else content[:24])
        if given == "everything":
            until(lambda: out.exists() and out.read_text().count("zc_frame") == 416)
        else:
            until(lambda: has_open(process, pipe))
            time.sleep(1)
        _, err = interrupt(process)
    finally:
        process.kill()
        if writer is not None:
            os.close(writer)
    assert process.returncode == 130, err
    assert (b"416 frames" if given == "everything" else b"0 frames") in err, err
    found = rows(out.read_text())
    if given == "everything":
        assert sum("zc_frame" in r for r in found) == 416
        # Connections that were open are ended and delivered.
        assert sum("conn_record" in r for r in found) > 20


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_within_a_slow_callback_loses_nothing(by, tmp_path):
    body = "import time\n@subscribe('')\ndef seen(frame: ZcFrame):\n    time.sleep(0.005)\n    print(frame.number, flush=True)\n"
    process = subprocess.Popen([*COMMAND, "run", app(tmp_path, body), "-r", TLS], stdout=-1, stderr=-1, env=ENV)
    assert process.stdout is not None
    assert process.stdout.readline() == b"1\n"
    out, err = interrupt(process, by)
    # The whole capture was read before; what is in the ring is delivered.
    assert process.returncode == 130, err
    assert [int(n) for n in out.split()] == list(range(2, 417))


def test_second_ctrl_c_leaves_a_callback_that_hangs(tmp_path):
    body = "import time\n@subscribe('')\ndef seen(frame: ZcFrame):\n    print('in', flush=True)\n    time.sleep(100)\n"
    process = subprocess.Popen([*COMMAND, "run", app(tmp_path, body), "-r", TLS], stdout=-1, stderr=-1, env=ENV)
    assert process.stdout is not None
    assert process.stdout.readline() == b"in\n"
    # Two that come at once may be one.
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
            break
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err


def test_exit_within_a_callback_ends_the_run(tmp_path):
    body = "import sys\n@subscribe('')\ndef seen(frame: ZcFrame):\n    sys.exit(7)\n"
    found = subprocess.run([*COMMAND, "run", app(tmp_path, body), "-r", TLS, "-q"], env=ENV, timeout=60, check=False)
    assert found.returncode == 7


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion(shell: str) -> None:
    ran = call("completion", shell)
    assert ran.exit_code == 0, ran.output
    assert "_RETINA_JIT_COMPLETE" in ran.output
    env = {**ENV, "_RETINA_JIT_COMPLETE": f"{shell}_complete", "COMP_WORDS": "retina-jit st", "COMP_CWORD": "1" if shell == "zsh" else "st"}
    offered = subprocess.run(COMMAND, env=env, capture_output=True, text=True, check=False)
    assert "stats" in offered.stdout


# ---------------------------------------------------------------------------------------------- what the system refuses


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", [["log", "FiveTuple"], ["log", "FiveTuple", "-T", "csv"], ["log", "FiveTuple", "-T", "table"], ["stats"]])
@pytest.mark.parametrize("to", ["option", "standard output"])
def test_a_full_disk_is_told_in_one_line(words, to):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, *words, "-r", TLS, "-q", *(["-o", "/dev/full"] if to == "option" else [])],
            stdout=full if to == "standard output" else subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENV, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "retina-jit: No space left on device: the output is not whole\n"


def test_what_an_app_has_printed_is_there_whatever_it_is_refused_at_the_end(tmp_path):
    body = "import retina_jit as rj\n@rj.subscribe('')\ndef one(_: rj.FiveTuple): print('row')\n@rj.at_end\ndef over(_): open('/no/such/folder')\n"
    path = tmp_path / "app.py"
    path.write_text(body)
    env = {name: value for name, value in ENV.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run([*COMMAND, "run", str(path), "-r", TLS, "-q"], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    assert set(done.stdout.splitlines()) == {"row"}
    assert "line 5, in over" in done.stderr
    assert "/no/such/folder" in done.stderr


def test_a_cache_folder_that_cannot_be_made_is_told_with_the_fix(tmp_path):
    (tmp_path / "cache").write_text("no folder")
    env = {**ENV, "RETINA_JIT_CACHE": str(tmp_path / "cache" / "inside")}
    done = subprocess.run([*COMMAND, "log", "FiveTuple", "-r", TLS, "-q"], capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"retina-jit: {tmp_path}/cache/inside: Not a directory. Fix: set RETINA_JIT_CACHE to a folder of your own\n"


def test_the_help_says_what_exit_codes_mean():
    found = call("--help")
    assert re.findall(r"\b(\d+) [a-z]", found.stdout.partition("Exit codes:")[2].replace("\n", " ")) == ["0", "1", "2", "3", "4", "130"]
