"""Functions of the user's as text, and back: what a child process compiles, and what names its machine code.

A function is its bytecode and the values that it refers to: globals, closure, defaults, the functions that it calls. So it
may stand in a file, in an app, in a notebook cell or nowhere, and it is the same as long as it does the same: neither its
place nor comments count. A value that has no text (`Unpackable`) leaves it to the process that has the value.
"""

from __future__ import annotations

import dis
import importlib
import marshal
import math
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from retina_jit.jit import Kernel

LITERALS = (type(None), bool, int, str, bytes)
LARGEST_ARRAY = 1 << 20
"""Bytes; Numba compiles an array into the code up to about this size, and refers to a larger one by its address."""
OPTIONS = {"nopython", "nogil", "error_model", "fastmath", "inline", "boundscheck", "forceinline"}
"""Of `numba.njit`, those that are packed; `cache` and `parallel` mean nothing here."""
IGNORED = {"cache", "parallel", "no_cpython_wrapper", "no_cfunc_wrapper", "target_backend"}
_STDLIB = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}


class Unpackable(Exception):  # noqa: N818 - no fault of anybody's
    """A value that only this process has. Its text names it."""


@dataclass
class Packer:
    """Packs functions that may share others.

    Attributes
    ----------
    functions : list
        Of each function (name, code, defaults of keywords, defaults, globals, closure); values are packed, see `value`.
    imports : set of (str, str)
        Kernels of the project that are referred to: module and name.
    """

    functions: list[Any] = field(default_factory=list)
    imports: set[tuple[str, str]] = field(default_factory=set)
    _numbers: dict[int, int] = field(default_factory=dict)

    def function(self, f: FunctionType) -> int:
        """Pack a function. Returns its number."""
        if id(f) not in self._numbers:
            n = self._numbers[id(f)] = len(self.functions)
            self.functions.append(None)
            code = _plain(f.__code__)
            names, attributes = _names(f.__code__)
            known = f.__globals__
            inner = {g: self.value(known[g], f"{f.__name__} uses {g}", attributes) for g in sorted(names) if g in known}
            closure = [self._cell(c, f"{f.__name__} uses {v}", attributes) for c, v in zip(f.__closure__ or (), f.__code__.co_freevars)]
            defaults = [self.value(v, f"a default of {f.__name__}") for v in f.__defaults__ or ()]
            keywords = {k: self.value(v, f"the default of {k}") for k, v in sorted((f.__kwdefaults__ or {}).items())}
            self.functions[n] = (f.__name__, marshal.dumps(code, 2), keywords, defaults, inner, closure)
        return self._numbers[id(f)]

    def _cell(self, cell: CellType, where: str, attributes: frozenset[str]) -> Any:
        try:
            content = cell.cell_contents
        except ValueError:
            raise Unpackable(f"{where}, which has no value yet") from None
        return self.value(content, where, attributes)

    def value(self, v: Any, where: str, attributes: frozenset[str] = frozenset()) -> Any:
        """Pack a value; of a module what `attributes` names. `where`: who uses it.

        Raises
        ------
        Unpackable
            It has no text.
        """
        if type(v) in LITERALS:
            return ("literal", v)
        if type(v) in (float, complex):
            return ("bits", np.array(v).dtype.str, np.array(v).tobytes())
        if type(v) in (tuple, list):
            return (type(v).__name__, [self.value(e, where, attributes) for e in v])
        if isinstance(v, np.dtype):
            return ("dtype", pack_dtype(v))
        if isinstance(v, np.ndarray | np.generic):
            return self._array(np.asarray(v), isinstance(v, np.generic), where)
        if isinstance(v, Kernel):
            return self._kernel(v, where)
        if isinstance(getattr(v, "py_func", None), FunctionType):
            return self._dispatcher(v, where)
        found = _importable(v)
        if found:
            return ("from", *found)
        if type(v) is FunctionType:
            return ("compiled", self.function(v), {})
        if isinstance(v, ModuleType):
            # Not vars(): a module may make what it has when it is asked for it.
            parts = {a: getattr(v, a) for a in sorted(attributes) if hasattr(v, a)}
            return ("namespace", {a: self.value(p, f"{where}.{a}", attributes) for a, p in parts.items()})
        raise Unpackable(f"{where}, {type(v).__name__}")

    def _array(self, v: np.ndarray[Any, Any], scalar: bool, where: str) -> Any:
        if v.nbytes > LARGEST_ARRAY or v.dtype.hasobject or not v.flags.c_contiguous:
            raise Unpackable(f"{where}, an array that is large, not contiguous or of objects")
        return ("scalar" if scalar else "array", pack_dtype(v.dtype), v.shape, v.tobytes())

    def _kernel(self, v: Kernel, where: str) -> Any:
        if getattr(sys.modules.get(v.__module__), v.__name__, None) is not v:
            raise Unpackable(f"{where}, {v!r}, which no module holds by this name")
        self.imports.add((v.__module__, v.__name__))
        return ("from", v.__module__, v.__name__)

    def _dispatcher(self, v: Any, where: str) -> Any:
        if not getattr(v, "_can_compile", True):
            raise Unpackable(f"{where}, compiled with signatures of its own")
        options = {k: o for k, o in getattr(v, "targetoptions", {"": None}).items() if k not in IGNORED}
        if getattr(v, "locals", None) or any(k not in OPTIONS or type(o) not in LITERALS for k, o in options.items()):
            raise Unpackable(f"{where}, compiled with options of its own")
        return ("compiled", self.function(v.py_func), dict(sorted(options.items())))


