"""How kernels are declared, and what Numba is told about them: all of its policy.

Laws
----
1. A function that runs in nopython mode is declared with `kernel` (called by other kernels), `leaf` (a kernel that is
   always inlined), `raw` (an LLVM intrinsic) or `entry` (a kernel that is called by address).
2. An entry is a compile firewall. It takes and returns 64-bit words (`int64`: numbers or addresses), so a caller
   needs nothing of it but its address, and a change behind it recompiles nothing in front of it.
3. Numba is imported by the process that compiles, which is a child process (`retina_jit.objects`): a warm start, and
   everything that only looks at declarations (`fields`, `explain`, `--help`), never imports it.
4. Kernels do not allocate, hold no Python object, release the GIL and never raise, but in checked mode, where a read
   outside a packet raises (see `retina_jit.parsers.wire`).

Every module of kernels imports this one, so what it says is a part of the key of all object files: what compiles,
keeps and loads them is elsewhere, and may be changed without compiling anything again.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from retina_jit import symbols
from retina_jit.errors import CompileError

__all__ = ["Kernel", "compile_function", "entry", "external", "kernel", "leaf", "make_raw", "own_kernel", "raw"]

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
        # By its name: an import statement would make it a part of every key.
        objects = importlib.import_module("retina_jit.objects")
        return int(objects.function(f"{self.__module__}:{self.__name__}")(*words))

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
