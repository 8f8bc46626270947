"""The file that the parts of an archive become: while others are still being done, and without keeping their bytes twice."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from retina_jit.archive.tasks import Task, finished
from retina_jit.errors import ConfigError
from retina_jit.sinks.joining import HEADERS, JOIN, append

FILE, NOTED = "joined", "joined.parts"
"""In the folder of the parts: what they have become so far; and how many of them stand in how many bytes of it, a line each time."""


class Output:
    """Takes the parts in their order. At each moment the same command can go on from what is on the disk.

    Formats that can be continued (see `HEADERS`) grow part by part, and a part is deleted when it stands in the file: the first
    one becomes the file. Others are put together at the end.

    Parameters
    ----------
    path : Path
    folder : Path
        Of the parts.
    format_ : str
    work : sequence of Task
        All of it, in the order of the parts.
    """

    def __init__(self, path: Path, folder: Path, format_: str, work: Sequence[Task]) -> None:
        self._path, self._format, self._work = path, format_, work
        self._file, self._noted = folder / FILE, folder / NOTED
        self.parts = 0
        """How many parts stand in it; those are gone."""
        self._size = 0
        self.grows = format_ in HEADERS
        """Whether parts are taken as they come."""
        if self.grows:
            self._go_on()

    def _go_on(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            whole_lines = self._noted.read_text().split("\n")[:-1]
            parts, size = json.loads(whole_lines[-1] if whole_lines else "")
            # What was noted before the first part became the file, or not all of what is noted: begun anew.
            whole = self._file.stat().st_size >= size and all(finished(t, joined=True) for t in self._work[:parts])
            if whole:
                with self._file.open("r+b") as file:
                    file.truncate(size)
                self.parts, self._size = parts, size

    def add(self) -> None:
        """Take the next part."""
        part = Path(self._work[self.parts].part)
        try:
            if self._size == 0:
                self._note(part.stat().st_size)
                part.replace(self._file)
            else:
                with self._file.open("r+b", buffering=0) as out:
                    size = self._size + append(part, out, header=HEADERS[self._format])
                self._note(size)
                part.unlink()
        except OSError as fault:
            raise ConfigError(f"{self._file}: {fault.strerror}; what is done is kept, the same command goes on from there") from fault

    def _note(self, size: int) -> None:
        # A line more: replacing a file has its bytes brought to the disk at once.
        with self._noted.open("a") as noted:
            noted.write(f"[{self.parts + 1}, {size}]\n")
        self.parts, self._size = self.parts + 1, size

    def end(self, good: Sequence[Task]) -> None:
        """Make it the output, with these parts in it: those that were taken, and what is left."""
        if not self.grows:
            JOIN[self._format]([Path(task.part) for task in good], self._path)
            return
        self._work = good
        while self.parts < len(good):
            self.add()
        if not good:
            self._file.touch()
        self._file.replace(self._path)
