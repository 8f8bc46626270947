"""Every example runs on a shipped capture, as its head says, and prints what the capture holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXPECTED = json.loads((ROOT / "tests/traffic/expected.json").read_text())


def run(example: str) -> str:
    path = ROOT / "examples" / example
    command = re.search(r"^    retina-jit (run .+)$", path.read_text(), re.M)
    assert command, f"{example}: its head does not say how to run it"
    done = subprocess.run(
        [sys.executable, "-m", "retina_jit", *command[1].split(), "-q"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def handshakes(capture: str) -> list[dict]:
    found = EXPECTED[capture]["connections"]
    return [c["tls"] for c in found if c.get("tls")]


def test_every_example_is_short_and_tested() -> None:
    assert {p.name for p in EXAMPLES} == {
        *("basic.py", "basic_file.py", "bursts.py", "chatty.py", "count_packets.py", "log_ssh.py", "log_tls.py", "port_count.py", "protocols.py"),
        "websites.py",
    }
    for path in EXAMPLES:
        assert len(path.read_text().splitlines()) < 60


def test_basic() -> None:
    lines = run("basic.py").splitlines()
    assert len(lines) == len(handshakes("tls.pcap"))
    assert sorted(line.split()[0] for line in lines) == sorted(t["sni"] or "-" for t in handshakes("tls.pcap"))


def test_log_tls() -> None:
    rows = [json.loads(line) for line in run("log_tls.py").splitlines()]
    wanted = [t["sni"] for t in handshakes("tls.pcap") if t["sni"] and re.search(r"\.(com|net)$", t["sni"])]
    assert sorted(r["sni"] for r in rows) == sorted(wanted)
    assert all(r["ja4"].startswith("t1") for r in rows)


def connections(capture: str, protocol: str) -> list[dict]:
    return [c for c in EXPECTED[capture]["connections"] if c.get(protocol)]


def test_basic_file() -> None:
    lines = run("basic_file.py").splitlines()
    wanted = [t["sni"] for t in handshakes("tls.pcap") if t["sni"] and re.search(r"\.(com|net|org)$", t["sni"])]
    assert sorted(line.rpartition(" ")[2] for line in lines) == sorted(wanted)
    for line in lines:
        assert re.search(line.partition("'")[2].rpartition("'")[0], line.rpartition(" ")[2])


def test_log_ssh() -> None:
    rows = [json.loads(line) for line in run("log_ssh.py").splitlines()]
    known = [c["ssh"] for c in connections("ssh.pcap", "ssh")]
    found = [r for r in rows if r["why"] == "ssh"]
    assert sorted(r["host_key"] for r in found) == sorted(s["fingerprint"] for s in known)
    assert sorted(r["cipher"] for r in found) == sorted(s["send_cipher"] for s in known)
    assert {r["server_software"] for r in found} == {"Server-1"}
    assert all(len(r["hassh"]) == len(r["hassh_server"]) == 32 for r in found)
    assert [r["server"] for r in rows if r["why"] == "open to Terrapin"] == [r["server"] for r in found if not r["strict"]]


def test_protocols() -> None:
    lines = run("protocols.py").splitlines()
    wanted = [("tls", c["server"][1]) for c in connections("mixed.pcap", "tls") if c["server"][1] != 443]
    wanted += [("http", c["server"][1]) for c in connections("mixed.pcap", "http") if c["server"][1] != 80 for _ in c["http"]]
    wanted += [("dns", c["server"][1]) for c in connections("mixed.pcap", "dns") if c["server"][1] != 53 for _ in c["dns"]]
    assert sorted((line.split()[0], int(line.split()[1])) for line in lines) == sorted(wanted)


def test_websites() -> None:
    counts = {tuple(line.split()[:2]): int(line.split()[2]) for line in run("websites.py").splitlines()}
    wanted: dict[tuple[str, str], int] = {}
    for c in EXPECTED["mixed.pcap"]["connections"]:
        names = [("dns", d["query_domain"]) for d in c.get("dns", [])] + [("http", h["host"]) for h in c.get("http", [])]
        for key in names + ([("tls", c["tls"]["sni"] or "-")] if c.get("tls") else []):
            wanted[key] = wanted.get(key, 0) + 1
    assert counts == wanted


def test_port_count() -> None:
    out = run("port_count.py")
    assert re.search(r"packets: \{'packets': \d+, 'bytes': \d+\}", out)
    ports = json.loads(next(line for line in out.splitlines() if line.startswith('{"')))
    for protocol in ("http", "tls"):
        wanted: dict[str, int] = {}
        for c in connections("mixed.pcap", protocol):
            wanted[str(c["server"][1])] = wanted.get(str(c["server"][1]), 0) + 1
        assert ports[protocol] == wanted
    assert sum(ports["dns and udp"].values()) == len([c for c in connections("mixed.pcap", "dns") if c["proto"] == "udp"])


def test_count_packets() -> None:
    found = re.search(r"count: \{'packets': (\d+), 'bytes': (\d+)\}", run("count_packets.py"))
    assert found
    assert int(found[1]) > 0
    assert int(found[2]) > 54 * int(found[1])


def test_bursts() -> None:
    lines = run("bursts.py").splitlines()
    ends = {line.rpartition(" ")[0] for line in lines}
    assert len(ends) == len(EXPECTED["mixed.pcap"]["connections"])
    assert all(int(line.rpartition(" ")[2]) > 0 for line in lines)


def test_chatty() -> None:
    lines = run("chatty.py").splitlines()
    found = EXPECTED["mixed.pcap"]["connections"]
    names = [c["tls"]["sni"] for c in found if c.get("tls")]
    assert sorted(x[6:] for x in lines if x.startswith("named ")) == sorted(n for n in names if n and n.endswith(".example.com"))
    assert any(x.startswith("talks ") for x in lines)
    assert any(x.startswith("asked ") for x in lines)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_example_names_a_shipped_capture(path: Path) -> None:
    named = re.search(r"-r (\S+)", path.read_text())
    assert named
    assert (ROOT / named[1]).exists()
