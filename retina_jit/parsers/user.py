"""Session protocols of users: from a file, from source text (a notebook cell), or from an installed package.

A protocol is one file, as in `retina_jit/parsers/session`. Once it is loaded, filters, data types, `retina-jit fields` and
the rest know it like the built-in ones.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from retina_jit import foreign, stamp
from retina_jit.errors import ProtocolError, RetinaJitError
from retina_jit.jit import Kernel
from retina_jit.parsers.protocol import Protocol, forget, protocols

GROUP = "retina_jit.protocols"
"""Entry points of installed packages: name = module that declares a protocol."""

ENTRIES = {"probe": 4, "parse": 2, "finish": 2, "release": 2}


def load_protocol(source: str | Path) -> Protocol:
    """Load a session protocol.

    Parameters
    ----------
    source : str or path
        A Python file, or source text of several lines (it is kept in the cache folder). Loaded again it replaces what it
        has declared before.

    Returns
    -------
    Protocol

    Raises
    ------
    ProtocolError
        No such file, it declares no protocol, or lacks what a session protocol has; names the file and the fix.
    """
    text = str(source)
    if "\n" in text:
        return _load(_kept(text))
    path = Path(text).expanduser()
    if not path.is_file():
        raise ProtocolError(f"{text}: no such file; name a Python file that declares a protocol")
    return _load(path)


def _kept(text: str) -> Path:
    """Write source text to a file that is named by the protocol that it declares."""
    import ast

    try:
        calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "declare"]
    except SyntaxError as fault:
        raise ProtocolError(f"the source of the protocol is no Python: line {fault.lineno}: {fault.msg}") from fault
    names = [str(c.args[0].value) for c in calls if c.args and isinstance(c.args[0], ast.Constant) and isinstance(c.args[0].value, str)]
    if len(names) != 1 or not names[0].isidentifier():
        raise ProtocolError("the source declares no protocol: end it with declare(\"name\", \"Title\", level=\"session\", within=[\"tcp\"])")
    folder = stamp.keep_source("protocols", text).parent / names[0]
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / f"{names[0]}.py"
    file.write_text(text)
    return file


_contents: dict[Path, bytes] = {}


def _load(path: Path) -> Protocol:
    known = protocols()  # the built-in ones are there first, so that a name cannot be taken from them
    name, file, content = foreign.module_name(path), path.resolve(), path.read_bytes()
    if _contents.get(file) == content:
        same = [p for p in known.values() if p.declared_in == name and foreign.module_file(name) == file]
        if same:
            return same[0]
    before = forget(name)
    stamp.forget_sources()
    try:
        module = foreign.load(path)
    except RetinaJitError as fault:
        raise ProtocolError(f"{path}: {fault}") from fault
    made = [p for p in protocols().values() if p.declared_in == name]
    if len(made) != 1 or made[0].level != "session":
        forget(name, *before)
        raise ProtocolError(f"{path}: declares {len(made)} session protocols, must be one: declare(\"name\", \"Title\", level=\"session\", within=[\"tcp\"])")
    try:
        _check(path, module if made[0].module == name else importlib.import_module(made[0].module), made[0])
    except ProtocolError:
        forget(name, *before)
        raise
    _contents[file] = content
    return made[0]


def _check(path: Path, module: ModuleType, protocol: Protocol) -> None:
    for name, words in ENTRIES.items():
        entry: Any = getattr(module, name, None)
        if not isinstance(entry, Kernel) or entry.role != "entry" or entry.arity != words:
            raise ProtocolError(f"{path}: {protocol.name} needs `{name}`, an @entry of {words} parameters; see retina_jit.parsers.session.contract")
    if not hasattr(module, "STATE"):
        raise ProtocolError(f"{path}: {protocol.name} needs STATE, the numpy dtype of what is kept per connection")
    for transport in protocol.within:
        if transport not in ("tcp", "udp"):
            raise ProtocolError(f"{path}: {protocol.name} is within {transport!r}; must be 'tcp' or 'udp'")


def load_installed() -> list[Protocol]:
    """Load the protocols that installed packages announce by an entry point of the group `retina_jit.protocols`.

    Raises
    ------
    ProtocolError
        One of them cannot be loaded; names it.
    """
    loaded = []
    for point in importlib.metadata.entry_points(group=GROUP):
        spec = importlib.util.find_spec(point.module)
        if spec is None or not spec.origin:
            raise ProtocolError(f"the installed protocol {point.name!r} has no module {point.module}: install its package again, or remove it")
        loaded.append(_load(Path(spec.origin)))
    return loaded
