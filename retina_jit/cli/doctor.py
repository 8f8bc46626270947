"""`retina-jit doctor`: what this machine can do, one line each, with the command that mends a lack."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import click

from retina_jit.cli import doctor_live
from retina_jit.cli.findings import FAIL, OK, WARN, Finding
from retina_jit.cores import usable, written

LEAST_LOCKED = 64 << 20


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
    from retina_jit.stamp import cache_dir

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


FEATURES = {"avx2": "wider registers", "aes": "QUIC is opened faster", "constant_tsc": "explain measures stages"}
"""What the kernels gain from, of the flags of x86-64 processors."""


def _cores(root: Path) -> str:
    """Return the cores that workers may be bound to, and which of them share what computes."""
    there = usable()
    if not there:
        return f"{os.cpu_count() or 1} cores"
    siblings = {(root / f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list") for n in there}
    together = {f.read_text().strip() for f in siblings if f.exists()}
    real = f", threads of {len(together)} real ones: {' '.join(sorted(together))}" if 0 < len(together) < len(there) else ""
    return f"{len(there)} cores (--cores {written(there)}{real})"


def _processor(root: Path = Path("/")) -> Finding:
    """How many cores there are for this process, and what the kernels may use of them."""
    cores = _cores(root)
    try:
        lines = (root / "proc/cpuinfo").read_text().splitlines()
    except OSError:
        return WARN, f"{cores}; their features are unknown on this system", ""
    told = dict(reversed([(k.strip(), v.strip()) for k, _, v in (line.partition(":") for line in lines)]))
    flags = told.get("flags", told.get("Features", "")).split()
    text = f"{cores}, {told.get('model name', platform.machine())}"
    lacking = [f"{flag} ({gain})" for flag, gain in FEATURES.items() if flag not in flags]
    if "flags" in told and lacking:
        return WARN, f"{text}, without {', '.join(lacking)}", "in a virtual machine: let it have the host's processor (qemu: -cpu host)"
    return OK, text, ""


def _extras() -> Finding:
    """Which packages of the extras are there."""
    known = {"arrow": "pyarrow", "pandas": "pandas", "polars": "polars", "x509": "cryptography", "plot": "matplotlib", "kafka": "confluent_kafka", "metrics": "prometheus_client"}
    there = {extra: importlib.util.find_spec(module) is not None for extra, module in known.items()}
    lacking = [extra for extra, found in there.items() if not found]
    text = f"extras: {', '.join(extra for extra, found in there.items() if found) or 'none'}"
    return OK, text + (f"; the others: pip install 'retina-jit[{','.join(lacking)}]'" if lacking else ""), ""


def _locked_memory() -> Finding:
    """Whether rings of interfaces and buffers of cards may be locked in memory."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if soft != resource.RLIM_INFINITY and soft < LEAST_LOCKED and os.geteuid() != 0:
        return WARN, f"at most {soft >> 20} MiB may be locked in memory: too little for cards through vfio", "ulimit -l unlimited (in limits.conf: memlock)"
    return OK, "memory may be locked: as much as cards through vfio need", ""


def _library(name: str, what: str, fix: str) -> Callable[[], Finding]:
    def check() -> Finding:
        found = ctypes.util.find_library(name)
        return (OK, f"{what}: {found}", "") if found else (WARN, f"{what}: not found", fix)

    return check


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _packages,
    _cache,
    _processor,
    _huge_pages,
    _locked_memory,
    _extras,
    _library("crypto", "libcrypto", "apt install libssl3"),
    _library("pcap", "libpcap (for -F)", "apt install libpcap0.8"),
    *doctor_live.CHECKS,
)


def check(*, as_json: bool = False) -> int:
    """Print the findings. Returns 1 if one of them is FAIL."""
    findings = [finding() for finding in CHECKS]
    worst = int(any(state == FAIL for state, _, _ in findings))
    if as_json:
        click.echo(json.dumps([{"state": state, "finding": text, "fix": fix} for state, text, fix in findings], indent=1))
        return worst
    for state, text, fix in findings:
        click.echo(f"{state:4}  {text}" + (f"\n      fix: {fix}" if fix else ""))
    return worst
