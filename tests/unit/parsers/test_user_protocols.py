"""Protocols that users bring: a file, source text, an installed package; and what is said when they do not work."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.running import collect, run_content
from support.sessions import Parser
from traffic import UdpExchange, pcap_bytes

import retina_jit
from retina_jit.datatypes import data_types
from retina_jit.errors import ProtocolError
from retina_jit.parsers import user
from retina_jit.parsers.protocol import forget, protocols

ROOT = Path(__file__).resolve().parents[3]
TFTP = re.search(r"```python\n(.*?)```", (ROOT / "docs/protocols.md").read_text(), re.S)[1]  # type: ignore[index]
REQUEST = b"\0\1boot.cfg\0octet\0"


@pytest.fixture(autouse=True)
def _as_before():
    known = {p.module for p in protocols().values()}
    yield
    for p in list(protocols().values()):
        if p.module not in known:
            forget(p.module)
    data_types()


@pytest.fixture
def tftp(tmp_path: Path) -> Path:
    path = tmp_path / "tftp.py"
    path.write_text(TFTP)
    return path


def capture(*datagrams: bytes) -> bytes:
    talk = UdpExchange(("192.0.2.1", 4000), ("192.0.2.2", 69))
    for data in datagrams:
        talk.to_server(data)
    return pcap_bytes(talk.frames)


def test_the_page_s_example_is_found_in_traffic(tftp: Path) -> None:
    made = user.load_protocol(tftp)
    assert (made.name, made.data_type, list(made.fields)) == ("tftp", "TftpSession", ["filename", "opcode"])
    subscription, seen = collect("TftpSession", "tftp.filename contains 'cfg' and tftp.opcode = read")
    run_content([subscription], capture(REQUEST))
    assert [s.to_dict() for s in seen] == [{"filename": "boot.cfg", "opcode": 1}]
    assert retina_jit.TftpSession is data_types()["TftpSession"]


def test_its_examples_hold(tftp: Path) -> None:
    user.load_protocol(tftp)
    parser = Parser("tftp")
    for example in parser.protocol.examples:
        parsed, finished = parser.conversation([(n, d, data) for n, (d, data) in enumerate(example.segments, 1)], example.transport)
        for found, expected in zip(parsed + finished, example.sessions, strict=True):
            for field, value in expected.items():
                assert found[field] == (value.encode() if isinstance(value, str) else value)


def test_an_edited_file_replaces_what_it_has_declared(tftp: Path) -> None:
    user.load_protocol(tftp)
    before = data_types()["TftpSession"]
    assert user.load_protocol(tftp).fields == protocols()["tftp"].fields
    assert data_types()["TftpSession"] is before, "the same file is not loaded twice"
    tftp.write_text(TFTP.replace("def filename", "def name").replace('"filename": "boot', '"name": "boot'))
    assert list(user.load_protocol(tftp).fields) == ["name", "opcode"]
    subscription, seen = collect("TftpSession", "tftp.name = 'boot.cfg'")
    run_content([subscription], capture(REQUEST))
    assert [s.to_dict() for s in seen] == [{"name": "boot.cfg", "opcode": 1}]


def test_a_notebook_cell_declares_one() -> None:
    cells = {}
    shell = SimpleNamespace(register_magic_function=lambda function, kind, name: cells.update({(kind, name): function}))
    retina_jit.load_ipython_extension(shell)
    cells["cell", "protocol"]("", TFTP)
    assert protocols()["tftp"].data_type == "TftpSession"


def test_an_installed_package_brings_one(tftp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tftp.parent / "brought_tftp.py").write_text(TFTP)
    monkeypatch.syspath_prepend(tftp.parent)
    point = importlib.metadata.EntryPoint("tftp", "brought_tftp", user.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == user.GROUP else [])
    assert [p.name for p in user.load_installed()] == ["tftp"]
    missing = importlib.metadata.EntryPoint("gone", "no_such_module_here", user.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [missing])
    with pytest.raises(ProtocolError, match="'gone' has no module no_such_module_here"):
        user.load_installed()


def test_the_command_line_knows_it(tftp: Path) -> None:
    (tftp.parent / "x.pcap").write_bytes(capture(REQUEST))
    (tftp.parent / "conf.toml").write_text('protocols = ["tftp.py"]\n')
    command = [sys.executable, "-m", "retina_jit"]
    run = ["log", "TftpSession", "-f", "tftp", "-r", "x.pcap", "-q"]
    for options in (["--protocol", "tftp.py"], ["-c", "conf.toml"]):
        done = subprocess.run([*command, *run, *options], cwd=tftp.parent, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"tftp_session": {"filename": "boot.cfg", "opcode": 1}}
    done = subprocess.run([*command, "fields", "tftp", "--protocol", "tftp.py"], cwd=tftp.parent, capture_output=True, text=True, check=True)
    assert "tftp.filename" in done.stdout


def test_processes_that_read_an_archive_know_it(tftp: Path) -> None:
    for name in ("x.pcap", "y.pcap"):
        (tftp.parent / name).write_bytes(capture(REQUEST))
    command = [sys.executable, "-m", "retina_jit", "log", "TftpSession", "-f", "tftp", "-q", "--protocol", "tftp.py"]
    done = subprocess.run(
        [*command, "-r", "x.pcap", "-r", "y.pcap", "-o", "o.jsonl", "-j", "2", "--per-file"], cwd=tftp.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in (tftp.parent / "o.jsonl").read_text().splitlines()] == 2 * [{"tftp_session": {"filename": "boot.cfg", "opcode": 1}}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.replace("@entry\ndef finish", "def finish"), "needs `finish`, an @entry of 2 parameters"),
        (lambda s: s.replace('within=["udp"]', 'within=["sctp"]'), "within 'sctp'; must be 'tcp' or 'udp'"),
        (lambda s: s.replace('declare("tftp"', 'declare("tls"'), "protocol 'tls' is declared by retina_jit.parsers.session.tls"),
        (lambda s: s.replace('session_field("int"', 'session_field("number"'), "kind 'number' is none of int"),
        (lambda s: s.partition("EXAMPLES")[0], "declares 0 session protocols, must be one"),
    ],
)
def test_what_is_wrong_is_said(tftp: Path, change, message: str) -> None:
    known = list(protocols())
    tftp.write_text(change(TFTP))
    with pytest.raises(ProtocolError, match=re.escape(message)) as error:
        user.load_protocol(tftp)
    assert str(tftp) in str(error.value)
    assert list(protocols()) == known


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="no such file"):
        user.load_protocol(tmp_path / "nothing.py")


def test_frames_of_others_are_left_alone(tftp: Path) -> None:
    user.load_protocol(tftp)
    subscription, seen = collect("TftpSession", "")
    run_content([subscription], capture(b"\0\3\0\1data", b"\0\1", b"", b"\0\1name without an end"))
    assert seen == []
