"""What holds for every header protocol that is declared, with nothing said about any of them.

All readers and gates of a protocol are compiled into one entry per protocol: `probe_NAME(address, length, at, out)` writes
the gate's answer and then every field, as its reader sees it.
"""

from __future__ import annotations

import hashlib
import importlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retina_jit import memory, objects, stamp
from retina_jit.parsers.protocol import KINDS, Protocol, Reader, protocols
from retina_jit.state.layout import PACKET
from retina_jit.status import Parse

HEADERS = {n: p for n, p in protocols().items() if p.level == "packet"}
WITH_GATE = sorted(n for n, p in HEADERS.items() if hasattr(importlib.import_module(p.module), "check"))


def _readers(p: Protocol) -> dict[str, Reader]:
    module = importlib.import_module(p.module)
    return {name: getattr(module, name) for name in p.fields}


def _source(p: Protocol) -> str:
    """Source of the entry; an IPv6 address takes two words of `out`."""
    lines = [
        "from retina_jit.jit import entry",
        "from retina_jit.memory import store64",
        f"import {p.module} as protocol",
        f"from {p.module} import check",
        *[f"from {p.module} import {name} as read_{name}" for name in p.fields],
        "@entry",
        f"def probe_{p.name}(address, length, at, out):",
        "    span = (address, length)",
        "    store64(out, check(span, at))",
        "    if check(span, at) < 0:",
        "        return 0",
    ]
    slot = 1
    for name, declared in p.fields.items():
        if declared.kind == "ipv6":
            lines += [f"    high, low = read_{name}(span, at)", f"    store64(out + {8 * slot}, high)", f"    store64(out + {8 * slot + 8}, low)"]
            slot += 2
        else:
            lines.append(f"    store64(out + {8 * slot}, read_{name}(span, at) + 0)")
            slot += 1
    return "\n".join([*lines, "    return 1", ""]).replace(f"import {p.module} as protocol\n", "")


@cache
def _probe(name: str) -> objects.Entry:
    text = _source(HEADERS[name])
    folder = stamp.cache_dir() / "test_registry"
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}.py"
    if not file.exists():
        file.write_text(text)
    return objects.function(f"{file}:probe_{name}")


_bytes = memory.Region(4096)
_out = memory.Region(4096)


def probe(name: str, data: bytes, at: int = 0) -> tuple[int, dict[str, int]]:
    """Gate's answer and all fields, read from exactly these bytes."""
    p = HEADERS[name]
    _bytes.array(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    _probe(name)(_bytes.address, len(data), at, _out.address)
    words = [int(w) for w in _out.array(np.int64, 64)]
    gate, slot, values = words[0], 1, {}
    if gate >= 0:
        for field, declared in p.fields.items():
            if declared.kind == "ipv6":
                values[field] = (words[slot] % 2**64) << 64 | words[slot + 1] % 2**64
                slot += 2
            else:
                values[field] = words[slot]
                slot += 1
    return gate, values


EXAMPLES = [(n, e) for n in WITH_GATE for e in HEADERS[n].examples]


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=lambda v: getattr(v, "name", v))
def test_example_decodes(name, example):
    data = bytes.fromhex(example.hex)
    gate, values = probe(name, data)
    assert gate == example.payload_at
    assert {k: values[k] for k in example.fields} == example.fields


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=lambda v: getattr(v, "name", v))
def test_example_decodes_anywhere(name, example):
    data = bytes.fromhex(example.hex)
    gate, values = probe(name, b"\xee" * 7 + data + b"\xee" * 3, 7)
    assert gate == 7 + example.payload_at
    assert {k: values[k] for k in example.fields} == example.fields


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=lambda v: getattr(v, "name", v))
def test_every_truncation_is_refused(name, example):
    data = bytes.fromhex(example.hex)[: example.payload_at]
    for end in range(len(data)):
        assert probe(name, data[:end])[0] == Parse.TRUNCATED
        assert probe(name, data, end + 1)[0] < 0, "no header fits behind its own begin"


@pytest.mark.parametrize("name", WITH_GATE)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=80), at=st.integers(-3, 90))
def test_gate_keeps_its_promise(name, data, at):
    """A gate that lets bytes pass lets every reader stay inside; in checked mode a reader outside would raise."""
    gate, values = probe(name, data, at)
    if gate >= 0:
        assert 0 <= at < gate <= len(data)
        for field, value in values.items():
            declared = HEADERS[name].fields[field]
            assert 0 <= value < 1 << (declared.bits or 64)
    else:
        assert gate in (Parse.TRUNCATED, Parse.MALFORMED)


