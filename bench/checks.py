"""Do the counts of a comparison agree? With other tools exactly where it can be said why they differ, else with bounds."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import measure
import workloads

SHORT, OVER = 0.98, 1.01
"""Share of what other tools agree on that has to be found, and of what any of them reports that may be found: addresses of
multicast collide in a trace of replicas, so the totals are about right only."""

_PORT, _TCP = "tcp port 443", "ether[31] = 6"
_AT = "ether[22 + 4 * (ether[22] & 15) : 2] = 443 or ether[24 + 4 * (ether[22] & 15) : 2] = 443"
BEHIND = {
    "a VLAN tag": f"vlan and {_PORT}",
    "two VLAN tags": f"vlan and vlan and {_PORT}",
    "a Cisco CMD header (EtherType 0x8909)": f"ether[12:2] = 0x8909 and ether[20:2] = 0x0800 and {_TCP} and ({_AT})",
    "an MPLS label": f"mpls and {_PORT}",
    "PPPoE": f"pppoes and {_PORT}",
}
"""Where retina_jit finds `tcp.port = 443` and the BPF expression `tcp port 443` does not look."""


@dataclass(frozen=True)
class Check:
    """One comparison of counts."""

    what: str
    got: int
    low: int
    high: int
    remark: str = ""

    @property
    def holds(self) -> bool:
        """Whether the count is within its bounds."""
        return self.low <= self.got <= self.high

    def __str__(self) -> str:
        wanted = f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"
        return f"{'ok ' if self.holds else 'NO '} {self.what}: {self.got:,}, expected {wanted}{f' ({self.remark})' if self.remark else ''}"


def filtered(trace: Path, found: int) -> list[Check]:
    """Compare the number of packets of `tcp.port = 443` with tcpdump's, shim headers looked behind one by one."""
    if shutil.which("tcpdump") is None:
        return []
    plain, more, reasons = _tcpdump(trace, _PORT), 0, []
    for shim, expression in BEHIND.items():
        if n := _tcpdump(trace, expression):
            more += n
            reasons.append(f"{n:,} behind {shim}")
    remark = f"tcpdump {plain:,}" + "".join(f", {r}" for r in reasons)
    return [Check("packets of tcp.port = 443", found, plain + more, plain + more, remark)]


def _tcpdump(trace: Path, expression: str) -> int:
    cost = measure.once(["tcpdump", "-r", str(trace), "--count", expression])
    return int(cost.out.split()[0])


def totals(trace: Path, connections: int, tls_log: Path) -> list[Check]:
    """Compare with what is known of the trace: made-up conversations exactly, replicas of real captures with bounds."""
    said = workloads.known(trace)
    exact = said.get("exact")
    bounds = {name: (n, n) for name, n in exact.items()} if exact else _bounds(said)
    remark = "" if exact else f"{SHORT} × what peers agree on to {OVER} × what any of them reports"
    hellos = 0
    with tls_log.open("rb") as lines:
        for line in lines:
            hellos += json.loads(line)["tls_handshake"]["client_random"] is not None
    got = {"connections": ("connections", connections), "tls": ("TLS sessions with a ClientHello", hellos)}
    return [Check(what, n, *bounds[fact], remark) for fact, (what, n) in got.items() if fact in bounds]


def sessions(trace: Path, log: Path) -> list[Check]:
    """Compare the sessions of a log with what other tools report of the captures that the trace is made of."""
    bounds = _bounds(workloads.known(trace))
    got = Counter[str]()
    with log.open("rb") as lines:
        for line in lines:
            ((kind, said),) = json.loads(line).items()
            if kind == "http_transaction":
                got["HTTP requests"] += said["method"] is not None
            elif kind == "dns_transaction":
                got["DNS messages"] += said["has_query"] + said["has_response"]
            elif kind == "quic_stream":
                got["QUIC connections with a ClientHello"] += bool(said["sni"] or said["ja4"])
            elif kind == "ssh_handshake":
                got["SSH sessions"] += 1
    remark = f"{SHORT} × what peers agree on to {OVER} × what any of them reports"
    return [Check(what, got[what], *bounds[what], remark) for what in SESSIONS if what in bounds]


SESSIONS = {"HTTP requests": "http req", "DNS messages": "dns msg", "QUIC connections with a ClientHello": "quic ch", "SSH sessions": "ssh"}


def _bounds(said: dict[str, object]) -> dict[str, tuple[int, int]]:
    truth = workloads.SHARED / "conformance" / "truth.jsonl"
    copies = said.get("copies")
    if not isinstance(copies, dict) or not truth.exists():
        return {}
    agreed, any_says = Counter[str](), Counter[str]()
    for line in truth.read_text().splitlines():
        known = json.loads(line)
        n = copies.get(known["name"], 0)
        for group in ("must", "may", "tunnel"):
            for fact, facts in known.get(group, {}).items():
                count = n * sum(times for _, times in facts)
                any_says[fact] += count
                agreed[fact] += count if group == "must" else 0
    names = {"connections": "flow5", "tls": "tls"} | SESSIONS
    return {name: (int(SHORT * agreed[fact]), int(OVER * any_says[fact])) for name, fact in names.items()}
