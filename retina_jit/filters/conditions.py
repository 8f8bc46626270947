"""Predicates as text: where a field's value comes from, and the expression that compares it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from retina_jit.filters.literals import complement, top
from retina_jit.filters.normalize import GIVEN, NETWORK, Worlds
from retina_jit.filters.resolve import Names
from retina_jit.filters.syntax import And, Not, Present, Term, Test, Truth, leaves
from retina_jit.filters.tables import Tables, range_table, signed, text_table, wide_range_table
from retina_jit.parsers.protocol import Field
from retina_jit.state import layout

MOST_PREDICATES = 40
"""In one function: Numba's passes recurse over branches, and take more than linear time."""
MOST_INLINE = 4
"""Ranges or texts compared one after the other; a larger set is searched in a table."""

PAIRS = ("text", "texts", "bytes", "ipv6")
"""Kinds whose values are two words: a span, or an address in two halves."""


@dataclass
class Code:
    """Readers of session fields that filters call by address: each address lies in a table of its own."""

    tables: Tables
    index: dict[tuple[str, str], int] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    fixed: dict[object, int] = field(default_factory=dict)
    """Places kept for what sources of any content name: they have to be the same whatever is asked for."""

    def keep(self, names: Iterable[object]) -> None:
        """Keep a place for each."""
        self.fixed |= {name: self.tables.reserve() for name in names}

    def place(self, name: object) -> int:
        """Return the place that is kept, or a new one."""
        return self.fixed[name] if name in self.fixed else self.tables.reserve()

    def entry(self, unit: str) -> int:
        """Return the index of the table that will hold the address of a static entry."""
        if unit not in self.entries:
            self.entries[unit] = self.place(unit)
        return self.entries[unit]

    def add(self, key: tuple[str, str]) -> int:
        """Return the index of the table that will hold the address of a field's reader."""
        if key not in self.index:
            self.index[key] = self.place(key)
        return self.index[key]


ROOM = 8
"""Words that stages have for values that readers write: two for a pair, the rest for short texts."""


def reader_source(module: str, declared: Field, of_connection: bool) -> str:
    """Return the source of the entry that reads a session field: `read(session, n, out)`.

    `n` is the position in a list, or the address of a key: its length, then its bytes. A number is the result; of two words
    it stores both at `out`. `of_connection`: `read(connection, track, out)`, a text has its place behind these two. A protocol
    that is like another has the same source, so what both read is compiled once.
    """
    name, kind = declared.name, declared.kind
    lists = kind in ("ints", "texts")
    value = f"{name}(session{', n' if lists else ', (n + 8, load64(n))' if declared.keyed else ''})"
    pair = kind in PAIRS
    if of_connection:
        value = f"{name}(session, n{', out + 16' if pair else ''})"
    body = (
        f"    value = {value}\n    store64(out, value[0])\n    store64(out + 8, value[1])\n    return 0\n"
        if pair
        else f"    return np.int64({value})\n"
    )
    imports = [f"from {module} import {name}"]
    imports += [
        "from retina_jit.jit import entry",
        *(["from retina_jit.memory import store64"] if pair else []),
        *(["from retina_jit.memory import load64"] if declared.keyed else []),
    ]
    return f'''"""Generated: reads {name} of {module} for filters."""

{"" if pair else "import numpy as np" + chr(10) * 2}{chr(10).join(sorted(imports))}


@entry
def read(session, n, out):
{body}'''