@pytest.mark.parametrize("name", WITH_GATE)
def test_whole_field_readers_are_big_endian_views(name):
    """Every field of whole bytes is, in any header, what NumPy sees at one and the same place."""
    rng = np.random.default_rng(1)
    example = bytes.fromhex(HEADERS[name].examples[0].hex)
    places: dict[str, set[int]] = {}
    for _ in range(20):
        data = bytearray(rng.bytes(len(example)))
        # Enough is kept for the gate: version, lengths.
        for kept in {"ipv4": (0,), "ipv6": (0,), "tcp": (12,)}.get(name, ()):
            data[kept] = example[kept]
        if name in ("ipv4", "udp"):
            data[{"ipv4": 2, "udp": 4}[name]] = 0xFF
        gate, values = probe(name, bytes(data))
        assert gate > 0
        for field, value in values.items():
            if HEADERS[name].fields[field].needs:
                continue  # an option has no place of its own
            width = HEADERS[name].fields[field].bits // 8
            if HEADERS[name].fields[field].bits % 8 == 0:
                windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), width)
                found = set(np.flatnonzero((windows == np.frombuffer(value.to_bytes(width, "big"), np.uint8)).all(axis=1)))
                places[field] = places.get(field, found) & found
    assert {f for f, where in places.items() if not where} <= {"traffic_class"}, "which crosses a byte"


@pytest.mark.parametrize("name", sorted(HEADERS))
def test_declarations_are_sound(name):
    p = HEADERS[name]
    assert p.fields
    for field in p.fields.values():
        assert field.kind in KINDS
        assert field.doc.endswith(".")
        assert field.doc[0].isupper()
        if field.column:
            columns = [f"{field.column}_hi", f"{field.column}_lo"] if field.kind == "ipv6" else [field.column]
            for column in columns:
                assert column in PACKET.fields
            if field.kind not in ("ipv6", "ipv4"):
                assert field.shift + field.bits <= 8 * PACKET.fields[field.column][0].itemsize  # type: ignore[index]
        for alias in field.aliases:
            assert "." in alias or alias == "payload"
    for parent, _ in p.within:
        protocol, _, field = parent.partition(".")
        assert field in HEADERS[protocol].fields
    assert name == p.module.rpartition(".")[2], "a protocol is found in the file of its name"


def test_aliases_are_unique():
    seen: dict[str, Any] = {}
    for p in protocols().values():
        for field in p.fields.values():
            for spelling in (f"{p.name}.{field.name}", *field.aliases):
                assert seen.setdefault(spelling, (p.name, field.name)) == (p.name, field.name), spelling


def test_wireshark_spellings():
    want = {
        "ip.src": "ipv4.src_addr", "ip.dst": "ipv4.dst_addr", "ip.ttl": "ipv4.time_to_live", "ip.proto": "ipv4.protocol",
        "ip.len": "ipv4.total_length", "ip.id": "ipv4.identification", "ip.dsfield.dscp": "ipv4.dscp", "ip.flags.df": "ipv4.df",
        "ipv6.src": "ipv6.src_addr", "ipv6.dst": "ipv6.dst_addr", "ipv6.hlim": "ipv6.hop_limit", "ipv6.nxt": "ipv6.next_header",
        "tcp.srcport": "tcp.src_port", "tcp.dstport": "tcp.dst_port", "tcp.flags.syn": "tcp.syn", "tcp.flags.ack": "tcp.ack",
        "tcp.flags.fin": "tcp.fin", "tcp.flags.reset": "tcp.rst", "tcp.flags.push": "tcp.psh", "tcp.seq_raw": "tcp.seq_no",
        "tcp.ack_raw": "tcp.ack_no", "tcp.window_size_value": "tcp.window", "udp.srcport": "udp.src_port",
        "udp.dstport": "udp.dst_port", "frame.len": "frame.length", "frame.cap_len": "frame.caplen", "eth.src": "ethernet.src",
    }  # fmt: skip
    aliases = {a: f"{p.name}.{f.name}" for p in HEADERS.values() for f in p.fields.values() for a in f.aliases}
    assert {a: aliases.get(a, a) for a in want} == want


def test_only_wire_reads_packet_bytes():
    """No header parser reaches for raw memory."""
    for file in Path(importlib.import_module("retina_jit.parsers.packet").__path__[0]).glob("*.py"):
        for line in file.read_text().splitlines():
            assert not ("import" in line and "load" in line and "memory" in line), f"{file}: {line}"
