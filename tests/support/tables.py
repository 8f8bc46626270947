"""What a table shows of `to_dict`."""

from __future__ import annotations

import json
from typing import Any


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as one level, with dotted keys."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            found |= flat(item, f"{prefix}{key}.")
        else:
            found[prefix + key] = item
    return found


def same_cell(cell: str, value: Any) -> bool:
    """Whether a cell shows a value."""
    if value is None:
        return cell == ""
    if isinstance(value, bool):
        return cell == str(value).lower()
    if isinstance(value, float):
        return float(cell) == value
    if isinstance(value, list | tuple):
        if any(isinstance(x, dict) for x in value):
            return bool(json.loads(cell) == json.loads(json.dumps(value)))
        return cell == ",".join(map(str, value)) or (not value and cell == "[]")
    return cell == str(value)
