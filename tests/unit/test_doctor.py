"""What `retina-jit doctor` says of the machine."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from retina_jit.cli import doctor, main


def test_a_processor_without_what_the_kernels_gain_from(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    file = tmp_path / "proc/cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Made Up\nflags\t\t: fpu sse2 aes\n\nprocessor\t: 1\nmodel name\t: Made Up\nflags\t\t: fpu\n")
    state, text, fix = doctor._processor(tmp_path)
    assert state == "warn" and "Made Up, without avx2 (wider registers), constant_tsc" in text and "aes" not in text and "host" in fix
    file.write_text("model name\t: Made Up\nflags\t\t: fpu aes avx2 constant_tsc\n")
    assert doctor._processor(tmp_path)[0] == "ok"
    file.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert doctor._processor(tmp_path)[0] == "ok"
    file.unlink()
    assert doctor._processor(tmp_path)[0] == "warn"


def test_little_memory_that_may_be_locked(monkeypatch: Any) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8 << 20, 8 << 20))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    state, text, fix = doctor._locked_memory()
    assert (state, "8 MiB" in text, "ulimit -l" in fix) == ("warn", True, True)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert doctor._locked_memory()[0] == "ok"


def test_extras_that_are_missing(monkeypatch: Any) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name == "pyarrow" or None)
    assert doctor._extras()[1] == "extras: arrow; the others: pip install 'retina-jit[pandas,polars,x509,plot,kafka,metrics]'"


def test_findings_as_json() -> None:
    found = CliRunner().invoke(main, ["doctor", "--json"])
    told = json.loads(found.stdout)
    assert {"state", "finding", "fix"} == set(told[0]) and len(told) == len(doctor.CHECKS)
    assert found.exit_code == int(any(f["state"] == "FAIL" for f in told))
