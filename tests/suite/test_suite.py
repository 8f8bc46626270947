"""The cases of `filters.toml`: each filter on each packet, by the generated code and by the interpreter."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from support.filters import RowFacts, Rows, Runner
from traffic import packets

from retina_jit.errors import FilterError
from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.filters.interpret import evaluate

SUITE = tomllib.loads(Path(__file__).with_name("filters.toml").read_text())
NAMES = list(SUITE["packets"])


def _frame(shape: dict[str, object]) -> bytes:
    kind, src, dst = shape["kind"], str(shape.get("src", "")), str(shape.get("dst", ""))
    ports = int(str(shape.get("sport", 0))), int(str(shape.get("dport", 0)))
    mac = bytes.fromhex("02000000000a")
    if kind == "arp":
        return b"\xff" * 6 + mac + b"\x08\x06" + packets.arp(mac, "10.0.0.1", "10.0.0.2")[-28:]
    if kind == "tcp":
        number, message = 6, packets.tcp(src, dst, *ports, b"", flags=int(str(shape["flags"])))
    elif kind == "icmp":
        number, message = 1, b"\x08\0\0\0\0\0\0\0"
    else:
        number, message = 17, packets.udp(src, dst, *ports, b"payload"[: 3 if "vlan" in shape else 7])
    six = ":" in src
    later = {"flags_offset": 5} if kind == "fragment" else {}
    packet = packets.ipv6(src, dst, number, message) if six else packets.ipv4(src, dst, number, message, ttl=64, **later)
    tag = b"\x81\0" + int(str(shape["vlan"])).to_bytes(2, "big") if "vlan" in shape else b""
    return bytes.fromhex("02000000000b") + mac + tag + (b"\x86\xdd" if six else b"\x08\0") + packet


@pytest.fixture(scope="module")
def rows():
    frames = [_frame(shape) for shape in SUITE["packets"].values()]
    return Rows([(f, 1, len(f)) for f in frames])


@pytest.fixture(scope="module")
def found(rows):
    """All filters in one program: numbers of the matching packets, by filter."""
    runner = Runner(compile_filters([FilterSpec(text, "packet") for text in SUITE["match"]]))
    pairs, _ = runner.packets(rows)
    return {text: [row for row, s in pairs if s == n] for n, text in enumerate(SUITE["match"])}


@pytest.mark.parametrize("text", SUITE["match"])
def test_match(text, rows, found):
    wanted = SUITE["match"][text]
    assert [NAMES[n] for n in found[text]] == wanted
    term = compile_filters([FilterSpec(text, "packet")]).terms[0]
    assert [NAMES[n] for n in range(len(NAMES)) if evaluate(term, RowFacts(rows, n))] == wanted


@pytest.mark.parametrize("text", SUITE["error"])
def test_error(text):
    with pytest.raises(FilterError) as caught:
        compile_filters([FilterSpec(text, "packet")])
    assert caught.value.reason == SUITE["error"][text]
    assert "^" in str(caught.value)
