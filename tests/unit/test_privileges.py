"""`--user`: who may become whom, and that it is so for callbacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.running import SAMPLES

import retina_jit as rj
from retina_jit import privileges
from retina_jit.errors import ConfigError

ROOT = Path(rj.__file__).parents[1]
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_an_unknown_user_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no such user; make one with: sudo useradd --system nosuch-user"):
        privileges.account("nosuch-user")


def test_only_root_becomes_another(monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigError, match="only root can become another user"):
        privileges.account("root")


def test_becoming_oneself_changes_nothing(monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "setresuid", None)
    privileges.become(SimpleNamespace(pw_uid=os.geteuid(), pw_gid=os.getegid(), pw_name="me"))  # type: ignore[arg-type]


@is_root
def test_callbacks_and_workers_have_the_users_rights(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    # A thread may end between the list of its folder and the read of its status: then it has no rights to ask for.
    app.write_text(
        "import contextlib, os\nfrom pathlib import Path\nfrom retina_jit import *\n\n"
        "@subscribe('tls')\ndef seen(tls: TlsHandshake):\n"
        "    ids = set()\n"
        "    for task in Path('/proc/self/task').iterdir():\n"
        "        with contextlib.suppress(FileNotFoundError, ProcessLookupError):\n"
        "            ids |= {line for line in (task / 'status').read_text().splitlines() if line[:4] in ('Uid:', 'Gid:')}\n"
        "    print(os.getresuid(), os.getresgid(), os.getgroups(), len(ids))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "retina_jit", "run", str(app), "-r", str(SAMPLES / "tls.pcap"), "--user", "nobody", "-q"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    nobody = privileges.account("nobody")
    told = set(done.stdout.splitlines())
    assert told == {f"{(nobody.pw_uid,) * 3} {(nobody.pw_gid,) * 3} {os.getgrouplist('nobody', nobody.pw_gid)} 2"}


@is_root
def test_files_that_the_user_could_not_begin_are_told_at_the_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "retina_jit", "log", "FiveTuple", "-r", str(SAMPLES / "tls.pcap"), "-o", str(tmp_path / "x.jsonl"), "--rotate", "1k", "--user", "nobody"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"retina-jit: {tmp_path}: files are begun anew here, and user nobody may not make any. Fix: sudo chown nobody {tmp_path}, " in done.stderr
