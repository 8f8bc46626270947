"""Where events can be written to, without Python per event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from retina_jit.sinks.json_lines import JsonLines
from retina_jit.sinks.text import Csv

FORMATS: dict[str, Callable[[BinaryIO], Any]] = {"jsonl": JsonLines, "csv": Csv}
"""Format -> what writes it to an open file."""
