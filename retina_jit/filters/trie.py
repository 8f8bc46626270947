"""All subscriptions of a stage merged into one predicate trie.

A node stands for a condition that holds once all conditions above it do. What it does (`effects`) is setting bits, so
reaching the same effect on two ways is harmless, and no two branches need to exclude each other. An effect is never
moved upwards: a condition falls away only where it is known to hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from retina_jit.filters.syntax import And, Not, Or, Present, Term, Test, Truth, both, leaves

Effect = tuple[str, int]
"""("sure" | "open" | "keep", number of the subscription)."""

MOST_DEPTH = 24
"""Conditions nested in generated code; what is left of a longer conjunction becomes one expression."""
MOST_BRANCHES = 64
"""A disjunction at the end of a conjunction becomes branches, which other subscriptions may share, up to this many."""

_LAYERS = {"link": 0, "network": 1, "transport": 2, "session": 3}


@dataclass
class Node:
    """What to do, and what to ask next."""

    effects: set[Effect] = field(default_factory=set)
    children: dict[Term, Node] = field(default_factory=dict)

    def insert(self, term: Term, effect: Effect, layers: dict[str, str], depth: int = 0) -> None:
        """Add one filter below this node."""
        if isinstance(term, Truth):
            if term.value:
                self.effects.add(effect)
            return
        if isinstance(term, Or) and len(term.terms) <= MOST_BRANCHES and depth < MOST_DEPTH:
            for part in term.terms:
                self.insert(part, effect, layers, depth)
            return
        parts = sorted(term.terms, key=lambda t: _order(t, layers)) if isinstance(term, And) else [term]
        condition, rest = (term, []) if depth >= MOST_DEPTH else (parts[0], parts[1:])
        child = self.children.setdefault(condition, Node())
        child.insert(both(rest), effect, layers, depth + 1)

    def prune(self, above: frozenset[Effect] = frozenset()) -> None:
        """Drop effects that a node above has already, and branches that are left with none."""
        # What is open is asked only of those that have not matched.
        decided = {("open", n) for kind, n in self.effects | above if kind == "sure"}
        self.effects -= above | decided
        inner = above | self.effects | decided
        for condition, child in list(self.children.items()):
            child.prune(inner)
            if not child.effects and not child.children:
                del self.children[condition]


def _order(term: Term, layers: dict[str, str]) -> tuple[int, int, str, str, str]:
    """Gates from the outside in, then tests by field, then whatever is composed."""
    if isinstance(term, Present):
        return 0, _LAYERS[layers[term.protocol]], term.protocol, "", ""
    if isinstance(term, Test):
        return 1 + (term.form in ("contains", "regex")), _LAYERS[layers[term.protocol]], term.protocol, term.field, term.shown
    if isinstance(term, Not) and isinstance(term.term, Present | Test):
        first = _order(term.term, layers)
        return 3, *first[1:]
    return 4, sum(1 for _ in leaves(term)), "", "", ""


def sort(node: Node, layers: dict[str, str]) -> None:
    """Bring the children of every node into a fixed order."""
    node.children = dict(sorted(node.children.items(), key=lambda item: (_order(item[0], layers), repr(item[0]))))
    for child in node.children.values():
        sort(child, layers)
