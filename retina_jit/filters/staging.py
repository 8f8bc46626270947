"""A stage made of what the subscriptions ask: as code if that is little, else as data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from retina_jit.filters import conditions, emit
from retina_jit.filters.explain import Branch, draw, draw_tables, table_tree, tree
from retina_jit.filters.indexing import Index
from retina_jit.filters.normalize import GIVEN, Worlds, gate
from retina_jit.filters.resolve import Names, joined, merge
from retina_jit.filters.split import EARLY, END, PACKET_DELIVER, at_stage, may_still, residue, turned
from retina_jit.filters.syntax import FALSE, TRUE, And, Present, Term, both, either, leaves
from retina_jit.filters.tabled import Describer
from retina_jit.filters.tables import Tables
from retina_jit.filters.trie import Effect, Node, sort

MOST_EXACT = 64
"""Predicates of which the packet stage asks exactly whether some connection may want a packet, where filters are code.
With more of them it lets more packets pass, which the connection stage then refuses: asking everything costs more."""
MOST_WRITTEN = 128
"""Predicates of a stage that are written as code: the fastest form for few. More of them become data."""

Wanted = list[tuple[Term, Effect]]


@dataclass(frozen=True)
class Stage:
    """One generated stage: what it asks, drawn as text, and its source."""

    drawn: list[str]
    source: str
    tree: Branch

    @property
    def columns(self) -> frozenset[str] | None:
        """Columns of the PACKET row that it reads; None if it passes rows on, and so may read any."""
        if re.search(r"[(,] *row *[,)]|, (rows \+ \d+ \* k|row_at), 0, ", self.source):
            return None
        return frozenset(re.findall(r"\brow\.(\w+)", self.source))


@dataclass
class Context:
    """What all stages of a plan share."""

    names: Names
    worlds: Worlds
    tables: Tables
    words: int
    code: conditions.Code

    def wanted(self, stage: str, members: Iterable[int], terms: Sequence[Term], direct: frozenset[int]) -> Wanted:
        """Return what each subscription asks at a stage, and what follows if it holds."""
        found: Wanted = []
        for n in sorted(members):
            # The later stages are asked only about subscriptions that the stage before has left open.
            term = residue(terms[n], self.worlds) if stage in ("protocol", "session") else terms[n]
            known = at_stage(term, stage, self.worlds)
            if stage == EARLY:
                found.append((may_still(term, self.names, self.worlds), ("sure", n)))
                continue
            if stage == "packet" and n not in direct:
                # A packet of either direction may belong to a connection that matches.
                found.append((either([known.open, turned(known.open, self.names)]), ("keep", 0)))
                continue
            found.append((known.sure, ("sure", n)))
            if known.open not in (known.sure, FALSE):
                found.append((known.open, ("open", n)))
        return found

    def stage(self, stage: str, wanted: Wanted, numbers: Iterable[int], owners: Sequence[int], engine: str) -> Stage:
        """Write a stage."""
        if engine == "code" or (engine == "auto" and sum(1 for t, _ in wanted for _ in leaves(t)) <= MOST_WRITTEN):
            return self.written(stage, wanted, numbers, owners)
        if engine == "plain":
            return self.written(stage, wanted, numbers, owners, merged=False)
        return self.tabled(stage, wanted, owners, everything=engine == "any")

    # --------------------------------------------------------------------------------------------------------- data

    def tabled(self, stage: str, wanted: Wanted, owners: Sequence[int], everything: bool) -> Stage:
        """Keep the filters as data."""
        index = Index(stage, self.names, self.worlds, self.words, owners if stage in (PACKET_DELIVER, END) else ())
        keeping = []
        for term, effect in wanted:
            if effect[0] == "keep":
                keeping += [
                    gate(both([Present(t), term]), self.worlds.all, self.worlds, GIVEN) for t in ("tcp", "udp")
                ]
            else:
                index.insert(gate(term, self.worlds.all, self.worlds, GIVEN), effect)
        for term in _together(keeping, self.names):
            index.insert(term, ("keep", 0))
        head = self.code.place(stage)
        layout = index.arrange(everything)
        writer = Describer(
            stage, self.names, self.worlds, self.tables, {}, self.words, self.code, head=head, everything=everything
        )
        source = writer.source(layout)
        self.tables.put(head, index.build(layout, self.tables))
        return Stage(draw_tables(index), source, table_tree(index))

    # --------------------------------------------------------------------------------------------------------- code

    def written(
        self, stage: str, wanted: Wanted, numbers: Iterable[int], owners: Sequence[int], *, merged: bool = True
    ) -> Stage:
        """Write the filters as code: merged into tries, or each as it stands."""
        roots = self.tries(wanted) if merged else self.side_by_side(wanted)
        writer = emit.Writer(
            stage, self.names, self.worlds, self.tables, self.automata(roots), self.words, self.code
        )
        source = emit.write(writer, roots, numbers, owners)
        trees = [tree(root) for root in roots]
        whole = trees[0] if len(trees) == 1 else Branch("frame", (), tuple(trees))
        return Stage([line for root in roots for line in draw(root)], source, whole)

    def tries(self, wanted: Wanted) -> list[Node]:
        """Merge the subscriptions into tries: one, or, if they are many, one for each 64."""
        layers = {p: self.worlds.layer(p) for p in self.names.protocols}
        roots: dict[int, Node] = {}
        keep = Node()

        def insert(root: Node, term: Term, effect: Effect) -> None:
            root.insert(gate(term, self.worlds.all, self.worlds, GIVEN), effect, layers)

        for term, effect in wanted:
            if effect[0] == "keep":
                for transport in ("tcp", "udp"):
                    insert(keep, both([Present(transport), term]), effect)
            else:
                insert(roots.setdefault(effect[1] // 64, Node()), term, effect)
        keep.prune()
        keep.relax(MOST_EXACT, lambda tests: joined(tests, self.names))
        if len(roots) <= 1:
            roots.setdefault(0, Node()).absorb(keep)
        elif keep.children or keep.effects:
            roots[max(roots) + 1] = keep
        for root in roots.values():
            root.prune()
            sort(root, layers)
        return list(roots.values())

    def side_by_side(self, wanted: Wanted) -> list[Node]:
        """Return the subscriptions as conditions that share nothing: what the tries are compared with."""
        root = Node()
        for term, effect in wanted:
            either_transport = [both([Present(t), term]) for t in ("tcp", "udp")] if effect[0] == "keep" else [term]
            for part in either_transport:
                condition = gate(part, self.worlds.all, self.worlds, GIVEN)
                if condition == TRUE:
                    root.effects.add(effect)
                elif condition != FALSE:
                    root.children.setdefault(condition, Node()).effects.add(effect)
        return [root]

    def automata(self, roots: list[Node]) -> dict[tuple[str, str, tuple[str, bool]], tuple[int, int]]:
        """Build the automata of all patterns; return where each pattern is: (index of the table, bit)."""
        from retina_jit.filters.wide import build

        found = {}
        for (protocol, field), patterns in emit.automata_of(roots).items():
            for automaton, inside in build(patterns):
                index = self.tables.add(automaton)
                for bit, pattern in enumerate(inside):
                    found[(protocol, field, pattern)] = index, bit
        return found


def _together(terms: list[Term], names: Names) -> list[Term]:
    """Return terms whose disjunction is that of the given ones: behind equal gates tests of a field are joined."""
    behind: dict[tuple[Term, ...], dict[Term, None]] = {}
    for term in terms:
        parts = term.terms if isinstance(term, And) else (term,)
        gates: tuple[Term, ...] = tuple(t for t in parts if isinstance(t, Present))
        behind.setdefault(gates, {})[both(t for t in parts if not isinstance(t, Present))] = None
    found = []
    for gates, rests in behind.items():
        simple = merge(either(rests), names)
        if simple == TRUE:
            found.append(both(gates))
        else:
            alternatives = simple.terms if hasattr(simple, "terms") and not isinstance(simple, And) else (simple,)
            found += [both([*gates, t]) for t in alternatives]
    whole = {t for t in found if isinstance(t, Present)}
    return [t for t in found if t in whole or not (isinstance(t, And) and whole & set(t.terms))]
