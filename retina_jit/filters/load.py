"""Source to unit: a file in the private cache folder, named by its content, that `jit` compiles like any module."""

from __future__ import annotations

import hashlib
import os
import threading

from retina_jit.jit import cache_dir


def unit(source: str, function: str) -> str:
    """Write the source of a stage, if it is new. Returns "file.py:function"."""
    folder = cache_dir() / "filters"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:24]}.py"
    if not target.exists():
        scratch = target.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
        scratch.write_text(source)
        scratch.replace(target)  # atomic: another process sees all of it or nothing
    return f"{target}:{function}"
