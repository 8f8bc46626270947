"""What the compiler made of the filters, as text that does not depend on the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retina_jit.filters.syntax import Present, Test, show
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


def draw_tables(index: Index) -> list[str]:
    """Draw filters that are kept as data: what leads to each formula, and what it does."""
    leads: dict[str, list[str]] = {}
    for term, effects in index.formulas.items():
        cover = index.chosen[term]
        lead = "always" if cover is None else ", ".join(sorted({show_lead(leaf) for leaf in cover}))
        leads.setdefault(f"by {lead}" if cover is not None else lead, []).append(f"{show(term)}{_effects(effects)}")
    lines = []
    for lead, formulas in leads.items():
        lines.append(f"{lead}: {len(formulas)}")
        lines += [f"   {text}" for text in formulas[:MOST_DRAWN]]
        lines += [f"   … {len(formulas) - MOST_DRAWN} more"] * (len(formulas) > MOST_DRAWN)
    return lines


def show_lead(leaf: Present | Test) -> str:
    """Name what a condition reads."""
    return leaf.protocol if isinstance(leaf, Present) else f"{leaf.protocol}.{leaf.field}"
