"""C functions of Numba's runtime (texts, reference counts) for object files that are loaded where Numba is not imported.

Compiled code of the users may call them by symbol. Their libraries are loaded alone, which takes 2 ms instead of 0.4 s.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import ModuleType

from retina_jit.errors import CompileError

LIBRARIES = {"numba.core.runtime._nrt_python": "NRT_", "numba._helperlib": "numba_", "numba._dynfunc": "numba_"}
"""Extension modules that list their functions, and what the symbols of these begin with."""


def provide(names: Iterable[str]) -> None:
    """Make sure that the linker finds these symbols.

    Raises
    ------
    CompileError
        Nobody has one of them; the linker would end the process.
    """
    import llvmlite.binding as llvm

    missing = [n for n in names if not llvm.address_of_symbol(n)]
    if not missing:
        return
    known = _known()
    for name in missing:
        if name in known:
            llvm.add_symbol(name, known[name])
    if any(not llvm.address_of_symbol(n) for n in missing):
        from numba.core.registry import cpu_target

        cpu_target.target_context.refresh()  # enters all that Numba has
    lost = [n for n in missing if not llvm.address_of_symbol(n)]
    if lost:
        raise CompileError(f"compiled code asks for {', '.join(lost)}, which this process does not have")


LATER = ".numba.unresolved$"
"""Begins the name of a pointer to a function that calls itself, which Numba's own linker sets."""


@cache
def _known() -> dict[str, int]:
    found = {"_Py_NoneStruct": id(None)}
    found |= {f"PyExc_{n}": id(e) for n, e in vars(builtins).items() if isinstance(e, type) and issubclass(e, BaseException)}
    for name, prefix in LIBRARIES.items():
        helpers: dict[str, int] = _extension(name).c_helpers
        own = name == "numba.core.runtime._nrt_python"
        found |= {n if own and n.startswith("_") else prefix + n: address for n, address in helpers.items()}
    return found


def _extension(name: str) -> ModuleType:
    """Load an extension module without the packages around it."""
    package = importlib.util.find_spec("numba")
    assert package is not None and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0]).joinpath(*name.split(".")[1:-1])
    files = [folder / (name.rpartition(".")[2] + s) for s in importlib.machinery.EXTENSION_SUFFIXES]
    loader = importlib.machinery.ExtensionFileLoader(name, str(next(f for f in files if f.exists())))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
