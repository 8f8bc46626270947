"""All Numba policy: how kernels are declared, compiled, cached and loaded.

Laws
----
1. A function that runs in nopython mode is declared with `kernel` (called by other kernels), `leaf` (a kernel that is
   always inlined), `raw` (an LLVM intrinsic) or `entry` (a kernel that is called by address).
2. An entry is a compile firewall. It takes and returns 64-bit words (`int64`: numbers or addresses), so a caller
   needs nothing of it but its address, and a change behind it recompiles nothing in front of it.
3. Machine code is kept as plain object files in a private folder, one per entry, named by a hash of the entry's
   module, of every project module that it imports (transitively), of the versions of Numba, llvmlite, NumPy and
   Python, of the processor and of the checked mode. So an edited callee can never be served from a stale cache.
4. Numba is imported by the process that compiles, which is a child process: a warm start, and everything that only
   looks at declarations (`fields`, `explain`, `--help`), never imports it.
5. Kernels do not allocate, hold no Python object, release the GIL and never raise, but in checked mode, where a read
   outside a packet raises (see `retina_jit.parsers.wire`).
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.util
import inspect
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
from retina_jit.stamp import CHECKED, PACKAGE, cache_dir, forget_sources, stamp

__all__ = [
    "CHECKED", "Entry", "Kernel", "address", "adopt", "cache_dir", "compile_function", "ensure", "entry", "external",
    "forget_sources", "function", "kernel", "leaf", "make_raw", "own_kernel", "raw", "stamp",
]  # fmt: skip

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}


class Kernel:
    """A function declared for nopython mode; Numba sees it only when something that uses it is compiled."""

    def __init__(self, function: Callable[..., Any], *, role: str) -> None:
        self.function = function
        self.role = role
        self.arity = len(inspect.signature(function).parameters)
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.options: dict[str, Any] = {}
        self.kept = True
        self._resolved: Any = None

    def resolve(self) -> Any:
        """Return what Numba calls: a dispatcher or an intrinsic."""
        if self._resolved is None:
            _teach_numba()
            if self.role == "raw":
                from numba.extending import intrinsic

                self._resolved = intrinsic(self.function)
            else:
                import numba

                options = _OPTIONS | self.options
                if self.role == "leaf":
                    options["forceinline"] = True
                self._resolved = numba.njit(**options)(self.function)
        return self._resolved

    def __call__(self, *words: int) -> int:
        """Run an entry from Python, with integers in and out (tests, tools; the pipeline calls by address)."""
        if self.role != "entry":
            raise TypeError(f"{self.__module__}.{self.__name__} is a {self.role}: only kernels can call it")
        return function(f"{self.__module__}:{self.__name__}")(*words)

    def __repr__(self) -> str:
        return f"<{self.role} {self.__module__}.{self.__name__}>"


def kernel(function: Callable[..., Any]) -> Any:
    """Declare a function that other kernels call."""
    return Kernel(function, role="kernel")


def leaf(function: Callable[..., Any]) -> Any:
    """Declare a small function that is inlined wherever a kernel calls it."""
    return Kernel(function, role="leaf")


def entry(function: Callable[..., Any]) -> Any:
    """Declare a function that is called by address; all its parameters and its result are 64-bit words."""
    return Kernel(function, role="entry")


def own_kernel(function: Callable[..., Any], kept: bool = True) -> Kernel:
    """Declare an entry around a function of the user's, which may use texts: reference counts are on.

    `kept`: its object file is for other processes as well.
    """
    made = Kernel(function, role="entry")
    made.options, made.kept = {"_nrt": True}, kept
    return made


def raw(function: Callable[..., Any]) -> Any:
    """Declare an LLVM intrinsic, in the form that `numba.extending.intrinsic` takes."""
    return Kernel(function, role="raw")


def make_raw(build: Callable[[], Callable[..., Any]], name: str) -> Any:
    """Declare an intrinsic that is made by `build` when it is first compiled (its types need Numba)."""
    return _Deferred(build, name)


class _Deferred(Kernel):
    def __init__(self, build: Callable[[], Callable[..., Any]], name: str) -> None:
        super().__init__(build, role="raw")
        self.__name__ = name

    def resolve(self) -> Any:
        if self._resolved is None:
            _teach_numba()
            from numba.extending import intrinsic

            made = self.function()
            made.__name__ = self.__name__
            self._resolved = intrinsic(made)
        return self._resolved


def external(name: str, result: str, *parameters: str) -> Any:
    """Declare a C function of the process that kernels call by its symbol, e.g. `external("usleep", "int32", "uint32")`."""
    return _External(name, result, parameters)


LINK = "retina_jit entry "
"""Begins the symbol that stands for the address of another entry; its unit follows."""


class _External(Kernel):
    def __init__(self, name: str, result: str, parameters: tuple[str, ...]) -> None:
        super().__init__(lambda: None, role="raw")
        self.__name__ = name
        self.types = (result, parameters)

    def resolve(self) -> Any:
        if self._resolved is None:
            from numba import types

            result, parameters = self.types
            signature = getattr(types, result)(*[getattr(types, p) for p in parameters])
            self._resolved = types.ExternalFunction(self.__name__, signature)
        return self._resolved


_taught = False


def _teach_numba() -> None:
    """Make Numba take a `Kernel` found in a global for the dispatcher or intrinsic that it stands for."""
    global _taught
    if not _taught:
        from numba.core.registry import cpu_target
        from numba.extending import typeof_impl

        def typeof_kernel(value: Kernel, context: Any) -> Any:
            resolved = value.resolve()
            typing = cpu_target.typing_context
            typing.refresh()  # an intrinsic made a moment ago is not registered yet
            return typing.resolve_value_type(resolved)

        typeof_impl.register(Kernel)(typeof_kernel)
        typeof_impl.register(_Deferred)(typeof_kernel)
        typeof_impl.register(_External)(lambda value, context: value.resolve())

        _taught = True


# ---------------------------------------------------------------------------------------------------------- the cache


def _object_file(unit: str) -> Path:
    name = unit.rpartition(":")[2]
    return cache_dir() / f"{name}-{stamp(unit)}.o"


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


def compile_function(fn: Kernel) -> tuple[bytes, dict[str, Any]]:
    """Compile an entry in this process. Returns its object file, and what loading it needs to know.

    Raises
    ------
    CompileError
        It holds addresses of this process, or a function that calls itself; only functions of the user's can.
    """
    from numba import types

    dispatcher = fn.resolve()
    dispatcher.compile(types.int64(*[types.int64] * fn.arity))
    result = next(iter(dispatcher.overloads.values()))
    library = result.library
    if fn.kept and library.has_dynamic_globals:
        raise CompileError(f"{fn.__name__} refers to memory of this process")
    module = library._final_module
    code: bytes = library.codegen._tm.emit_object(module)
    asked = [v.name for v in (*module.functions, *module.global_variables) if v.is_declaration and not v.name.startswith("llvm.")]
    if any(n.startswith(symbols.LATER) for n in asked):
        raise CompileError("a function calls itself; write it as a loop")
    head = {
        "symbol": result.fndesc.llvm_func_name,
        "arity": fn.arity,
        "links": sorted(n.removeprefix(LINK) for n in asked if n.startswith(LINK)),
        # The linker ends the process over a symbol that nobody has.
        "outside": sorted(n for n in asked if not n.startswith(LINK)) if fn.options.get("_nrt") else [],
    }
    return code, head


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
    missing = [u for u in dict.fromkeys(units) if not _object_file(u).exists()]
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
    command = [sys.executable, "-P", "-m", "retina_jit.jit", str(cache_dir() / f"claim-{claim}"), *missing]
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
    file = _object_file(unit)
    key = f"{unit} {file.name}"
    if key in _addresses:
        return _addresses[key]
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
    # Run as a module this file is `__main__`; kernels must meet the classes of the imported one.
    from retina_jit import jit

    sys.exit(jit.main(sys.argv[1:]))
