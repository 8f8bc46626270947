"""Rules for a network card let through at least what the packet stage does (upstream's were narrower, retina.md 10.1-11)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
from support.filters import Writer

from retina_jit.errors import FilterError
from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.filters.interpret import evaluate
from retina_jit.filters.offload import BITS, MOST_RULES, rules, show
from retina_jit.parsers.protocol import protocols


def of(*specs: tuple[str, str]) -> list[str]:
    return [show(r) for r in rules(compile_filters([FilterSpec(*s) for s in specs]).first)]


@pytest.mark.parametrize(
    ("specs", "want"),
    [
        ([("tcp", "packet")], ["tcp"]),
        ([("tls", "session")], ["tcp"]),
        ([("ipv4 and tcp.dst_port = 443", "packet")], ["ipv4 and tcp.dst_port = 443"]),
        # The replies are wanted, too.
        ([("tcp.dst_port = 443 and ipv4.src_addr in 10.0.0.0/8", "connection")],
         ["ipv4.dst_addr = 10.0.0.0/8 and tcp.src_port = 443", "ipv4.src_addr = 10.0.0.0/8 and tcp.dst_port = 443"]),
        # An inner condition with an effect of its own stays.
        ([("ipv4 and udp", "packet"), ("ipv4 and udp and udp.length > 30", "packet")], ["ipv4 and udp"]),
        ([("ipv4 and tcp", "packet"), ("ipv4", "connection")], ["ipv4 and tcp", "ipv4 and udp"]),
        ([("", "connection"), ("tcp", "packet")], ["tcp", "udp"]),
        ([("", "packet"), ("tcp", "packet")], ["everything"]),
        ([("not tcp.port = 80 and udp.port in {53, 5353}", "packet")],
         ["udp.dst_port = 53", "udp.dst_port = 5353", "udp.src_port = 53", "udp.src_port = 5353"]),
        ([("tcp.port in 8000..8100", "packet")], ["tcp"]),
        ([("frame.len > 1000", "packet")], ["everything"]),
    ],
)  # fmt: skip
def test_rules(specs, want):
    assert of(*specs) == want


def test_many_values_become_protocols():
    text = " or ".join(f"(ipv4.src_addr = 10.0.0.{n} and tcp.dst_port = {n})" for n in range(MOST_RULES))
    assert len(of((f"{text}", "packet"))) == MOST_RULES
    assert of((f"{text} or (ipv6 and udp.src_port = 7)", "packet")) == ["ipv4 and tcp", "ipv6 and udp"]


@dataclass
class Packet:
    fields: dict[str, dict[str, int]]

    def present(self, protocol: str) -> bool:
        return protocol == "frame" or protocol in self.fields

    def value(self, protocol: str, field: str) -> Any:
        return self.fields[protocol].get(field, 0)


def passes(rule: Any, packet: Packet) -> bool:
    def holds(m: Any) -> bool:
        if m.protocol not in packet.fields:
            return False
        shift = BITS[m.protocol] - m.prefix
        return not m.field or packet.fields[m.protocol][m.field] >> shift == m.value >> shift

    return all(map(holds, rule))


def test_no_rule_set_is_narrower_than_its_filter():
    rng = random.Random(4)
    pool = {("ipv4", "src_addr"): [0x0A000001, 0x0A000002], ("ipv6", "src_addr"): [1, 1 << 127], ("tcp", "src_port"): [80, 443], ("udp", "src_port"): [53, 80]}
    pool |= {(p, f.replace("src", "dst")): v for (p, f), v in pool.items()}
    fields = [protocols()[p].fields[f] for p, f in pool]
    write = Writer(5, [*fields, protocols()["tcp"].fields["window"]], ["tcp", "udp", "ipv4", "ipv6"], pool)
    packets = []
    for _ in range(150):
        network, transport = rng.choice(("ipv4", "ipv6")), rng.choice(("tcp", "udp", "icmp"))
        shown = {n: {f: rng.choice(v) for (p, f), v in pool.items() if p == n} for n in (network, transport)}
        packets.append(Packet(shown | {transport: {**shown[transport], "window": rng.choice((0, 5, 500))}}))
    kept = dropped = 0
    while kept < 3000:
        text = write.filter()
        try:
            plan = compile_filters([FilterSpec(text, "packet")])
        except FilterError:
            continue
        made = rules(plan.first)
        for p in packets:
            if evaluate(plan.terms[0], p):
                kept += 1
                assert any(passes(r, p) for r in made), (text, [show(r) for r in made])
            else:
                dropped += not any(passes(r, p) for r in made)
    assert dropped > 1000, "rules are meant to keep something away"
