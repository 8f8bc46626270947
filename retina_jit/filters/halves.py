"""Filters in two halves: what is asked of the connection and its session, and what of each packet, or at the end.

`tls.sni ~ 'x' and tcp.psh = 1` is one *part*: the connection has to fulfil the first half, each of its packets the second.
A filter that mixes both under `or` becomes several parts; a packet is delivered once if any part holds. The side of an
address or a port is the packet's own here, so `tcp.dst_port = 443` is asked of packets, `tcp.port = 443` of the connection.

In the same way connection-level filters are split into what is known while the connection lives, and `conn` predicates.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from retina_jit.errors import FilterError
from retina_jit.filters.normalize import Worlds
from retina_jit.filters.resolve import Names
from retina_jit.filters.split import is_at_end, is_of_packets, is_undecided, turned
from retina_jit.filters.syntax import (
    FALSE,
    TRUE,
    And,
    Not,
    Or,
    Present,
    Term,
    Test,
    Truth,
    both,
    either,
    leaves,
    negation,
)

MOST_PARTS = 32

Part = tuple[Term, Term]
"""(asked of the connection and its session, asked of each packet)."""


def parts_of(term: Term, text: str, names: Names, worlds: Worlds, *, packets: bool) -> list[Part]:
    """Return the parts of a filter, whose disjunction it is.

    Parameters
    ----------
    packets : bool
        The second half of a part is asked of each packet; else of the whole connection, when it ends.

    Raises
    ------
    FilterError
        The predicates are mixed in too many ways.
    """
    found = _Split(names, worlds, packets).parts(term)
    if len(found) > MOST_PARTS:
        what = "packet" if packets else "conn"
        raise FilterError(
            f"{what} and session predicates are mixed in more than {MOST_PARTS} ways; write one subscription for each",
            text, 0, len(text),
        )  # fmt: skip
    return [(both([c, _possible(p, names, worlds, packets)]), p) for c, p in found]


def _possible(term: Term, names: Names, worlds: Worlds, packets: bool) -> Term:
    """What a connection must fulfil, for the term to be true of some packet of it, or of it at its end."""

    def may(t: Term, holds: bool) -> Term:
        """Where the term may be true (`holds`) or is surely true (not `holds`), whatever is known later only."""
        if isinstance(t, Truth):
            return t
        if isinstance(t, Present | Test):
            later = is_of_packets(t, names, worlds) if packets else is_at_end(t, names)
            return (TRUE if holds else FALSE) if later else t
        if isinstance(t, Not):
            return negation(may(t.term, not holds))
        return (both if isinstance(t, And) else either)(may(p, holds) for p in t.terms)

    relaxed = may(term, True)
    return either([relaxed, turned(relaxed, names)]) if packets else relaxed


def _shape(term: Term) -> object:
    """Equal for terms that differ in the order of their parts only."""
    if isinstance(term, And | Or):
        return type(term), frozenset(_shape(t) for t in term.terms)
    return (Not, _shape(term.term)) if isinstance(term, Not) else term


class _Split:
    def __init__(self, names: Names, worlds: Worlds, packets: bool) -> None:
        self.names, self.worlds, self.packets = names, worlds, packets

    def later(self, term: Term) -> bool:
        """Whether something in a term belongs to the second half."""
        if self.packets:
            return any(is_of_packets(leaf, self.names, self.worlds) for leaf in leaves(term))
        return any(is_at_end(leaf, self.names) for leaf in leaves(term))

    def of_connection(self, term: Term) -> bool:
        """Whether a term belongs to the first half: all packets of a connection give the same answer."""
        if self.later(term):
            return False
        return not self.packets or _shape(term) == _shape(turned(term, self.names))

    def has_session(self, term: Term) -> bool:
        return any(is_undecided(leaf, self.worlds) for leaf in leaves(term))

    def parts(self, term: Term) -> list[Part]:
        if self.of_connection(term):
            return [(term, TRUE)]
        if not self.has_session(term):
            return [(TRUE, term)]
        if isinstance(term, Not):
            return self.parts(_pushed(term.term))
        assert isinstance(term, And | Or)
        join = both if isinstance(term, And) else either
        # Both sides of a pair stand beside each other: together they say the same of every packet.
        shapes = {_shape(t) for t in term.terms}
        pure: list[Term] = []
        single: list[Term] = []
        mixed: list[Term] = []
        for t in term.terms:
            if self.of_connection(t) or (not self.later(t) and _shape(turned(t, self.names)) in shapes):
                pure.append(t)
            elif not self.has_session(t):
                single.append(t)
            else:
                mixed.append(t)
        if isinstance(term, Or):
            found: list[Part] = [(join(pure), TRUE)] * bool(pure)
            found += [(TRUE, join(single))] * bool(single)
            for t in mixed:
                found += self.parts(t)
            return _merged(found)
        found = [(join([*pure, TRUE]), join([*single, TRUE]))]
        for t in mixed:
            found = _merged((both([a, c]), both([b, d])) for (a, b), (c, d) in product(found, self.parts(t)))
            if len(found) > MOST_PARTS:
                break
        return found


def _pushed(term: Term) -> Term:
    """The opposite of a term, with `not` moved inwards by one level."""
    if isinstance(term, And | Or):
        return (either if isinstance(term, And) else both)(negation(t) for t in term.terms)
    return negation(term) if not isinstance(term, Not) else term.term


def _merged(parts: Iterable[Part]) -> list[Part]:
    """Join parts that differ in one half only."""
    by_packet: dict[Term, list[Term]] = {}
    for connection, packet in parts:
        by_packet.setdefault(packet, []).append(connection)
    by_connection: dict[Term, list[Term]] = {}
    for packet, connections in by_packet.items():
        by_connection.setdefault(either(connections), []).append(packet)
    return [(c, either(p)) for c, p in by_connection.items()]
