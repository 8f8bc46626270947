"""What a filter is made of: the tree that `parse` makes of the text, and the terms that all later passes work on.

The tree knows words and where they stand. A term knows protocols, fields and values. Both are immutable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from dataclasses import field as attribute

MOST_LEVELS = 100
"""How deep parentheses and `not` may nest."""


@dataclass(frozen=True)
class Span:
    """Part of the text: from character `start` up to, not including, `end`."""

    start: int
    end: int


# --------------------------------------------------------------------------------------------------------- the tree


@dataclass(frozen=True)
class Word:
    """A bare literal as it stands: a number, a range, an address, a name."""

    text: str
    span: Span


@dataclass(frozen=True)
class Quoted:
    """A string without its quotes; escapes are not yet read, for what they mean depends on the operator."""

    text: str
    quote: str
    span: Span


@dataclass(frozen=True)
class Octets:
    """Bytes between bars."""

    value: bytes
    span: Span


@dataclass(frozen=True)
class SetOf:
    """Several values in braces."""

    items: tuple[Value, ...]
    span: Span


@dataclass(frozen=True)
class FileOf:
    """A set whose values stand in a file, one a line."""

    path: str
    span: Span


Value = Word | Quoted | Octets | SetOf | FileOf


@dataclass(frozen=True)
class Predicate:
    """A name alone, or name, operator and value, or a name with values in parentheses; `key` stands behind a name in brackets."""

    path: str
    path_span: Span
    operator: str = ""
    operator_span: Span | None = None
    value: Value | None = None
    key: str | None = None
    arguments: tuple[Value, ...] | None = None

    @property
    def span(self) -> Span:
        """All of it."""
        return Span(self.path_span.start, self.value.span.end if self.value else self.path_span.end)


@dataclass(frozen=True)
class Group:
    """A connective: "and", "or" or "not" over parts."""

    word: str
    parts: tuple[Tree, ...]
    span: Span
    levels: int = 1


Tree = Predicate | Group


# -------------------------------------------------------------------------------------------------------- the terms


@dataclass(frozen=True)
class Truth:
    """Always or never."""

    value: bool


TRUE, FALSE = Truth(True), Truth(False)


@dataclass(frozen=True)
class Present:
    """The protocol is there."""

    protocol: str
    span: Span | None = attribute(default=None, compare=False)


@dataclass(frozen=True)
class Test:
    """A field of a protocol that is there fulfils a condition; false where the protocol is not there.

    Attributes
    ----------
    form : str
        "range": `value` is a tuple of (low, high) pairs, sorted, disjoint, both ends included; numbers of all kinds.
        "equal": `value` is a sorted tuple of byte strings.
        "contains": `value` is a byte string.
        "regex": `value` is (pattern, whether it sees bytes instead of UTF-8 text).
    negated : bool
        The condition holds for no element (lists), or not for the value (text).
    shown : str
        How the test prints, without the field.
    key : bytes
        Which value of a keyed field is meant (`http.headers['Host']`).
    called : bool
        `field` is a predicate of the user's own, with its values.
    """

    protocol: str
    field: str
    form: str
    value: tuple[tuple[int, int], ...] | tuple[bytes, ...] | bytes | tuple[str, bool]
    negated: bool = False
    shown: str = attribute(default="", compare=False)
    span: Span | None = attribute(default=None, compare=False)
    key: bytes = b""
    called: bool = attribute(default=False, compare=False)

    def __hash__(self) -> int:
        """Computed once: a set may hold 100,000 networks, and passes ask for it again and again."""
        if "_hash" not in self.__dict__:
            self.__dict__["_hash"] = hash((self.protocol, self.field, self.form, self.value, self.negated, self.key))
        return int(self.__dict__["_hash"])


@dataclass(frozen=True)
class And:
    """All hold."""

    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Or:
    """At least one holds."""

    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Not:
    """It does not hold."""

    term: Term


Term = Truth | Present | Test | And | Or | Not


def both(terms: Iterable[Term]) -> Term:
    """Return the conjunction, flattened, without repetition; what is known to be true or false is folded."""
    return _join(terms, And, absorbing=FALSE)


def either(terms: Iterable[Term]) -> Term:
    """Return the disjunction, flattened, without repetition; what is known to be true or false is folded."""
    return _join(terms, Or, absorbing=TRUE)


def _join(terms: Iterable[Term], kind: type[And] | type[Or], absorbing: Truth) -> Term:
    kept: dict[Term, None] = {}
    for term in terms:
        for part in term.terms if isinstance(term, kind) else (term,):
            if part == absorbing:
                return absorbing
            if not isinstance(part, Truth):
                kept.setdefault(part)
    if not kept:
        return TRUE if absorbing is FALSE else FALSE
    return next(iter(kept)) if len(kept) == 1 else kind(tuple(kept))


def negation(term: Term) -> Term:
    """Return the opposite; a double negation falls away."""
    if isinstance(term, Truth):
        return FALSE if term.value else TRUE
    return term.term if isinstance(term, Not) else Not(term)


def leaves(term: Term) -> Iterator[Present | Test]:
    """Every predicate of a term, from left to right, repeated as it is repeated."""
    if isinstance(term, Present | Test):
        yield term
    elif isinstance(term, And | Or):
        for part in term.terms:
            yield from leaves(part)
    elif isinstance(term, Not):
        yield from leaves(term.term)


def title(test: Test) -> str:
    """Write the name of the field that a test asks."""
    if test.called:
        return test.field
    key = f"['{test.key.decode(errors='backslashreplace')}']" if test.key else ""
    return f"{test.protocol}.{test.field}{key}"


def show(term: Term, outer: str = "") -> str:
    """Write a term as a filter."""
    if isinstance(term, Truth):
        return "everything" if term.value else "nothing"
    if isinstance(term, Present):
        return term.protocol
    if isinstance(term, Test):
        return f"{title(term)} {term.shown}".rstrip()
    if isinstance(term, Not):
        return f"not {show(term.term, 'not')}"
    word = "and" if isinstance(term, And) else "or"
    text = f" {word} ".join(show(t, word) for t in term.terms)
    return f"({text})" if outer and outer != word else text
