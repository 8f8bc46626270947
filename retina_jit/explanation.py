"""`explain`: what becomes of subscriptions, stage by stage; and, over a capture, how much each stage lets through.

As text, JSON, an SVG picture, or in a notebook.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from retina_jit import objects
from retina_jit.config import RuntimeConfig
from retina_jit.filters import FilterSpec, Plan, compile_filters
from retina_jit.filters.explain import Branch
from retina_jit.filters.offload import PASSED, rules, show
from retina_jit.runtime import Result, Runtime
from retina_jit.subscription import Subscription, named

ASKED = {
    "packet": "each frame",
    "connection": "the first packet of a connection",
    "protocol": "a connection whose session protocol is known, or that has none",
    "session": "each session",
    "packet_deliver": "each packet of a connection that matches",
    "watch": "each packet of a connection, for what some packet has to fulfil",
    "early": "each packet of a connection, for what its end can only refuse",
    "end": "a connection that matches, at its end",
}
"""What each stage is asked of, in the order in which traffic meets them."""
ENOUGH = 10_000
"""Of fewer frames the start of a run takes longer than they do."""
TIMES = 1000
"""How often nothing is measured, for what that takes."""
ONE = {"packet": "frames", "connection": "connections", "protocol": "connections", "session": "sessions", "end": "connections"}
NOW = {"packet": "deliver the packet to", "connection": "match: at its end deliver to", "session": "deliver each session to", "static": "deliver at once to", "streaming": "match: stream to"}


@dataclass(repr=False)
class Explanation:
    """What becomes of subscriptions.

    Attributes
    ----------
    subscriptions : list of Subscription
    plan : Plan
        The compiled filters.
    funnel : dict or None
        Over a capture: frames, connections, sessions and events, and per stage what went in, came out, and took [ns].
    """

    subscriptions: list[Subscription]
    plan: Plan
    tunnels: bool = False
    funnel: dict[str, Any] | None = None
    _actions: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for n, owner in enumerate(self.plan.owners):
            s = self.subscriptions[owner]
            self._actions[n] = f"{s.name or 'callback'}({', '.join(t.__name__ for t in s.types)})"

    # --------------------------------------------------------------------------------------------------------- data

    def action(self, stage: str, effect: str, slot: int) -> str:
        """Say in words what an effect of a stage leads to."""
        owner = self.plan.owners[slot]
        s, to = self.subscriptions[owner], self._actions[slot]
        if effect == "continue":
            return "follow the connection"
        if slot in self.plan.watched:
            return f"watch for {to}" if effect == "maybe" else f"some packet does: note it for {to}"
        if slot in self.plan.helpers:
            return f"note for {to}" if effect == "match" else f"find out for {to}"
        if stage == "early":
            return f"may still match {to}"
        if effect == "match":
            if stage == "connection" and s.level == "packet":
                return f"deliver its packets to {to}"
            if owner in self.plan.at_end and stage != "end":
                return f"match: ask at its end for {to}"
            return f"{'deliver to' if stage == 'end' else NOW[s.level]} {to}"
        services = ", ".join(sorted(self.plan.services_of[slot]))
        keep = ", its packets wait" if s.level == "packet" else ""
        return f"{'look for' if stage == 'connection' else 'parse'} {services}{keep}: {to}" if services else f"undecided: {to}"

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        p = self.plan
        formulas: dict[int, list[dict[str, list[int]]]] = {}
        for c in p.conjuncts:
            formulas.setdefault(c.slot, []).append({"all_of": sorted(c.holding), "none_of": sorted(c.failing)})
        made: dict[str, Any] = {
            "subscriptions": [
                {"number": n, "name": s.name, "level": s.level, "data_types": [t.__name__ for t in s.types], "filter": s.filter, "per_packet": n in p.direct}
                for n, s in enumerate(self.subscriptions)
            ],
            "stages": [
                {"name": name, "asked_of": ASKED[name], "trie": self._branch(name, p.stages[name].tree)} for name in ASKED if name in p.stages
            ],
            "formulas": [{"slot": slot, "subscription": p.owners[slot], "any_of": parts} for slot, parts in sorted(formulas.items())],
            "nic": self._nic(),
        }
        if self.funnel is not None:
            made["funnel"] = self.funnel
        return made

    def _branch(self, stage: str, branch: Branch) -> dict[str, Any]:
        found: dict[str, Any] = {"condition": branch.condition}
        if branch.effects:
            found["effects"] = [{"effect": e, "slot": n, "action": self.action(stage, e, n)} for e, n in branch.effects]
        if branch.children:
            found["then"] = [self._branch(stage, c) for c in branch.children]
        return found

    def _nic(self) -> dict[str, Any]:
        if self.tunnels:
            return {"rules": ["everything"], "reason": "tunnels are looked into: what is in them is not where a card looks"}
        found = [show(r) for r in rules(self.plan.first)]
        if found == ["everything"]:
            return {"rules": found, "reason": "some subscription may want packets of any kind"}
        return {"rules": found, "besides": list(PASSED)}

    # -------------------------------------------------------------------------------------------------------- forms

    def json(self) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    def text(self, *, sources: bool = False) -> str:
        """Return it as text; `sources`: with the generated code."""
        lines = [f"# {n}: {s.name} [{s.level}] {', '.join(t.__name__ for t in s.types)}: {s.filter or '(everything)'}" for n, s in enumerate(self.subscriptions)]
        for heading, body in self.sections():
            lines += ["", f"== {heading}", "", *body]
        if sources:
            for name, stage in self.plan.stages.items():
                lines += ["", f"== code of the {name} stage", "", stage.source.rstrip()]
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        """Return it as text."""
        return self.text()

    def sections(self) -> Iterator[tuple[str, list[str]]]:
        """Give headings and lines: the card's rules, each stage, formulas, the funnel."""
        nic = self._nic()
        lines = [f"let through: {r}" for r in nic["rules"]]
        yield "what a network card could do", [*lines, *([f"because {nic['reason']}"] if "reason" in nic else [f"besides: {b}" for b in nic["besides"]])]
        for name in ASKED:
            if name in self.plan.stages:
                yield f"{name} stage: {ASKED[name]}", list(self._drawn(name))
        if self.plan.conjuncts:
            yield "formulas", [self._formula(c) for c in self.plan.conjuncts]
        if self.funnel is not None:
            yield "funnel", funnel_lines(self.funnel)

    def _formula(self, conjunct: Any) -> str:
        says = self.plan.labels
        parts = [says[n] for n in sorted(conjunct.holding)] + [f"not {says[n]}" for n in sorted(conjunct.failing)]
        later = "; then ask at its end" if self.plan.owners[conjunct.slot] in self.plan.at_end else ""
        return f"{self._actions[conjunct.slot]} if {' and '.join(parts) or 'anything'}{later}"

    def _drawn(self, stage: str) -> Iterator[str]:
        def below(branch: Branch, indent: str) -> Iterator[str]:
            for n, child in enumerate(branch.children, 1):
                last = n == len(branch.children)
                yield f"{indent}{'└─' if last else '├─'} {child.condition}{self._says(stage, child)}"
                yield from below(child, indent + ("   " if last else "│  "))

        tree = self.plan.stages[stage].tree
        yield tree.condition + self._says(stage, tree)
        yield from below(tree, "")

    def _says(self, stage: str, branch: Branch) -> str:
        said = dict.fromkeys(self.action(stage, e, n) for e, n in branch.effects)
        return f"  → {'; '.join(said)}" if said else ""

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{n}</td><td>{html.escape(s.name)}</td><td>{s.level}</td><td>{html.escape(', '.join(t.__name__ for t in s.types))}</td>"
            f"<td><code>{html.escape(s.filter or '(everything)')}</code></td></tr>"
            for n, s in enumerate(self.subscriptions)
        )
        opened = ' open="open"'
        parts = "".join(
            f"<details{opened if heading == 'funnel' else ''}><summary>{html.escape(heading)}</summary><pre>{html.escape(chr(10).join(body))}</pre></details>"
            for heading, body in self.sections()
        )
        head = "<tr><th>#</th><th>name</th><th>level</th><th>data types</th><th>filter</th></tr>"
        return f'<div style="overflow-x:auto;max-width:100%"><table>{head}{rows}</table>{parts}</div>'

    def svg(self) -> str:
        """Return a picture: a box per stage, in the order in which traffic meets them, with the funnel's numbers between."""
        from retina_jit.picture import boxes

        measured = {m["stage"]: m for m in (self.funnel or {}).get("stages", [])}
        found = []
        for heading, body in self.sections():
            m = measured.get(heading.partition(" stage")[0])
            note = f"{m['in']:,} {m['of']} in, {m['out']:,} out, {m['ns']:.0f} ns each" if m else ""
            found.append((heading, body, note))
        return boxes(found)


