"""The compile cache: what is compiled again, what is shared, what is refused; and where Numba must not be imported."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.running import SAMPLES

from retina_jit import objects, stamp
from retina_jit.errors import CompileError

ROOT = Path(__file__).resolve().parents[2]

CALLER = """
from retina_jit.jit import entry
from retina_jit.zz_callee import twice
from retina_jit.zz_constant import ADDED

@entry
def answer(x):
    return twice(x) + ADDED
"""
CALLEE = """
from retina_jit.jit import kernel

@kernel
def twice(x):
    return 2 * x
"""
RUN = """
import sys
from retina_jit import objects, stamp
units = sys.argv[1:]
print(objects.ensure(units), [objects.function(u)(5) for u in units], "numba" in sys.modules)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that may be edited, with a cache of its own beside it."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "retina_jit", root / "retina_jit", ignore=shutil.ignore_patterns("__pycache__", "*.pcap"))
    return root


def run(copy: Path, *units: str, **env: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *units], cwd=copy, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(copy), "RETINA_JIT_CACHE": str(copy / "cache"), "PYTHONDONTWRITEBYTECODE": "1", **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    count, rest = done.stdout.split(" ", 1)
    values, numba = rest.strip().rsplit(" ", 1)
    assert numba == "False"
    return int(count), eval(values)


def test_what_is_edited_is_compiled_again(copy):
    module = copy / "retina_jit"
    unit = "retina_jit.zz_caller:answer"
    (module / "zz_caller.py").write_text(CALLER)
    (module / "zz_callee.py").write_text(CALLEE)
    (module / "zz_constant.py").write_text("ADDED = 1\n")
    assert run(copy, unit) == (1, [11])
    assert run(copy, unit) == (0, [11])
    # A callee in another module.
    (module / "zz_callee.py").write_text(CALLEE.replace("2 * x", "3 * x"))
    assert run(copy, unit) == (1, [16])
    # A constant in a third one.
    (module / "zz_constant.py").write_text("ADDED = 100\n")
    assert run(copy, unit) == (1, [115])
    # As it was: still there.
    (module / "zz_callee.py").write_text(CALLEE)
    (module / "zz_constant.py").write_text("ADDED = 1\n")
    assert run(copy, unit) == (0, [11])
    # Checked mode is another thing.
    assert run(copy, unit, RETINA_JIT_CHECKED="1") == (1, [11])
    assert run(copy, unit) == (0, [11])
    # What it does not use may change.
    (module / "zz_other.py").write_text("X = 1\n")
    assert run(copy, unit) == (0, [11])


def test_functions_of_the_same_name_are_kept_apart(copy):
    module = copy / "retina_jit"
    for n in (1, 2):
        (module / f"zz_same{n}.py").write_text(f"from retina_jit.jit import entry\n\n\n@entry\ndef answer(x):\n    return x + {n}\n")
    assert run(copy, "retina_jit.zz_same1:answer", "retina_jit.zz_same2:answer") == (2, [6, 7])


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda _: b"", lambda _: b"{}\n"])
def test_damaged_object_file_is_compiled_again(tmp_path, monkeypatch, damage):
    unit = tmp_path / "good.py"
    unit.write_text("from retina_jit.jit import entry\n\n\n@entry\ndef answer(x):\n    return x + 1\n")
    monkeypatch.setenv("RETINA_JIT_CACHE", str(tmp_path / "cache"))
    objects.ensure([f"{unit}:answer"])
    (kept,) = (tmp_path / "cache").glob("answer-*.o")
    kept.write_bytes(damage(kept.read_bytes()))
    assert objects.function(f"{unit}:answer")(41) == 42


