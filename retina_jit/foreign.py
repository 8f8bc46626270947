"""Python files outside the package whose kernels are compiled as its own are: protocols of users.

Each gets a module name that begins with `retina_jit_`; generated source imports it by that name, here and in the child
processes that compile, which learn of it by an environment variable.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

PREFIX = "retina_jit_protocol_"
VARIABLE = "RETINA_JIT_MODULES"

_files: dict[str, Path] = {}


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        file = _files.get(fullname)
        return None if file is None else importlib.util.spec_from_file_location(fullname, file)


def _enter(name: str, file: Path) -> None:
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
    _files[name] = file


for _pair in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
    _name, _, _file = _pair.partition("=")
    _enter(_name, Path(_file))


def module_file(name: str) -> Path | None:
    """Return the file of a foreign module; None if there is no such module."""
    return _files.get(name)


def module_name(file: Path) -> str:
    """Return the name that a file's module has."""
    return PREFIX + re.sub(r"\W", "_", file.stem)


def load(file: Path) -> ModuleType:
    """Execute a file as a foreign module, anew if it was loaded before. Returns the module."""
    name = module_name(file)
    before = _files.get(name), sys.modules.pop(name, None)
    _enter(name, file.resolve())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except BaseException:
        if before[0] is None:
            _files.pop(name)
        else:
            _files[name] = before[0]
        if before[1] is not None:
            sys.modules[name] = before[1]
        raise


def environment() -> dict[str, str]:
    """Return what child processes need in their environment to find the same modules."""
    return {VARIABLE: os.pathsep.join(f"{name}={file}" for name, file in _files.items())} if _files else {}
