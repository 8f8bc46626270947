"""`log -T table`: what people read is what the other formats say."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from support.running import SAMPLES, run_content
from traffic import TcpConversation, pcap_bytes

import retina_jit as rj
from retina_jit.cli import main
from retina_jit.cli.table import TableLines
from retina_jit.subscription import named

TLS, MIXED = SAMPLES / "tls.pcap", SAMPLES / "mixed.pcap"


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def written(content: bytes, *types: str, out: io.BytesIO) -> list[str]:
    sink = TableLines(out)
    subscriptions = []
    for one in types:
        s = named(one.split(","), "", lambda *_: None, "each")
        s.deliver, s.sink = "sink", sink
        subscriptions.append(s)
    run_content(subscriptions, content)
    sink.close()
    return out.getvalue().decode().splitlines()


def plain(value: Any) -> str:
    return "-" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def test_in_a_pipe_every_column_of_every_row_is_there() -> None:
    head, *lines = written(TLS.read_bytes(), "TlsHandshake,FiveTuple", out=io.BytesIO())
    rows = rj.read(TLS).select("", "TlsHandshake", "FiveTuple").to_dicts()
    assert head.split() == list(rows[0])
    assert len(lines) == len(rows)
    at = [m.start() for m in re.finditer(r"\S+", head)]
    for name in ("sni", "cipher", "ja3_hash", "orig_addr", "proto"):
        start = at[list(rows[0]).index(name)]
        assert [line[start:].split("  ")[0] for line in lines] == [plain(r[name]) for r in rows]


@pytest.mark.parametrize("width", [40, 80, 133, 240])
def test_a_terminal_s_lines_are_not_wrapped(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    lines = written(TLS.read_bytes(), "TlsHandshake,FiveTuple", out=Terminal())
    assert max(map(cell_len, lines[:-1])) <= width
    assert len(lines) == 1 + len(rj.read(TLS).select("", "TlsHandshake")) + 1
    assert re.fullmatch(r"\d+ columns are empty or have no room here; -T jsonl has all of them", lines[-1])
    assert lines[0].startswith("ts")
    assert ("orig_addr" in lines[0]) == (width >= 80)


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[1m" in written(TLS.read_bytes(), "TlsHandshake", out=Terminal())[0]
    assert "\x1b" not in "".join(written(TLS.read_bytes(), "TlsHandshake", out=io.BytesIO()))
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in "".join(written(TLS.read_bytes(), "TlsHandshake", out=Terminal()))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b" not in "".join(written(TLS.read_bytes(), "TlsHandshake", out=Terminal()))


def test_several_subscriptions_have_a_header_each() -> None:
    lines = written(MIXED.read_bytes(), "DnsTransaction", "HttpTransaction", out=io.BytesIO())
    heads = [line for line in lines if line.startswith("ts ")]
    assert any("query_domain" in h for h in heads)
    assert any("user_agent" in h for h in heads)
    rows = [line for line in lines if line and not line.startswith("ts ")]
    assert len(rows) == len(rj.read(MIXED).sessions["dns"]) + len(rj.read(MIXED).sessions["http"])


def test_a_capture_does_not_command_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    talk = TcpConversation(("192.0.2.10", 40000), ("198.51.100.20", 80))
    talk.open()
    talk.to_server(b"GET /\x1b]0;owned\x07 HTTP/1.1\r\nHost: a\r\nUser-Agent: \x1b[31m\xe2\x80\xaered\xe5\xad\x97\r\n\r\n")
    talk.to_client(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    talk.close()
    for out in (Terminal(), io.BytesIO()):
        text = "\n".join(written(pcap_bytes(talk.frames), "HttpTransaction", out=out))
        assert all(c.isprintable() or c == "\n" for c in text)
    assert "\\x1b[31m" in text
    assert "字" in text


def test_the_option(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    for words in (["--format", "table"], ["-T", "table", "-o", str(path)]):
        done = CliRunner().invoke(main, ["log", "FiveTuple", "-r", str(MIXED), "-q", *words])
        assert done.exit_code == 0, done.output
    first = CliRunner().invoke(main, ["log", "FiveTuple", "-r", str(MIXED), "-q", "-T", "table"]).stdout
    assert first == path.read_text()
    assert first.splitlines()[0].split() == ["ts", "orig_addr", "orig_port", "resp_addr", "resp_port", "proto"]
    refused = CliRunner().invoke(main, ["log", "FiveTuple", "-r", str(MIXED), "-T", "table", "-o", str(path), "--rotate", "1M"])
    assert refused.exit_code == 1
    assert "--rotate" in refused.output
