"""CSV: one line per delivery, columns are the accessors' names with those of the data types before them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from retina_jit.datatypes.base import DataType, snake
from retina_jit.errors import ConfigError


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested objects as one level with dotted keys; lists become text joined by commas."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= flatten(item, f"{prefix}{key}.")
        else:
            flat[prefix + key] = ",".join(map(str, item)) if isinstance(item, list | tuple) else item
    return flat


class Csv:
    """Comma-separated values with a header line (RFC 4180); one subscription only, for lines must have the same columns."""

    def __init__(self, out: BinaryIO) -> None:
        self._text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=False)
        self._writer: csv.DictWriter[str] | None = None
        self._made = False

    def callback(self, types: Sequence[type[DataType]]) -> Callable[..., None]:
        """Return the callback of the subscription to `types`.

        Raises
        ------
        ConfigError
            At the second subscription.
        """
        if self._made:
            raise ConfigError("csv has one header: log one subscription, or use -T jsonl")
        self._made = True
        keys = [snake(t.__name__) for t in types]

        def row(*views: DataType) -> None:
            flat = flatten({k: v.to_dict() for k, v in zip(keys, views, strict=True)})
            if self._writer is None:
                self._writer = csv.DictWriter(self._text, list(flat), lineterminator="\r\n")
                self._writer.writeheader()
            self._writer.writerow(flat)

        return row

    def flush(self) -> None:
        """Write what is gathered."""
        self._text.flush()

    def close(self) -> None:
        """Write the rest; the file below stays open."""
        self._text.flush()
        self._text.detach()
