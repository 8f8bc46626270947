"""Filters as data: formulas, and the index that leads from a field's value to the formulas it makes possible.

A formula is what one or several subscriptions ask at a stage. From its conditions a *cover* is chosen: few and rare
conditions of which at least one holds whenever the formula does. Each value of a covered field gets a key, and the key a list
of formulas; all others need not be looked at. `engine` says how the result is read.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from retina_jit.filters import engine, wide
from retina_jit.filters.literals import Interval, complement, top
from retina_jit.filters.normalize import Worlds
from retina_jit.filters.resolve import Names
from retina_jit.filters.split import OF_A_CONNECTION
from retina_jit.filters.syntax import FALSE, And, Not, Or, Present, Term, Test, Truth, leaves
from retina_jit.filters.tables import SIGN, Tables, range_table, signed, text_table, wide_range_table
from retina_jit.filters.trie import Effect
from retina_jit.parsers.protocol import Field

LISTS = ("ints", "texts")
TEXTS = ("text", "texts", "bytes")
MOST_OF_A_RANGE = 4
"""A range that holds more than one in so many values of its field does not choose between formulas."""
MOST_COMPARED = 200
"""Conditions of a formula up to which it is worked out whether one of them makes it true."""

Slot = tuple[str, str, bytes]
"""(protocol, field, key of a keyed field)."""
Formula = int


@dataclass
class Source:
    """Where the description of one field stands, and what its conditions are."""

    declared: Field
    number: int
    name: bytes = b""
    """Of a keyed field's value."""
    place: int = 0
    key: int = 0
    texts: list[bytes] = field(default_factory=list)
    bits: dict[tuple[str, Any], int] = field(default_factory=dict)
    found: int = 0
    indexed: bool = False

    @cached_property
    def positions(self) -> dict[bytes, int]:
        """Number of each text that filters name, from 1."""
        return {text: n for n, text in enumerate(self.texts, 1)}

    @property
    def kind(self) -> str:
        """Of the field: "wide", "number", "text", "numbers" or "texts"."""
        kind = self.declared.kind
        if kind in LISTS:
            return "texts" if kind == "texts" else "numbers"
        return "wide" if kind == "ipv6" else "text" if kind in TEXTS else "number"


@dataclass
class Layout:
    """Places in the description of a stage, in words: presence, values, keys, condition bits, results."""

    protocols: list[str]
    leading: list[str]
    """Protocols whose presence alone leads to formulas."""
    sources: dict[Slot, Source]
    keys_at: int = 0
    key_count: int = 0
    found_at: int = 0
    found_words: int = 0
    results_at: int = 0
    size: int = 0


HEAD_OF_FIELD = 5
"""Words per field in the head of a stage's table: USED, LOOKUP, KEYS, AUTOMATA, FOUND."""
USED, LOOKUP, KEYS, AUTOMATA, FOUND = range(HEAD_OF_FIELD)