def _plain(code: CodeType) -> CodeType:
    """Return bytecode without its place: all of it stands in one line. What is wrong with it is said of the function itself."""
    inner = tuple(_plain(c) if isinstance(c, CodeType) else c for c in code.co_consts)
    # An entry of the table, of 3.11 and later, is for up to eight units of bytecode: no columns, no lines further.
    units = len(code.co_code) // 2
    lines = b"".join(bytes((0x80 | 13 << 3 | min(units - n, 8) - 1, 0)) for n in range(0, units, 8))
    return code.replace(co_filename="", co_firstlineno=1, co_linetable=lines, co_qualname=code.co_name, co_consts=inner)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for c in code.co_consts:
        if isinstance(c, CodeType):
            yield from _codes(c)


def _names(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the globals that bytecode reads, and the attributes."""
    names: set[str] = set()
    attributes: set[str] = set()
    for c in _codes(code):
        for i in dis.get_instructions(c):
            if i.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                names.add(i.argval)
            elif i.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                attributes.add(i.argval)
    return frozenset(names), frozenset(attributes)


def _importable(v: Any) -> tuple[str, str] | None:
    """Return module and name of what Python, NumPy or Numba bring; the name is empty for a module."""
    if isinstance(v, ModuleType):
        return (v.__name__, "") if _is_theirs(v.__name__) else None
    if type(v).__module__.startswith("numba.core.types"):
        return ("numba", str(v)) if getattr(sys.modules["numba"], str(v), None) is v else None
    name = getattr(v, "__name__", None)
    for module in (getattr(v, "__module__", None) or "numpy", "numpy"):
        if isinstance(name, str) and isinstance(module, str) and _is_theirs(module) and getattr(sys.modules.get(module), name, None) is v:
            return module, name
    return None


def _is_theirs(module: str) -> bool:
    first = module.split(".")[0]
    return first in ("numpy", "numba") or (first in sys.stdlib_module_names and first != "__main__" and _is_installed(first))


def _is_installed(module: str) -> bool:
    """Whether a module is Python's own, not a file of the user's that hides the one of this name."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return True  # built in
    below = (Path(file).parts[len(Path(home).parts) :] for home in _STDLIB if Path(file).is_relative_to(home))
    return any(parts[0] not in ("site-packages", "dist-packages") for parts in below)


def pack_dtype(dtype: np.dtype[Any]) -> Any:
    """Return a dtype as literals."""
    if dtype.subdtype is not None:
        return ("array", pack_dtype(dtype.subdtype[0]), dtype.subdtype[1])
    if dtype.fields is None:
        return dtype.str
    names = list(dtype.names or ())
    return ("record", names, [pack_dtype(dtype.fields[n][0]) for n in names], [dtype.fields[n][1] for n in names], dtype.itemsize, dtype.isalignedstruct)


def unpack_dtype(packed: Any) -> np.dtype[Any]:
    """Return the dtype that `pack_dtype` was given."""
    if isinstance(packed, str):
        return np.dtype(packed)
    if packed[0] == "array":
        return np.dtype((unpack_dtype(packed[1]), packed[2]))
    _, names, formats, offsets, size, aligned = packed
    layout = {"names": names, "formats": [unpack_dtype(f) for f in formats], "offsets": offsets, "itemsize": size}
    return np.dtype(layout, align=aligned)  # type: ignore[call-overload,no-any-return]


def unpack(functions: list[Any], packed: Any) -> Any:
    """Return the value that was packed; `functions` are those of the `Packer`."""
    return _Unpacker(functions).value(packed)


class _Unpacker:
    def __init__(self, functions: list[Any]) -> None:
        self.functions = functions
        self._made: dict[tuple[int, str], Callable[..., Any]] = {}

    def value(self, packed: Any) -> Any:
        kind, *rest = packed
        if kind in ("tuple", "list"):
            return {"tuple": tuple, "list": list}[kind](self.value(e) for e in rest[0])
        if kind == "namespace":
            made = ModuleType("packed")
            vars(made).update({a: self.value(p) for a, p in rest[0].items()})
            return made
        if kind == "compiled":
            return self.compiled(*rest)
        return _SIMPLE[kind](*rest)

    def compiled(self, n: int, options: dict[str, Any]) -> Any:
        """Return a function as Numba's dispatcher."""
        key = n, repr(options)
        if key not in self._made:
            import numba

            name, code, keywords, defaults, inner, closure = self.functions[n]
            cells = tuple(CellType() for _ in closure)
            known: dict[str, Any] = {"__builtins__": __builtins__, "__name__": "packed"}
            made = FunctionType(marshal.loads(code), known, name, None, cells)
            made.__defaults__ = tuple(self.value(d) for d in defaults) or None
            made.__kwdefaults__ = {k: self.value(d) for k, d in keywords.items()} or None
            # Numba gives a function that does not say otherwise the error model of its caller, and own_kernel's is NumPy's.
            chosen: dict[str, Any] = {"nogil": True, "error_model": "numpy"} | options
            chosen.pop("nopython", None)
            self._made[key] = numba.njit(**chosen)(made)
            # Only now, for it may refer to itself.
            known.update({g: self.value(v) for g, v in inner.items()})
            for cell, v in zip(cells, closure):
                cell.cell_contents = self.value(v)
        return self._made[key]


def _array(dtype: Any, shape: tuple[int, ...], content: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(content, unpack_dtype(dtype), math.prod(shape)).reshape(shape).copy()


def _from(module: str, name: str) -> Any:
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


_SIMPLE: dict[str, Callable[..., Any]] = {
    "literal": lambda v: v,
    "bits": lambda dtype, content: np.frombuffer(content, dtype)[0].item(),
    "dtype": unpack_dtype,
    "array": _array,
    "scalar": lambda *packed: _array(*packed)[()],
    "from": _from,
}
