"""Running a source to its end from Python, as the pipeline does in a kernel."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from retina_jit import memory, objects
from retina_jit.ingest.source import CaptureSource, open_source
from retina_jit.state.layout import PACKET
from retina_jit.status import Status

MOST = 64
_function = cache(objects.function)
_rows = memory.Region(MOST * PACKET.itemsize)


@dataclass
class Frame:
    ts: int
    data: bytes
    length: int
    link: int
    number: int


@dataclass
class Run:
    frames: list[Frame] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)


def burst(source: CaptureSource, most: int = MOST) -> list[Frame]:
    """Walk once and copy the frames."""
    n = _function(source.walk_unit)(source.address, _rows.address, most)
    rows: Any = _rows.array(PACKET, MOST)[:n]
    return [
        Frame(int(r["ts"]), ctypes.string_at(int(r["frame"]), int(r["caplen"])), int(r["length"]), int(r["link"]), int(r["number"]))
        for r in rows
    ]


def take_in(content: bytes, folder: Path, *, most: int = MOST, first: int = 0) -> tuple[Run, CaptureSource]:
    """Write a capture, walk it to the end, close it."""
    path = folder / "capture"
    path.write_bytes(content)
    with open_source(path, first=first) as source:
        return run(source, most), source


def run(source: CaptureSource, most: int = MOST) -> Run:
    """Walk to the end."""
    out = Run()
    while True:
        frames = burst(source, most)
        out.frames += frames
        if frames:
            continue
        out.statuses.append(source.status)
        if source.status not in (Status.NEED_INPUT, Status.SHRUNK) or not source.refill():
            return out