class Index:
    """One stage's formulas, while they are collected and when they are laid out."""

    def __init__(self, stage: str, names: Names, worlds: Worlds, words: int, owners: Sequence[int] = ()) -> None:
        self.stage, self.names, self.worlds, self.words, self.owners = stage, names, worlds, words, owners
        self.formulas: dict[Term, set[Effect]] = {}
        self.chosen: dict[Term, list[Present | Test] | None] = {}

    def insert(self, term: Term, effect: Effect) -> None:
        """Add what a subscription asks; `term` is gated (`normalize.gate`)."""
        if term != FALSE:
            self.formulas.setdefault(term, set()).add(effect)

    # ------------------------------------------------------------------------------------------------------ layout

    def arrange(self, everything: bool = False) -> Layout:
        """Decide where everything stands. `everything`: all fields that the stage could ask for, in a fixed place."""
        used = {_slot(t) for term in self.formulas for t in leaves(term) if isinstance(t, Test)}
        present = {leaf.protocol for term in self.formulas for leaf in leaves(term)}
        protocols = self.names.protocols
        if everything:
            of_packets, of_sessions = self.stage in ("packet", "packet_deliver", "watch"), self.stage in ("protocol", "session")
            known = [
                p
                for p in protocols.values()
                if (of_packets or p.level == "session" or p.name in OF_A_CONNECTION) and (of_sessions or p.level == "packet")
            ]
            present = {p.name for p in known}
            slots = [
                (p.name, f, b"")
                for p in known
                for f, d in p.fields.items()
                if not d.keyed
                if of_packets or d.side or (p.level == "session" and self.stage == "session")
            ]
        else:
            slots = sorted(used)
        self.chosen = self.covers()
        leaders = {leaf for cover in self.chosen.values() for leaf in cover or ()}
        sources = {slot: Source(protocols[slot[0]].fields[slot[1]], n, slot[2]) for n, slot in enumerate(slots)}
        for leaf in leaders:
            if isinstance(leaf, Test):
                sources[_slot(leaf)].indexed = True
        leading = sorted(present if everything else {leaf.protocol for leaf in leaders if isinstance(leaf, Present)})
        layout = Layout(sorted(present), leading, sources)
        at = 1
        for source in sources.values():
            source.place = at
            at += 2 if source.kind == "wide" else 1
        layout.keys_at = at
        at += len(leading)
        for source in sources.values():
            if everything or source.indexed:
                source.key = at
                at += 1
        layout.key_count = at - layout.keys_at
        self._number_conditions(layout)
        layout.found_at = at
        for source in sources.values():
            source.found = 64 * layout.found_words
            layout.found_words += -(-len(source.bits) // 64)
        layout.results_at = at + layout.found_words
        layout.size = layout.results_at + 2 * self.words + 1
        return layout

    def _number_conditions(self, layout: Layout) -> None:
        texts: dict[Slot, set[bytes]] = defaultdict(set)
        for term in self.formulas:
            for leaf in leaves(term):
                if isinstance(leaf, Test):
                    source = layout.sources[_slot(leaf)]
                    if leaf.form == "equal":
                        texts[_slot(leaf)].update(leaf.value)  # type: ignore[arg-type]
                    if source.kind in ("numbers", "texts") or leaf.form in ("contains", "regex"):
                        source.bits.setdefault((leaf.form, leaf.value), len(source.bits))
        for slot, found in texts.items():
            layout.sources[slot].texts = sorted(found, key=lambda v: (len(v), v))

    # ------------------------------------------------------------------------------------------------------ covers

    def covers(self) -> dict[Term, list[Present | Test] | None]:
        """Choose for each formula the conditions that lead to it; None: it is tried always."""
        popular: Counter[Term] = Counter()
        for term in self.formulas:
            popular.update(set(leaves(term)))

        def best(term: Term) -> tuple[float, list[Present | Test]] | None:
            if isinstance(term, Truth):
                return None if term.value else (0.0, [])
            if isinstance(term, Present):
                return self._presence(term), [term]
            if isinstance(term, Test):
                share = self._share(term)
                there = Present(term.protocol)
                if term.negated or share * MOST_OF_A_RANGE > 1:
                    return self._presence(there), [there]
                return share**0.5 * popular[term], [term]
            if isinstance(term, Not):
                inner = term.term
                if isinstance(inner, And | Or):
                    parts = tuple(Not(t) if not isinstance(t, Not) else t.term for t in inner.terms)
                    return best(Or(parts) if isinstance(inner, And) else And(parts))
                return None
            found = [best(t) for t in term.terms]
            if isinstance(term, And):
                return min((f for f in found if f is not None), key=lambda f: f[0], default=None)
            if None in found:
                return None
            return sum(f[0] for f in found if f), [leaf for f in found if f for leaf in f[1]]

        chosen = {}
        for term in self.formulas:
            found = best(term)
            chosen[term] = None if found is None else list(dict.fromkeys(found[1]))
        return chosen

    def _presence(self, term: Present) -> float:
        return {"link": 900.0, "network": 1000.0, "transport": 500.0, "session": 100.0}[self.worlds.layer(term.protocol)]

    def _share(self, test: Test) -> float:
        """How much of a field's values fulfil a test, as a guess."""
        if test.form == "range":
            declared = self.names.field(test)
            ranges: tuple[Interval, ...] = test.value  # type: ignore[assignment]
            return sum(high - low + 1 for low, high in ranges) / (top(declared) + 1)
        if test.form == "equal":
            return len(test.value) * 2.0**-40
        size = len(test.value) if test.form == "contains" else len(test.value[0]) / 2  # type: ignore[arg-type]
        return float(2.0 ** -min(4 * size, 40))

    def certain(self, term: Term, leaf: Present | Test) -> bool:
        """Whether a formula is true wherever one of its conditions is."""

        def holds(t: Term) -> bool:
            if t == leaf:
                return True
            if isinstance(t, Truth):
                return t.value
            if isinstance(t, Present):
                if self.worlds.layer(t.protocol) == "link":
                    return t.protocol == leaf.protocol
                return not self.worlds.of(leaf.protocol) & ~self.worlds.of(t.protocol)
            if isinstance(t, And):
                return all(map(holds, t.terms))
            return isinstance(t, Or) and any(map(holds, t.terms))

        return holds(term)

    # --------------------------------------------------------------------------------------------------------- data

    def build(self, layout: Layout, tables: Tables) -> np.ndarray[Any, Any]:
        """Return the stage's table."""
        return _Writer(self, layout, tables).build()


class _Writer:
    def __init__(self, index: Index, layout: Layout, tables: Tables) -> None:
        self.index, self.layout, self.tables = index, layout, tables
        self.content = bytearray()
        self.keys: dict[tuple[int, ...], int] = {(): 0}

    def place(self, data: Any, dtype: Any = np.int64) -> int:
        """Append an array. Returns its position."""
        self.content += bytes(-len(self.content) % 8)
        at = len(self.content)
        self.content += np.asarray(data, dtype).tobytes()
        return at

    def key(self, formulas: Iterable[int]) -> int:
        return self.keys.setdefault(tuple(sorted(set(formulas))), len(self.keys))

    def build(self) -> np.ndarray[Any, Any]:
        layout, index = self.layout, self.index
        heads = engine.HEAD + len(layout.leading) + HEAD_OF_FIELD * len(layout.sources)
        head = np.zeros(heads, np.int64)
        self.place(head)
        always: list[int] = []
        by_leaf: dict[Present | Test, list[int]] = defaultdict(list)
        for number, term in enumerate(index.formulas):
            cover = index.chosen[term]
            if cover is None:
                always.append(number)
                continue
            few = sum(1 for _ in leaves(term)) <= MOST_COMPARED
            for leaf in cover:
                by_leaf[leaf].append(number | (engine.CERTAIN if few and index.certain(term, leaf) else 0))
        head[engine.ALWAYS] = self.key(always)
        for n, protocol in enumerate(layout.leading):
            head[engine.HEAD + n] = self.key(by_leaf.pop(Present(protocol), []))
        by_slot: dict[Slot, dict[Test, list[int]]] = defaultdict(dict)
        for leaf, numbers in by_leaf.items():
            assert isinstance(leaf, Test)
            by_slot[_slot(leaf)][leaf] = numbers
        bit_keys = [0] * (64 * layout.found_words)
        asked = {_slot(t) for term in index.formulas for t in leaves(term) if isinstance(t, Test)}
        for slot, source in layout.sources.items():
            at = engine.HEAD + len(layout.leading) + HEAD_OF_FIELD * source.number
            own = head[at : at + HEAD_OF_FIELD]
            own[USED] = slot in asked
            own[FOUND] = 8 * (layout.found_at + source.found // 64)
            for leaf, numbers in by_slot[slot].items():
                if (leaf.form, leaf.value) in source.bits:
                    bit_keys[source.found + source.bits[(leaf.form, leaf.value)]] = self.key(numbers)
            self.field(source, by_slot[slot], own)
        head[engine.KEYS], head[engine.KEYS_AT] = layout.key_count, 8 * layout.keys_at
        head[engine.FOUND], head[engine.FOUND_AT] = layout.found_words, 8 * layout.found_at
        head[engine.RESULTS_AT], head[engine.WORDS] = 8 * layout.results_at, index.words
        head[engine.SHIFT] = max(0, (2 * index.words).bit_length() - 6)
        pairs = [(slot, owner) for slot, owner in enumerate(index.owners) if slot != owner]
        head[engine.OWNERS] = self.place([len(pairs), *(n for pair in pairs for n in pair)])
        head[engine.BIT_KEYS] = self.place(bit_keys, np.uint32)
        self.formulas(head)
        self.content += bytes(-len(self.content) % 8)
        self.content[: head.nbytes] = head.tobytes()
        return np.frombuffer(bytes(self.content), np.int64)

    # ------------------------------------------------------------------------------------------------------- fields

    def field(self, source: Source, leading: dict[Test, list[int]], own: np.ndarray[Any, Any]) -> None:
        kind = source.kind
        if kind in ("number", "wide") and leading:
            intervals: list[Any] = [(r, numbers) for leaf, numbers in leading.items() for r in leaf.value]
            self.numbers(source, intervals, own, self.key)
        if kind == "numbers" and source.bits:
            lists: dict[tuple[int, ...], int] = {(): 0}
            intervals = [(r, [bit]) for (_, value), bit in source.bits.items() for r in value]
            self.numbers(source, intervals, own, lambda bits: lists.setdefault(tuple(sorted(set(bits))), len(lists)))
            own[KEYS] = self.lists(list(lists))
        if source.texts:
            own[LOOKUP] = self.place(text_table(tuple(source.texts)))
            position = source.positions
            rows: list[list[int]] = [[] for _ in range(len(source.texts) + 1)]
            if kind == "texts":
                for (form, value), bit in source.bits.items():
                    for text in value if form == "equal" else ():
                        rows[position[text]].append(bit)
                own[KEYS] = self.lists([tuple(r) for r in rows])
            else:
                for leaf, numbers in leading.items():
                    for text in leaf.value if leaf.form == "equal" else ():
                        rows[position[text]] += numbers  # type: ignore[index]
                own[KEYS] = self.place([self.key(r) for r in rows], np.uint32)
        found = [(value, bit) for (form, value), bit in source.bits.items() if form == "contains"]
        automata = wide.literals([v for v, _ in found], [b for _, b in found])
        found = [(value, bit) for (form, value), bit in source.bits.items() if form == "regex"]
        automata += wide.patterns([v for v, _ in found], [b for _, b in found])
        if automata:
            inside = [8 * self.tables.add(a) for a in automata]
            own[AUTOMATA] = 8 * self.tables.add(np.array([len(inside), *inside], np.int64))

    def lists(self, rows: Sequence[tuple[int, ...]]) -> int:
        """Lay out lists of bits: where each begins, then the lists; all counted from their head."""
        begin = 4 * (len(rows) + 1)
        starts = [begin]
        for row in rows:
            starts.append(starts[-1] + 4 * len(row))
        return self.place([*starts, *(bit for row in rows for bit in row)], np.uint32)

    def numbers(self, source: Source, intervals: list[tuple[Interval, list[int]]], own: np.ndarray[Any, Any], key: Any) -> None:
        """Lay out the look-up of a number: elementary intervals, each with a key."""
        begins, keys = _sweep(intervals, key)
        if source.kind == "wide":
            words = [w for b in begins for w in (signed((b >> 64) ^ SIGN), signed(b ^ SIGN))]
            own[LOOKUP] = self.place([len(begins), 0, 0, self.place(words), self.place(keys, np.uint32)])
            return
        bits = min(source.declared.bits or 63, 63)
        buckets = min(bits, max(8, min(16, len(begins).bit_length() + 3)))
        shift = bits - buckets
        edges = [bisect_right(begins, n << shift) - 1 for n in range(1 << buckets)]
        edges.append(len(begins) - 1)
        own[LOOKUP] = self.place(
            [shift, (1 << buckets) - 1, self.place(edges, np.uint32), self.place(begins), self.place(keys, np.uint32)]
        )

    # ----------------------------------------------------------------------------------------------------- formulas

    def formulas(self, head: np.ndarray[Any, Any]) -> None:
        found = []
        for term, effects in self.index.formulas.items():
            program = self.program(term)
            found += [program, self.effects(effects)]
        head[engine.FORMULAS] = self.place(found)
        starts: list[int] = [0]
        lists: list[int] = []
        for members in self.keys:
            lists += members
            starts.append(len(lists))
        head[engine.STARTS] = self.place(starts, np.uint32)
        head[engine.LISTS] = self.place(lists, np.uint32)

    def effects(self, effects: set[Effect]) -> int:
        words = self.index.words
        masks: dict[int, int] = defaultdict(int)
        for kind, number in effects:
            if kind == "keep":
                masks[words] |= 1
            else:
                masks[number // 64 + (words if kind == "open" else 0)] |= 1 << number % 64
        flat = [x for word, mask in sorted(masks.items()) for x in (word, signed(mask))]
        return self.place([len(masks), *flat])

    def program(self, term: Term) -> int:
        """Write a formula as instructions that jump. Returns where it begins, or its answer."""

        def write(t: Term, yes: int, no: int) -> int:
            if isinstance(t, Truth):
                return yes if t.value else no
            if isinstance(t, Not):
                return write(t.term, no, yes)
            if isinstance(t, And):
                for part in reversed(t.terms):
                    yes = write(part, yes, no)
                return yes
            if isinstance(t, Or):
                for part in reversed(t.terms):
                    no = write(part, yes, no)
                return no
            operation, place, a, b, negated = self.instruction(t)
            return self.place([operation, 8 * place, a, b, *((no, yes) if negated else (yes, no))])

        return write(term, engine.TRUE, engine.FALSE)

    def instruction(self, leaf: Present | Test) -> tuple[int, int, int, int, bool]:
        """Return (operation, place, a, b, whether its answer is turned round)."""
        if isinstance(leaf, Present):
            return engine.BIT, 0, self.layout.protocols.index(leaf.protocol), 0, False
        source = self.layout.sources[_slot(leaf)]
        bit = source.bits.get((leaf.form, leaf.value))
        if bit is not None:
            place = self.layout.found_at + (source.found + bit) // 64
            return engine.BIT, place, bit % 64, 0, leaf.negated
        if leaf.form == "equal":
            ranges: tuple[Interval, ...] = tuple((n, n) for n in sorted(source.positions[v] for v in leaf.value))  # type: ignore[index]
            largest = len(source.texts)
        else:
            ranges = leaf.value  # type: ignore[assignment]
            largest = top(source.declared)
        if source.kind == "wide":
            index = self.tables.add(wide_range_table(ranges))
            return engine.WIDE_RANGES, source.place, 8 * index, 0, leaf.negated
        others = complement(ranges, largest)
        if len(ranges) == 1:
            return engine.RANGE, source.place, *ranges[0], leaf.negated
        if len(others) == 1:
            return engine.RANGE, source.place, *others[0], not leaf.negated
        return engine.RANGES, source.place, 8 * self.tables.add(range_table(ranges)), 0, leaf.negated


def _slot(test: Test) -> Slot:
    return test.protocol, test.field, test.key


def _sweep(intervals: list[tuple[Interval, list[int]]], key: Any) -> tuple[list[int], list[int]]:
    """Return the elementary intervals, as where they begin, and the key of what covers each."""
    changes: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for (low, high), numbers in intervals:
        for number in numbers:
            changes[low].append((number, 1))
            changes[high + 1].append((number, -1))
    active: Counter[int] = Counter()
    begins, keys = [0], [key(())]
    for at in sorted(changes):
        for number, step in changes[at]:
            active[number] += step
            if not active[number]:
                del active[number]
        found = key(active)
        if at == begins[-1]:
            keys[-1] = found
        elif found != keys[-1]:
            begins.append(at)
            keys.append(found)
    return begins, keys
