"""Where machine code is kept, and under which name: the content of all that it was made from.

Nothing here imports Numba: a warm start only has to read source files and hash them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import stat
import sys
import threading
from pathlib import Path

from retina_jit import foreign
from retina_jit.errors import CompileError

CHECKED = os.environ.get("RETINA_JIT_CHECKED", "") not in ("", "0")
"""Checked mode: a read outside a packet raises instead of giving zero. Part of every cache key."""


def cache_dir() -> Path:
    """Return the private cache folder, made with mode 0700; refuse one that others may write to."""
    base = os.environ.get("RETINA_JIT_CACHE")
    path = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retina_jit"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise CompileError(
            f"the cache folder {path} is not private to this user: machine code is loaded from it. "
            f"Fix: chmod 700 {path}, or name another folder in RETINA_JIT_CACHE"
        )
    return path


def keep_source(kind: str, source: str) -> Path:
    """Write generated source to a file of the private cache folder, named by its content, if it is new. Returns the file."""
    folder = cache_dir() / kind
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:24]}.py"
    if not target.exists():
        scratch = target.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
        scratch.write_text(source)
        scratch.replace(target)  # atomic: another process sees all of it or nothing
    return target


_IMPORT = re.compile(r"^\s*(?:from\s+(retina_jit[\w.]*)\s+import\s+\(?([^#\n]*)|import\s+(retina_jit[\w.]*))", re.M)
PACKAGE = Path(__file__).parent
_imported: dict[Path, frozenset[Path]] = {}
_closures: dict[Path, frozenset[Path]] = {}
_digests: dict[Path, bytes] = {}
_parts: dict[Path, bytes] = {}
_contents: dict[Path, bytes] = {}


def module_file(name: str) -> Path | None:
    """Return the file of a module of the package, or of a foreign one; None if there is none."""
    if name.split(".")[0] != PACKAGE.name:
        return foreign.module_file(name)
    path = PACKAGE.joinpath(*name.split(".")[1:])
    if path.with_suffix(".py").exists():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").exists() else None


def imports(file: Path) -> set[Path]:
    """Return the files of the package that a file imports, read from its text."""
    found: set[Path] = set()
    for match in _IMPORT.finditer(file.read_text()):
        base = match[1] or match[3]
        names = [f"{base}.{n.strip().split(' ')[0]}" for n in (match[2] or "").strip("()").split(",") if n.strip()]
        files = [module_file(n) for n in names]
        found |= {f for f in files if f is not None}
        # `from retina_jit import memory` takes nothing from the package's own file, through which everything hangs together.
        if base != PACKAGE.name or not files or None in files:
            home = module_file(base)
            found |= {home} if home is not None else set()
    return found


def _imports(file: Path) -> frozenset[Path]:
    """`imports`, each file read once: closures overlap, and a program has some fifty of them."""
    if file not in _imported:
        _imported[file] = frozenset(imports(file))
    return _imported[file]


def _closure(file: Path) -> frozenset[Path]:
    """Every project file that `file` depends on, itself included."""
    if file not in _closures:
        seen, todo = {file}, [file]
        while todo:
            for other in _imports(todo.pop()) - seen:
                seen.add(other)
                todo.append(other)
        _closures[file] = frozenset(seen)
    return _closures[file]


def _digest(file: Path) -> bytes:
    if file not in _digests:
        _digests[file] = hashlib.sha256(file.read_bytes()).digest()
    return _digests[file]


def _part(file: Path) -> bytes:
    """What a file adds to a stamp; nothing of where it lies, for a child process may see the package under another path."""
    if file not in _parts:
        # A generated file is known by its content, a module of the package also by its place in it.
        place = str(file.relative_to(PACKAGE)).encode() if file.is_relative_to(PACKAGE) else b"generated"
        _parts[file] = place + _digest(file)
    return _parts[file]


def _content(file: Path) -> bytes:
    """All that the code of a file is made from; entries of the same file share it."""
    if file not in _contents:
        _contents[file] = b"".join(sorted(map(_part, _closure(file))))
    return _contents[file]


def forget_sources() -> None:
    """Read the source files anew at the next look-up (a notebook or a test has edited them)."""
    for kept in (_imported, _closures, _digests, _parts, _contents):
        kept.clear()


_machine: tuple[str, str, str] | None = None


def _machine_key() -> tuple[str, str, str]:
    """Processor, its features, versions."""
    global _machine
    if _machine is None:
        import llvmlite.binding as llvm

        version = importlib.metadata.version
        _machine = (
            llvm.get_host_cpu_name(),
            llvm.get_host_cpu_features().flatten(),
            f"{version('numba')} {version('llvmlite')} {version('numpy')} {sys.version_info[:2]} {CHECKED}",
        )
    return _machine


def stamp(unit: str) -> str:
    """Return the content hash under which the machine code of `unit` ("module:function" or "file.py:function") is kept."""
    where, _, name = unit.rpartition(":")
    file = Path(where) if where.endswith(".py") else module_file(where)
    if file is None:
        raise CompileError(f"no module {where}")
    # Modules that import one another share a closure, so the module's own name belongs to the key.
    home = "generated" if where.endswith(".py") else where
    h = hashlib.sha256(repr((home, name, _machine_key())).encode())
    h.update(_digest(file))
    h.update(_content(file))
    return h.hexdigest()[:32]
