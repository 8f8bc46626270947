"""Names and types: the tree becomes terms over declared fields, or an error that points at the fault."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from retina_jit.errors import FilterError, PredicateError
from retina_jit.filters import operators
from retina_jit.filters.literals import Literals, complement, family, top, union
from retina_jit.filters.predicates import WATCHED, Call
from retina_jit.filters.predicates import Predicate as Own
from retina_jit.filters.render import render_octets, render_ranges, render_texts
from retina_jit.filters.syntax import (
    FALSE,
    TRUE,
    And,
    FileOf,
    Group,
    Not,
    Octets,
    Or,
    Predicate,
    Present,
    Quoted,
    SetOf,
    Span,
    Term,
    Test,
    Tree,
    Value,
    Word,
    both,
    either,
    negation,
)
from retina_jit.parsers.protocol import Field, Protocol

_EITHER_FAMILY = {
    "addr": "addr",
    "src": "src_addr",
    "dst": "dst_addr",
    "src_addr": "src_addr",
    "dst_addr": "dst_addr",
    "host": "addr",
}
"""Wireshark's `ip.addr` and its relatives: the value says which family is meant."""


class Names:
    """All names that a filter may use, from the declared protocols and the user's predicates.

    A call of a predicate becomes a bool field of the protocol that it is asked of: `frame`, a session protocol, `conn`; or
    of WATCHED, where it is asked of a connection packet by packet.
    """

    def __init__(self, protocols: Mapping[str, Protocol], predicates: Mapping[str, Own] | None = None) -> None:
        self.predicates = predicates or {}
        self.calls: dict[tuple[str, str], Call] = {}
        watched = Protocol(WATCHED, "", "watched", (), {}, "")
        self.protocols = {**protocols, WATCHED: watched}
        self.spelling = {name: name for name in protocols} | {
            a: p.name for p in protocols.values() for a in p.aliases
        }
        self.alias = {a: f for p in protocols.values() for f in p.fields.values() for a in f.aliases}

    def field(self, test: Test) -> Field:
        """Return the declaration behind a test."""
        return self.protocols[test.protocol].fields[test.field]

    def enter(self, protocol: str, name: str, call: Call | None = None) -> None:
        """Enter a bool field, that of a call, or of what else is found out packet by packet."""
        known = self.protocols[protocol]
        if name not in known.fields:
            made = Field("bool", "", bits=1, name=name, protocol=protocol)
            self.protocols[protocol] = replace(known, fields={**known.fields, name: made})
        if call is not None:
            self.calls[(protocol, name)] = call


def resolve(tree: Tree | None, text: str, names: Names, folder: str = "") -> Term:
    """Return the terms of a tree; `folder` is where relative paths of files begin.

    Raises
    ------
    FilterError
        An unknown name, an operator or a value that does not go with the field.
    """
    return TRUE if tree is None else merge(_Resolver(text, names, folder).term(tree), names)


def merge(term: Term, names: Names) -> Term:
    """Join alternatives over one field into one set: a long list of ports or names is a single look-up."""
    if isinstance(term, Not):
        return negation(merge(term.term, names))
    if isinstance(term, And):
        return both(merge(t, names) for t in term.terms)
    if not isinstance(term, Or):
        return term
    groups: dict[object, list[Term]] = {}
    for part in (merge(t, names) for t in term.terms):
        joinable = isinstance(part, Test) and part.form in ("range", "equal") and not part.negated
        key = (part.protocol, part.field, part.key, part.form) if joinable else part  # type: ignore[union-attr]
        groups.setdefault(key, []).append(part)
    return either(g[0] if len(g) == 1 else joined(g, names) for g in groups.values())


def joined(tests: list[Any], names: Names) -> Test:
    """Return the test that holds where one of several tests of one form and field holds."""
    first: Test = tests[0]
    spans = [t.span for t in tests if t.span]
    span = Span(min(s.start for s in spans), max(s.end for s in spans)) if spans else None
    if first.form == "range":
        ranges = union([r for t in tests for r in t.value])
        return replace(first, value=ranges, shown=render_ranges(names.field(first), ranges, False), span=span)
    values = tuple(sorted({v for t in tests for v in t.value}))
    return replace(first, value=values, shown=render_texts(values, False), span=span)


