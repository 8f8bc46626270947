"""A stage's trie becomes the source of one kernel.

Conditions nest as in the trie. A field is read at the innermost node that lies above all its uses and behind the
presence of its protocol; where there is no such node it is read in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from retina_jit.filters.conditions import MOST_PREDICATES, Conditions
from retina_jit.filters.normalize import GIVEN
from retina_jit.filters.split import END, PACKET_DELIVER
from retina_jit.filters.syntax import Present, Term, Test, leaves
from retina_jit.filters.tables import signed
from retina_jit.filters.trie import Effect, Node
from retina_jit.parsers.protocol import Field
from retina_jit.state import layout

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
class Writer(Conditions):
    """Writes the kernel of one stage."""

    def subtree(self, node: Node) -> set[str]:
        """Return what all conditions below a node read."""
        found: set[str] = set()
        for condition, child in node.children.items():
            found |= self.keys(condition) | self.subtree(child)
        return found

    def owner(self, key: str) -> Field:
        """Field that a key reads."""
        if key.startswith("automaton "):
            index = int(key.split()[1])
            protocol, name = next((p, f) for (p, f, _), (t, _) in self.automata.items() if t == index)
        else:
            protocol, name = key.split(".", 1)
        return self.names.protocols[protocol].fields[name]

    def node(
        self, node: Node, indent: str, context: int, given: frozenset[str], known: dict[str, str]
    ) -> None:
        """Write a node: its effects, what its branches read, its branches."""
        self.lines += [indent + text for text in _effects(node.effects)]
        conditions: set[str] = set()
        shared: Counter[str] = Counter()
        for condition, child in node.children.items():
            conditions |= self.keys(condition)
            shared.update(self.keys(condition) | self.subtree(child))
        wanted = {k for k, uses in shared.items() if (uses > 1 or k in conditions) and k not in known}
        known = dict(known)
        # An automaton runs over a text: the text is read first.
        for key in sorted(wanted, key=lambda k: (k.startswith("automaton "), k)):
            declared = self.owner(key)
            if self.guaranteed(declared.protocol, context, given):
                self.read(key, declared, indent, known)
        if not node.effects and not node.children:
            self.lines.append(f"{indent}pass")
        children = list(node.children.items())
        if node.size() <= MOST_PREDICATES or len(children) == 1:
            self.branches(children, indent, context, given, known)
            return
        batch: list[tuple[Term, Node]] = []
        for n, (condition, child) in enumerate(children):
            batch.append((condition, child))
            following = Node(children=dict([*batch, *children[n + 1 : n + 2]])).size()
            if n + 1 == len(children) or following > MOST_PREDICATES:
                self.part(batch, indent, context, given, known)
                batch = []

    def branches(
        self,
        children: list[tuple[Term, Node]],
        indent: str,
        context: int,
        given: frozenset[str],
        known: dict[str, str],
    ) -> None:
        """Write branches in place."""
        for condition, child in children:
            self.lines.append(f"{indent}if {self.condition(condition, known)}:")
            inner, there = context, given
            if isinstance(condition, Present):
                inner &= self.worlds.of(condition.protocol)
                there = given | {condition.protocol}
            self.node(child, indent + "    ", inner, there, known)

    def part(
        self,
        children: list[tuple[Term, Node]],
        indent: str,
        context: int,
        given: frozenset[str],
        known: dict[str, str],
    ) -> None:
        """Write branches as a function of their own, and the call to it."""
        used = self.subtree(Node(children=dict(children)))
        arguments = self.arguments({known[k] for k in used if k in known})
        effects = _all_effects(Node(children=dict(children)))
        n = len(self.parts)
        self.parts.append("")
        outside, self.lines = self.lines, []
        outer, self.row_address = self.row_address, "row_at"
        self.branches(children, "    ", context, given, known)
        start = "".join(f"    {name} = 0\n" for name in effects)
        body = "\n".join(self.lines)
        self.row_address = outer
        self.parts[n] = (
            f"@kernel\ndef part_{n}({arguments}):\n    row = ROW_AT(row_at)\n{start}{body}\n    return {', '.join(effects)}\n"
        )
        self.lines = outside
        self.use("retina_jit.jit", "kernel")
        if len(effects) == 1:
            self.lines.append(f"{indent}{effects[0]} |= part_{n}({arguments})")
            return
        self.lines.append(f"{indent}found = part_{n}({arguments})")
        self.lines += [f"{indent}{name} |= found[{k}]" for k, name in enumerate(effects)]

    def guaranteed(self, protocol: str, context: int, given: frozenset[str]) -> bool:
        """Whether a protocol is known to be there."""
        if self.worlds.layer(protocol) == "link":
            return protocol in given
        return not context & ~self.worlds.of(protocol)

    def read(self, key: str, declared: Field, indent: str, known: dict[str, str]) -> None:
        """Write the line that reads what a key names."""
        if not key.startswith("automaton "):
            called = (declared.protocol, declared.name) in self.names.calls
            name = f"own_{self.code.add((declared.protocol, declared.name))}_" if called else f"{declared.protocol}_{declared.name}_"
            text = self.load(declared)
        else:
            table = int(key.split()[1])
            name = f"found_{table}"
            listed = declared.kind == "texts"
            text = (
                self.run_over_list(table, declared)
                if listed
                else self.run(table, self.value(declared, known))
            )
        self.lines.append(f"{indent}{name} = {text}")
        known[key] = name


def _effects(effects: Iterable[Effect]) -> list[str]:
    bits: dict[str, int] = {}
    for kind, number in effects:
        name = "keep" if kind == "keep" else f"{kind}{number // 64}"
        bits[name] = bits.get(name, 0) | (1 if kind == "keep" else 1 << number % 64)
    return [f"{name} |= {signed(mask)}" for name, mask in sorted(bits.items())]


def _all_effects(node: Node) -> list[str]:
    names = {"keep" if kind == "keep" else f"{kind}{number // 64}" for kind, number in node.effects}
    for child in node.children.values():
        names.update(_all_effects(child))
    return sorted(names)


def write(writer: Writer, roots: list[Node], subscriptions: Iterable[int], owners: Sequence[int]) -> str:
    """Return the source of a stage."""
    packet = writer.stage == "packet"
    writer.use("retina_jit.jit", "entry")
    writer.use("retina_jit.memory", "at")
    writer.use("retina_jit.state.layout", "PACKET")
    writer.uses_numpy = True
    numbers = sorted(subscriptions)
    used = sorted({n // 64 for n in numbers})
    indent = "        " if packet else "    "
    for root in roots:
        if root.effects or root.children:
            writer.node(root, indent, writer.worlds.all, GIVEN, {})
    body = writer.lines
    keeps = any("keep" in _all_effects(root) for root in roots)
    head: list[str] = []
    if packet:
        head += ["    count = 0", "    for k in range(n):"]
        place = f"rows + {layout.PACKET.itemsize} * k"
        if writer.parts:
            head += [f"        row_at = {place}", "        row = ROW_AT(row_at)"]
        else:
            head.append(f"        row = ROW_AT({place})")
    else:
        head.append("    row = ROW_AT(row_at)")
    head.append(f"{indent}layers = np.int64(row.layers)")
    tail: list[str] = []
    if packet:
        head += [f"{indent}sure{w} = 0" for w in used] + [f"{indent}keep = 0"] * keeps
        if used:
            writer.use("retina_jit.memory", "store64")
        for w in used:
            tail += _deliver(writer, [n for n in numbers if n // 64 == w], w)
        if keeps:
            tail += ["        if keep:", f"            row.verdict = row.verdict | {layout.CONTINUE}"]
        tail.append("    return count")
    else:
        head += [f"    {name}{w} = 0" for w in used for name in ("sure", "open")]
        writer.use("retina_jit.memory", "load64")
        writer.use("retina_jit.memory", "store64")
        if writer.stage in (PACKET_DELIVER, END):
            for n in numbers:
                if owners[n] != n:
                    tail += _hand_over(writer, n, owners[n])
        for w in range(writer.words):
            matched, maybe = 8 * (writer.words + w), 8 * (2 * writer.words + w)
            if w in used:
                tail += [
                    f"    alive{w} = load64(sets + {8 * w})",
                    f"    store64(sets + {matched}, alive{w} & sure{w})",
                    f"    store64(sets + {maybe}, alive{w} & open{w} & ~sure{w})",
                ]
            else:
                tail += [f"    store64(sets + {matched}, 0)", f"    store64(sets + {maybe}, 0)"]
        tail.append("    return 0")
    return _file(writer, [*head, *body, *tail])


def _hand_over(writer: Writer, slot: int, owner: int) -> list[str]:
    """Lines by which a slot's match becomes one of its subscription, which is asked for with it."""
    w, v = slot // 64, owner // 64
    place = f"sets + {8 * v}" if v else "sets"
    word = f"sets + {8 * w}" if w else "sets"
    return [
        f"    if load64({word}) & sure{w} & {signed(1 << slot % 64)}:",
        f"        sure{v} |= {signed(1 << owner % 64)}",
        f"        store64({place}, load64({place}) | {signed(1 << owner % 64)})",
        f"    sure{w} &= {signed(~(1 << slot % 64))}",
    ]


