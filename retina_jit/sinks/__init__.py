"""Where events can be written to, without Python per event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from retina_jit.sinks.arrow import ArrowStream, Parquet
from retina_jit.sinks.lines import Csv, JsonLines

FORMATS: dict[str, Callable[[BinaryIO], Any]] = {"jsonl": JsonLines, "csv": Csv, "arrow": ArrowStream, "parquet": Parquet}
"""Format -> what writes it to an open file."""
