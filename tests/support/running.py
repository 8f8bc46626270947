"""Programs run in this process over captures that tests make up."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from traffic import Frame, pcap_bytes

from retina_jit.config import ConntrackConfig, DeliveryConfig, RuntimeConfig
from retina_jit.runtime import Result, Runtime
from retina_jit.subscription import Subscription, named


class MemoryFile:
    """A file without a folder: `/proc/self/fd/N` is its path."""

    def __init__(self, content: bytes) -> None:
        self._fd = os.memfd_create("capture", os.MFD_CLOEXEC)
        with open(self._fd, "wb", closefd=False) as file:
            file.write(content)
        self.path = f"/proc/self/fd/{self._fd}"

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def config(*, ring: int = 8, on_error: str = "stop", decap: tuple[str, ...] = (), **conntrack: Any) -> RuntimeConfig:
    """A configuration with a small table, unless told otherwise."""
    conntrack.setdefault("max_connections", 100_000)
    return RuntimeConfig(conntrack=ConntrackConfig(**conntrack), delivery=DeliveryConfig(ring=ring, on_error=on_error), decap=decap)


def to(types: str, text: str, callback: Any, deliver: str = "each") -> Subscription:
    """A subscription from names."""
    return named(types.split(","), text, callback, deliver)


def runtime(subscriptions: Sequence[Subscription], sources: Iterable[Any], settings: RuntimeConfig | None = None, *, ring: int = 0) -> Runtime:
    """A runtime; `ring` makes its event ring smaller than a configuration may say [byte]."""
    made = Runtime(subscriptions, sources, settings or config())
    if ring:
        for worker in made.workers:
            worker.words["ring_size"] = ring
        made.dispatchers = made._dispatchers()
    return made


def run_content(subscriptions: Sequence[Subscription], content: bytes, settings: RuntimeConfig | None = None, *, ring: int = 0) -> Result:
    """Run over the bytes of a capture; the ledger must hold, and all memory come back."""
    with MemoryFile(content) as path:
        result = runtime(subscriptions, [path], settings, ring=ring).run()
    check(result)
    return result


def run_frames(subscriptions: Sequence[Subscription], frames: Iterable[Frame], settings: RuntimeConfig | None = None, *, ring: int = 0) -> Result:
    """Run over frames (Ethernet)."""
    return run_content(subscriptions, pcap_bytes(frames, nanoseconds=True), settings, ring=ring)


def check(result: Result) -> None:
    """What must hold after every run."""
    assert sum(result.ledger.values()) == result.counters["frames"], result.ledger
    assert result.extra["arena_left"] == 0, result.extra
    assert result.counters["fragment_held"] == result.counters["payload_held"] == 0
    assert min(result.counters.values()) >= 0, result.counters


def collect(types: str, text: str = "") -> tuple[Subscription, list[Any]]:
    """A subscription that puts what it gets in a list."""
    rows: list[Any] = []
    one = "," not in types
    return to(types, text, rows.append if one else lambda *a: rows.append(a)), rows


SHARED = Path(__file__).resolve().parents[3] / "shared" / "conformance"
"""Captures that are not the project's own; tests that need them are skipped where they are not."""
SAMPLES = Path(__file__).resolve().parents[2] / "retina_jit" / "samples"