def funnel_lines(funnel: dict[str, Any]) -> list[str]:
    """Write a funnel as lines."""
    lines = [f"{'stage':<16}{'of':<13}{'in':>14}{'out':>14}{'share':>9}{'ns each':>10}"]
    for m in funnel["stages"]:
        share = f"{100 * m['out'] / m['in']:.1f} %" if m["in"] else "-"
        lines.append(f"{m['stage']:<16}{m['of']:<13}{m['in']:>14,}{m['out']:>14,}{share:>9}{m['ns']:>10.1f}")
    lines += [f"{funnel[name]:>14,} {name}" for name in ("frames", "connections", "sessions", "events")]
    if funnel["frames"] >= ENOUGH:
        lines += [f"{funnel['ns_per_frame']:>14.1f} ns per frame, all in all; the stages' times are without that of the clock"]
    return [*lines, *(f"{n:>14,} {name}" for name, n in funnel["ledger"].items() if n)]


def explain(
    what: str | Subscription | Sequence[Subscription],
    *datatypes: str,
    sources: Iterable[str | os.PathLike[str]] = (),
    config: RuntimeConfig | None = None,
) -> Explanation:
    """Explain what becomes of a filter or of subscriptions.

    Parameters
    ----------
    what : str or Subscription or sequence of Subscription
        A filter, whose data types follow (FiveTuple if there are none), or subscriptions.
    *datatypes : str
        Names of data types.
    sources : paths
        Captures: the stages are measured over them. Callbacks are not called.
    config : RuntimeConfig, optional

    Raises
    ------
    FilterError, SubscriptionError
        As for a run.
    """
    if isinstance(what, str):
        given = [named(datatypes or ("FiveTuple",), what, _nothing, "each")]
    else:
        given = [what] if isinstance(what, Subscription) else list(what)
    settings = config or RuntimeConfig()
    plan = compile_filters([FilterSpec(text=s.filter, level=s.level, folder=s.folder) for s in given])
    made = Explanation(given, plan, bool(settings.tunnels()))
    wanted = list(sources)
    if wanted:
        made.funnel = measure(given, wanted, settings)
    return made


