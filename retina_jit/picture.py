"""A plain SVG of boxes under one another, with text in them and arrows between."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

LETTER, LINE, EDGE, GAP = 7.3, 16, 12, 40
"""Width of a letter at 12 px, height of a line, space around text, space between boxes [px]."""
MOST_LINES = 60
MOST_LETTERS = 160


def boxes(found: Sequence[tuple[str, Sequence[str], str]]) -> str:
    """Return an SVG: a box for each (heading, lines, note); the note stands at the arrow to the next box."""
    shown = [(heading, _cut(lines), note) for heading, lines, note in found]
    letters = max((len(text) for heading, lines, note in shown for text in (heading, *lines, note)), default=0)
    width = int(letters * LETTER) + 4 * EDGE
    parts, y = [], EDGE
    for n, (heading, lines, note) in enumerate(shown):
        height = LINE * (len(lines) + 1) + 2 * EDGE
        parts.append(f'<rect x="{EDGE}" y="{y}" width="{width - 2 * EDGE}" height="{height}" rx="6" fill="#f6f8fa" stroke="#57606a"/>')
        parts.append(_text(2 * EDGE, y + EDGE + LINE * 0.75, heading, bold=True))
        parts += [_text(2 * EDGE, y + EDGE + LINE * (k + 1.75), line) for k, line in enumerate(lines)]
        y += height
        if n + 1 < len(shown):
            middle = width // 2
            parts.append(f'<path d="M {middle} {y} v {GAP - 8} m -5 0 l 5 8 l 5 -8 z" stroke="#57606a" fill="#57606a"/>')
            parts.append(_text(middle + EDGE, y + GAP * 0.6, note) if note else "")
            y += GAP
        elif note:
            y += LINE
            parts.append(_text(2 * EDGE, y, note))
    size = f'width="{width}" height="{y + EDGE}" viewBox="0 0 {width} {y + EDGE}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace" font-size="12">{"".join(parts)}</svg>\n'


def _cut(lines: Sequence[str]) -> list[str]:
    kept = [line if len(line) <= MOST_LETTERS else line[: MOST_LETTERS - 1] + "…" for line in lines[:MOST_LINES]]
    return kept + [f"… {len(lines) - MOST_LINES} more"] * (len(lines) > MOST_LINES)


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" xml:space="preserve"{weight}>{escape(text)}</text>'
