"""What the compiler made of the filters, as text that does not depend on the machine."""

from __future__ import annotations

from retina_jit.filters.syntax import show
from retina_jit.filters.trie import Effect, Node

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
