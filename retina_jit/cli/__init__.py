"""The command line. What `--help`, `fields` and `doctor` need imports neither Numba nor NumPy."""

from __future__ import annotations

from retina_jit.cli.main import main

__all__ = ["main"]
