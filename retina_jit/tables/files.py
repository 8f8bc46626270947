"""Rows written to files, batch by batch."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from retina_jit.delivery.capsules import ArrowBatch
from retina_jit.delivery.vectors import STRUCT, Field, empty, struct
from retina_jit.extras import library
from retina_jit.sinks.gather import Batch

PathLike = str | os.PathLike[str]


def to_parquet(path: PathLike, fields: Sequence[Field], batches: Iterable[Batch]) -> int:
    """Write Parquet, a row group per batch. Returns how many rows."""
    pa = library("pyarrow", "to_parquet", "arrow")
    parquet = library("pyarrow.parquet", "to_parquet", "arrow")
    schema = pa.record_batch(ArrowBatch(empty(Field("", STRUCT, False, tuple(fields))))).schema
    rows = 0
    with parquet.ParquetWriter(os.fspath(path), schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(pa.record_batch(ArrowBatch(struct("", batch))))
            rows += len(batch[0])
    return rows


def to_csv(path: PathLike, fields: Sequence[Field], batches: Iterable[Batch]) -> int:
    """Write CSV. Returns how many rows."""
    rows = 0
    with Path(path).open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow([f.name for f in fields])
        for batch in batches:
            writer.writerows(zip(*map(_cells, batch), strict=True))
            rows += len(batch[0])
    return rows


def _cells(vector: Any) -> list[Any]:
    values = vector.to_list(shown=True)
    if vector.field.format[0] == "+":
        return [None if v is None else msgspec.json.encode(v).decode() for v in values]
    if vector.field.format == "b":
        return [None if v is None else "true" if v else "false" for v in values]
    return list(values)


def to_jsonl(path: PathLike, fields: Sequence[Field], batches: Iterable[Batch]) -> int:
    """Write JSON lines. Returns how many rows."""
    names, encoder = [f.name for f in fields], msgspec.json.Encoder()
    rows = 0
    with Path(path).open("wb") as out:
        for batch in batches:
            listed = zip(*(v.to_list(shown=True) for v in batch), strict=True)
            out.write(encoder.encode_lines([dict(zip(names, values, strict=True)) for values in listed]))
            rows += len(batch[0])
    return rows
