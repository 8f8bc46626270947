"""The example notebooks run from top to bottom, and show tables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def executed(notebook: Any, folder: Path, **options: Any) -> Any:
    # The kernel shall find this checkout, wherever it is started.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}, **options).execute()


def outputs(cell: Any) -> str:
    return "\n".join(str(o.get("text") or o.get("data") or o.get("evalue")) for o in cell.outputs)


SHOWN = {
    "tls_handshakes": {0: "shape: (21, ", 1: "text/html"},
    "prototyping": {1: "text/html", 2: "did you mean sni?", 4: "'www.example.com': {'198.51.100.20'}", 5: "{'slow': {'connections': 7,", -2: "image/png", -1: "api.example.net"},
    "many_captures": {1: "443", 2: "disorder.example.com", -3: "(34,", -2: "(24, {})", -1: "shop.example.com"},
}
"""What cells show, by their place among those with code."""


@pytest.mark.filterwarnings("ignore")  # of Jupyter's own libraries
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run(path, tmp_path):
    notebook = nbformat.read(path, 4)
    kept = [c.outputs for c in notebook.cells if c.cell_type == "code"]
    assert all(kept), "committed as executed"
    done = executed(notebook, tmp_path)
    code = [c for c in done.cells if c.cell_type == "code"]
    assert len(code) == len(kept)
    for place, said in SHOWN[path.stem].items():
        assert said in outputs(code[place]), outputs(code[place])


def test_three_lines_make_a_table():
    first = next(c for c in nbformat.read(ROOT / "examples" / "notebooks" / "tls_handshakes.ipynb", 4).cells if c.cell_type == "code")
    assert len([x for x in first.source.splitlines() if x]) == 3


@pytest.mark.filterwarnings("ignore")
def test_a_cell_runs_in_the_background_and_errors_point_into_it(tmp_path):
    cell = nbformat.v4.new_code_cell
    start = """
import retina_jit as rj
sample = rj.sample_capture("tls")
"""
    failing = """
@rj.subscribe("tls")
def count(tls: rj.TlsHandshake):
    wrong = 1
    return wrong / 0

run = rj.read(sample).run(count)
run._thread.join()
print(run.failure)
"""
    right = """
n = 0
@rj.subscribe("tls")
def count(tls: rj.TlsHandshake):
    global n
    n += 1

run = rj.read(sample).run()  # of all functions named count the last one
run.wait()
print(run.names, n, repr(run))
run
"""
    done = executed(nbformat.v4.new_notebook(cells=[cell(start), cell(failing), cell(right)]), tmp_path)
    failed, again = outputs(done.cells[1]), outputs(done.cells[2])
    assert "return wrong / 0" in failed and "Cell In[2], line 4, in count" in failed and "ZeroDivisionError" in failed and "retina_jit/" not in failed
    assert "['count'] 21" in again and "done" in again and "text/html" in again


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_goes_on_has_a_button_and_a_table(tmp_path):
    pytest.importorskip("ipywidgets")
    cell = nbformat.v4.new_code_cell
    start = """
import os
import retina_jit as rj
os.mkfifo("pipe")
held = os.open("pipe", os.O_RDWR)  # nothing comes, and no end

@rj.subscribe("")
def count(flow: rj.FiveTuple): ...

run = rj.read("pipe").run(count)
run
"""
    done = executed(nbformat.v4.new_notebook(cells=[cell(start), cell("run.stop()")]), tmp_path)
    kinds = [set(o.data) for o in done.cells[0].outputs if o.output_type == "display_data"]
    assert any("application/vnd.jupyter.widget-view+json" in k for k in kinds) and any("text/html" in k for k in kinds)
    again = outputs(done.cells[1])
    assert "done" in again and "Button" not in again


FAULTS = (
    ("read.select(\"tls.snii = 'x'\", rj.TlsHandshake)", ["---->", "FilterError:\ntls.snii = 'x'\n^^^^^^^^ tls has no field snii; did you mean sni?"]),
    ("read.select('tls', 'snii')", ["SubscriptionError: select: no data type and no column 'snii'; did you mean sni?"]),
    ("@rj.subscribe(\"dns and tls.sni = 'x'\")\ndef names(dns: rj.DnsTransaction): ...\n\nread.run(names)", ["4 read.run(names)", "names in Cell In[4], line 1:\ndns and"]),
    ("@rj.subscribe('tls', deliver='jit')\ndef g(tls: rj.TlsHandshake): tls.nope\nread.run(g)", ["3 read.run(g)", "asks a record for 'nope'"]),
    ("@rj.subscribe('tls')\ndef h(tls: rj.TlsHandshake):\n    tls.snii\nread.run(h).wait()", ["4 read.run(h).wait()", "Cell In[6], line 3, in h", "did you mean sni"]),
    ("rj.TlsHandshak", ["did you mean TlsHandshake?"]),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_errors_show_the_cell_and_not_the_package(tmp_path):
    cell = nbformat.v4.new_code_cell
    cells = [cell("import retina_jit as rj\nread = rj.read(rj.sample_capture('tls'))"), *[cell(source) for source, _ in FAULTS]]
    done = executed(nbformat.v4.new_notebook(cells=cells), tmp_path, allow_errors=True)
    assert not done.cells[0].outputs
    for made, (source, said) in zip(done.cells[1:], FAULTS, strict=True):
        (error,) = [o for o in made.outputs if o.output_type == "error"]
        shown = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
        assert all(s in shown for s in said), (source, shown)
        assert "retina_jit/" not in shown.replace("/retina_jit/__init__.py", "")
        assert f"Cell In[{made.execution_count}], line" in shown
