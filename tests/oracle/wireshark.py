"""Which packets display filters of Wireshark match, by tshark itself: one run for any number of filters."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = """
local protocols = Field.new("frame.protocols")
local seen = Listener.new("frame")
function seen.packet(pinfo) print("@ " .. pinfo.number .. " " .. tostring(protocols())) end
local n = 0
for filter in io.lines("{filters}") do
  n = n + 1
  local number = n
  local tap = Listener.new("frame", filter)
  function tap.packet(pinfo) print("@ " .. number .. " matches " .. pinfo.number) end
end
"""
OPTIONS = ("tcp.desegment_tcp_streams:false", "ip.defragment:false", "ipv6.defragment:false")


def installed() -> bool:
    """Whether there is a tshark."""
    return shutil.which("tshark") is not None


def matching(filters: Sequence[str], capture: Path, scratch: Path) -> tuple[list[list[int]], list[str]]:
    """Return for each filter the numbers of the frames that match, from 0, and what Wireshark finds in each frame.

    Raises
    ------
    RuntimeError
        tshark takes a filter for wrong, or runs no scripts.
    """
    (scratch / "filters.txt").write_text("".join(f"{f}\n" for f in filters))
    (scratch / "ask.lua").write_text(_SCRIPT.replace("{filters}", str(scratch / "filters.txt")))
    options = [word for o in OPTIONS for word in ("-o", o)]
    command = ["tshark", "-n", "-q", *options, "-X", f"lua_script:{scratch / 'ask.lua'}", "-r", str(capture)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": str(scratch)})
    found: list[list[int]] = [[] for _ in filters]
    protocols: list[str] = []
    for line in done.stdout.splitlines():
        match line.split():
            case ["@", number, "matches", frame]:
                found[int(number) - 1].append(int(frame) - 1)
            case ["@", _, names]:
                protocols.append(names)
    if done.returncode or not protocols or "Lua" in done.stderr:
        raise RuntimeError(f"tshark does not answer: {done.stderr.strip()}")
    return [sorted(f) for f in found], protocols
