"""Source to unit: a file in the private cache folder, named by its content, that `jit` compiles like any module."""

from __future__ import annotations

from retina_jit.stamp import keep_source


def unit(source: str, function: str) -> str:
    """Write the source of a stage, if it is new. Returns "file.py:function"."""
    return f"{keep_source('filters', source)}:{function}"
