"""The site builds without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="Sphinx is not installed (--group docs)")
    pytest.importorskip("myst_parser", reason="myst-parser is not installed (--group docs)")
    pytest.importorskip("furo", reason="furo is not installed (--group docs)")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "site")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-4000:]
    pages = {page.stem for page in (tmp_path / "site").glob("*.html")}
    assert {page.stem for page in DOCS.glob("*.md")} <= pages
    assert "TlsHandshake" in (tmp_path / "site" / "data_types.html").read_text()
    assert "--midstream" in (tmp_path / "site" / "command_line.html").read_text()
    for notebook in (DOCS.parent / "examples" / "notebooks").glob("*.ipynb"):
        made = (tmp_path / "site" / "notebooks" / f"{notebook.stem}.html").read_text()
        assert "import retina_jit" in re.sub("<[^>]*>", "", made) and "<table" in made