def _deliver(writer: Writer, numbers: list[int], word: int) -> list[str]:
    """Lines that append the matches of one word of subscriptions."""
    if len(numbers) == 1:
        return [
            f"        if sure{word} != 0:",
            f"            store64(matches + 8 * count, (k << 32) | {numbers[0]})",
            "            count += 1",
        ]
    writer.use("retina_jit.memory", "trailing_zeros")
    return [
        f"        while sure{word} != 0:",
        f"            store64(matches + 8 * count, (k << 32) | ({64 * word} + trailing_zeros(sure{word})))",
        "            count += 1",
        f"            sure{word} &= sure{word} - 1",
    ]


def _file(writer: Writer, lines: list[str]) -> str:
    imports = "\n".join(f"from {module} import {name}" for module, name in sorted(writer.imports))
    helpers = ""
    for n, body in enumerate(writer.helpers):
        what = "matches" if "found" in body else "any"
        helpers += f"\n\n@kernel\ndef {what}_{n}(tables, session, sets):\n{body}"
    # A part stands behind those that it calls.
    helpers += "".join(f"\n\n{part}" for part in reversed(writer.parts))
    numpy = "import numpy as np\n\n" if writer.uses_numpy else ""
    return (
        f'''"""Generated: the {writer.stage} stage of a set of subscriptions."""

{numpy}{imports}

ROW_AT = at(PACKET)
{helpers}

@entry
def {writer.stage}_stage({PARAMETERS[writer.stage]}):
'''
        + "\n".join(lines)
        + "\n"
    )


def automata_of(roots: list[Node]) -> dict[tuple[str, str], list[tuple[str, bool]]]:
    """Return all patterns that a trie asks for, by field."""
    found: dict[tuple[str, str], set[tuple[str, bool]]] = {}

    def visit(node: Node) -> None:
        for condition, child in node.children.items():
            for leaf in leaves(condition):
                if isinstance(leaf, Test) and leaf.form == "regex":
                    found.setdefault((leaf.protocol, leaf.field), set()).add(leaf.value)  # type: ignore[arg-type]
            visit(child)

    for root in roots:
        visit(root)
    return {key: sorted(patterns) for key, patterns in sorted(found.items())}
