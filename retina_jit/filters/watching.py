"""What is found out about a connection packet by packet: predicates that some packet of it fulfils, the user's own.

A filter that asks for such things becomes a *formula*: alternatives, each a conjunction of *watched* predicates, or of
their opposites, and of what the connection and its sessions tell. Each of these gets a slot of its own beside the
subscription's, a helper, so that what is known of it is remembered with the connection's sets, at no further cost.

`frame.len > 1000 and tls` on a connection type means: TLS, and some packet is longer than 1000 bytes. In general a filter
holds for a connection if it holds for one of its packets, `src` and `dst` being the originator and the responder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import product

from retina_jit.errors import FilterError
from retina_jit.filters.normalize import Worlds
from retina_jit.filters.predicates import WATCHED, Call
from retina_jit.filters.resolve import Names
from retina_jit.filters.split import OF_A_CONNECTION, is_of_packets, is_watched
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
    show,
)

MOST_PARTS = 32

Leaf = Present | Test
Part = tuple[Term, Term]


class TooManyPartsError(Exception):
    """A filter mixes two sorts of predicates in too many ways."""


def divided(term: Term, belongs: Callable[[Leaf], bool]) -> list[Part]:
    """Return parts whose disjunction the term is: of each the first half holds no predicate that belongs, the second no other."""
    found = [belongs(leaf) for leaf in leaves(term)]
    if not any(found):
        return [(term, TRUE)]
    if all(found):
        return [(TRUE, term)]
    if isinstance(term, Not):
        inner = term.term
        assert isinstance(inner, And | Or)
        pushed = (either if isinstance(inner, And) else both)(negation(t) for t in inner.terms)
        return divided(pushed, belongs)
    assert isinstance(term, And | Or)
    parts = [divided(t, belongs) for t in term.terms]
    if isinstance(term, Or):
        return joined(p for several in parts for p in several)
    made: list[Part] = [(TRUE, TRUE)]
    for several in parts:
        made = joined((both([a, c]), both([b, d])) for (a, b), (c, d) in product(made, several))
        if len(made) > MOST_PARTS:
            raise TooManyPartsError
    return made


def joined(parts: Iterable[Part]) -> list[Part]:
    """Join parts that differ in one half only."""
    by_second: dict[Term, list[Term]] = {}
    for first, second in parts:
        by_second.setdefault(second, []).append(first)
    by_first: dict[Term, list[Term]] = {}
    for second, several in by_second.items():
        by_first.setdefault(either(several), []).append(second)
    return [(first, either(several)) for first, several in by_first.items()]


@dataclass(frozen=True)
class Conjunct:
    """One alternative of a formula: slots that must hold, and slots that must not.

    `slot` is the subscription's own, which holds if any of its conjuncts does.
    """

    slot: int
    holding: frozenset[int]
    failing: frozenset[int] = frozenset()


@dataclass
class Watches:
    """The watched predicates of a program, and the formulas that ask for them.

    Attributes
    ----------
    packets : dict of str to Term
        By name, what some packet has to fulfil.
    slots : dict of int to Test
        Watched predicates that have a slot.
    helpers : set of int
        All slots that no subscription fires with.
    conjuncts : list of Conjunct
    """

    names: Names
    worlds: Worlds
    packets: dict[str, Term] = field(default_factory=dict)
    slots: dict[int, Test] = field(default_factory=dict)
    helpers: set[int] = field(default_factory=set)
    conjuncts: list[Conjunct] = field(default_factory=list)

    def calls(self) -> dict[int, Call]:
        """Return the user's predicates by slot."""
        found = {n: self.names.calls.get((WATCHED, t.field)) for n, t in self.slots.items()}
        return {n: call for n, call in found.items() if call is not None}

    def tests(self) -> dict[int, Term]:
        """Return what packets are tested for, by slot."""
        return {n: self.packets[t.field] for n, t in self.slots.items() if t.field in self.packets}

    def some_packet(self, term: Term, text: str) -> Term:
        """Return a filter on connections in which what packets have for themselves is watched.

        Raises
        ------
        FilterError
            It is mixed with other predicates in too many ways.
        """
        if not any(is_of_packets(leaf, self.names, self.worlds) for leaf in leaves(term)):
            return term
        found = []
        try:
            parts = divided(term, lambda leaf: is_of_packets(leaf, self.names, self.worlds))
        except TooManyPartsError:
            raise _too_many(text, "packet") from None
        for connection, packet in parts:
            watched: Term = TRUE
            if packet != TRUE:
                name = f"some packet has ({show(packet)})"
                self.names.enter(WATCHED, name)
                self.packets[name] = packet
                watched = both([possible(packet), Test(WATCHED, name, "range", ((1, 1),), called=True)])
            found.append(both([connection, watched]))
        return either(found)

    def add(self, n: int, term: Term, text: str, slots: list[int], terms: list[Term]) -> None:
        """Give the filter of slot `n` the helpers that it needs; appends them to `slots` (subscription of each) and `terms`."""
        if not any(is_watched(leaf) for leaf in leaves(term)):
            return
        try:
            parts = [(c, a.items()) for c, watched in divided(term, is_watched) for a in _alternatives(watched)]
        except TooManyPartsError:
            raise _too_many(text, "watched") from None
        first: dict[Term, frozenset[int]] = {TRUE: frozenset()}
        for connection, literals in parts:
            if connection not in first:
                first[connection] = frozenset([self._slot(slots[n], connection, slots, terms)])
            holding, failing = (
                frozenset(self._watched(leaf, slots[n], slots, terms) for leaf, wanted in literals if wanted == how) for how in (True, False)
            )
            self.conjuncts.append(Conjunct(n, first[connection] | holding, failing))

    def _slot(self, owner: int, term: Term, slots: list[int], terms: list[Term]) -> int:
        slots.append(owner)
        terms.append(term)
        self.helpers.add(len(slots) - 1)
        return len(slots) - 1

    def _watched(self, leaf: Test, owner: int, slots: list[int], terms: list[Term]) -> int:
        """Slot of a watched predicate, which all subscriptions share."""
        for number, known in self.slots.items():
            if known == leaf:
                return number
        number = self._slot(owner, leaf, slots, terms)
        self.slots[number] = leaf
        return number


