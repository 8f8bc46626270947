"""A mapped file that becomes shorter never kills the process, and no frame behind its new end is counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from oracle.captures import read_capture
from traffic.capture import pcap_bytes, pcapng_bytes
from traffic.synth import TcpConversation

from retina_jit.ingest import guard

TESTS = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not guard.SUPPORTED, reason="files are mapped on Linux x86-64 and aarch64 only")


@pytest.fixture(scope="module")
def frames():
    talk = TcpConversation(("192.0.2.10", 40000), ("198.51.100.20", 443))
    talk.open()
    for _ in range(60):
        talk.to_server(b"x" * 3000)
        talk.to_client(b"y" * 10_000)
    return talk.frames


def run(scenario: str, path: Path, size: int) -> subprocess.CompletedProcess[str]:
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    command = [sys.executable, str(TESTS / "support" / "shrinking.py"), scenario, str(path), str(size)]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("form", [pcap_bytes, pcapng_bytes])
@pytest.mark.parametrize("scenario", ["between bursts", "within a burst"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated(tmp_path, frames, form, scenario, share):
    content = form(frames)
    path = tmp_path / "capture"
    path.write_bytes(content)
    size = int(len(content) * share) + (100 if share else 0)
    done = run(scenario, path, size)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    left = len(read_capture(content[:size]).frames) if size > 4 else 0
    # The first burst was used before the file was truncated.
    assert got["counted"] == got["frames"] == max(left, 64)
    assert got["cut"]
    assert "cut at byte" in got["problem"]
    assert got["gone"] == [0, 1]


def test_truncated_within_the_last_page(tmp_path, frames):
    content = pcap_bytes(frames)
    size = len(content) // 4096 * 4096 + 1200
    content = content[: size + 2000]
    path = tmp_path / "capture"
    path.write_bytes(content)
    done = run("between bursts", path, size)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["cut"]
    assert abs(got["frames"] - len(read_capture(content[:size]).frames)) <= 1


@pytest.mark.slow
def test_truncated_while_a_kernel_walks(tmp_path, frames):
    content = pcap_bytes(frames * 20)
    path = tmp_path / "capture"
    for n in range(5):
        path.write_bytes(content)
        size = len(content) * n // 5 + 30
        done = run("at any time", path, size)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["cut"]


def test_fault_elsewhere_goes_to_the_former_handler(tmp_path, frames):
    path = tmp_path / "capture"
    path.write_bytes(pcap_bytes(frames))
    done = run("elsewhere", path, 0)
    assert done.returncode == -signal.SIGBUS
    assert done.stdout == "before\n"
    assert "Fatal Python error: Bus error" in done.stderr


def test_signal_sent_by_someone_kills_as_always(tmp_path, frames):
    path = tmp_path / "capture"
    path.write_bytes(pcap_bytes(frames))
    assert run("sent", path, 0).returncode == -signal.SIGBUS
