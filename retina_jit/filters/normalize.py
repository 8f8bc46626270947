"""Implied layers: which protocols can stand together, what a predicate takes for granted, what can never match.

A *world* is one way in which network, transport and session protocol can be combined; link-layer protocols go with
everything. What a term can be is a set of worlds, kept as the bits of a number.
"""

from __future__ import annotations

from collections.abc import Mapping

from retina_jit.errors import FilterError
from retina_jit.filters.predicates import WATCHED
from retina_jit.filters.syntax import (
    FALSE,
    TRUE,
    And,
    Not,
    Or,
    Present,
    Span,
    Term,
    Test,
    Truth,
    both,
    either,
    leaves,
    negation,
    show,
)
from retina_jit.parsers.protocol import Protocol

NETWORK = ("ipv4", "ipv6")
GIVEN = frozenset({"frame", "conn", WATCHED})
"""Protocols that are always there."""


class Worlds:
    """All combinations of protocols, from what each declares to lie within."""

    def __init__(self, protocols: Mapping[str, Protocol]) -> None:
        def parents(p: Protocol) -> set[str]:
            return {w if isinstance(w, str) else w[0].partition(".")[0] for w in p.within}

        self.transports = [
            p.name
            for p in protocols.values()
            if p.level == "packet" and parents(p) & set(NETWORK) and p.name not in NETWORK
        ]
        self.sessions = {p.name: parents(p) for p in protocols.values() if p.level == "session"}
        over = {t: parents(protocols[t]) for t in self.transports}
        combinations: list[tuple[str, ...]] = [()]
        for network in (n for n in NETWORK if n in protocols):
            combinations.append((network,))
            for transport in (t for t in self.transports if network in over[t]):
                combinations.append((network, transport))
                combinations += [
                    (network, transport, s) for s, under in self.sessions.items() if transport in under
                ]
        self.all = (1 << len(combinations)) - 1
        bits: dict[str, int] = dict.fromkeys([*NETWORK, *self.transports, *self.sessions], 0)
        for n, world in enumerate(combinations):
            for name in world:
                bits[name] |= 1 << n
        self._bits = bits
        order = [*self.sessions, *self.transports, *NETWORK]
        self._rank = {name: n for n, name in enumerate(order)}

    def of(self, protocol: str) -> int:
        """Return the worlds that hold a protocol."""
        return self._bits.get(protocol, self.all)

    def layer(self, protocol: str) -> str:
        """Return "network", "transport", "session" or "link"."""
        if protocol in NETWORK:
            return "network"
        return (
            "session" if protocol in self.sessions else "transport" if protocol in self.transports else "link"
        )

    def innermost_first(self, names: frozenset[str]) -> list[str]:
        """Sort protocols so that what implies others comes before them; link protocols last."""
        return sorted(names, key=lambda n: (self._rank.get(n, len(self._rank)), n))


def can_be(term: Term, worlds: Worlds) -> tuple[int, int]:
    """Return (worlds in which the term may be true, worlds in which it may be false)."""
    if isinstance(term, Truth):
        return (worlds.all, 0) if term.value else (0, worlds.all)
    if isinstance(term, Present | Test):
        there = worlds.of(term.protocol)
        link = worlds.layer(term.protocol) == "link"
        return there, worlds.all if link or isinstance(term, Test) else worlds.all & ~there
    if isinstance(term, Not):
        true, false = can_be(term.term, worlds)
        return false, true
    true, false = (worlds.all, 0) if isinstance(term, And) else (0, worlds.all)
    for part in term.terms:
        t, f = can_be(part, worlds)
        true, false = (true & t, false | f) if isinstance(term, And) else (true | t, false & f)
    return true, false


def refuse_impossible(term: Term, text: str, worlds: Worlds) -> None:
    """Check that the filter, and each of its alternatives, can match something.

    Raises
    ------
    FilterError
        It names the two protocols that exclude each other.
    """
    _refuse(term, worlds.all, [], text, worlds)


