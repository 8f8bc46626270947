"""Writes the example notebooks as pages, with what their cells have shown when they were executed. Called when the site is built."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "notebooks"
NOTEBOOKS = Path(__file__).parents[1] / "examples" / "notebooks"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def block(kind: str, text: str) -> str:
    """Return a text in a fence that is longer than those within it."""
    ticks = "`" * max([3, *[len(found) + 1 for found in re.findall("`{3,}", text)]])
    return f"{ticks}{kind}\n{text.rstrip()}\n{ticks}\n"


def shown(output: dict[str, Any], picture: Path) -> str:
    """Return what a cell has shown; a picture is written to a file of that name."""
    data = output.get("data", {})
    if "image/png" in data:
        picture.write_bytes(base64.b64decode("".join(data["image/png"])))
        return f"![]({picture.name})\n"
    if "text/html" in data:
        return block("{raw} html", '<div class="cell-output">' + "".join(data["text/html"]).replace("\n\n", "\n") + "</div>")
    return block("text", COLOURS.sub("", "".join(output.get("text") or data.get("text/plain") or "")))


def page(notebook: Path) -> str:
    """Return a notebook as a page."""
    parts = []
    for n, cell in enumerate(json.loads(notebook.read_text())["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source + "\n")
            continue
        parts.append(block("ipython3", source))
        parts += [shown(output, FOLDER / f"{notebook.stem}_{n}_{k}.png") for k, output in enumerate(cell["outputs"])]
    parts.append(f"The notebook is `examples/notebooks/{notebook.name}`.\n")
    return "\n".join(parts)


def write() -> None:
    """Write all pages."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        (FOLDER / f"{notebook.stem}.md").write_text(page(notebook))
