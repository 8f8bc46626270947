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
    assert {p.name for p in EXAMPLES} == {"basic.py", "log_tls.py", "count_packets.py"}
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


def test_count_packets() -> None:
    found = re.search(r"count: \{'packets': (\d+), 'bytes': (\d+)\}", run("count_packets.py"))
    assert found
    assert int(found[1]) > 0
    assert int(found[2]) > 54 * int(found[1])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_example_names_a_shipped_capture(path: Path) -> None:
    named = re.search(r"-r (\S+)", path.read_text())
    assert named
    assert (ROOT / named[1]).exists()
