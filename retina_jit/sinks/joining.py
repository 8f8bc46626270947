"""Files of the same kind put together to one, in the order given. The result appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from retina_jit.sinks.arrow import pyarrow

Join = Callable[[Sequence[Path], Path], None]


def _whole(write: Callable[[Sequence[Path], BinaryIO], None]) -> Join:
    def join(parts: Sequence[Path], output: Path) -> None:
        made = output.with_name(f".{output.name}.joining")
        with made.open("wb") as out:
            write(parts, out)
        made.replace(output)

    return join


def _lines(parts: Sequence[Path], out: BinaryIO) -> None:
    for part in parts:
        with part.open("rb") as file:
            shutil.copyfileobj(file, out, 1 << 20)


def _with_header(parts: Sequence[Path], out: BinaryIO) -> None:
    for n, part in enumerate(parts):
        with part.open("rb") as file:
            header = file.readline()
            if n == 0:
                out.write(header)
            shutil.copyfileobj(file, out, 1 << 20)


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


JOIN: dict[str, Join] = {"jsonl": _whole(_lines), "csv": _whole(_with_header), "arrow": _whole(_arrow), "parquet": _whole(_parquet)}
"""Format -> what makes one file of several."""
