"""The meaning of a filter, slow and plain: the generated code is tested against it.

It asks `facts` and knows nothing of stages, tries and tables. What is not known yet is None, and so may be the answer.
"""

from __future__ import annotations

from typing import Any, Protocol

from retina_jit.filters.regex import reference
from retina_jit.filters.syntax import Not, Or, Present, Term, Test, Truth


class Facts(Protocol):
    """What is known of a packet, a connection, a session."""

    def present(self, protocol: str) -> bool | None:
        """Whether a protocol is there; None if that is not known yet."""

    def value(self, protocol: str, field: str) -> Any:
        """Return a number, bytes, or a list of them; None if it is not known yet. Asked only where it is there.

        A keyed field gives a dict.
        """


def evaluate(term: Term, facts: Facts) -> bool | None:
    """Return whether a filter holds, None if what is known does not decide it (Kleene's three values)."""
    if isinstance(term, Truth):
        return term.value
    if isinstance(term, Present):
        return facts.present(term.protocol)
    if isinstance(term, Test):
        there = facts.present(term.protocol)
        if not there:
            return there
        value = facts.value(term.protocol, term.field)
        if term.key and value is not None:
            value = value.get(term.key, b"")
        return None if value is None else holds(term, value)
    if isinstance(term, Not):
        inner = evaluate(term.term, facts)
        return None if inner is None else not inner
    answers = [evaluate(t, facts) for t in term.terms]
    decides = isinstance(term, Or)
    if decides in answers:
        return decides
    return None if None in answers else not decides


def holds(test: Test, value: Any) -> bool:
    """Return whether a value fulfils a test; of a list one element is enough, or, if negated, none may."""
    elements = value if isinstance(value, list) else [value]
    return any(_one(test, element) for element in elements) != test.negated


def _one(test: Test, value: Any) -> bool:
    wanted: Any = test.value
    if test.form == "range":
        return any(low <= value <= high for low, high in wanted)
    if test.form == "equal":
        return value in wanted
    if test.form == "contains":
        return wanted in value
    pattern, as_bytes = wanted
    return bool(
        reference(pattern, as_bytes).search(value if as_bytes else value.decode(errors="surrogateescape"))
    )
