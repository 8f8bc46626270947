"""`retina-jit stats`: an overview of captures as tables, JSON or a page."""

from __future__ import annotations

import json
from collections import Counter

import click

from retina_jit.cli import report
from retina_jit.cli.execute import Options, opened
from retina_jit.cli.main import CUT, OK
from retina_jit.errors import ConfigError
from retina_jit.overview import Overview, overview
from retina_jit.overview.page import html
from retina_jit.overview.tally import Tally
from retina_jit.scale import lasting, scaled

MOST = 10


def show(form: str, output: str, options: Options) -> int:
    """Run over the captures and write what was found."""
    options.check()
    if options.interface:
        raise ConfigError("stats is for captures (-r FILE); an interface has no end: --status shows it while it is watched")
    with report.Progress(quiet=options.quiet) as progress:
        found = overview(*options.sources(), config=options.runtime_config(), progress=progress.compiling, tick=progress.reading)
    text = {"table": tables, "json": lambda o: json.dumps(o.as_dict()) + "\n", "html": html}[form](found)
    with opened(output) as out:
        out.write(text.encode())
    for problem in found.problems:
        click.echo(f"retina-jit: {problem}", err=True)
    return CUT if found.problems else OK


def tables(o: Overview) -> str:
    """Return tables for a terminal."""
    r = o.result
    rate = r["bytes"] * 8 / r["seconds"] if r["seconds"] else 0.0
    size = f"{r['frames']:,} frames, {scaled(r['bytes'], 'B')} in {lasting(r['seconds'])} ({scaled(rate, 'bit/s', least='')})"
    lines = [f"{o.source}: {size}, {r['connections']:,} connections, {r['sessions']:,} sessions"]
    lines += _table("protocols by bytes", o.protocol_bytes, "B") + _table("talkers by bytes", o.talkers, "B")
    lines += _table("services by connections", o.services)
    for title, counted in o.names.items():
        lines += _table(title, counted)
    lines += _table("where frames ended", Counter({name: n for name, n in r["ledger"].items() if n}))
    return "\n".join(lines) + "\n"


def _table(title: str, counted: Counter[str] | Tally, unit: str = "") -> list[str]:
    if not counted:
        return []
    rows = [f"  {scaled(n, unit) if unit else f'{n:,}':>12}  {name}" for name, n in counted.most_common(MOST)]
    more = [f"  {'':>12}  {len(counted) - MOST:,} more"] if len(counted) > MOST else []
    return ["", title, *rows, *more]
