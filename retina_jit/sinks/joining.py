"""Files of the same kind put together to one, in the order given. The result appears whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from retina_jit.sinks.arrow import pyarrow

Join = Callable[[Sequence[Path], Path], None]


def _whole(write: Callable[[Sequence[Path], BinaryIO], None]) -> Join:
    def join(parts: Sequence[Path], output: Path) -> None:
        made = output.with_name(f".{output.name}.joining")
        with made.open("wb", buffering=0) as out:
            write(parts, out)
        made.replace(output)

    return join


BUFFER = 256 << 10
"""What is copied at once [byte]: it stays in a cache."""


def _lines(parts: Sequence[Path], out: BinaryIO) -> None:
    _append(parts, out)


def _with_header(parts: Sequence[Path], out: BinaryIO) -> None:
    _append(parts[:1], out)
    _append(parts[1:], out, header=True)


def _append(parts: Sequence[Path], out: BinaryIO, *, header: bool = False) -> None:
    """Append files, without the first line if it is a header. A buffer per piece would have its pages made each time: 4 to 8 times as long."""
    buffer = memoryview(bytearray(BUFFER))
    for part in parts:
        with part.open("rb", buffering=0) as file:
            if header:
                with part.open("rb") as lines:
                    file.seek(len(lines.readline()))
            while got := file.readinto(buffer):
                out.write(buffer[:got])


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