class _Resolver:
    def __init__(self, text: str, names: Names, folder: str) -> None:
        self.names = names
        self.literals = Literals(text, folder)

    def fail(self, reason: str, span: Span) -> FilterError:
        return self.literals.fail(reason, span)

    def term(self, tree: Tree) -> Term:
        if isinstance(tree, Group):
            parts = [self.term(part) for part in tree.parts]
            return (
                negation(parts[0]) if tree.word == "not" else (both if tree.word == "and" else either)(parts)
            )
        return self.predicate(tree)

    # -------------------------------------------------------------------------------------------------------- names

    def predicate(self, tree: Predicate) -> Term:
        head, _, tail = tree.path.partition(".")
        if tree.arguments is not None or (tree.path in self.names.predicates and not tree.operator):
            return self.call(tree)
        if tree.path in self.names.predicates:
            raise self.fail(f"{tree.path} is a predicate: it stands alone, or with values in parentheses", tree.path_span)
        if head == "ip" and tail in _EITHER_FAMILY and {"ipv4", "ipv6"} <= set(self.names.protocols):
            return self.either_family(tree, _EITHER_FAMILY[tail])
        known = self.names.alias.get(tree.path)
        if known is not None:
            return self.comparison(tree, [known])
        protocol = self.names.protocols.get(self.names.spelling.get(head, ""))
        if protocol is None:
            raise self.unknown_protocol(head, tail, tree.path_span)
        if not tail:
            if tree.operator:
                raise self.fail(
                    f"{head} is a protocol: it stands alone, or a field follows: {head}.…", tree.path_span
                )
            if protocol.level == "connection":
                raise self.fail(f"{head} alone says nothing: a field follows, see `retina-jit fields {head}`", tree.path_span)
            return Present(protocol.name, tree.path_span)
        if tail in protocol.fields:
            return self.comparison(tree, [protocol.fields[tail]])
        pair = [
            protocol.fields[f"{side}_{tail}"]
            for side in ("src", "dst")
            if f"{side}_{tail}" in protocol.fields
        ]
        if not pair and tail == "addr" and protocol.fields.keys() >= {"src", "dst"}:
            pair = [protocol.fields["src"], protocol.fields["dst"]]
        if len(pair) == 2:
            return self.comparison(tree, pair)
        raise self.unknown_field(protocol, tail, tree.path_span)

    def call(self, tree: Predicate) -> Term:
        """A predicate of the user's own."""
        found = self.names.predicates.get(tree.path)
        if found is None:
            words = list(self.names.predicates)
            near = _near(tree.path, words) or (f"; there are {', '.join(words)}" if words else "; declare it with @predicate")
            raise self.fail(f"there is no predicate {tree.path}{near}", tree.path_span)
        values = tree.arguments or ()
        try:
            call = Call(found, found.name, found.bind(tuple(self.argument(v) for v in values)))
        except PredicateError as error:
            raise self.fail(str(error), tree.path_span) from None
        home = {"packet": "frame", "session": found.protocol, "connection": WATCHED}[found.kind]
        if home not in self.names.protocols:
            raise self.fail(f"{found.name} is asked of {home}, which is not there", tree.path_span)
        self.names.enter(home, call.label, call)
        return Test(home, call.label, "range", ((1, 1),), span=tree.span, called=True)

    def argument(self, value: Value) -> int | float | bool | str:
        """A value in the parentheses of a predicate."""
        if isinstance(value, Quoted):
            return self.literals.octets(_TEXT, value, empty=True).decode("latin-1")
        if isinstance(value, Word):
            if value.text in ("true", "false"):
                return value.text == "true"
            for read in (lambda text: int(text, 0), float):
                try:
                    number: int | float = read(value.text)
                except ValueError:
                    continue
                if isinstance(number, int) and not -(1 << 63) <= number < 1 << 63:
                    break
                return number
        raise self.fail("a predicate takes numbers, true, false and 'texts'", value.span)

    def unknown_protocol(self, head: str, tail: str, span: Span) -> FilterError:
        words = [*self.names.spelling, *self.names.predicates]
        if head.lower() in words:
            return self.fail(f"names are in lower case: {head.lower()}", span)
        return self.fail(f"there is no protocol {head}{_near(head, words)}", span)

    def unknown_field(self, protocol: Protocol, name: str, span: Span) -> FilterError:
        words = [
            *protocol.fields,
            *(w[4:] for w in protocol.fields if w[:4] == "src_" and f"dst_{w[4:]}" in protocol.fields),
        ]
        near = _near(name, words)
        if not near:
            near = (
                f"; it has {', '.join(words)}"
                if len(words) <= 12
                else f"; see `retina-jit fields {protocol.name}`"
            )
        return self.fail(f"{protocol.name} has no field {name}{near}", span)

    def either_family(self, tree: Predicate, name: str) -> Term:
        if tree.value is None:
            raise self.bare(tree, f"ip.{name}")
        sort: dict[str, list[Value]] = {"ipv4": [], "ipv6": []}
        for item in self.literals.members(self.names.protocols["ipv4"].fields["src_addr"], tree.value):
            kind = family(item.text) if isinstance(item, Word) else ""
            if not kind:
                hint = f": write {item.text}, without quotes" if isinstance(item, Quoted) and family(item.text) else ""
                raise self.fail(f"{self.literals.source(tree.value, item)}this is no IP address{hint}", item.span)
            sort[kind].append(item)
        found = []
        for kind, items in sort.items():
            if items:
                value = (
                    SetOf(tuple(items), tree.value.span)
                    if isinstance(tree.value, SetOf | FileOf)
                    else items[0]
                )
                fields = self.names.protocols[kind].fields
                parts = (
                    [fields[name]]
                    if name in fields
                    else [fields[f"{side}_{name}"] for side in ("src", "dst")]
                )
                one = Predicate(tree.path, tree.path_span, tree.operator, tree.operator_span, value, tree.key)
                found.append(self.comparison(one, parts))
        return either(found)

    # ------------------------------------------------------------------------------------------------------- values

    def bare(self, tree: Predicate, name: str) -> FilterError:
        return self.fail(f"{name} needs an operator and a value", tree.path_span)

    def comparison(self, tree: Predicate, fields: list[Field]) -> Term:
        """Compare one field, or both sides of a pair."""
        first, self.literals.asked = fields[0], tree.path
        if first.keyed and not tree.key:
            raise self.fail(f"{tree.path} needs a name: {tree.path}['…']", tree.path_span)
        if tree.key is not None and not first.keyed:
            raise self.fail(f"{tree.path} has one value: no name in brackets belongs here", tree.path_span)
        if tree.value is None:
            if first.kind != "bool":
                raise self.bare(tree, tree.path)
            return Test(first.protocol, first.name, "range", ((1, 1),), shown="= 1", span=tree.span)
        operator = operators.BY_NAME[tree.operator]
        assert tree.operator_span is not None
        if first.kind not in operator.kinds:
            fit = ", ".join(f"`{o.name}`" for o in operators.TABLE if first.kind in o.kinds)
            raise self.fail(
                f"`{operator.name}` does not go with {SHAPES[first.kind]}: {tree.path} takes {fit}",
                tree.operator_span,
            )
        tests = [self.test(f, operator, tree.value, tree.operator_span, tree.span) for f in fields]
        if tree.key:
            tests = [replace(t, key=tree.key.encode()) if isinstance(t, Test) else t for t in tests]
        found = (both if operator.every else either)(tests)
        if not first.needs:
            return found
        there = Test(first.protocol, first.needs, "range", ((1, 1),), shown="= 1", span=tree.span)
        return both([there, found])

    def test(self, field: Field, operator: operators.Operator, value: Value, at: Span, span: Span) -> Term:
        name = operator.name
        grouped = isinstance(value, SetOf | FileOf)
        if name in ("in", "not in"):
            self.check_in(field, value, name)
        elif grouped:
            instead = {"=": "in", "!=": "not in"}.get(name)
            hint = f": write `{instead} {{…}}`" if instead else ""
            raise self.fail(f"`{name}` takes one value, not a set{hint}", at)
        elif isinstance(value, Word) and ".." in value.text and field.kind in operators.NUMBERS:
            hint = {"=": ": write `in`", "!=": ": write `not in`"}.get(name, "")
            raise self.fail(f"`{name}` takes one value, not a range{hint}", at)
        if field.kind in operators.TEXTS:
            return self.text_test(field, name, value, span)
        return self.number_test(field, name, value, at, span)

    def check_in(self, field: Field, value: Value, name: str) -> None:
        if isinstance(value, SetOf | FileOf):
            return
        instead = "=" if name == "in" else "!="
        if field.kind in operators.TEXTS or isinstance(value, Octets):
            raise self.fail(
                f"`{name}` takes a set: write `{name} {{…}}`, or `{instead}` for one value", value.span
            )
        if field.kind in ("int", "ints", "bool", "mac") and ".." not in getattr(value, "text", ".."):
            raise self.fail(
                f"`{name}` takes a range, a {{set}} or an @file: write `{instead}` for one value", value.span
            )

    def number_test(self, field: Field, name: str, value: Value, at: Span, span: Span) -> Term:
        ranges = self.literals.ranges(field, value)
        largest = top(field)
        point = ranges[0][0]
        if name == ">=":
            ranges = ((point, largest),)
        elif name == "<=":
            ranges = ((0, point),)
        elif name == ">":
            ranges = ((point + 1, largest),)
        elif name == "<":
            ranges = ((0, point - 1),)
        if ranges[0][0] > ranges[0][1]:
            raise self.fail(
                f"no value is {'above' if name == '>' else 'below'} {point}: this matches never", span
            )
        negated = name in ("!=", "not in")
        # Of a list nothing may be equal; of a number the rest of its range is the same thing, and cheaper.
        if negated and field.kind not in operators.LISTS:
            ranges, negated = complement(ranges, largest), False
            if not ranges:
                return FALSE
        return Test(
            field.protocol, field.name, "range", ranges, negated, render_ranges(field, ranges, negated), span
        )

    def text_test(self, field: Field, name: str, value: Value, span: Span) -> Term:
        if name in ("~", "~b"):
            from retina_jit.filters.regex import check

            pattern = self.literals.pattern(field, value)
            as_bytes = name == "~b" or field.kind == "bytes"
            check(pattern, as_bytes, self.literals.text, value.span.start + 1)
            return Test(
                field.protocol, field.name, "regex", (pattern, as_bytes), False, f"{name} '{pattern}'", span
            )
        if name in ("contains", "not contains"):
            part = self.literals.octets(field, value, empty=False)
            return Test(
                field.protocol,
                field.name,
                "contains",
                part,
                name != "contains",
                f"{name} {render_octets(part)}",
                span,
            )
        values = sorted(
            {self.literals.octets(field, item, empty=True) for item in self.literals.members(field, value)}
        )
        negated = name in ("!=", "not in")
        return Test(
            field.protocol,
            field.name,
            "equal",
            tuple(values),
            negated,
            render_texts(tuple(values), negated),
            span,
        )


_TEXT = Field("text", "", name="text")

SHAPES = {
    "int": "a number",
    "bool": "a bool",
    "ints": "a list of numbers",
    "ipv4": "an address",
    "ipv6": "an address",
    "mac": "an address",
    "text": "a text",
    "texts": "a list of texts",
    "bytes": "bytes",
}


def _near(word: str, words: object) -> str:
    found = difflib.get_close_matches(word, sorted(words), n=1, cutoff=0.6)  # type: ignore[call-overload]
    return f"; did you mean {found[0]}?" if found else ""
