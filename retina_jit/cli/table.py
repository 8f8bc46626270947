"""`log -T table`: rows aligned for people to read, on a terminal as many columns as it has room for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

import click
from rich.cells import cell_len, set_cell_size

from retina_jit.datatypes.base import DataType
from retina_jit.delivery.vectors import NUMBERS, TIME, Field
from retina_jit.sinks.base import Layout
from retina_jit.sinks.gather import Batch, Gather
from retina_jit.tables.choose import choose

ROWS = 1024
"""Widths are those of the first so many rows, or of what has come within a fifth of a second; later values that are longer push the line."""
WIDEST = 48
"""What a column takes of a terminal's line at most."""
GAP = "  "


class TableLines:
    """Writes rows under a header; of several subscriptions, a header again where another one goes on.

    A terminal gets as many columns as its line has room for, without those that are empty in all of the first rows; long values
    are cut there. Elsewhere nothing is left out and nothing is coloured.

    Parameters
    ----------
    out : binary file
        It is flushed, but not closed.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._colours = self._terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._parts: list[_Part] = []
        self._last: _Part | None = None
        self._left_out = 0

    @property
    def lines(self) -> int:
        """How many events were written."""
        return sum(p.gather.lines for p in self._parts)

    def units(self, types: Sequence[type[DataType]]) -> list[str]:
        """Return the entries that a subscription to `types` needs."""
        return Gather((), _nothing).units(types)

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which subscriptions write here."""
        for number, layout in mine.items():
            part = _Part(layout[0], self)
            part.gather.open({number: layout}, count)
            self._parts.append(part)

    def take(self, address: int, length: int) -> int:
        """Take the whole events among `length` bytes from `address` on. Returns how many bytes they take."""
        return max(p.gather.take(address, length) for p in self._parts)

    def flush(self) -> None:
        """Write what is gathered."""
        for part in self._parts:
            part.gather.flush()
        self._out.flush()

    def close(self) -> None:
        """Write the rest, and how much a terminal had no room for; the file stays open."""
        self.flush()
        if self._left_out:
            self._out.write(self._styled(f"{self._left_out} columns are empty or have no room here; -T jsonl has all of them\n", dim=True))
            self._out.flush()

    def write(self, part: _Part, rows: list[list[str | None]]) -> None:
        """Write rows of a subscription."""
        if part.columns is None:
            part.columns = self._fit(part, rows)
            self._left_out += len(part.fields) - len(part.columns)
        made = []
        if part is not self._last:
            names = [_padded(part.names[n], width, part.right[n]) for n, width in part.columns]
            made.append((b"\n" if self._last else b"") + self._styled(GAP.join(names).rstrip() + "\n", bold=True))
            self._last = part
        for row in rows:
            cells = [self._cell(row[n], width, part.right[n]) for n, width in part.columns]
            made.append((GAP.join(cells).rstrip() + "\n").encode())
        self._out.write(b"".join(made))

    def _fit(self, part: _Part, rows: list[list[str | None]]) -> list[tuple[int, int]]:
        """Choose columns, and how wide they are."""
        widths = [max(cell_len(name), *(cell_len(r[n] or "-") for r in rows)) for n, name in enumerate(part.names)]
        if not self._terminal:
            return list(enumerate(widths))
        left = shutil.get_terminal_size().columns
        chosen: list[tuple[int, int]] = []
        for n in part.order:
            width = min(widths[n], WIDEST)
            if any(r[n] for r in rows) and (width <= left or not chosen):
                chosen.append((n, width))
                left -= width + len(GAP)
        return sorted(chosen)

    def _cell(self, value: str | None, width: int, right: bool) -> str:
        if value is None:
            shown = _padded("-", width, right)
            return click.style(shown, dim=True) if self._colours else shown
        if self._terminal and cell_len(value) > width:
            return set_cell_size(value, width - 1) + "…"
        return _padded(value, width, right)

    def _styled(self, text: str, **style: Any) -> bytes:
        line = text.rstrip("\n")
        return ((click.style(line, **style) if self._colours else line) + text[len(line) :]).encode()


class _Part:
    """The rows of one subscription."""

    def __init__(self, types: Sequence[type[DataType]], table: TableLines) -> None:
        _, choices = choose(types, "str")
        self.fields = [c.field for c in choices]
        # "five_tuple.orig_addr" is wider than an address: without the object's name where that is clear.
        short = [c.name.rpartition(".")[2] for c in choices]
        self.names = [s if short.count(s) == 1 else c.name for s, c in zip(short, choices, strict=True)]
        before = [sum(b.position == c.position for b in choices[:n]) for n, c in enumerate(choices)]
        self.order = sorted(range(len(choices)), key=lambda n: (n > 0 and self.fields[n].format == TIME, before[n]))
        """Columns as they are given room: the first ones of each data type before the second ones of any, further times last."""
        self.right = [f.format in NUMBERS.values() for f in self.fields]
        self.columns: list[tuple[int, int]] | None = None
        self._table = table
        self.gather = Gather(choices, self._emit, ROWS)

    def _emit(self, batch: Batch) -> None:
        columns = [[_text(v, f) for v in vector.to_list(shown=True)] for vector, f in zip(batch, self.fields, strict=True)]
        self._table.write(self, [list(row) for row in zip(*columns, strict=True)])


def _nothing(_: Batch) -> None:
    return None


def _padded(text: str, width: int, right: bool) -> str:
    blanks = " " * max(0, width - cell_len(text))
    return blanks + text if right else text + blanks


def _text(value: Any, field: Field) -> str | None:
    """Return a value as it is shown. What a capture holds must not command the terminal: only printable characters are left as they are."""
    if value is None:
        return None
    if field.format == TIME:
        seconds, ns = divmod(value, 10**9)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ns // 1000:06d}"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
