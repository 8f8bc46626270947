"""The packets of a connection as a picture: bytes over time, as tcptrace draws them, both directions in one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retina_jit import memory, objects
from retina_jit.state.layout import PACKET, TCP, UDP

DECODE = "retina_jit.parsers.packet.decode:decode_rows"
FIN, SYN, RST, ACK = 1, 2, 4, 16
HALF, WHOLE = 1 << 31, 1 << 32


@dataclass(frozen=True)
class Segment:
    """A packet of a connection.

    Attributes
    ----------
    time : float [s]
        Since the connection's first packet.
    direction : int
        0 from the originator, 1 from the responder.
    start, end : int
        Which bytes of its direction it holds; of datagrams, bytes are counted through.
    ack : int or None
        Up to where it acknowledges the other direction.
    flags : int
        Of TCP.
    again : bool
        Bytes that were there before.
    """

    time: float
    direction: int
    start: int
    end: int
    ack: int | None
    flags: int
    again: bool


def segments(packets: Sequence[Mapping[str, Any]], link: int) -> list[Segment]:
    """Return what the packets of a list (`BidirPktStream`) hold, without those that are neither TCP nor UDP.

    Parameters
    ----------
    packets : sequence of dicts
        With ts, direction, length and data.
    link : int
        LINKTYPE_ number of the capture.
    """
    rows: Any = np.zeros(len(packets), PACKET)
    region = memory.Region(max(1, rows.nbytes))
    kept = [np.frombuffer(p["data"] or b"\0", np.uint8) for p in packets]  # decoded where they lie
    for row, p, data in zip(rows, packets, kept, strict=True):
        # An event that was too long is without the bytes of its last packets.
        row["frame"], row["caplen"], row["length"], row["link"] = data.ctypes.data, len(p["data"] or b""), p["length"], link
    region.array(PACKET, len(packets))[:] = rows
    objects.function(DECODE)(region.address, len(packets))
    found: list[Segment] = []
    at: list[int | None] = [None, None]  # number of the last byte, modulo 2^32
    passed, sent = [0, 0], [0, 0]  # the same since the first byte; bytes of datagrams
    there: list[list[tuple[int, int]]] = [[], []]
    begun = packets[0]["ts"] if packets else 0
    for row, p in zip(region.array(PACKET, len(packets)), packets, strict=True):
        if not int(row["layers"]) & (TCP | UDP):
            continue
        way, size, flags, ack = int(p["direction"]), int(row["payload_len"]), int(row["tcp_flags"]), None
        if int(row["layers"]) & UDP:
            start = sent[way]
            sent[way] += size
        else:
            _advance(at, passed, way, int(row["seq"]))
            start = passed[way]
            if flags & ACK:
                _advance(at, passed, 1 - way, int(row["ack"]))
                ack = passed[1 - way]
            size += bool(flags & SYN) + bool(flags & FIN)
        end = start + size
        found.append(Segment((p["ts"] - begun) / 1e9, way, start, end, ack, flags, size > 0 and not _add(there[way], start, end)))
    return found


def _add(there: list[tuple[int, int]], start: int, end: int) -> bool:
    """Add a run of bytes to those that have come, which are in order and apart. Returns whether any of it is new."""
    first = bisect_left(there, start, key=lambda run: run[1])
    last = first
    while last < len(there) and there[last][0] <= end:
        last += 1
    touched = there[first:last]
    if any(a <= start and end <= b for a, b in touched):
        return False
    there[first:last] = [(min([start, *(a for a, _ in touched)]), max([end, *(b for _, b in touched)]))]
    return True


def _advance(at: list[int | None], passed: list[int], way: int, number: int) -> None:
    """Take a number of a direction's bytes, which is modulo 2^32 and may go back; the first one is 0."""
    before = at[way]
    if before is not None:
        passed[way] += (number - before + HALF) % WHOLE - HALF
    at[way] = number


def draw(found: Sequence[Segment], ax: Any) -> None:
    """Draw segments: the originator's bytes go up, the responder's down."""
    for way, name, sign in ((0, "originator", 1), (1, "responder", -1)):
        for again in (False, True):
            mine = [s for s in found if s.direction == way and s.again == again and s.end > s.start]
            if mine:
                colour, label = ("C3", None) if again else (f"C{way}", name)
                x, y = [s.time for s in mine], [sign * s.end for s in mine]
                ax.vlines(x, [sign * s.start for s in mine], y, color=colour)
                ax.plot(x, y, ".", color=colour, markersize=4, label=label)
        acks = [s for s in found if s.direction != way and s.ack is not None]
        if acks:
            ax.step([s.time for s in acks], [sign * (s.ack or 0) for s in acks], where="post", color=f"C{way}", alpha=0.4, linewidth=1)
    if any(s.again for s in found):
        ax.plot([], [], ".", color="C3", label="sent again")
    for flag, marker, name in ((SYN, "^", "SYN"), (FIN, "s", "FIN"), (RST, "x", "RST")):
        marked = [s for s in found if s.flags & flag]
        if marked:
            ax.plot([s.time for s in marked], [(-1 if s.direction else 1) * s.end for s in marked], marker, color="black", markersize=5, label=name, fillstyle="none")
    ax.axhline(0, color="gray", linewidth=0.5)
    ax.yaxis.set_major_formatter(lambda v, _: f"{abs(v):,.0f}")
    ax.set_xlabel("time since the first packet [s]")
    ax.set_ylabel("bytes: originator up, responder down")
    ax.legend()
