"""The Dockerfile fits the project: what it copies is there and enough, what it runs as may write its cache, its command lines are right."""

from __future__ import annotations

import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import click

from retina_jit.cli import main

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
STEPS = [line.split(None, 1) for line in TEXT.splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def arguments(step: str) -> list[str]:
    return [rest for name, rest in STEPS if name == step]


def copied() -> dict[str, str]:
    return {source: words[-1] for words in map(str.split, arguments("COPY")) for source in words[:-1]}


def test_what_is_copied_is_there_and_all_that_the_package_is_built_from() -> None:
    sources = copied()
    assert all((ROOT / s).exists() for s in sources)
    needed = {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], *PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert needed <= set(sources)
    assert {to.rstrip("/") for to in sources.values()} == {"/src", "/src/retina_jit"}
    assert any("pip install" in run and "/src" in run for run in arguments("RUN"))


def test_nothing_else_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied())
    assert any(fnmatch("retina_jit/cli/__pycache__", line) for line in lines[1:])


def test_the_python_is_one_that_the_project_takes() -> None:
    image, version = arguments("FROM")[0].split(":")
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["project"]["requires-python"])
    found = re.fullmatch(r"3\.(\d+)-slim", version)
    assert image == "python"
    assert least
    assert found
    assert int(found[1]) >= int(least[1])


def test_the_user_may_write_to_the_volume() -> None:
    """A volume over a folder that is not there belongs to root, and no kernel could be kept."""
    names = [name for name, _ in STEPS]
    (user,), (volume,) = arguments("USER"), arguments("VOLUME")
    making = [n for n, (name, rest) in enumerate(STEPS) if name == "RUN" and f"-o {user}" in rest and volume in rest and "install -d" in rest]
    assert user != "root"
    assert making
    assert making[0] < names.index("USER") < names.index("VOLUME")
    assert f"useradd --create-home {user}" in STEPS[making[0]][1]


def test_the_entry_point_and_the_command_lines_are_the_program_s() -> None:
    (entry,) = arguments("ENTRYPOINT")
    assert entry == '["retina-jit"]'
    assert "retina-jit" in PROJECT["project"]["scripts"]
    lines = [line for line in TEXT.splitlines() if line.startswith("#") and "docker run" in line]
    assert len(lines) == 2
    for line in lines:
        words = shlex.split(line.partition("docker run")[2])
        words = words[words.index("retina-jit") + 1 :]
        assert isinstance(main, click.Group)
        command = main.commands[words[0]]
        with command.make_context(words[0], words[1:]) as context:  # parsed, not run
            assert context.params["types"] == ("TlsHandshake",)
            assert context.params["files"] == ("/data/capture.pcap",) or context.params["interface"] == "eth0"
