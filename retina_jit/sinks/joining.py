"""Files of the same kind put together to one, in the order given. The result appears whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from retina_jit.sinks.arrow import pyarrow

Join = Callable[[Sequence[Path], Path], None]


def _whole(write: Callable[[Sequence[Path], BinaryIO], None]) -> Join:
    def join(parts: Sequence[Path], output: Path) -> None:
        made = output.with_name(f".{output.name}.joining")
        try:
            with made.open("wb") as out:
                write(parts, out)
            made.replace(output)
        except BaseException:
            made.unlink(missing_ok=True)  # of a disk that is full it would take what the parts need
            raise

    return join


PIECE = 64 << 20
"""What the system is asked to copy at once [byte]."""
BUFFER = 256 << 10
"""What is copied at once [byte]: it stays in a cache."""


def append(part: Path, out: BinaryIO, *, header: bool) -> int:
    """Append a file, without its first line if that is a header. Returns how many bytes."""
    written = 0
    with part.open("rb", buffering=0) as file:
        if header:
            with part.open("rb") as lines:
                file.seek(len(lines.readline()))
        try:
            # Within the system: one copy instead of two, none where file systems share blocks.
            out.seek(0, os.SEEK_END)
            while got := os.copy_file_range(file.fileno(), out.fileno(), PIECE):
                written += got
        except (AttributeError, OSError):
            pass  # not of this system, not between these two; what is left is copied here, which also says what is wrong
        # A buffer per piece would have its pages made each time: 4 to 8 times as long.
        buffer = memoryview(bytearray(BUFFER))
        while got := file.readinto(buffer):
            left = buffer[:got]
            while len(left):
                left = left[out.write(left) :]
            written += got
    return written


def _arrow(parts: Sequence[Path], out: BinaryIO) -> None:
    pa, writer = pyarrow(), None
    for part in parts:
        with pa.memory_map(str(part)) as file, pa.ipc.open_stream(file) as reader:
            writer = writer or pa.ipc.new_stream(out, reader.schema)
            for batch in reader:
                writer.write_batch(batch)
    _close(writer)


def _parquet(parts: Sequence[Path], out: BinaryIO) -> None:
    pyarrow()
    from pyarrow import parquet

    writer = None
    for part in parts:
        with parquet.ParquetFile(part) as reader:
            writer = writer or parquet.ParquetWriter(out, reader.schema_arrow, compression="zstd")
            for n in range(reader.num_row_groups):
                writer.write_table(reader.read_row_group(n))
    _close(writer)


def _close(writer: Any) -> None:
    if writer is not None:
        writer.close()


JOIN: dict[str, Join] = {"arrow": _whole(_arrow), "parquet": _whole(_parquet)}
"""Format -> what makes one file of several."""
HEADERS = {"jsonl": False, "csv": True}
"""Formats whose files are put together by appending -> whether each begins with a header."""
