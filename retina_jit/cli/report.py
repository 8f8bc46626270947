"""What is shown on the terminal: progress, the closing summary, tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import click

from retina_jit.runtime import Result

EXPLAINED = {
    "malformed": "a header breaks its own rules",
    "truncated_header": "the capture ends inside a header",
    "not_ip": "not IP, or a link type that is not decoded",
    "not_transport": "IP without TCP or UDP header",
    "fragment_held": "IP fragments that wait for the rest",
    "fragment_used": "IP fragments of whole datagrams",
    "fragment_timeout": "IP fragments whose rest has not come",
    "fragment_refused": "IP fragments that break the rules",
    "prefiltered": "refused by -F",
    "not_sampled": "of a connection outside the sample",
    "filtered": "no subscription can want it",
    "delivered": "delivered as packets",
    "not_syn": "TCP whose start was not seen (--midstream takes it)",
    "table_full": "no room for another connection",
    "unwanted": "connection that no subscription wants",
    "tracked": "counted and parsed for a connection",
}
NOTABLE = (
    "connections", "sessions", "events", "events_cut", "events_lost", "segments_held", "overlap_inconsistent", "holes",
    "hole_bytes", "dropped", "held_refused", "datagrams", "left_out", "rst_ignored", "acks_unseen", "parser_refused", "payload_cut", "groups_full",
)  # fmt: skip
ALWAYS = ("connections", "sessions", "events")


class Progress:
    """A bar on standard error, while it is a terminal; compilation is told on it and, when it takes long, elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._terminal = sys.stderr.isatty() and not quiet
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._total = -1

    def compiling(self, done: int, total: int, unit: str) -> None:
        """Show that kernels are being compiled; the first run only."""
        if self._terminal:
            end = "\n" if done == total else ""
            click.echo(f"\r\x1b[Kretina-jit: compiling {done}/{total} (first run of this code) {unit.rpartition('.')[2]}{end}", err=True, nl=False)
        elif done == 0 and not self._quiet:
            click.echo(f"retina-jit: compiling {total} kernel{'s' if total > 1 else ''} (first run of this code)", err=True)

    def reading(self, worker: Any) -> None:
        """Show how far the source at hand is read."""
        source = worker.source
        if not self._terminal or source is None:
            return
        if self._bar is None:
            self._bar, self._task = _bar()
        self._bar.update(self._task, description=source.name, completed=source.position, total=source.size or None)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()


class ArchiveProgress:
    """A bar over all captures of an archive, while standard error is a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = sys.stderr.isatty() and not quiet
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Show how many bytes are read."""
        if self._shown:
            if self._bar is None:
                self._bar, self._task = _bar()
            self._bar.update(self._task, description="captures", completed=done, total=total or None)

    def __enter__(self) -> ArchiveProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar() -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    bar.start()
    return bar, bar.add_task("", total=None)


def summary(result: Result, form: str) -> None:
    """Print the ledger and the rates to standard error."""
    c = result.counters
    if form == "json":
        body = {"seconds": result.seconds, "frames": c["frames"], "bytes": c["bytes"], "ledger": result.ledger, "payload": result.payload, "capture_loss": result.capture_loss, "counters": c, "failed": result.failed, **result.extra}
        click.echo(json.dumps(body), err=True)
        return
    frames, seconds = c["frames"], max(result.seconds, 1e-9)
    stopped = " (stopped)" if result.interrupted else ""
    click.echo(
        f"{frames:,} frames, {c['bytes']:,} bytes in {seconds:.3f} s{stopped}: {frames / seconds / 1e6:.2f} Mpps, {c['bytes'] * 8 / seconds / 1e9:.2f} Gbit/s",
        err=True,
    )
    for name, n in result.ledger.items():
        if n:
            click.echo(f"  {n:>12,} {100 * n / frames:5.1f} %  {name}: {EXPLAINED[name]}", err=True)
    click.echo("  " + ", ".join(f"{c[n]:,} {n.replace('_', ' ')}" for n in NOTABLE if c[n] or n in ALWAYS), err=True)
    for name, n in result.failed.items():
        click.echo(f"  {n:,} calls of {name} raised", err=True)


def funnel(result: Result) -> str:
    """Return where the frames of a capture went, stage by stage."""
    frames = result.counters["frames"]
    left = frames
    lines = [f"{'frames':>14}  {'share':>7}  stage", f"{frames:>14,}  {'100.0 %':>7}  read"]
    for name, n in result.ledger.items():
        if name in ("tracked", "delivered") or not n:
            continue
        left -= n
        lines.append(f"{-n:>14,}  {100 * n / max(frames, 1):5.1f} %  {name}: {EXPLAINED[name]}")
    lines.append(f"{left:>14,}  {100 * left / max(frames, 1):5.1f} %  delivered or tracked")
    c = result.counters
    lines.append(f"{c['connections']:>14,}           connections")
    lines.append(f"{c['sessions']:>14,}           sessions")
    lines.append(f"{c['events']:>14,}           events")
    return "\n".join(lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to standard output."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for name in head:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200).print(shown)