def test_kernel_that_does_not_compile_is_reported(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("from retina_jit.jit import entry\n\n\n@entry\ndef answer(x):\n    return x + nothing\n")
    with pytest.raises(CompileError, match="nothing"):
        objects.function(f"{bad}:answer")
    bad.write_text("def answer(x):\n    return x\n")
    stamp.forget_sources()
    with pytest.raises(CompileError, match="not an entry"):
        objects.function(f"{bad}:answer")


def test_stamps():
    unit = "retina_jit.delivery.scan:scan"
    assert stamp.stamp(unit) == stamp.stamp(unit)
    assert stamp.stamp(unit) != stamp.stamp("retina_jit.delivery.scan:other")
    with pytest.raises(CompileError, match="no module"):
        stamp.stamp("retina_jit.no_such:thing")


def test_a_stamp_does_not_tell_where_files_lie(tmp_path):
    """Generated files may sort before or behind the package's, here so and in the process that compiles otherwise."""
    generated = tmp_path / "m" / "stage.py"
    generated.parent.mkdir()
    generated.write_text("from retina_jit.jit import entry\nfrom retina_jit.parsers.wire import u16\n")
    program = "import sys; from retina_jit import stamp; print(stamp.PACKAGE, stamp.stamp(sys.argv[1]))"
    found = []
    for place in ("a", "z"):
        shutil.copytree(ROOT / "retina_jit", tmp_path / place / "retina_jit", ignore=shutil.ignore_patterns("__pycache__"))
        env = {**os.environ, "PYTHONPATH": str(tmp_path / place)}
        command = [sys.executable, "-P", "-c", program, f"{generated}:stage"]
        found.append(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split())
    assert found[0][0] < str(generated) < found[1][0]
    assert found[0][1] == found[1][1]


def test_a_package_in_the_working_folder_is_not_compiled(copy, tmp_path):
    """README's command is run in a checkout, and the installed package is another one."""
    (copy / "retina_jit" / "zz_here.py").write_text("from retina_jit.jit import entry\n\n\n@entry\ndef answer(x):\n    return x + 7\n")
    folder = tmp_path / "elsewhere"
    (folder / "retina_jit").mkdir(parents=True)
    (folder / "retina_jit" / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    env = {**os.environ, "PYTHONPATH": str(copy), "RETINA_JIT_CACHE": str(copy / "cache")}
    command = [sys.executable, "-P", "-c", RUN, "retina_jit.zz_here:answer"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[12]" in done.stdout


def test_what_gets_another_stamp_each_time_is_not_compiled_for_ever(tmp_path, monkeypatch):
    unit = tmp_path / "odd.py"
    unit.write_text("from retina_jit.jit import entry\n\n\n@entry\ndef answer(x):\n    return x\n")
    monkeypatch.setenv("RETINA_JIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(objects, "_object_file", lambda *_: tmp_path / "never")
    with pytest.raises(CompileError, match=r"answer was compiled 3 times, and is not in .*cache.* Fix: "):
        objects.function(f"{unit}:answer")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_cache_folder_that_others_may_write_to_is_refused(tmp_path, monkeypatch, mode):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.setenv("RETINA_JIT_CACHE", str(folder))
    with pytest.raises(CompileError, match=f"chmod 700 {folder}"):
        stamp.cache_dir()


def test_cache_folder_is_made_private(tmp_path, monkeypatch):
    monkeypatch.setenv("RETINA_JIT_CACHE", str(tmp_path / "new" / "cache"))
    assert stat.S_IMODE(stamp.cache_dir().stat().st_mode) == 0o700


def test_cache_folder_is_left_clean(copy):
    module = copy / "retina_jit"
    (module / "zz_plain.py").write_text("from retina_jit.jit import entry\n\n\n@entry\ndef plain(x):\n    return x\n")
    assert run(copy, "retina_jit.zz_plain:plain") == (1, [5])
    assert all(stat.S_IMODE(f.stat().st_mode) & 0o022 == 0 for f in (copy / "cache").glob("*.o"))
    assert not list((copy / "cache").glob("claim-*")) and not list((copy / "cache").glob("*.tmp"))


@pytest.mark.parametrize(
    "code",
    [
        "import retina_jit",
        "import retina_jit; retina_jit.Runtime; retina_jit.ConnRecord; retina_jit.subscribe",
        "main(['--help'])",
        "main(['fields'])",
        "main(['fields', 'tls'])",
        "main(['doctor'])",
        "main(['explain', 'tls.sni ~ \"x\" and tcp.port = 443'])",
        f"main(['log', 'ConnRecord', 'TlsHandshake', '-q', '-r', r'{SAMPLES / 'tls.pcap'}', '-o', '/dev/null'])",
    ],
)
def test_numba_is_not_imported(code):
    program = f"""
import sys
from retina_jit.cli import main
try:
    {code}
except SystemExit as stop:
    assert not stop.code, stop.code
print("numba" in sys.modules, file=sys.stderr)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    # The second time everything is compiled.
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=False)
        assert done.returncode == 0, done.stderr
        if done.stderr.splitlines()[-1] == "False":
            return
    raise AssertionError(done.stderr)


def test_an_edit_concerns_what_imports_the_file_and_nothing_else():
    """Everything hangs together through the package's own file, which hands out the names that users import."""
    def behind(name: str) -> set[str]:
        return {str(f.relative_to(stamp.PACKAGE)) for f in stamp._closure(stamp.PACKAGE / name)}

    assert behind("memory.py") <= {"memory.py", *(f"{n}.py" for n in ("jit", "stamp", "errors", "foreign", "symbols"))}
    assert behind("filters/match.py") & {"filters/compile.py", "runtime.py", "__init__.py"} == set()
    loop = behind("pipeline/run.py")
    assert {"state/table.py", "parsers/packet/tcp.py", "memory.py"} <= loop
    assert not {f for f in loop if f.startswith(("filters/", "cli/", "sinks/", "parsers/session/"))}
