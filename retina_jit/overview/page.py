"""An overview as a page of HTML that needs nothing else: tables, and pictures drawn as SVG. Follows the reader's dark or light mode."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from retina_jit.overview.collect import Overview
from retina_jit.overview.tally import Distribution, Tally
from retina_jit.scale import lasting, scaled

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560, 220, 92, 30, 10
MOST_ROWS = 15

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --faint: #59636e; --line: #d1d9e0; --mark: #0969da; --wash: #ddf4ff; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #0d1117; --ink: #f0f6fc; --faint: #9198a1; --line: #3d444d; --mark: #4493f8; --wash: #12233a; }
}
* { box-sizing: border-box; }
body { background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1240px; padding: 24px; }
h1 { font-size: 22px; overflow-wrap: anywhere; } h2 { font-size: 16px; margin: 0 0 8px; }
.facts { display: flex; flex-wrap: wrap; gap: 8px 32px; margin: 0 0 24px; }
.facts div { min-width: 110px; } .facts b { display: block; font-size: 20px; } .facts span { color: var(--faint); }
.grid { display: grid; gap: 24px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); }
section { border: 1px solid var(--line); border-radius: 8px; padding: 16px; min-width: 0; }
svg { display: block; height: auto; width: 100%; } svg text { fill: var(--faint); font-size: 12px; }
table { border-collapse: collapse; table-layout: fixed; width: 100%; }
td { border-top: 1px solid var(--line); padding: 4px 8px 4px 0; vertical-align: top; }
td:first-child { overflow-wrap: anywhere; } td + td { text-align: right; white-space: nowrap; width: 7.5em; }
td.bar { padding: 8px 0 0; width: 26%; } td.bar i { background: var(--mark); display: block; height: 8px; border-radius: 2px; }
p.warn { border-left: 4px solid #d29922; padding-left: 12px; overflow-wrap: anywhere; }
footer { color: var(--faint); margin-top: 24px; }
"""


def html(o: Overview) -> str:
    """Return the page."""
    r = o.result
    begun = datetime.fromtimestamp(r["first"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if r["first"] is not None else "none"
    rate = r["bytes"] * 8 / r["seconds"] if r["seconds"] else 0
    facts = [
        ("frames", f"{r['frames']:,}"), ("bytes", scaled(r["bytes"], "B")), ("connections", f"{r['connections']:,}"),
        ("sessions", f"{r['sessions']:,}"), ("duration", lasting(r["seconds"])), ("mean rate", _rate(rate)), ("begun", begun),
    ]  # fmt: skip
    sections = [
        _section("Traffic over time", _over_time(o)),
        _section("Protocols by bytes", _table(o.protocol_bytes, "B")),
        _section("Protocols by connections", _table(o.protocols)),
        _section("Top talkers by bytes", _table(o.talkers, "B")),
        _section("Services of responders by connections", _table(o.services)),
        _section("How long connections last", _distribution(o.durations, "s")),
        _section("How large connections are", _distribution(o.volumes, "B")),
        _section("Lengths of frames", _table(Counter({f"{least:,} to {2 * least - 1:,} B": n for least, n in o.sizes if n}), ordered=True)),
        *[_section(title, _table(counted)) for title, counted in o.names.items() if counted],
        _section("Where frames ended", _table(Counter({name: n for name, n in r["ledger"].items() if n}))),
    ]
    warnings = "".join(f'<p class="warn">{escape(p)}</p>' for p in o.problems)
    shown = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in facts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(o.source)}</title><style>{STYLE}</style></head><body><h1>{escape(o.source)}</h1>{warnings}"
        f'<div class="facts">{shown}</div><div class="grid">{"".join(s for s in sections if s)}</div>'
        f"<footer>retina-jit stats</footer></body></html>\n"
    )


def _rate(bits: float) -> str:
    return scaled(bits, "bit/s", least="")  # a millibit is nothing that anybody reads as one


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _table(counted: Counter[str] | Tally, unit: str = "", *, ordered: bool = False) -> str:
    if not counted:
        return ""
    entries = list(counted.items()) if ordered else counted.most_common(MOST_ROWS)
    most = max(n for _, n in entries) or 1
    rows = [
        f'<tr><td>{escape(name)}</td><td class="bar"><i style="width:{max(100 * n / most, 1):.1f}%"></i></td>'
        f"<td>{scaled(n, unit) if unit else f'{n:,}'}</td></tr>"
        for name, n in entries
    ]
    if len(counted) > len(entries):
        rows.append(f"<tr><td>{len(counted) - len(entries):,} more</td><td></td><td></td></tr>")
    return f"<table>{''.join(rows)}</table>"


def _over_time(o: Overview) -> str:
    if len(o.traffic) < 2:
        return ""
    width = (o.traffic[1][0] - o.traffic[0][0]) / 1e9
    rates = [octets * 8 / width for _, _, octets in o.traffic]
    most = max(rates) or 1
    points = [(LEFT + (WIDTH - LEFT) * n / (len(rates) - 1), _y(rate / most)) for n, rate in enumerate(rates)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    area = f'<polygon points="{LEFT},{_y(0)} {line} {WIDTH},{_y(0)}" fill="var(--wash)"/>'
    seconds = width * len(rates)
    marks = [(LEFT + (WIDTH - LEFT) * k / 2, lasting(seconds * k / 2)) for k in range(3)]
    return _chart(area + f'<polyline points="{line}" fill="none" stroke="var(--mark)" stroke-width="1.5"/>', marks, [(k / 4, _rate(most * k / 4)) for k in range(5)])


def _distribution(values: Distribution, unit: str) -> str:
    """Return the share of values up to each, over a logarithmic axis."""
    found = values.points()
    if len(values) < 2 or not found:
        return ""
    low, high = math.floor(math.log10(found[0][0])), math.ceil(math.log10(found[-1][0]))
    high = max(high, low + 1)
    points = [(LEFT + (WIDTH - LEFT) * (math.log10(value) - low) / (high - low), _y(share)) for value, share in found]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    every = -(-(high - low) // 5)
    marks = [(LEFT + (WIDTH - LEFT) * (e - low) / (high - low), scaled(10.0**e, unit)) for e in range(low, high + 1, every)]
    return _chart(f'<polyline points="{line}" fill="none" stroke="var(--mark)" stroke-width="1.5"/>', marks, [(k / 4, f"{25 * k} %") for k in range(5)])


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share


def _chart(drawn: str, across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]]) -> str:
    parts = []
    for share, text in up:
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{_y(share):.1f}" y2="{_y(share):.1f}" stroke="var(--line)"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for n, (x, text) in enumerate(across):
        anchor = "start" if n == 0 else ("end" if x > WIDTH - 24 else "middle")
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="{anchor}">{escape(text)}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}{drawn}</svg>'