def _refuse(term: Term, context: int, around: list[Term], text: str, worlds: Worlds) -> None:
    if isinstance(term, Not):
        return  # what can never match makes a `not` that always does: odd, but not wrong
    if not can_be(term, worlds)[0] & context:
        if isinstance(term, Or):
            for part in term.terms:
                _refuse(part, context, around, text, worlds)
        raise _impossible(term, around, text, worlds)
    if isinstance(term, And):
        reach = [can_be(part, worlds)[0] for part in term.terms]
        for n, part in enumerate(term.terms):
            inner = context
            for m, other in enumerate(reach):
                inner &= other if m != n else worlds.all
            _refuse(part, inner, [*around, *(t for t in term.terms if t is not part)], text, worlds)
    elif isinstance(term, Or):
        for part in term.terms:
            _refuse(part, context, around, text, worlds)


def _impossible(term: Term, around: list[Term], text: str, worlds: Worlds) -> FilterError:
    inside = [leaf for leaf in leaves(term) if not isinstance(leaf, Truth)]
    others = [leaf for t in around for leaf in leaves(t)]
    for n, leaf in enumerate(inside):
        for other in [*inside[:n], *others]:
            if not worlds.of(leaf.protocol) & worlds.of(other.protocol):
                spans = sorted((s for s in (leaf.span, other.span) if s), key=lambda s: s.start)
                span = Span(spans[0].start, spans[-1].end) if spans else Span(0, len(text))
                one, two = sorted((leaf, other), key=lambda t: t.span.start if t.span else 0)
                return FilterError(_why(one.protocol, two.protocol, worlds), text, span.start, span.end)
    start, end = extent(term, text)
    return FilterError(f"`{show(term)}` can never match: its protocols do not go together", text, start, end)


def _why(one: str, two: str, worlds: Worlds) -> str:
    a, b = worlds.layer(one), worlds.layer(two)
    if a == b:
        what = {
            "network": "a packet has one network protocol",
            "transport": "a packet has one transport protocol",
        }
        return f"{one} and {two} exclude each other: {what.get(a, 'a connection has one session protocol')}; write `or`"
    inner, outer = (one, two) if a == "session" or b == "network" else (two, one)
    return f"{inner} does not run over {outer}: this can never match"


def extent(term: Term, text: str) -> tuple[int, int]:
    """Return where a term stands in the text: from its first predicate to its last."""
    spans = [leaf.span for leaf in leaves(term) if leaf.span]
    return (min(s.start for s in spans), max(s.end for s in spans)) if spans else (0, len(text))


def required(term: Term) -> frozenset[str]:
    """Return the protocols that are there whenever the term is true."""
    if isinstance(term, Present | Test):
        return frozenset((term.protocol,))
    if isinstance(term, And):
        return frozenset().union(*(required(t) for t in term.terms))
    if isinstance(term, Or):
        return frozenset.intersection(*(required(t) for t in term.terms))
    return frozenset()


def gate(term: Term, context: int, worlds: Worlds, given: frozenset[str] = frozenset()) -> Term:
    """Return an equal term in which every test stands behind the presence of its protocol, once.

    `context` holds the worlds that are still possible, `given` the link protocols that are known to be there. What
    they decide is folded. Gates that several alternatives share stand in front of them.
    """
    true, false = can_be(term, worlds)
    if not true & context:
        return FALSE
    if not false & context and not _links(term, worlds):
        return TRUE
    gates: list[Term] = []
    for name in worlds.innermost_first(required(term)):
        if worlds.layer(name) == "link":
            if name not in given:
                gates.append(Present(name))
        elif context & ~worlds.of(name):
            gates.append(Present(name))
        given |= {name}
        context &= worlds.of(name)
    body: Term
    if isinstance(term, Present):
        body = TRUE
    elif isinstance(term, And):
        body = both(gate(t, context, worlds, given) for t in term.terms)
    elif isinstance(term, Or):
        body = either(gate(t, context, worlds, given) for t in term.terms)
    elif isinstance(term, Not):
        body = negation(gate(term.term, context, worlds, given))
    else:
        body = term
    return both([*gates, body])


def _links(term: Term, worlds: Worlds) -> bool:
    return any(worlds.layer(leaf.protocol) == "link" for leaf in leaves(term))
