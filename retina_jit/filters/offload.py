"""What a network card could do of the packet stage: rules that let through at least what some subscription may want.

Hardware matches headers by value and mask: presence of IPv4, IPv6, TCP, UDP, and their addresses and ports. Everything else is
left out of a rule, which makes it wider, never narrower. A rule list is a disjunction; an empty rule lets everything through.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from itertools import product
from typing import Any

from retina_jit.filters.syntax import And, Not, Or, Present, Term, Test, Truth

MOST_RULES = 128
"""Cards have room for so many; beyond it rules only say which protocols."""
MOST_VALUES = 16
NETWORKS, TRANSPORTS = ("ipv4", "ipv6"), ("tcp", "udp")
FIELDS = {"ipv4": ("src_addr", "dst_addr"), "ipv6": ("src_addr", "dst_addr"), "tcp": ("src_port", "dst_port"), "udp": ("src_port", "dst_port")}
BITS = {"ipv4": 32, "ipv6": 128, "tcp": 16, "udp": 16}

PASSED = (
    "frames with 802.1Q, 802.1ad, MPLS or PPPoE headers: software looks behind them",
    "IPv4 fragments, IPv6 with extension headers: the transport header is not where the card looks for it",
)
"""What has to reach the software whatever the rules say."""


@dataclass(frozen=True)
class Match:
    """One condition of a rule: a protocol is there, or the leading `prefix` bits of a field have a value."""

    protocol: str
    field: str = ""
    value: int = 0
    prefix: int = 0

    def __str__(self) -> str:
        if not self.field:
            return self.protocol
        shown = str(self.value)
        if self.protocol in NETWORKS:
            network = IPv4Network if self.protocol == "ipv4" else IPv6Network
            shown = str(network((self.value, self.prefix)))
        return f"{self.protocol}.{self.field} = {shown}"


Rule = frozenset[Match]


def rules(terms: Iterable[Term]) -> list[Rule]:
    """Return the rules for what the packet stage asks: the terms of all subscriptions."""
    found = _unique(r for term in terms for r in _rules(term))
    if len(found) > MOST_RULES:
        found = _unique(frozenset(Match(m.protocol) for m in rule) for rule in found)
    return sorted(found, key=lambda rule: show(rule))


def show(rule: Rule) -> str:
    """Write a rule as a filter; everything if it has no condition."""
    order = [*NETWORKS, *TRANSPORTS]
    named = {m.protocol for m in rule if m.field}
    parts = [m for m in rule if m.field or m.protocol not in named]
    return " and ".join(str(m) for m in sorted(parts, key=lambda m: (order.index(m.protocol), m.field))) or "everything"


def _rules(term: Term) -> list[Rule]:
    if isinstance(term, Truth):
        return [frozenset()] if term.value else []
    if isinstance(term, Present):
        return [frozenset([Match(term.protocol)]) if term.protocol in FIELDS else frozenset()]
    if isinstance(term, Test):
        return _of_test(term)
    if isinstance(term, Not):
        return [frozenset()]
    several = [_rules(t) for t in term.terms]
    if isinstance(term, Or):
        return _unique(r for rs in several for r in rs)
    assert isinstance(term, And)
    made: list[Rule] = [frozenset()]
    for more in several:
        if len(made) * len(more) > 4 * MOST_RULES:
            continue  # a rule less is a wider rule
        made = _unique(a | b for a, b in product(made, more) if _possible(a | b))
    return made


def _of_test(test: Test) -> list[Rule]:
    there = Match(test.protocol)
    if test.protocol not in FIELDS:
        return [frozenset()]
    if test.field not in FIELDS[test.protocol] or test.form != "range" or test.negated:
        return [frozenset([there])]
    bits = BITS[test.protocol]
    found = []
    ranges: Any = test.value
    for low, high in ranges:
        size = high - low + 1
        if size & (size - 1) or low % size or (bits == 16 and size > 1):
            return [frozenset([there])]
        found.append(frozenset([there, Match(test.protocol, test.field, low, bits - size.bit_length() + 1)]))
    return found if len(found) <= MOST_VALUES else [frozenset([there])]


def _possible(rule: Rule) -> bool:
    names = {m.protocol for m in rule}
    return not (names >= set(NETWORKS) or names >= set(TRANSPORTS))


def _unique(found: Iterable[Rule]) -> list[Rule]:
    """Leave out rules that another one makes superfluous."""
    kept: list[Rule] = []
    for rule in sorted(set(found), key=len):
        if not any(other <= rule for other in kept):
            kept.append(rule)
    return kept
