"""What is compared: the same work by retina_jit and by others, each a command over a capture. Measured by turns.

Start-up does not count, on either side: from what a command takes on the trace is taken off what it takes on a capture
of a few packets. Where the trace is over before start-up is out of the noise, several passes are made. Slow tools get the beginning of the trace only. Tools that are not installed are left out, with a reason.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import re
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import measure
import workloads

HERE = Path(__file__).resolve().parent
TINY, PIECE, PASSES = 64, 100_000, 16
LEAST = 2.0  # seconds that a tool is run in its turn
"""Packets of the capture that stands for start-up, and of the piece that slow tools get; passes where one is too short."""

Counts = dict[str, int]


@dataclass(frozen=True)
class Tool:
    """One command."""

    name: str
    command: Callable[[list[Path]], list[str]]
    counts: Callable[[measure.Cost], Counts]
    missing: str = ""
    """Why it cannot be run; empty: it can."""
    most: int = 0
    """It gets at most that many packets; 0: all."""
    rounds: int = 0
    """At most so many rounds; 0: as many as the others."""
    passes: int = 1
    """How often it reads the trace in one run."""
    remark: str = ""


@dataclass(frozen=True)
class Work:
    """One kind of work; the first tool is retina_jit."""

    title: str
    tools: Sequence[Tool]


@dataclass
class Timing:
    """What one tool took, in all rounds."""

    tool: Tool
    packets: int
    full: list[measure.Cost] = field(default_factory=list)
    tiny: list[measure.Cost] = field(default_factory=list)
    counts: Counts = field(default_factory=dict)

    def _per_packet(self, what: Callable[[measure.Cost], float]) -> float:
        return (min(map(what, self.full)) - min(map(what, self.tiny))) * 1e9 / (self.packets * self.tool.passes - TINY)

    @property
    def wall(self) -> float:
        """Time per packet [ns]."""
        return self._per_packet(lambda cost: cost.seconds)

    @property
    def cpu(self) -> float:
        """Processor time per packet, of all threads and children [ns]."""
        return self._per_packet(lambda cost: cost.cpu)

    def record(self) -> dict[str, object]:
        """Return all of it for a JSON file."""
        return {
            "tool": self.tool.name, "remark": self.tool.remark, "packets": self.packets, "passes": self.tool.passes, "counts": self.counts,
            "wall_ns_per_packet": round(self.wall, 1), "cpu_ns_per_packet": round(self.cpu, 1),
            "seconds": [round(c.seconds, 4) for c in self.full], "cpu_seconds": [round(c.cpu, 4) for c in self.full],
            "seconds_on_tiny": [round(c.seconds, 4) for c in self.tiny], "cpu_seconds_on_tiny": [round(c.cpu, 4) for c in self.tiny],
        }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ commands


def _ours(*words: str, passes: int = 1) -> Tool:
    def command(paths: list[Path]) -> list[str]:
        sources = [word for path in paths for word in ("-r", str(path))]
        return [sys.executable, "-m", "retina_jit", *words, *sources, "--stats", "json"]

    return Tool("retina_jit", command, _summary, passes=passes)


def _summary(cost: measure.Cost) -> Counts:
    """The counters that retina_jit prints at the end, and what an app prints as a dict of numbers."""
    lines = [line for line in cost.err.splitlines() if line.startswith("{")]
    counts = json.loads(lines[-1])["counters"]
    kept = {name: counts[name] for name in ("frames", "events", "connections", "sessions")}
    return kept | {f"app {name}": int(n) for name, n in re.findall(r"'(\w+)': (\d+)", cost.out)}


def _first_number(cost: measure.Cost) -> Counts:
    found = re.search(r"^\d+", cost.out + cost.err, re.M)
    return {"found": int(found[0])} if found else {}


def _softflowd_counts(cost: measure.Cost) -> Counts:
    reasons = re.search(r"Expired flow reasons:(.*?)\n\n", cost.out + cost.err, re.S)
    return {"found": sum(map(int, re.findall(r"= +(\d+)", reasons[1])))} if reasons else {}


def _tool(name: str, command: Callable[[list[Path]], list[str]], counts: Callable[[measure.Cost], Counts] = _first_number, *,
          passes: int = 1, remark: str = "") -> Tool:  # fmt: skip
    program = name.partition(" ")[0].rstrip(",")
    missing = "" if shutil.which(program) else f"{program} is not installed"
    return Tool(name, command, counts, missing, passes=passes, remark=remark)


def _python(name: str, task: str, module: str, *, most: int = 0, rounds: int = 0, remark: str = "") -> Tool:
    missing = "" if importlib.util.find_spec(module) else f"{module} is not installed"
    command = [sys.executable, str(HERE / "peer_programs.py"), task]
    return Tool(name, lambda paths: [*command, *map(str, paths)], _first_number, missing, most, rounds, remark=remark)


def _libpcap() -> Tool:
    missing = "" if ctypes.util.find_library("pcap") else "libpcap is not installed"
    command = [sys.executable, str(HERE / "peer_programs.py"), "libpcap", "tcp port 443"]
    remark = "its callback is machine code that counts"
    return Tool("libpcap, pcap_loop", lambda paths: [*command, *map(str, paths)], _first_number, missing, passes=PASSES, remark=remark)


def _tcpdump(scratch: Path) -> Tool:
    def command(paths: list[Path]) -> list[str]:
        names = scratch / f"{len(paths)}-{paths[0].name}.txt"
        names.write_text("".join(f"{path}\n" for path in paths))
        return ["tcpdump", "-V", str(names), "--count", "tcp", "port", "443"]

    return _tool("tcpdump --count", command, passes=PASSES)


_sink: socket.socket | None = None


def _collector() -> str:
    """Return the address of a socket that takes flow records and drops them."""
    global _sink
    if _sink is None:
        _sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        _sink.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{_sink.getsockname()[1]}"


def _softflowd(name: str, *options: str, remark: str) -> Tool:
    def command(paths: list[Path]) -> list[str]:
        return ["softflowd", "-r", str(paths[0]), "-d", *options, "-n", _collector(), "-c", "none", "-p", "none"]

    return _tool(name, command, _softflowd_counts, remark=remark)


def _suricata(scratch: Path) -> Tool:
    def command(paths: list[Path]) -> list[str]:
        options = ["--runmode", "single", "-l", str(scratch), "-k", "none"]
        return ["suricata", "-c", str(HERE / "suricata.yaml"), "-r", str(paths[0]), *options]

    return replace(_tool("suricata", command, remark="one thread, no rules, the same protocols as EVE JSON"), rounds=2)


EVERYTHING = ("ConnRecord", "TlsHandshake", "HttpTransaction", "DnsTransaction", "QuicStream", "SshHandshake")


def works(scratch: Path) -> list[Work]:
    """Return all that is compared; logs are written into `scratch`."""
    log = ("-T", "jsonl", "--midstream", "-o")
    apps, examples = HERE / "apps", measure.ROOT / "examples"
    return [
        Work(
            "packets of `tcp.port = 443`, counted by a jit callback",
            [
                _ours("run", str(examples / "count_packets.py"), passes=PASSES),
                _tcpdump(scratch),
                _libpcap(),
                _python("dpkt", "dpkt_filter", "dpkt", most=PIECE, rounds=2),
            ],
        ),
        Work(
            "a record of every connection, to a batch callback",
            [
                _ours("run", str(apps / "conn_batch.py"), "--midstream"),
                _softflowd("softflowd", "-v", "9", "-m", "1000000", remark="NetFlow 9 of every flow, with room for a million"),
                _softflowd("softflowd, its defaults", remark="NetFlow 5, no IPv6, 8192 flows at a time (others are cut short)"),
                _python("nfstream", "nfstream_connections", "nfstream", rounds=2, remark="no DPI, no statistics"),
                _python("dpkt and a dict", "dpkt_connections", "dpkt", most=PIECE, rounds=2),
            ],
        ),
        Work(
            "TLS log: `log TlsHandshake,FiveTuple -T jsonl` to a file",
            [
                _ours("log", "TlsHandshake,FiveTuple", *log, str(scratch / "tls.jsonl")),
                _python("dpkt, no output", "dpkt_tls", "dpkt", most=PIECE, rounds=2, remark="ClientHellos only, no reassembly"),
            ],
        ),
        Work(
            "all sessions and connections: `log ConnRecord TlsHandshake HttpTransaction DnsTransaction QuicStream SshHandshake -T jsonl`",
            [
                _ours("log", *EVERYTHING, *log, str(scratch / "everything.jsonl")),
                _suricata(scratch),
                _python("nfstream with DPI", "nfstream_dpi", "nfstream", most=PIECE, rounds=2, remark="no output, 20 packets of each flow dissected"),
            ],
        ),
        Work("connection log: `log ConnRecord -T jsonl` to a file", [_ours("log", "ConnRecord", *log, str(scratch / "connections.jsonl"))]),
        Work("a Python call per packet that reads two fields", [_ours("run", str(apps / "each_two_fields.py"))]),
    ]


# ----------------------------------------------------------------------------------------------------------- measuring


def run(work: Work, trace: Path, packets: int, rounds: int) -> list[Timing]:
    """Measure the tools of a work by turns, so that a noisy moment meets all of them.

    What takes a moment only is run several times in its turn: start-up is a large part of it, and the difference of
    two minima is as good as the worse of them.
    """
    tiny = workloads.beginning(trace, TINY)
    timings = []
    for tool in work.tools:
        if not tool.missing:
            timings.append(Timing(tool, min(packets, tool.most or packets)))
    for n in range(rounds):
        for t in timings:
            if n < (t.tool.rounds or rounds):
                path = workloads.beginning(trace, t.packets) if t.packets < packets else trace
                spent = 0.0
                while spent < LEAST:
                    t.tiny.append(_run_compiled(t.tool.command([tiny])))
                    t.full.append(_run_compiled(t.tool.command([path] * t.tool.passes)))
                    spent += t.full[-1].seconds
    for t in timings:
        t.counts = {name: n // t.tool.passes for name, n in t.tool.counts(t.full[-1]).items()}
    return timings


def _run_compiled(command: list[str]) -> measure.Cost:
    """Run a command; once more if it had to compile first, for sources have been edited meanwhile."""
    cost = measure.once(command)
    return measure.once(command) if "retina-jit: compiling" in cost.err else cost