def _nothing(*_: Any) -> None:
    return None


def measure(subscriptions: Sequence[Subscription], sources: Iterable[str | os.PathLike[str]], config: RuntimeConfig, **more: Any) -> dict[str, Any]:
    """Run subscriptions without their callbacks, and measure the stages."""
    from retina_jit.pipeline.measuring import MEASURE, ORDER

    quiet = [Subscription(s.filter, s.types, _nothing, name=s.name, folder=s.folder, every=s.every) for s in subscriptions]
    # One worker sees everything, so its stages' numbers are the program's.
    runtime = Runtime(quiet, sources, msgspec.structs.replace(config, workers=None, cores=()), **more)
    program, worker = runtime.program, runtime.workers[0]
    room = len(ORDER) * MEASURE.itemsize // 8
    given = np.concatenate([np.zeros(room, np.int64), program.tables])
    notes: Any = given[:room].view(MEASURE)[::-1]
    for name, note in zip(ORDER, notes):
        if program.stages[name]:
            note["code"], note["words"] = program.stages[name], program.plan.words
            worker.words[f"{name}_stage"] = objects.address(f"retina_jit.pipeline.measuring:{name}")
    worker.words["tables"] = given[room:].ctypes.data
    result: Result = runtime.run()
    c = result.counters
    # Calls take some ten nanoseconds, and so does asking for the time.
    cost = objects.function("retina_jit.pipeline.measuring:clock_cost")
    clock = min(cost(TIMES) for _ in range(20)) / TIMES  # the least: others may run meanwhile

    def each(m: Any) -> float:
        return max(0.0, float(m["ns"]) - clock * int(m["calls"])) / max(1, int(m["taken"]))

    stages = [
        {"stage": name, "of": ONE.get(name, "packets"), "in": int(m["taken"]), "out": int(m["given"]), "ns": each(m)}
        for name, m in zip(ORDER, notes)
        if program.stages[name]
    ]
    return {
        "stages": stages, "frames": c["frames"], "connections": c["connections"], "sessions": c["sessions"], "events": c["events"],
        "ns_per_frame": 1e9 * result.seconds / max(1, c["frames"]), "ledger": result.ledger,
    }  # fmt: skip


__all__ = ["Explanation", "explain"]
