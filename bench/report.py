"""The whole comparison: `python bench/report.py [--trace FILE] [--write-readme]`. Some minutes on a quiet machine.

Measures retina_jit and its peers side by side (see `peers`), start-up and memory, checks that the counts agree (see
`checks`), keeps all figures in bench/record/, and writes the table into the README. Exit status 1: a count disagrees.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import checks
import measure
import peers
import startup
import workloads

README, RECORD = measure.ROOT / "README.md", Path(__file__).resolve().parent / "record"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def main() -> int:
    options = _options()
    if options.trace:
        trace = Path(options.trace).resolve()
    else:
        trace = workloads.capture(options.megabytes)
    workloads.into_page_cache(trace)
    with tempfile.TemporaryDirectory() as scratch:
        record = _measure(trace, Path(scratch), options)
    RECORD.mkdir(exist_ok=True)
    kept = RECORD / f"{record['date']}-{record['commit']}.json"
    kept.write_text(json.dumps(record, indent=1) + "\n")
    table = render(record)
    print(f"\n{table}\n\nkept in {kept}")
    if options.write_readme:
        write_readme(table)
    return 0 if all(c["holds"] for c in record["checks"]) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trace", metavar="FILE", help="pcap to measure on (Ethernet, little-endian); made when left out")
    parser.add_argument("--megabytes", type=int, default=600, help="size of the trace that is made")
    parser.add_argument("--rounds", type=int, default=7, help="how often each command is run; the best counts")
    parser.add_argument("--no-cold", action="store_true", help="do not measure compiling everything (a minute or more)")
    parser.add_argument("--write-readme", action="store_true", help="put the table into README.md")
    return parser.parse_args()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _measure(trace: Path, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    works = peers.works(scratch)
    # Compiles what is not compiled yet, counts the packets.
    firsts = [measure.once(work.tools[0].command([trace])) for work in works]
    packets = works[0].tools[0].counts(firsts[0])["frames"]
    _say(f"{trace}: {packets:,} packets, {trace.stat().st_size:,} bytes")
    timings: list[list[peers.Timing]] = []
    missing: dict[str, str] = {}
    for work in works:
        _say(f"\n{work.title}")
        done = peers.run(work, trace, packets, options.rounds)
        timings.append(done)
        for t in done:
            _say(f"  {t.tool.name:24} {t.wall:9.1f} ns/packet, {t.cpu:9.1f} ns of CPU, {t.counts}")
        for tool in work.tools:
            if tool.missing:
                missing[tool.name] = tool.missing
                _say(f"  {tool.name:24} left out: {tool.missing}")
    memory = {work.title: round(measure.memory(work.tools[0].command([trace]))) for work in works}
    _say(f"\nmemory [MB]: {memory}")
    found = checks.filtered(trace, timings[0][0].counts["app packets"])
    found += checks.totals(trace, timings[1][0].counts["connections"], scratch / "tls.jsonl")
    found += checks.sessions(trace, scratch / "everything.jsonl")
    found.append(checks.Check("connections given to the batch callback", timings[1][0].counts["app connections"], *[timings[1][0].counts["events"]] * 2))
    for c in found:
        _say(str(c))
    start = startup.all_figures(options.rounds, with_cold=not options.no_cold)
    _say(f"start-up: {start}")
    return {
        **_machine(),
        "trace": {"name": trace.name, "packets": packets, "bytes": trace.stat().st_size, "digest": workloads.digest(trace)},
        "rounds": options.rounds,
        "works": [{"title": w.title, "tools": [t.record() for t in done]} for w, done in zip(works, timings, strict=True)],
        "missing": missing,
        "memory_mb": memory,
        "start_up_seconds": start,
        "checks": [{"what": c.what, "got": c.got, "low": c.low, "high": c.high, "remark": c.remark, "holds": c.holds} for c in found],
    }


def _machine() -> dict[str, Any]:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(measure.ROOT), *words], capture_output=True, text=True).stdout.strip()

    model = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    dirty = bool(git("status", "--porcelain", "--untracked-files=no", "--", "retina_jit", "bench", "examples"))
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": (git("rev-parse", "--short", "HEAD") or "unknown") + ("-edited" if dirty else ""),
        "cpu": model[0] if model else platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


# ------------------------------------------------------------------------------------------------------------ the table


def _significant(value: float) -> str:
    if value <= 0:
        return "?"  # lost in noise
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def render(record: dict[str, Any]) -> str:
    """Return the README's section as Markdown."""
    t, c = record["trace"], record["start_up_seconds"]
    lines = [
        (f"{record['cpu']}, {record['cores']} cores, Python {record['python']}; {record['date']}, commit {record['commit']}. "
        f"Trace: {t['packets']:,} packets, {t['bytes'] / 1e6:,.0f} MB, in the page cache. Whole processes, start-up taken off "
        f"on both sides, best of {record['rounds']}; every line of one work in the same run."),
        "",
        "| work | tool | time per packet | packets/s | CPU per packet | retina_jit is |",
        "|---|---|---:|---:|---:|---:|",
    ]
    remarks: list[str] = []
    for work in record["works"]:
        ours = work["tools"][0]
        for n, tool in enumerate(work["tools"]):
            ratio = ""
            if n:
                wall, cpu = (tool[k] / ours[k] for k in ("wall_ns_per_packet", "cpu_ns_per_packet"))
                ratio = f"{_significant(wall)} × as fast ({_significant(cpu)} × by CPU)" if min(wall, cpu) > 0 else "lost in noise"
            wall = tool["wall_ns_per_packet"]
            name = tool["tool"]
            if tool["remark"]:
                remarks.append(f"{name}: {tool['remark']}")
            lines.append(
                f"| {work['title'] if not n else ''} | {name} | {_significant(wall)} ns | {_millions(1e9 / wall)} | "
                f"{_significant(tool['cpu_ns_per_packet'])} ns | {ratio} |"
            )
    lines += ["", "; ".join(dict.fromkeys(remarks)) + "."] if remarks else []
    memory = max(record["memory_mb"].values())
    start = f"`--help` {c['--help']:.2f} s; an app until its first packet {c['second start']:.2f} s, with an edited filter {c['edited filter']:.2f} s"
    if "cold start" in c:
        start += f", with an empty cache {c['cold start']:.0f} s ({c['kernels compiled']} kernels)"
    lines += ["", f"Start-up: {start}. Memory beside the mapped file: at most {memory} MB."]
    lines += [f"Counts that were compared: {'; '.join(_told(x) for x in record['checks'])}."]
    if record["missing"]:
        lines += [f"Left out: {'; '.join(sorted(set(record['missing'].values())))}."]
    return "\n".join(lines)


def _millions(rate: float) -> str:
    if rate <= 0:
        return "?"
    return f"{rate / 1e6:.3g} M" if rate < 1e8 else f"{rate / 1e6:.0f} M"


def _told(check: dict[str, Any]) -> str:
    bounds = f"{check['low']:,}" if check["low"] == check["high"] else f"{check['low']:,} to {check['high']:,}"
    said = "as expected" if check["holds"] else "NOT as expected"
    return f"{check['what']} {check['got']:,}, {said}: {bounds}" + (f" ({check['remark']})" if check["remark"] else "")


def write_readme(table: str) -> None:
    """Put the table between the marks."""
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{README}: no {BEGIN} … {END}")
    README.write_text(f"{before}{BEGIN}\n<!-- written by `python bench/report.py --write-readme` -->\n\n{table}\n\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