def _too_many(text: str, what: str) -> FilterError:
    reason = f"{what} and other predicates are mixed in more than {MOST_PARTS} ways; write one subscription for each"
    return FilterError(reason, text, 0, len(text))


def possible(packet: Term, holds: bool = True) -> Term:
    """Return what a connection must have for the term to hold for one of its packets: the protocols that it asks."""
    if isinstance(packet, Present | Test):
        if not holds:
            return FALSE
        return Present(packet.protocol) if packet.protocol in OF_A_CONNECTION and packet.protocol != "frame" else TRUE
    if isinstance(packet, Not):
        return negation(possible(packet.term, not holds))
    if isinstance(packet, Truth):
        return packet
    return (both if isinstance(packet, And) else either)(possible(t, holds) for t in packet.terms)


def _alternatives(term: Term) -> list[dict[Test, bool]]:
    """Return a term over watched predicates as alternatives, each of what must hold (True) and what must not."""
    if isinstance(term, Truth):
        return [{}] if term.value else []
    if isinstance(term, Test):
        return [{term: True}]
    if isinstance(term, Not):
        inner = term.term
        if isinstance(inner, Test):
            return [{inner: False}]
        assert isinstance(inner, And | Or)
        return _alternatives((either if isinstance(inner, And) else both)(negation(t) for t in inner.terms))
    assert isinstance(term, And | Or)
    several = [_alternatives(t) for t in term.terms]
    if isinstance(term, Or):
        return [a for alternatives in several for a in alternatives]
    made: list[dict[Test, bool]] = [{}]
    for alternatives in several:
        made = [a | b for a, b in product(made, alternatives) if all(a.get(t, v) == v for t, v in b.items())]
        if len(made) > MOST_PARTS:
            raise TooManyPartsError
    return made
