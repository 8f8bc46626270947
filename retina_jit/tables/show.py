"""Tables as HTML (notebooks) and as text."""

from __future__ import annotations

import html as escaping
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from retina_jit.delivery.vectors import TIME, Field

ROWS = 10
MOST_LETTERS = 80
MOST_WIDTH = 160
CELL = "white-space:nowrap;text-align:left"
"""JupyterLab's own style breaks lines within cells, and lets long lists make all rows high."""


def cell(value: Any, field: Field) -> str:
    """Return a value as it is shown; null for what is absent."""
    if value is None:
        return "null"
    if field.format == TIME:
        seconds, ns = divmod(value, 10**9)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ns:09d}"
    if isinstance(value, list):
        found = ", ".join(map(str, value))
    else:
        found = str(value)
    return found if len(found) <= MOST_LETTERS else found[: MOST_LETTERS - 1] + "…"


def html(fields: Sequence[Field], rows: Sequence[dict[str, Any]], total: int, label: str) -> str:
    """Return the first rows as an HTML table, in the colours of the page that it stands in."""
    head = "".join(f'<th style="{CELL}" title="{escaping.escape(f.doc)}">{escaping.escape(f.name)}<br><small style="font-weight:normal;opacity:.65">{escaping.escape(_short(f))}</small></th>' for f in fields)
    body = "".join("<tr>" + "".join(_td(row[f.name], f) for f in fields) + "</tr>" for row in rows)
    more = f"{total - len(rows):,} more rows" if total > len(rows) else ""
    said = " · ".join(escaping.escape(x) for x in (f"{total:,} rows, {len(fields)} columns", more, label) if x)
    style = "overflow-x:auto;max-width:100%"
    return f'<div style="{style}"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div><p><small>{said}</small></p>'


def _short(field: Field) -> str:
    return field.readable if len(field.readable) <= 24 else field.readable.partition("[")[0] + "[…]"


def _td(value: Any, field: Field) -> str:
    shown = escaping.escape(cell(value, field))
    return f'<td style="{CELL};opacity:.5"><i>{shown}</i></td>' if value is None else f'<td style="{CELL}">{shown}</td>'


def text(fields: Sequence[Field], rows: Sequence[dict[str, Any]], total: int) -> str:
    """Return the first rows as lines, as many columns as fit."""
    columns = [[f.name, *[cell(r[f.name], f) for r in rows]] for f in fields]
    lines, left_out, width = [""] * (len(rows) + 1), 0, 0
    for column in columns:
        wide = max(map(len, column)) + 2
        if width and width + wide > MOST_WIDTH:
            left_out += 1
            continue
        width += wide
        lines = [line + value.ljust(wide) for line, value in zip(lines, column, strict=True)]
    more = [f"{total - len(rows):,} more rows"] * (total > len(rows)) + [f"{left_out} more columns"] * (left_out > 0)
    return "\n".join([*(line.rstrip() for line in lines), f"[{total:,} rows, {len(fields)} columns{'; ' if more else ''}{', '.join(more)}]"])
