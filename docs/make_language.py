"""Writes the tables of `language.md` from what is declared: `python docs/make_language.py`."""

from __future__ import annotations

from pathlib import Path

from retina_jit.filters.operators import TABLE
from retina_jit.parsers.protocol import Field, Protocol, protocols

PAGE = Path(__file__).with_name("language.md")
BEGIN, END = "<!-- {}: written by make_language.py -->", "<!-- end of {} -->"


def cell(text: str) -> str:
    """Return a text as it stands in a table."""
    return text.replace("|", "\\|")


def operators() -> str:
    """Return the table of operators."""
    lines = ["| operator | also | on | meaning |", "|---|---|---|---|"]
    for o in TABLE:
        also = ", ".join(f"`{cell(s)}`" for s in o.spellings if s != o.name)
        lines.append(f"| `{cell(o.name)}` | {also} | {', '.join(o.kinds)} | {cell(o.meaning)} |")
    return "\n".join(lines)


def kind(f: Field) -> str:
    """Return a field's type as the page names it."""
    bits = f" ({f.bits} bit)" if f.kind in ("int", "ints") and f.bits else ""
    return f"{f.kind}{bits}{', ' + f.unit if f.unit else ''}"


def section(p: Protocol) -> str:
    """Return the table of one protocol."""
    also = f" (also `{'`, `'.join(p.aliases)}`)" if p.aliases else ""
    if p.like:
        where = " or ".join(f"{t.upper()} port {port}" for t in p.within for port in p.ports)
        return f"### `{p.name}`: {p.title}{also}\n\nThe fields of `{p.like}`, as `{p.name}.…`. What is spoken on {where}, and is not `{p.like}` there."
    lines = [f"### `{p.name}`: {p.title}{also}", "", "| field | type | meaning | also |", "|---|---|---|---|"]
    for name, f in p.fields.items():
        key = "['…']" if f.keyed else ""
        aliases = ", ".join(f"`{a}`" for a in f.aliases)
        lines.append(f"| `{p.name}.{name}{key}` | {kind(f)} | {cell(f.doc)} | {aliases} |")
    for word in ("port", "addr"):
        if f"src_{word}" in p.fields:
            lines.append(f"| `{p.name}.{word}` | {kind(p.fields[f'src_{word}'])} | Either side; with `!=` and `not in` both. | |")
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the page with its tables written anew."""
    tables = {"operators": operators(), "fields": "\n\n".join(section(p) for p in protocols().values())}
    for name, table in tables.items():
        before, _, rest = text.partition(BEGIN.format(name))
        _, _, after = rest.partition(END.format(name))
        text = f"{before}{BEGIN.format(name)}\n{table}\n\n{END.format(name)}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