@dataclass
class Conditions:
    """Writes expressions for one stage, and remembers what they need."""

    stage: str
    names: Names
    worlds: Worlds
    tables: Tables
    automata: dict[tuple[str, str, tuple[str, bool]], tuple[int, int]]
    words: int
    code: Code
    lines: list[str] = field(default_factory=list)
    imports: set[tuple[str, str]] = field(default_factory=set)
    helpers: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    uses_numpy: bool = False
    row_address: str = "row_at"
    pair: str = ""
    """Text of the address of two words that readers may write; by default those behind the stage's sets."""

    def __post_init__(self) -> None:
        self.pair = self.pair or ("0" if self.stage == "packet" else f"sets + {24 * self.words}")
        if self.stage == "packet":
            self.row_address = f"rows + {layout.PACKET.itemsize} * k"

    def keys(self, term: Term) -> set[str]:
        """What a condition reads: fields, and runs of automata."""
        found = set()
        for leaf in leaves(term):
            if isinstance(leaf, Test):
                listed = self.names.field(leaf).kind in ("ints", "texts")
                if leaf.key:
                    continue  # read in place: one field, many values
                if not listed:
                    found.add(f"{leaf.protocol}.{leaf.field}")
                if leaf.form == "regex":
                    found.add(f"automaton {self.automata[(leaf.protocol, leaf.field, leaf.value)][0]}")  # type: ignore[index]
        return found

    # ------------------------------------------------------------------------------------------------------- values

    def table(self, index: int) -> str:
        """Text of the address of a table."""
        self.use("retina_jit.memory", "load64")
        return f"load64(tables + {8 * index})" if index else "load64(tables)"

    def use(self, module: str, name: str) -> str:
        """Import a name, and return it as the source writes it."""
        self.imports.add((module, name))
        return name

    def reader(self, declared: Field) -> str:
        """Name of a header field's reader in the source."""
        module = self.names.protocols[declared.protocol].module
        alias = f"{declared.protocol}_{declared.name}"
        self.imports.add((module, f"{declared.name} as {alias}"))
        return alias

    def session_value(self, declared: Field, element: str = "0") -> str:
        """Text of a session field's value, or of one element of a list.

        It is read by address: parsers are large, and a new filter does not wait for them to be compiled.
        """
        code = f"load64({self.table(self.code.add((declared.protocol, declared.name)))})"
        session = "session"
        if self.names.protocols[declared.protocol].level == "connection":
            session, element = "connection", "track"
        if declared.kind in PAIRS:
            return f"{self.use('retina_jit.filters.match', 'read_pair')}({code}, {session}, {element}, {self.pair})"
        return (
            f"{self.use('retina_jit.memory', 'call3')}({code}, {session}, {element}, {self.pair})"
        )

    def packet_call(self, declared: Field) -> str:
        """Text of what a predicate of packets gives, which may read all of the row."""
        code = f"load64({self.table(self.code.add((declared.protocol, declared.name)))})"
        return f"{self.use('retina_jit.memory', 'call3')}({code}, {self.row_address}, 0, {self.pair})"

    def key(self, name: bytes) -> str:
        """Text of the address of the name of a keyed value: its length, then its bytes."""
        content = len(name).to_bytes(8, "little") + name
        return self.table(self.tables.add(np.frombuffer(content, np.uint8)))

    def load(self, declared: Field) -> str:
        """Text of a field's value: a word, for IPv6 addresses a pair of words, for texts a span."""
        if (declared.protocol, declared.name) in self.names.calls and self.names.protocols[declared.protocol].level == "packet":
            return self.packet_call(declared)
        if self.names.protocols[declared.protocol].level != "packet":
            return self.session_value(declared)
        if declared.column:
            if declared.kind == "bytes":
                return f"(row.frame + {self.word('row.payload')}, {self.word('row.captured_len')})"
            if declared.kind == "ipv6":
                return f"(row.{declared.column}_hi, row.{declared.column}_lo)"
            return self.column(declared)
        # A header that was decoded lies inside the captured bytes, so these reads are in bounds.
        at = {"ethernet": "0", "vlan": self.vlan_at(declared)}.get(declared.protocol)
        at = at or self.word("row.l3" if declared.protocol in NETWORK else "row.l4")
        text = f"{self.reader(declared)}((row.frame, {self.word('row.caplen')}), {at})"
        return self.word(text) if declared.kind == "bool" else text

    def vlan_at(self, declared: Field) -> str:
        """Text of where the tag begins, for what its column does not hold."""
        if declared.protocol != "vlan" or declared.column:
            return ""
        return f"{self.use('retina_jit.filters.tags', 'vlan_at')}((row.frame, {self.word('row.caplen')}), {self.word('row.link')})"

    def word(self, text: str) -> str:
        """Make a signed word of a column or a bool."""
        self.uses_numpy = True
        return f"np.int64({text})"

    def column(self, declared: Field) -> str:
        """Text of a value that the row holds."""
        found = layout.PACKET.fields
        assert found is not None
        width = 8 * found[declared.column][0].itemsize
        text = f"row.{declared.column}"
        text = text if found[declared.column][0].str[1:] == "i8" else self.word(text)
        if declared.shift:
            text = f"{text} >> {declared.shift}"
        if declared.kind != "ipv4" and declared.bits and declared.shift + declared.bits < width:
            text = (
                f"({text}) & {(1 << declared.bits) - 1}"
                if declared.shift
                else f"{text} & {(1 << declared.bits) - 1}"
            )
        return f"({text})" if declared.shift or "&" in text else text

    def value(self, declared: Field, known: dict[str, str]) -> str:
        """Name that holds a field's value here, or the text that reads it."""
        return known.get(f"{declared.protocol}.{declared.name}") or self.load(declared)

    # --------------------------------------------------------------------------------------------------- conditions

    def condition(self, term: Term, known: dict[str, str], outer: str = "") -> str:
        """Text of a term as an expression; `known` maps what has been read to the name that holds it.

        What only compares columns of the row is joined bit by bit: no branches, so it is compiled and run faster.
        """
        if isinstance(term, Truth):
            return str(term.value)
        if isinstance(term, Present):
            return self.presence(term.protocol)
        if isinstance(term, Test):
            return self.test(term, known)
        if isinstance(term, Not):
            return f"not ({self.condition(term.term, known)})"
        flat = all(self.plain(leaf) for leaf in leaves(term))
        word = (" & " if flat else " and ") if isinstance(term, And) else (" | " if flat else " or ")
        terms = term.terms
        if not flat and len(terms) > 1 and sum(1 for _ in leaves(term)) > MOST_PREDICATES:
            half = len(terms) // 2
            text = word.join(
                self.apart(type(term)(t) if len(t) > 1 else t[0], known) for t in (terms[:half], terms[half:])
            )
        else:
            parts = [self.condition(t, known, word) for t in terms]
            text = word.join(
                f"({p})" if flat and isinstance(t, Present | Test | Not) else p for p, t in zip(parts, terms)
            )
        return f"({text})" if outer and outer != word else text

    def plain(self, leaf: Present | Test) -> bool:
        """Whether a predicate is a comparison of columns, safe and cheap also where its protocol is not there."""
        if isinstance(leaf, Present):
            return True
        declared = self.names.field(leaf)
        if not declared.column or declared.kind == "ipv6" or leaf.form != "range":
            return False
        others = complement(leaf.value, top(declared))  # type: ignore[arg-type]
        return min(len(leaf.value), len(others)) == 1

    def apart(self, term: Term, known: dict[str, str]) -> str:
        """Text of a call to a function of its own for a term."""
        arguments = self.arguments({known[k] for k in self.keys(term) if k in known})
        n = len(self.parts)
        self.parts.append("")
        outside, self.row_address = self.row_address, "row_at"
        self.parts[n] = (
            f"@kernel\ndef part_{n}({arguments}):\n    row = ROW_AT(row_at)\n    return {self.condition(term, known)}\n"
        )
        self.row_address = outside
        self.use("retina_jit.jit", "kernel")
        return f"part_{n}({arguments})"

    def arguments(self, names: Iterable[str]) -> str:
        """What a part is given: all that stages know, and what has been read."""
        stage = {
            "packet": [],
            "connection": ["sets"],
            "packet_deliver": ["sets"],
            "watch": ["sets"],
            "early": ["connection", "track", "sets"],
            "end": ["connection", "track", "sets"],
            "protocol": ["service", "sets"],
            "session": ["service", "session", "sets"],
        }
        return ", ".join(["tables", "row_at", "layers", *stage[self.stage], *sorted(names)])

    def presence(self, protocol: str) -> str:
        """Text that tests for a protocol."""
        if self.worlds.layer(protocol) == "session":
            return f"service == {self.names.protocols[protocol].number}"
        if protocol in GIVEN:
            return "True"
        bit = getattr(layout, protocol.upper())
        if self.worlds.layer(protocol) == "transport":
            # A later fragment names its transport but does not hold the header.
            return f"(layers & {bit | layout.LATER_FRAGMENT}) == {bit}"
        return f"(layers & {bit}) != 0"

    def test(self, term: Test, known: dict[str, str]) -> str:
        """Text of a test."""
        declared = self.names.field(term)
        if declared.kind in ("ints", "texts"):
            return self.list_test(term, declared, known)
        if term.key:
            return self.scalar(term, declared, self.session_value(declared, self.key(term.key)), {})
        return self.scalar(term, declared, self.value(declared, known), known)

    def scalar(self, term: Test, declared: Field, value: str, known: dict[str, str]) -> str:
        """Text of a test of one value."""
        if term.form == "regex":
            table, bit = self.automata[(term.protocol, term.field, term.value)]  # type: ignore[index]
            found = known.get(f"automaton {table}") or self.run(table, value)
            return f"(({found} >> {bit}) & 1) != 0" if bit else f"({found} & 1) != 0"
        if term.form == "range":
            text = self.ranges(term.value, declared, value)  # type: ignore[arg-type]
        elif term.form == "contains":
            text = self.literal_call("contains", value, term.value)  # type: ignore[arg-type]
        else:
            text = self.equal(term.value, value)  # type: ignore[arg-type]
        return f"not ({text})" if term.negated else text

    def run(self, table: int, value: str) -> str:
        """Text that runs an automaton."""
        if self.tables.is_parallel(table):
            code = f"load64({self.table(self.code.entry('retina_jit.filters.match:run_positions'))})"
            return f"{self.use('retina_jit.filters.match', 'run_apart')}({code}, {self.table(table)}, {value})"
        return f"{self.use('retina_jit.filters.match', 'run_automaton')}({self.table(table)}, {value})"

    def literal_call(self, function: str, value: str, literal: bytes) -> str:
        """Text that compares a value with a literal."""
        table, at = self.tables.literal(literal)
        where = f"{self.table(table)} + {at}" if at else self.table(table)
        return f"{self.use('retina_jit.filters.match', function)}({value}, {where}, {len(literal)})"

    def equal(self, values: tuple[bytes, ...], value: str) -> str:
        """Text of equality with one of several texts."""
        if len(values) > MOST_INLINE:
            index = self.tables.add(text_table(values))
            return f"{self.use('retina_jit.filters.match', 'in_texts')}({self.table(index)}, {value})"
        parts = [self.literal_call("equal", value, v) if v else f"{value}[1] == 0" for v in values]
        return parts[0] if len(parts) == 1 else f"({' or '.join(parts)})"

    def ranges(self, ranges: tuple[tuple[int, int], ...], declared: Field, value: str) -> str:
        """Text of membership in ranges, or, if that is shorter, of non-membership in the others."""
        largest = top(declared)
        others = complement(ranges, largest)
        if not others:
            return "True"
        negated = len(others) < len(ranges) or (len(others) == 1 and others[0][0] == others[0][1])
        chosen = others if negated else ranges
        compare = _wide_interval if declared.kind == "ipv6" else _interval
        parts = [compare(value, low, high, largest) for low, high in chosen[: MOST_INLINE + 1]]
        if len(chosen) > MOST_INLINE or "" in parts:
            match = "retina_jit.filters.match"
            if declared.kind == "ipv6":
                index = self.tables.add(wide_range_table(chosen))
                text = f"{self.use(match, 'in_wide_ranges')}({self.table(index)}, {value}[0], {value}[1])"
            else:
                index = self.tables.add(range_table(chosen))
                text = f"{self.use(match, 'in_ranges')}({self.table(index)}, {value})"
        else:
            text = parts[0] if len(parts) == 1 else f"({' or '.join(parts)})"
            if negated and len(parts) == 1 and " == " in text and " and " not in text:
                return text.replace(" == ", " != ")
        return f"not ({text})" if negated else text

    # -------------------------------------------------------------------------------------------------------- lists

    def list_test(self, term: Test, declared: Field, known: dict[str, str]) -> str:
        """Text of a call to a helper that looks at every element."""
        if term.form == "regex":
            table, bit = self.automata[(term.protocol, term.field, term.value)]  # type: ignore[index]
            found = known.get(f"automaton {table}") or self.run_over_list(table, declared)
            return f"(({found} >> {bit}) & 1) != 0"
        positive = Test(term.protocol, term.field, term.form, term.value)
        body = self.scalar(positive, declared, "element", {})
        name = self.helper(
            "any", self.element(declared), f"        if {body}:\n            return 1", "0", declared
        )
        return f"{name}(tables, session, sets) {'==' if term.negated else '!='} 0"

    def element(self, declared: Field) -> str:
        """Text of the element `k` of a list."""
        return self.session_value(declared, "k")

    def run_over_list(self, table: int, declared: Field) -> str:
        """Text that runs an automaton over all elements."""
        step = f"        found |= {self.run(table, 'element')}"
        return f"{self.helper('matches', self.element(declared), step, 'found', declared)}(tables, session, sets)"

    def helper(self, what: str, element: str, step: str, result: str, declared: Field) -> str:
        """Write a function that loops over a list, once; return its name."""
        start = "    found = 0\n" if result == "found" else ""
        count = self.session_value(declared, "-1") + ("[1]" if declared.kind in PAIRS else "")
        body = f"""{start}    for k in range({count}):
        element = {element}
{step}
    return {result}
"""
        for n, helper in enumerate(self.helpers):
            if helper == body:
                return f"{what}_{n}"
        self.helpers.append(body)
        self.use("retina_jit.jit", "kernel")
        return f"{what}_{len(self.helpers) - 1}"


def _interval(value: str, low: int, high: int, largest: int) -> str:
    if low == high:
        return f"{value} == {low}"
    if low == 0:
        return f"{value} <= {high}"
    if high == largest:
        return f"{value} >= {low}"
    return f"({low} <= {value} <= {high})"


def _wide_interval(value: str, low: int, high: int, largest: int) -> str:
    """Text for a network of 128-bit addresses; empty if the range is no network."""
    size = high - low + 1
    if size & (size - 1) or low % size:
        return ""
    mask = (1 << 128) - size
    upper, lower = mask >> 64, mask & ((1 << 64) - 1)
    parts = []
    for part, bits, n in ((upper, low >> 64, 0), (lower, low & ((1 << 64) - 1), 1)):
        if part == (1 << 64) - 1:
            parts.append(f"{value}[{n}] == {signed(bits)}")
        elif part:
            parts.append(f"({value}[{n}] & {signed(part)}) == {signed(bits)}")
    text = " and ".join(parts)
    return f"({text})" if len(parts) > 1 else text
