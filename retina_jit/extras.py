"""Libraries that only an extra brings."""

from __future__ import annotations

import importlib
from typing import Any

from retina_jit.errors import MissingExtraError


def library(name: str, what: str, extra: str) -> Any:
    """Import a library that only an extra brings.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as fault:
        raise MissingExtraError(f"{what} needs {name}: pip install 'retina-jit[{extra}]'") from fault
