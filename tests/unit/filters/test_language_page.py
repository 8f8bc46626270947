"""The page about the language says what the language does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.parsers.protocol import protocols

PAGE = Path(__file__).resolve().parents[3] / "docs" / "language.md"


def test_its_examples_compile():
    examples = PAGE.read_text().split("```")[1].strip().splitlines()
    assert len(examples) >= 8
    for text in examples:
        level = "connection" if "conn." in text else "packet"
        assert compile_filters([FilterSpec(text, level)]).stages


def test_its_tables_are_what_is_declared():
    """New fields come into the page with `python docs/make_language.py`."""
    make = runpy.run_path(str(PAGE.with_name("make_language.py")))
    assert make["page"](PAGE.read_text()) == PAGE.read_text()


def test_its_fields_exist():
    named = re.findall(r"^\| `(\w+)\.(\w+)(?:\['…'\])?` \|", PAGE.read_text(), re.M)
    assert len(named) > 150
    known = protocols()
    for protocol, field in named:
        fields = known[protocol].fields
        assert field in fields or f"src_{field}" in fields, f"{protocol}.{field}"
