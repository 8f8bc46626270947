"""All subscriptions of a stage merged into one predicate trie.

A node stands for a condition that holds once all conditions above it do. What it does (`effects`) is setting bits, so
reaching the same effect on two ways is harmless, and no two branches need to exclude each other. An effect is never
moved upwards: a condition falls away only where it is known to hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from retina_jit.filters.syntax import And, Not, Or, Present, Term, Test, Truth, both, leaves

Effect = tuple[str, int]
"""("sure" | "open" | "keep", number of the subscription)."""

MOST_DEPTH = 24
"""Conditions nested in generated code; what is left of a longer conjunction becomes one expression."""

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
        if isinstance(term, Or) and depth < MOST_DEPTH:
            # At the end of a conjunction alternatives become branches, which other subscriptions may share.
            for part in term.terms:
                self.insert(part, effect, layers, depth)
            return
        parts = sorted(term.terms, key=lambda t: _order(t, layers)) if isinstance(term, And) else [term]
        condition, rest = (term, []) if depth >= MOST_DEPTH else (parts[0], parts[1:])
        child = self.children.setdefault(condition, Node())
        child.insert(both(rest), effect, layers, depth + 1)

    def size(self) -> int:
        """Return the number of predicates below this node."""
        return sum(sum(1 for _ in leaves(c)) + child.size() for c, child in self.children.items())

    def absorb(self, other: Node) -> None:
        """Take over all that another trie does."""
        self.effects |= other.effects
        for condition, child in other.children.items():
            self.children.setdefault(condition, Node()).absorb(child)

    def relax(self, most: int, join: Callable[[list[Test]], Term]) -> None:
        """Ask less, so that at least the same passes: gates, and below each what its branches begin with.

        Only for a test that may pass too much. Tests of one field become one test, which `join` makes.
        """
        if self.size() <= most:
            return
        children: dict[Term, Node] = {}
        tests: dict[tuple[str, str], list[Test]] = {}
        effects: set[Effect] = set()
        for condition, child in self.children.items():
            if isinstance(condition, Present):
                children[condition] = child
                child.relax(most, join)
            elif isinstance(condition, Test) and condition.form == "range":
                tests.setdefault((condition.protocol, condition.field), []).append(condition)
                effects |= child.all_effects()
            else:
                children[condition] = Node(child.all_effects())
        for group in tests.values():
            children[join(group)] = Node(set(effects))
        self.children = children

    def all_effects(self) -> set[Effect]:
        """Return the effects of this node and of all below it."""
        return self.effects.union(*(child.all_effects() for child in self.children.values()))

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
        return (
            1 + (term.form in ("contains", "regex")),
            _LAYERS[layers[term.protocol]],
            term.protocol,
            term.field,
            term.shown,
        )
    if isinstance(term, Not) and isinstance(term.term, Present | Test):
        first = _order(term.term, layers)
        return 3, *first[1:]
    return 4, sum(1 for _ in leaves(term)), "", "", ""


def sort(node: Node, layers: dict[str, str]) -> None:
    """Bring the children of every node into a fixed order."""
    node.children = dict(
        sorted(node.children.items(), key=lambda item: (_order(item[0], layers), repr(item[0])))
    )
    for child in node.children.values():
        sort(child, layers)
