"""Text to tree. The grammar is `grammar.lark`; here are the tree's construction and what syntax errors say."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Any

from retina_jit.errors import FilterError
from retina_jit.filters import operators
from retina_jit.filters.syntax import (
    MOST_LEVELS,
    FileOf,
    Group,
    Octets,
    Predicate,
    Quoted,
    SetOf,
    Span,
    Tree,
    Word,
)


class _TooDeepError(Exception):
    def __init__(self, span: Span) -> None:
        self.span = span


def _span(token: Any) -> Span:
    return Span(token.start_pos, token.end_pos)


def _group(word: str, parts: list[Tree]) -> Tree:
    if word != "not" and len(parts) == 1:
        return parts[0]
    span = Span(parts[0].span.start, parts[-1].span.end)
    levels = 1 + max((p.levels for p in parts if isinstance(p, Group)), default=0)
    if levels > MOST_LEVELS:
        raise _TooDeepError(span)
    return Group(word, tuple(parts), span, levels)


@cache
def _parser() -> Any:
    from lark import Lark, Transformer

    class Build(Transformer):  # type: ignore[type-arg]
        """Makes the tree while the parser reduces, so nothing here recurses over it."""

        def start(self, children: list[Any]) -> Tree | None:
            return children[0] if children else None

        def disjunction(self, children: list[Any]) -> Tree:
            return _group("or", children)

        def conjunction(self, children: list[Any]) -> Tree:
            return _group("and", children)

        def negated(self, children: list[Any]) -> Tree:
            return _group("not", children)

        def predicate(self, children: list[Any]) -> Tree:
            path, operator, value = (*children, None, None)[:3]
            name, bracket, rest = str(path).partition("[")
            name = "".join(name.split())
            key = rest.strip().removesuffix("]").strip()[1:-1] if bracket else None
            if operator is None:
                return Predicate(name, _span(path), key=key)
            return Predicate(
                name,
                _span(path),
                operators.SPELLINGS[" ".join(operator.lower().split())],
                _span(operator),
                value,
                key,
            )

        def call(self, children: list[Any]) -> Predicate:
            path = children[0]
            values = tuple(children[1]) if len(children) > 1 else ()
            return Predicate("".join(str(path).split()), _span(path), arguments=values)

        def operator(self, children: list[Any]) -> Any:
            return children[0]

        def word(self, children: list[Any]) -> Word:
            return Word(str(children[0]), _span(children[0]))

        def single(self, children: list[Any]) -> Quoted:
            return Quoted(str(children[0])[1:-1], "'", _span(children[0]))

        def double(self, children: list[Any]) -> Quoted:
            return Quoted(str(children[0])[1:-1], '"', _span(children[0]))

        def octets(self, children: list[Any]) -> Octets:
            return Octets(bytes.fromhex("".join(children[0].strip("|").split())), _span(children[0]))

        def file(self, children: list[Any]) -> FileOf:
            path = str(children[0])[1:]
            return FileOf(path[1:-1] if path[0] in "'\"" else path, _span(children[0]))

        def set(self, children: list[Any]) -> SetOf:
            items = tuple(children[1]) if len(children) == 3 else ()
            return SetOf(items, Span(children[0].start_pos, children[-1].end_pos))

        def items(self, children: list[Any]) -> list[Any]:
            return children

    grammar = Path(__file__).with_name("grammar.lark").read_text()
    return Lark(
        grammar,
        parser="lalr",
        lexer="contextual",
        transformer=Build(),
        propagate_positions=True,
        maybe_placeholders=False,
    )


def parse(text: str) -> Tree | None:
    """Return the tree of a filter; None for the empty filter, which everything passes.

    Raises
    ------
    FilterError
        The text is no filter.
    """
    from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError

    try:
        tree: Tree | None = _parser().parse(text)
        return tree
    except UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
        raise _explain(text, at, set(error.allowed or ()), ended=False) from None
    except UnexpectedToken as error:
        ended = error.token.type == "$END"
        at = len(text) if ended else error.token.start_pos
        raise _explain(text, at, set(error.accepts or error.expected or ()), ended) from None
    except UnexpectedInput as error:
        raise FilterError(
            "this is no filter", text, error.pos_in_stream or 0, (error.pos_in_stream or 0) + 1
        ) from None
    except VisitError as error:
        if isinstance(error.orig_exc, _TooDeepError):
            raise _too_deep(text, error.orig_exc) from None
        raise
    except _TooDeepError as error:
        raise _too_deep(text, error) from None


def _too_deep(text: str, error: _TooDeepError) -> FilterError:
    return FilterError(
        f"this nests more than {MOST_LEVELS} levels deep", text, error.span.start, error.span.end
    )


def _word_at(text: str, at: int) -> str:
    end = at
    while end < len(text) and (text[end].isalnum() or text[end] in "_."):
        end += 1
    return text[at : max(end, at + 1)]


def _explain(text: str, at: int, allowed: set[str], ended: bool) -> FilterError:
    word = "" if ended or at >= len(text) else _word_at(text, at)
    start, end = at, at + max(1, len(word))
    wants_value, wants_name, wants_operator = "WORD" in allowed, "PATH" in allowed, "CONTAINS" in allowed
    before = text[:at].rstrip()
    if not ended and word in ("'", '"'):
        return FilterError(f"this string has no closing {word}", text, start, len(text))
    if not ended and word == "|" and wants_value:
        return FilterError("bytes are written as pairs of hex digits between bars: |48 54|", text, start, end)
    if wants_value and "RPAR" in allowed and ended:
        reason = "a parenthesis is not closed"
        start, end = _open_parenthesis(text)
    elif wants_value and "RBRACE" in allowed and not wants_name:
        reason = "this set has no closing }" if ended else "a set holds values, separated by commas"
    elif wants_value:
        reason = (
            "the value is missing"
            if ended
            else "this is no value: write a number, a range, an address, a 'string' or |bytes|"
        )
    elif wants_name:
        if ended and before:
            reason = "something is missing behind this"
        elif word == ")":
            reason = (
                "these parentheses are empty"
                if before.endswith("(")
                else "a predicate is missing before this"
            )
        elif word[:1].isdigit():
            reason = (
                "a value stands alone: write field, operator, value; for one of several values write `in {…}`"
            )
        else:
            reason = "a protocol or a field is expected here"
        start = len(before) - 1 if ended and before else start
        end = start + 1 if ended else end
    elif ended:
        reason = "a parenthesis is not closed"
        start, end = _open_parenthesis(text)
    elif word == ")":
        reason = "there is no parenthesis to close"
    else:
        reason = _operator_reason(word) if wants_operator else "`and`, `or` or the end is expected here"
    return FilterError(reason, text, start, end)


def _operator_reason(word: str) -> str:
    if word.lower() in ("and", "or"):
        return f"write `{word.lower()}`"
    near = difflib.get_close_matches(word, [*operators.SPELLINGS, "and", "or"], n=1, cutoff=0.6)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    return f"an operator, `and`, `or` or the end is expected here{hint}"


def _open_parenthesis(text: str) -> tuple[int, int]:
    depth = 0
    for at in range(len(text) - 1, -1, -1):
        depth += (text[at] == ")") - (text[at] == "(")
        if depth < 0:
            return at, at + 1
    return len(text) - 1, len(text)
