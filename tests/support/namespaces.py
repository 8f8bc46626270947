"""Network namespaces that need no privileges: what runs a command in one, and why that is not possible here."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

ALONE = ["unshare", "--user", "--map-root-user", "--net"]


def missing() -> str:
    """Why no veth pair can be made here; empty if it can."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            return f"needs the command {tool} (util-linux, iproute2)"
    made = subprocess.run([*ALONE, "ip", "link", "add", "rj0", "type", "veth", "peer", "name", "rj1"], capture_output=True, text=True, check=False)
    return f"no veth pair in a user namespace: {made.stderr.strip()}" if made.returncode else ""


REASON = missing()
needs_veth = pytest.mark.skipif(bool(REASON), reason=REASON or "-")
