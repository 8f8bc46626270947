"""Writes the pages that follow from declarations: data types and the command line. Called when the site is built."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from retina_jit.cli import main
from retina_jit.datatypes import data_types
from retina_jit.datatypes.column import columns

FOLDER = Path(__file__).parent
LEVELS = {
    "packet": "with each packet",
    "session": "when a session is complete",
    "connection": "at the end of a connection",
    "static": "as soon as a filter matches",
}


def cell(text: str) -> str:
    """Return a text as it stands in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def accessors(of: type) -> Iterator[tuple[str, str, str]]:
    """Yield name, kind and meaning of what a data type can be asked for."""
    shown = {c.name: c for c in columns(of)}
    for name, attribute in inspect.getmembers_static(of):
        if name.startswith("_") or name.isupper():
            continue
        doc = cell(((inspect.getdoc(attribute) or "").split("\n\n"))[0])
        if name in shown:
            yield f"`{name}`", "column", doc
        elif isinstance(attribute, property):
            yield f"`{name}`", "value", doc
        elif inspect.isfunction(attribute):
            called = str(inspect.signature(attribute)).replace("self, ", "").replace("self", "").partition(" ->")[0]
            yield f"`{name}{called}`", "method", doc


def data_types_page() -> str:
    """Return the page of all data types, by level."""
    parts = [
        "# Data types",
        (
            "What a callback can ask for by annotation, and `retina-jit log` by name. A *column* is also in JSON lines, CSV, Arrow and batches; "
            "other values and methods are worked out when they are asked for. When a callback is called follows from its types: "
            "[levels](levels.md)."
        ),
    ]
    for level, when in LEVELS.items():
        parts.append(f"## {level.capitalize()} types: {when}")
        for name, of in sorted(data_types().items()):
            if of.LEVEL != level:
                continue
            parts.append(f"### `{name}`\n\n{inspect.cleandoc(of.__doc__ or '').split(chr(10) + chr(10))[0]}")
            rows = [f"| {' | '.join(row)} |" for row in accessors(of)]
            if rows:
                parts.append("\n".join(["| name | kind | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def command_line_page() -> str:
    """Return the page of all commands with their options."""
    parts = ["# The command line"]
    assert isinstance(main, click.Group)
    for name, command in sorted(main.commands.items()):
        context = click.Context(command, info_name=f"retina-jit {name}")
        parts.append(f"## `retina-jit {name}`\n\n{inspect.cleandoc(command.help or '')}\n\n`{command.get_usage(context).removeprefix('Usage: ')}`")
        options: list[Any] = [p.get_help_record(context) for p in command.params]
        rows = [f"| `{cell(record[0])}` | {cell(record[1])} |" for record in options if record]
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    parts.append(
        "## Exit codes\n\n| code | meaning |\n|---|---|\n| 0 | all of the input was processed |\n| 1 | an error to mend: filter, application, source, output |\n"
        "| 2 | wrong usage |\n| 3 | the input was cut or damaged; what could be read was processed |\n| 4 | a callback raised |\n"
        "| 130 | stopped by Ctrl-C, with everything seen until then delivered |"
    )
    return "\n\n".join(parts) + "\n"


def write() -> None:
    """Write both pages, unless they stand there already as they should."""
    for name, page in (("data_types", data_types_page()), ("command_line", command_line_page())):
        path = FOLDER / f"{name}.md"
        if not path.exists() or path.read_text() != page:
            path.write_text(page)


if __name__ == "__main__":
    write()
