"""`retina-jit doctor`: what this machine can do, one line each, with the command that mends a lack."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import click

from retina_jit.cli import doctor_live
from retina_jit.cli.findings import FAIL, OK, WARN, Finding


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    return (OK if good else FAIL), f"Python {platform.python_version()} on {platform.machine()}", "" if good else "use Python 3.11 or later"


def _packages() -> Finding:
    try:
        versions = [f"{n} {importlib.metadata.version(n)}" for n in ("numba", "llvmlite", "numpy", "lark", "msgspec")]
    except importlib.metadata.PackageNotFoundError as lack:
        return FAIL, f"{lack.name} is not installed", "pip install retina-jit"
    return OK, ", ".join(versions), ""


def _cache() -> Finding:
    from retina_jit.errors import CompileError
    from retina_jit.jit import cache_dir

    try:
        path = cache_dir()
    except (OSError, CompileError) as fault:
        return FAIL, f"no private cache folder: {fault}", "set RETINA_JIT_CACHE to a folder of your own"
    files = list(path.glob("*.o"))
    return OK, f"kernel cache {path}: {len(files)} kernels, {sum(f.stat().st_size for f in files) / 1e6:.1f} MB", ""


def _huge_pages() -> Finding:
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not path.exists():
        return WARN, "transparent huge pages: unknown on this system", ""
    mode = path.read_text()
    if "[never]" in mode:
        return WARN, "transparent huge pages are off: the connection table is slower", f"echo madvise | sudo tee {path}"
    return OK, f"transparent huge pages: {mode.strip()}", ""


def _library(name: str, what: str, fix: str) -> Callable[[], Finding]:
    def check() -> Finding:
        found = ctypes.util.find_library(name)
        return (OK, f"{what}: {found}", "") if found else (WARN, f"{what}: not found", fix)

    return check


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _packages,
    _cache,
    _huge_pages,
    _library("crypto", "libcrypto", "apt install libssl3"),
    *doctor_live.CHECKS,
)


def check() -> int:
    """Print the findings. Returns 1 if one of them is FAIL."""
    worst = 0
    for finding in CHECKS:
        state, text, fix = finding()
        click.echo(f"{state:4}  {text}" + (f"\n      fix: {fix}" if fix else ""))
        worst |= state == FAIL
    return int(worst)
