"""Rules of the house that no linter knows: who may touch raw memory, who may import whom, what a kernel may not hold."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "retina_jit"
FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("retina_jit"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("retina_jit")}
    return found


# ------------------------------------------------------------------------------------------------------------ layers

BASE = {"errors", "extras", "foreign", "stamp", "symbols", "jit", "objects", "memory", "status", "stats", "strings", "links", "packing", "own"}
LAYERS: dict[str, set[str]] = {
    # what a folder (or module) may import beside itself; a packet's path goes downwards
    "errors": {"hints"},  # when IPython shows one
    "foreign": set(),
    "status": set(),
    "stats": set(),
    "stamp": {"errors", "foreign"},
    "symbols": {"errors"},
    "jit": {"errors", "symbols"},
    "objects": {"errors", "foreign", "jit", "stamp", "symbols"},
    "memory": {"jit"},
    "strings": {"jit", "memory"},
    "links": {"jit"},
    "packing": {"jit"},
    "own": {"errors", "jit", "objects", "packing", "stamp"},
    "compiled": BASE | {"datatypes", "state", "subscription"},
    "state": BASE,
    "parsers": BASE | {"state", "delivery", "formats"},  # delivery: only the format of an event, see below
    "formats": BASE | {"delivery"},
    "ingest": BASE | {"state", "parsers"},
    "filters": BASE | {"state", "parsers"},
    "pipeline": BASE | {"state", "parsers", "ingest", "delivery"},
    "delivery": BASE | {"state", "pipeline", "datatypes", "formats", "subscription"},
    "datatypes": BASE | {"state", "parsers", "delivery", "pipeline", "formats"},
    "subscription": {"errors", "datatypes"},
    "config": {"config_network", "errors", "parsers", "pipeline"},
    "config_network": set(),
    "exchange": BASE | {"datatypes", "pipeline", "program", "state", "subscription"},
    "cores": {"errors"},
    "privileges": {"errors"},
    "extras": {"errors"},
    "result": {"stats"},
    "hints": {"datatypes", "errors"},
    "reload": {"app", "errors", "hints", "runtime"},
    "scale": set(),
    "monitor": {"config_network", "cores", "errors", "extras", "scale", "stats"},
    "sinks": BASE | {"datatypes", "delivery", "formats"},
    "tables": BASE | {"config", "datatypes", "delivery", "filters", "hints", "ingest", "parsers", "runtime", "sinks", "state", "subscription"},
    "app": {"errors", "subscription"},
}


@pytest.mark.parametrize("layer", LAYERS)
def test_layers(layer):
    files = [f for f in FILES if f.relative_to(PACKAGE).with_suffix("").parts[0] == layer]
    assert files
    for path in files:
        for module in imports(path):
            other = module.split(".")[1]
            assert other == layer or other in LAYERS[layer], f"{name(path)} imports {module}"


def test_parsers_know_of_delivery_only_what_an_event_is():
    for path in FILES:
        if name(path).startswith("parsers/"):
            strange = [m for m in imports(path) if m.startswith("retina_jit.delivery") and not m.startswith("retina_jit.delivery.event")]
            assert strange == [], name(path)


def test_nobody_imports_the_command_line():
    for path in FILES:
        if not name(path).startswith("cli/") and path.name != "__main__.py":
            assert not [m for m in imports(path) if m.startswith("retina_jit.cli")], name(path)


def test_numba_is_imported_within_functions_only():
    for path in FILES:
        for node in tree(path).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                assert not any(n.split(".")[0] in ("numba", "llvmlite") for n in names), name(path)


# -------------------------------------------------------------------------------------------------------- raw memory

POINTERS = {"memory.py", "parsers/wire.py", "ingest/guard.py", "strings.py"}
"""guard.py touches the last page of a mapped file, no packet; strings.py shows the user bytes in place as a str."""

OWN_MEMORY = {
    "parsers/connection/conn.py",
    "parsers/crypto/aes.py",
    "parsers/crypto/gcm.py",
    "parsers/crypto/hkdf.py",
    "parsers/digest.py",
    "parsers/dns/names.py",
    "parsers/dns/objects.py",
    "parsers/dns/render.py",
    "parsers/dns/state.py",
    "parsers/dtls/fragments.py",
    "parsers/http/state.py",
    "parsers/quic/keys.py",
    "parsers/quic/parameters.py",
    "parsers/quic/stream.py",
    "parsers/session/mqtt.py",
    "parsers/session/smtp.py",
    "parsers/ssh/state.py",
    "parsers/tls/fingerprint.py",
    "parsers/tls/names.py",
    "parsers/tls/state.py",
}
"""Parsers that load from their own state, scratch or tables; packet bytes come through spans there as well."""


def test_pointers_are_made_in_few_places():
    assert {name(f) for f in FILES if "inttoptr" in f.read_text()} <= POINTERS


def test_parsers_read_packets_through_wire_only():
    for path in FILES:
        if name(path).startswith("parsers/") and name(path) not in POINTERS | OWN_MEMORY:
            loads = {m for m in imports(path) if m.startswith("retina_jit.memory.load")}
            assert not loads, f"{name(path)}: {sorted(loads)}"
            used = [n.attr for n in ast.walk(tree(path)) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == "memory"]
            assert not [u for u in used if u.startswith("load")], name(path)


# ----------------------------------------------------------------------------------------------------------- kernels

ROLES = {"kernel", "leaf", "entry", "session_field"}
BANNED = (
    ast.Try, ast.Raise, ast.With, ast.Dict, ast.DictComp, ast.Set, ast.SetComp, ast.ListComp, ast.List, ast.GeneratorExp, ast.JoinedStr,
    ast.Lambda, ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal, ast.Assert, ast.Import, ast.ImportFrom, ast.Delete, ast.Starred,
)  # fmt: skip


def role(node: ast.FunctionDef) -> str:
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Name) and called.id in ROLES:
            return called.id
    return ""


def kernels(path: Path) -> list[ast.FunctionDef]:
    return [n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef) and role(n)]


@pytest.mark.parametrize("path", [f for f in FILES if kernels(f)], ids=name)
def test_kernels_hold_nothing_that_allocates_or_raises(path):
    for kernel in kernels(path):
        for statement in kernel.body:
            for node in ast.walk(statement):
                assert not isinstance(node, BANNED), f"{name(path)}:{kernel.name}: {ast.unparse(node)}"  # type: ignore[arg-type]
                text = isinstance(node, ast.Constant) and isinstance(node.value, str)
                assert not text or isinstance(statement, ast.Expr), f"{name(path)}:{kernel.name}: a string, {ast.unparse(node)}"


@pytest.mark.parametrize("path", [f for f in FILES if kernels(f)], ids=name)
def test_kernels_are_not_annotated(path):
    for kernel in kernels(path):
        assert kernel.returns is None and all(a.annotation is None for a in kernel.args.args), f"{name(path)}:{kernel.name}"


def test_every_project_import_of_a_kernel_file_is_seen_by_the_cache():
    from retina_jit import stamp

    for path in FILES:
        if kernels(path):
            seen = {str(f.relative_to(PACKAGE)) for f in stamp.imports(path)}
            for node in tree(path).body:
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("retina_jit"):
                    for module in [node.module, *(f"{node.module}.{a.name}" for a in node.names)]:
                        file = stamp.module_file(module)
                        if module != "retina_jit" and file is not None:
                            assert str(file.relative_to(PACKAGE)) in seen, f"{name(path)}: {module}"
