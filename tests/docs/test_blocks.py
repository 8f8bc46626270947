"""Every block of code in README and docs runs: programs and commands.

Blocks of a page are run in one folder, in their order; `<!-- file: NAME -->` before a block names the file it is, and a block
whose first line is `# NAME.py` is that file. Commands that install or test are not run here: CI does so.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^(?:<!-- file: (?P<file>\S+) -->\n+)?```(?P<kind>[a-z]*)\n(?P<text>.*?)^```$", re.M | re.S)
NOT_RUN = ("pip ", "python -m ", "pytest", "apt-get ", "sudo ", "docker ")
"""What commands begin with that change the machine, or that CI runs anyway."""


class Block(NamedTuple):
    line: int
    kind: str
    text: str
    file: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        named = re.match(r"# (\w+\.py)\n", found["text"])
        yield Block(text[: found.start("text")].count("\n"), found["kind"], found["text"], found["file"] or (named[1] if named else ""))


def retina_jit(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)


def run_python(folder: Path, block: Block) -> None:
    path = folder / (block.file or f"block{block.line}.py")
    path.write_text(block.text)
    if block.file and "declare(" in block.text:
        return  # a protocol's file: what names it is run
    own = "run(" in block.text or "read(" in block.text or "load_protocol(" in block.text or "@" not in block.text
    words = [str(path)] if own else ["-m", "retina_jit", "run", str(path), "-q", "-r", "tls.pcap"]
    ran = retina_jit(folder, *words)
    assert ran.returncode == 0, f"line {block.line}: {ran.stderr[-2000:]}"


def run_commands(folder: Path, block: Block) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        command = line.partition("  #")[0].strip()
        if not command or command.startswith(("#", *NOT_RUN)):
            continue
        words = shlex.split(command)
        assert words[0] == "retina-jit", f"line {block.line}: {command}: neither run nor listed as not to be run"
        ran = retina_jit(folder, "-m", "retina_jit", *words[1:])
        assert ran.returncode == 0, f"line {block.line}: {command}: {ran.stderr[-2000:]}"


def pages_with(*kinds: str) -> list[Path]:
    return [page for page in PAGES if any(b.kind in kinds for b in blocks(page))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the words of the pages mean something."""
    (tmp_path / "retina_jit").mkdir()  # no package: Python goes on to look for that
    for name in ("examples", "retina_jit/samples"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("tls.pcap", "capture.pcap", "FILE"):
        (tmp_path / name).symlink_to(ROOT / "retina_jit" / "samples" / "tls.pcap")
    return tmp_path


@pytest.mark.parametrize("page", pages_with("python", "sh"), ids=lambda page: page.stem)
def test_programs_and_commands(page: Path, folder: Path) -> None:
    done = 0
    for block in blocks(page):
        if block.kind == "python":
            run_python(folder, block)
            done += 1
        elif block.kind == "sh":
            run_commands(folder, block)
            done += 1
    assert done
