"""The source of a stage whose filters are data: it only describes a packet, a connection or a session.

So its size, and the time to compile it, depend on how many fields are asked for, not on how many filters ask.
"""

from __future__ import annotations

from dataclasses import dataclass

from retina_jit.filters import engine
from retina_jit.filters.conditions import ROOM, Conditions
from retina_jit.filters.indexing import AUTOMATA, FOUND, HEAD_OF_FIELD, KEYS, LOOKUP, USED, Layout, Source
from retina_jit.state import layout as state_layout

ENGINE = "retina_jit.filters.engine"
SCRATCH = "scratch"
SCRATCH_WORDS = 1 << 15
"""For a stage of any content: not on the stack, for LLVM takes minutes over a frame of that size."""

PARAMETERS = {
    "packet": "tables, rows, n, matches",
    "connection": "tables, row_at, sets",
    "packet_deliver": "tables, row_at, sets",
    "end": "tables, row_at, connection, track, sets",
    "watch": "tables, row_at, sets",
    "early": "tables, row_at, connection, track, sets",
    "protocol": "tables, row_at, service, sets",
    "session": "tables, row_at, service, session, sets",
}


@dataclass
class Describer(Conditions):
    """Writes the kernel of one stage."""

    head: int = 0
    """Index of the stage's table."""
    everything: bool = False
    """Fields that no filter asks for are written too, and passed over: the source is the same for all filters."""

    def source(self, layout: Layout) -> str:
        """Return the source."""
        self.pair = "s + 8 * PAIR"
        packet = self.stage == "packet"
        self.use("retina_jit.jit", "entry")
        self.use("retina_jit.memory", "at")
        if not self.everything:
            self.use("retina_jit.memory", "stack")
        self.use("retina_jit.memory", "load64")
        self.use("retina_jit.memory", "store64")
        self.use("retina_jit.memory", "call3")
        self.use("retina_jit.state.layout", "PACKET")
        self.use(ENGINE, "clear_results")
        self.uses_numpy = True
        indent = "        " if packet else "    "
        body = [
            f"{indent}layers = np.int64(row.layers)",
            f"{indent}present = 0",
        ]
        for n, protocol in enumerate(layout.protocols):
            body += [f"{indent}if {self.presence(protocol)}:", f"{indent}    present |= {1 << n}"]
        body += [f"{indent}store64(s, present)", f"{indent}likely = {self.at_head(engine.ALWAYS)}"]
        if self.everything or layout.found_words:
            body.append(f"{indent}{self.use(ENGINE, 'clear')}(t, s)")
        if layout.key_count:
            body.append(f"{indent}{self.use('retina_jit.memory', 'fill')}(s + {8 * layout.keys_at}, 0, {8 * layout.key_count})")
        for n, protocol in enumerate(layout.leading):
            bit = layout.protocols.index(protocol)
            body += [
                f"{indent}if (present >> {bit}) & 1:",
                f"{indent}    key = load64(t + {8 * (engine.HEAD + n)})",
                f"{indent}    store64(s + {8 * (layout.keys_at + n)}, key)",
                f"{indent}    likely |= key",
            ]
        sources = list(layout.sources.values())
        for source in sources:
            if self.everything or source.indexed:
                body += self.describe(source, layout, indent, indexed=True)
        rest = [s for s in sources if not (self.everything or s.indexed)]
        body.append(f"{indent}if likely:")
        for source in rest:
            body += self.describe(source, layout, indent + "    ", indexed=False)
        decide = f"call3({self.code_at('decide')}, tables, t, s)"
        if packet:
            self.use(ENGINE, "report")
            body += [
                f"            changed = {decide}",
                "            if changed:",
                "                found = report(t, s, changed, k, matches, count)",
                "                count = found >> 1",
                "                if found & 1:",
                f"                    row.verdict = row.verdict | {state_layout.CONTINUE}",
                "    return count",
            ]
        else:
            self.use(ENGINE, "answer")
            body += [f"        {decide}", "    answer(t, s, sets)", "    return 0"]
        scratch = self.table(self.code.place(SCRATCH)) if self.everything else "STACK()"
        start = [f"    s = {scratch}", f"    t = {self.table(self.head)}", "    clear_results(t, s)"]
        if packet:
            start += ["    count = 0", "    for k in range(n):", f"        row = ROW_AT(rows + {state_layout.PACKET.itemsize} * k)"]
        else:
            start.append("    row = ROW_AT(row_at)")
        pair = layout.size
        size = SCRATCH_WORDS if self.everything else max(64, 1 << (pair + ROOM - 1).bit_length())
        reserve = "" if self.everything else f"STACK = stack({size})\n"
        imports = "\n".join(f"from {module} import {name}" for module, name in sorted(self.imports))
        return f'''"""Generated: the {self.stage} stage of a set of subscriptions, described for their tables."""

import numpy as np

{imports}

ROW_AT = at(PACKET)
{reserve}PAIR = {size - ROOM}


@entry
def {self.stage}_stage({PARAMETERS[self.stage]}):
''' + "\n".join([*start, *body, ""])

    def at_head(self, word: int) -> str:
        """Text of a word at the head of the stage's table."""
        return f"load64(t + {8 * word})" if word else "load64(t)"

    def code_at(self, name: str) -> str:
        """Text of the address of an entry of the engine."""
        return f"load64({self.table(self.code.entry(f'{ENGINE}:{name}'))})"

    def describe(self, source: Source, layout: Layout, indent: str, *, indexed: bool) -> list[str]:
        """Lines that describe one field."""
        declared = source.declared
        base = engine.HEAD + len(layout.leading) + HEAD_OF_FIELD * source.number
        bit = layout.protocols.index(declared.protocol)
        word = {name: self.at_head(base + name) for name in range(HEAD_OF_FIELD)}
        there = f"(present >> {bit}) & 1"
        if self.everything:
            there = f"{there} and {word[USED]}"
        inner = indent + "    "
        lines = [f"{indent}if {there}:"]
        key_at, value_at = f"s + {8 * source.key}", f"s + {8 * source.place}"
        kind = source.kind
        if kind in ("numbers", "texts"):
            return [*lines, *self.describe_list(source, word, inner)]
        keyed = False
        value = self.session_value(declared, self.key(source.name)) if source.name else self.load(declared)
        if kind == "number":
            lines += [f"{inner}value = {value}", f"{inner}store64({value_at}, value)"]
            look = f"{self.use(ENGINE, 'key_of_number')}(t, {word[LOOKUP]}, value)"
            keyed = indexed
        elif kind == "wide":
            lines.append(f"{inner}wide = {value}")
            lines += [f"{inner}store64({value_at}, wide[0])", f"{inner}store64({value_at} + 8, wide[1])"]
            look = f"{self.use(ENGINE, 'key_of_wide')}(t, {word[LOOKUP]}, wide[0], wide[1])"
            keyed = indexed
        else:
            lines.append(f"{inner}span = {value}")
            if self.everything or source.texts:
                number = f"{self.use(ENGINE, 'number_of_text')}(t, {word[LOOKUP]}, span)"
                lines += self.guarded(word[LOOKUP], [f"number = {number}", f"store64({value_at}, number)"], inner)
            look = f"{self.use(ENGINE, 'key_of_text')}(t, {word[KEYS]}, number)"
            keyed = indexed and (self.everything or bool(source.texts))
            if self.everything or source.bits:
                lines += self.guarded(word[AUTOMATA], [*self.run_automata(word, "span"), "likely = 1"], inner)
        if keyed:
            lines += [f"{inner}key = 0"] * self.everything
            lines += self.guarded(word[LOOKUP], [f"key = {look}"], inner)
            lines += [f"{inner}store64({key_at}, key)", f"{inner}likely |= key"]
        return lines

    def guarded(self, word: str, lines: list[str], indent: str) -> list[str]:
        """Lines behind the question whether there is such a table."""
        if not self.everything:
            return [indent + line for line in lines]
        return [f"{indent}if {word}:", *(f"{indent}    {line}" for line in lines)]

    def run_automata(self, word: dict[int, str], span: str) -> list[str]:
        """Lines that run a field's automata over a text."""
        self.use("retina_jit.memory", "call5")
        return [f"call5({self.code_at('run_patterns')}, tables, {word[AUTOMATA]}, {span}[0], {span}[1], s + {word[FOUND]})"]

    def describe_list(self, source: Source, word: dict[int, str], indent: str) -> list[str]:
        """Lines that note which conditions some element fulfils."""
        count = self.session_value(source.declared, "-1") + ("[1]" if source.kind == "texts" else "")
        inner = indent + "    "
        lines = [f"{indent}likely = 1", f"{indent}for e in range({count}):"]
        note = self.use(ENGINE, "note")
        value = self.session_value(source.declared, "e")
        if source.kind == "numbers":
            lines.append(f"{inner}value = {value}")
            look = f"{self.use(ENGINE, 'key_of_number')}(t, {word[LOOKUP]}, value)"
            return [*lines, *self.guarded(word[LOOKUP], [f"{note}(t, {word[KEYS]}, {look}, s + {word[FOUND]})"], inner)]
        lines.append(f"{inner}span = {value}")
        if self.everything or source.texts:
            look = f"{self.use(ENGINE, 'number_of_text')}(t, {word[LOOKUP]}, span)"
            lines += self.guarded(word[LOOKUP], [f"{note}(t, {word[KEYS]}, {look}, s + {word[FOUND]})"], inner)
        if self.everything or any(form in ("contains", "regex") for form, _ in source.bits):
            lines += self.guarded(word[AUTOMATA], self.run_automata(word, "span"), inner)
        return lines
