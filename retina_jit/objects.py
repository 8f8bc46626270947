"""Object files of entries: compiled in child processes, kept, and linked into this process.

Machine code is kept as plain object files in a private folder, one per entry, named by a hash of the entry's module, of
every project module that it imports (transitively), of the versions of Numba, llvmlite, NumPy and Python, of the
processor and of the checked mode (`retina_jit.stamp`). So an edited callee can never be served from a stale cache.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from retina_jit import foreign, symbols
from retina_jit.errors import CompileError, KernelError
from retina_jit.jit import LINK, Kernel, compile_function
from retina_jit.stamp import PACKAGE, cache_dir, forget_sources, stamp

__all__ = ["Entry", "Progress", "address", "adopt", "ensure", "function", "load_module"]

# ---------------------------------------------------------------------------------------------------------- the cache


def _object_name(unit: str) -> str:
    return f"{unit.rpartition(':')[2]}-{stamp(unit)}.o"


def _object_file(unit: str, folder: Path | None = None) -> Path:
    return (folder or cache_dir()) / _object_name(unit)


# -------------------------------------------------------------------------------------------------------- compilation


def load_module(where: str) -> ModuleType:
    """Return a module by its name, or execute a file outside the package ("….py")."""
    if not where.endswith(".py"):
        return importlib.import_module(where)
    name = "retina_jit_generated_" + hashlib.sha256(where.encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(name, where)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def compile_unit(unit: str) -> None:
    """Compile one entry in this process and keep its object file."""
    where, _, name = unit.rpartition(":")
    fn = getattr(load_module(where), name)
    if not (isinstance(fn, Kernel) and fn.role == "entry"):
        raise CompileError(f"{unit} is not an entry")
    _keep(_object_file(unit), _packed(*compile_function(fn)))


def _packed(code: bytes, head: dict[str, Any]) -> bytes:
    """Content of a cache file: a line that describes the object file, and the object file."""
    return json.dumps(head | {"sha256": hashlib.sha256(code).hexdigest()}).encode() + b"\n" + code


def _is_intact(content: bytes) -> bool:
    """Whether a cache file is what was written; a damaged object file would end the process when it is linked."""
    head, _, code = content.partition(b"\n")
    try:
        return bool(json.loads(head)["sha256"] == hashlib.sha256(code).hexdigest())
    except (ValueError, KeyError, TypeError):
        return False


def _keep(target: Path, content: bytes) -> None:
    scratch = target.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
    scratch.write_bytes(content)
    scratch.replace(target)  # atomic: another process sees all of it or nothing


Progress = Callable[[int, int, str], None]


TRIES = 3
"""How often units are compiled that are not in the cache afterwards: their sources may be edited meanwhile."""


def ensure(units: Iterable[str], progress: Progress | None = None) -> int:
    """Compile what the cache lacks, in up to two child processes. Returns how many entries were compiled.

    Raises
    ------
    CompileError
        Something does not compile; or what child processes compile has another stamp than it has here, again and again.
    """
    folder = cache_dir()  # looked at once: a program has some fifty entries
    missing = [u for u in dict.fromkeys(units) if not _object_file(u, folder).exists()]
    left = missing
    for _ in range(TRIES):
        if not left:
            return len(missing)
        _compile(left, progress)
        left = [u for u in left if not _object_file(u).exists()]
        if left:
            # A source was edited meanwhile: what the children compiled has another stamp.
            forget_sources()
            left = [u for u in left if not _object_file(u).exists()]
    if left:
        raise CompileError(
            f"{left[0]} was compiled {TRIES} times, and is not in {cache_dir()} under the name that its source has here. "
            "Fix: do not edit or install the package while it compiles; if nobody does, two versions of it are on the path"
        )
    return len(missing)


def _compile(missing: Sequence[str], progress: Progress | None) -> None:
    """Compile units in child processes."""
    if progress:
        progress(0, len(missing), missing[0])
    jobs = min(len(missing), max(1, os.cpu_count() or 1), 2)
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]))
    env |= foreign.environment()
    # Every child takes each unit that no other child has claimed, so a slow one does not hold up the rest.
    claim = os.urandom(8).hex()
    # -P: not the package that happens to lie in the working folder (a checkout of another version), but this one.
    command = [sys.executable, "-P", "-m", "retina_jit.objects", str(cache_dir() / f"claim-{claim}"), *missing]
    children = [
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, text=True)
        for _ in range(jobs)
    ]
    done = 0
    lock = threading.Lock()

    def watch(child: subprocess.Popen[str]) -> None:
        nonlocal done
        assert child.stdout is not None
        for line in child.stdout:
            with lock:
                done += 1
                if progress:
                    progress(done, len(missing), line.strip())

    # stderr is drained apart, for a child that prints much would otherwise stop on a full pipe.
    errors: list[str] = ["" for _ in children]

    def listen(n: int, child: subprocess.Popen[str]) -> None:
        assert child.stderr is not None
        errors[n] = child.stderr.read()

    threads = [threading.Thread(target=watch, args=(c,)) for c in children]
    threads += [threading.Thread(target=listen, args=(n, c)) for n, c in enumerate(children)]
    for t in threads:
        t.start()
    try:
        for t in threads:
            t.join()
    except KeyboardInterrupt:
        for c in children:
            c.terminate()
        raise
    for child in children:
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
        child.wait()
    for path in cache_dir().glob(f"claim-{claim}.*"):
        path.unlink(missing_ok=True)
    for n, child in enumerate(children):
        if child.returncode:
            raise CompileError(f"a kernel did not compile:\n{errors[n].strip()}")


_engine: Any = None
_addresses: dict[str, tuple[int, int]] = {}
_load_lock = threading.Lock()


def _load(key: str, content: bytes) -> tuple[int, int]:
    """Link one object file into this process. Returns the address of its entry and its arity."""
    global _engine
    import llvmlite.binding as llvm

    head, _, code = content.partition(b"\n")
    meta = json.loads(head)
    places = {LINK + unit: address(unit) for unit in meta["links"]}
    with _load_lock:
        if key not in _addresses:
            if _engine is None:
                llvm.initialize_native_target()
                llvm.initialize_native_asmprinter()
                machine = llvm.Target.from_default_triple().create_target_machine()
                _engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
            for name, place in places.items():
                llvm.add_symbol(name, place)
            symbols.provide(meta["outside"])
            _engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            _engine.finalize_object()
            found = _engine.get_function_address(meta["symbol"])
            if not found:
                raise CompileError(f"{key}: the object file has no symbol {meta['symbol']}; delete {cache_dir()}")
            _addresses[key] = (found, meta["arity"])
    return _addresses[key]


def address(unit: str) -> int:
    """Return the address of an entry ("module:function"), compiled first if the cache lacks it."""
    return _locate(unit)[0]


def _locate(unit: str) -> tuple[int, int]:
    key = f"{unit} {_object_name(unit)}"
    if key in _addresses:
        return _addresses[key]
    file = _object_file(unit)
    if not file.exists():
        ensure([unit])
        file = _object_file(unit)  # a source may have been edited while it was compiled
        key = f"{unit} {file.name}"
    content = file.read_bytes()
    if not _is_intact(content):
        file.unlink()
        return _locate(unit)
    return _load(key, content)


class Entry:
    """An entry callable from Python; the GIL is released while it runs.

    Raises
    ------
    KernelError
        In checked mode: a kernel read outside the packet.
    """

    def __init__(self, unit: str, address: int, arity: int) -> None:
        self.unit = unit
        self.address = address
        # The calling convention of Numba: status f(result*, exception**, words...).
        prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * arity)
        self._call = prototype(address)

    def __call__(self, *words: int) -> int:
        """Call it with integers."""
        result, exception = ctypes.c_int64(), ctypes.c_void_p()
        status = self._call(ctypes.addressof(result), ctypes.addressof(exception), *words)
        if status:
            raise KernelError(f"{self.unit} read outside a packet (status {status})")
        return result.value


def function(unit: str) -> Entry:
    """Return an entry that Python can call."""
    return Entry(unit, *_locate(unit))


def adopt(fn: Kernel, name: str) -> Entry:
    """Compile, in this process, an entry that lives in no importable file (a user's compiled callback)."""
    code, head = compile_function(fn)
    return Entry(name, *_load(f"{name} {hashlib.sha256(code).hexdigest()} {id(fn)}", _packed(code, head)))


def main(arguments: Sequence[str]) -> int:
    """Compile the units named after the claim prefix, but those that a sibling process has claimed."""
    prefix, *units = arguments
    for n, unit in enumerate(units):
        try:
            os.close(os.open(f"{prefix}.{n}", os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            continue
        compile_unit(unit)
        print(unit, flush=True)  # noqa: T201 - the parent counts these lines
    return 0


if __name__ == "__main__":
    # Run as a module this file is `__main__`; there must be one of it.
    from retina_jit import objects

    sys.exit(objects.main(sys.argv[1:]))
