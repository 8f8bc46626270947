"""What the compiler made of the filters, as text that does not depend on the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retina_jit.filters.syntax import Present, Term, Test, show
from retina_jit.filters.trie import Effect, Node

if TYPE_CHECKING:
    from retina_jit.filters.indexing import Index

MOST_DRAWN = 12
_WORDS = {"sure": "match", "open": "maybe", "keep": "continue"}


def draw(node: Node) -> list[str]:
    """Draw a trie: a condition a line, what holds there behind an arrow."""
    return ["frame" + _effects(node.effects), *_branches(node, "")]


def _branches(node: Node, indent: str) -> list[str]:
    lines = []
    for n, (condition, child) in enumerate(node.children.items(), 1):
        last = n == len(node.children)
        lines.append(f"{indent}{'└─' if last else '├─'} {show(condition)}{_effects(child.effects)}")
        lines += _branches(child, indent + ("   " if last else "│  "))
    return lines


def _effects(effects: set[Effect]) -> str:
    if not effects:
        return ""
    parts = []
    for kind, word in _WORDS.items():
        numbers = sorted(n for k, n in effects if k == kind)
        if numbers:
            parts.append(word if kind == "keep" else f"{word} {', '.join(map(str, numbers))}")
    return "  → " + "; ".join(parts)


@dataclass(frozen=True)
class Branch:
    """A condition of a stage, what follows where it holds, and what is asked then."""

    condition: str
    effects: tuple[tuple[str, int], ...] = ()
    children: tuple[Branch, ...] = ()


def tree(node: Node, condition: str = "frame") -> Branch:
    """Return a trie as data; effects are (match | maybe | continue, slot)."""
    effects = sorted((_WORDS[kind], number) for kind, number in node.effects)
    return Branch(condition, tuple(effects), tuple(tree(child, show(c)) for c, child in node.children.items()))


def table_tree(index: Index) -> Branch:
    """Return filters that are kept as data, below what leads to them."""
    leads: dict[str, list[Branch]] = {}
    for term, effects in index.formulas.items():
        made = Branch(show(term), tuple(sorted((_WORDS[kind], n) for kind, n in effects)))
        leads.setdefault(_lead(index, term), []).append(made)
    return Branch("frame", (), tuple(Branch(lead, (), tuple(below)) for lead, below in leads.items()))


def _lead(index: Index, term: Term) -> str:
    cover = index.chosen[term]
    return "always" if cover is None else "by " + ", ".join(sorted({show_lead(leaf) for leaf in cover}))


def draw_tables(index: Index) -> list[str]:
    """Draw filters that are kept as data: what leads to each formula, and what it does."""
    leads: dict[str, list[str]] = {}
    for term, effects in index.formulas.items():
        leads.setdefault(_lead(index, term), []).append(f"{show(term)}{_effects(effects)}")
    lines = []
    for lead, formulas in leads.items():
        lines.append(f"{lead}: {len(formulas)}")
        lines += [f"   {text}" for text in formulas[:MOST_DRAWN]]
        lines += [f"   … {len(formulas) - MOST_DRAWN} more"] * (len(formulas) > MOST_DRAWN)
    return lines


def show_lead(leaf: Present | Test) -> str:
    """Name what a condition reads."""
    return leaf.protocol if isinstance(leaf, Present) else f"{leaf.protocol}.{leaf.field}"
