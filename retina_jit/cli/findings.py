"""What a check of `retina-jit doctor` says: state, text, the command that mends a lack."""

from __future__ import annotations

OK, WARN, FAIL = "ok", "warn", "FAIL"
Finding = tuple[str, str, str]
