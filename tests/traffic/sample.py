"""A capture in the making: conversations that overlap in time, and the table of what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from traffic.capture import write_pcap
from traffic.packets import Frame
from traffic.stacks import Report
from traffic.synth import DEFAULT_START_NS, TcpConversation, UdpExchange, merge


class Sample:
    """The conversations of one capture; each begins a little after the one before, so that they interleave."""

    def __init__(self, start_ns: int = DEFAULT_START_NS) -> None:
        self.start_ns = start_ns
        self.parts: list[list[Frame]] = []
        self.connections: list[dict[str, Any]] = []

    def next_start(self, gap_ns: int = 3_000_000) -> int:
        """Return the time at which the next conversation begins."""
        self.start_ns += gap_ns
        return self.start_ns

    def add(self, talk: TcpConversation | UdpExchange, **reports: Report | list[Report]) -> None:
        """Take over a finished conversation."""
        self.parts.append(talk.frames)
        orig, resp = (
            {"packets": side.packets, "bytes": side.bytes, "payload": side.payload} for side in talk.tally
        )
        self.connections.append(
            {
                "proto": "tcp" if isinstance(talk, TcpConversation) else "udp",
                "client": list(talk.ends[0]),
                "server": list(talk.ends[1]),
                "vlans": list(talk.link.vlans),
                "first_ns": min(frame.ts_ns for frame in talk.frames),
                "last_ns": max(frame.ts_ns for frame in talk.frames),
                "orig": orig,
                "resp": resp,
                **reports,
            }
        )

    def write(self, path: Path, *, nanoseconds: bool) -> dict[str, Any]:
        """Write the capture and return its entry of expected.json."""
        frames = merge(*self.parts)
        write_pcap(path, frames, nanoseconds=nanoseconds)
        return {"frames": len(frames), "connections": self.connections}
