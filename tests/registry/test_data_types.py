"""What holds for every data type: its columns are documented, and JSON lines say the same as `to_dict`."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from support.running import SAMPLES, SHARED, check, collect, config, runtime

from retina_jit.datatypes import data_types
from retina_jit.datatypes.base import View, snake
from retina_jit.datatypes.column import Column, columns
from retina_jit.datatypes.sessions import Listed
from retina_jit.sinks import JsonLines
from retina_jit.subscription import named

TYPES = sorted(name for name, t in data_types().items() if not issubclass(t, Listed))
"""Lists are made of these: callbacks get a Python list of views."""
CAPTURES = sorted(SAMPLES.glob("*.pcap"))


def all_columns(view: type[View]) -> list[tuple[str, Column]]:
    found = []
    for c in columns(view):
        found.append((f"{view.__name__}.{c.name}", c))
        if c.kind in ("object", "objects"):
            found += all_columns(c.options["type"])
    return found


@pytest.mark.parametrize("name", TYPES)
def test_columns_are_documented(name):
    found = all_columns(data_types()[name])
    assert any(c.shown for _, c in found), "nothing of it can be seen in JSON"
    for where, c in found:
        assert (c.__doc__ or "").strip().endswith(".") and c.__doc__ != Column.__doc__, f"{where}: a sentence says what it is"
        assert c.unit in ("", "s", "ms", "ns", "byte", "bit"), where


def _shower(key: str, made: list[str]) -> Any:
    return lambda view: made.append(json.dumps({key: view.to_dict()}))


def both(paths: list[Any]) -> tuple[list[bytes], list[bytes]]:
    """The lines that one run writes, and those that Python makes of the views of another."""
    made: list[str] = []
    each = []
    for name in TYPES:
        s, _ = collect(name)
        s.callback = _shower(snake(name), made)
        each.append(s)
    check(runtime(each, paths, config(midstream=True, decap=("all",))).run())
    out = io.BytesIO()
    sink = JsonLines(out)
    written = []
    for name in TYPES:
        s = named([name], "", print, "sink")
        s.sink = sink
        written.append(s)
    result = runtime(written, paths, config(midstream=True, decap=("all",))).run()
    sink.close()
    assert result.counters["events"] == sink.lines == len(made)
    return out.getvalue().splitlines(), made


@pytest.mark.parametrize("source", ["samples", "conformance"])
def test_json_lines_say_what_to_dict_says(source):
    paths = CAPTURES if source == "samples" else [p for p in sorted((SHARED / "pcaps").rglob("*.pcap")) if p.stat().st_size < 300_000][::4]
    if not paths:
        pytest.skip("no captures")
    lines, wanted = both(paths)
    assert len(lines) == len(wanted) > 500
    assert [json.loads(x) for x in lines] == [json.loads(x) for x in wanted]
