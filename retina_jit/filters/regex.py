r"""Regular expressions: what of the syntax is taken, and the automaton with empty moves that it becomes.

The syntax is that of Rust's `regex` as far as it needs no look-around (Retina's filters are written for it); it is read by
Python's own reader of patterns, after a few translations. The differences from Python:

- a pattern matches anywhere; `$` is the end of the text, also where the text ends in a newline;
- \d, \w, \s are the ASCII ones;
- texts are UTF-8: `.` and negated sets take one code point (or one byte that UTF-8 never uses). With `~b`, one byte.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from re import _constants as code  # type: ignore[attr-defined]
from re import _parser as reader  # type: ignore[attr-defined]
from typing import Any

from retina_jit.errors import FilterError

MOST_NODES = 20_000
"""Size of one pattern's automaton with empty moves: what `a{1000}{1000}` runs into."""
LAST_CODE_POINT = 0x10FFFF
NEVER_UTF8 = (0xC0, 0xC1, *range(0xF5, 0x100))

_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": "\\x00-\\x7f", "blank": "\\t ", "cntrl": "\\x00-\\x1f\\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~", "space": "\\t\\n\\v\\f\\r ", "upper": "A-Z",
    "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_LEADING_FLAGS = re.compile(r"\(\?([imsUuxR]*)(?:-([imsUuxR]+))?\)")
_ASCII_SETS = {
    code.CATEGORY_DIGIT: [(48, 57)],
    code.CATEGORY_SPACE: [(9, 13), (32, 32)],
    code.CATEGORY_WORD: [(48, 57), (65, 90), (95, 95), (97, 122)],
}
_NEGATIVE_SETS = {
    code.CATEGORY_NOT_DIGIT: code.CATEGORY_DIGIT,
    code.CATEGORY_NOT_SPACE: code.CATEGORY_SPACE,
    code.CATEGORY_NOT_WORD: code.CATEGORY_WORD,
}
_REFUSED = {
    code.ASSERT: "look-around", code.ASSERT_NOT: "look-around", code.GROUPREF: "a back-reference",
    code.GROUPREF_EXISTS: "a conditional group", code.ATOMIC_GROUP: "an atomic group", code.POSSESSIVE_REPEAT: "a possessive repeat",
}  # fmt: skip
_REFUSED_FORMS = re.compile(
    r"\(\?(?:=|!|<=|<!)|\(\?>|\(\?\(|\(\?P=|\\[1-9]|\\[bBG]|[*+?}]\+|\\\.|\\.|\[(?:\\.|[^\]\\])*\]"
)

Ranges = list[tuple[int, int]]


class _RefusedError(Exception):
    def __init__(self, reason: str, at: int = -1) -> None:
        self.reason, self.at = reason, at


@dataclass
class Nfa:
    """Nodes with empty moves and moves over bytes; ends of patterns are nodes that say so."""

    empty: list[list[int]] = field(default_factory=list)
    at_start: list[list[int]] = field(default_factory=list)
    """Empty moves that exist only before the first byte."""
    at_end: list[list[int]] = field(default_factory=list)
    """Empty moves that exist only behind the last byte."""
    moves: list[list[tuple[int, int]]] = field(default_factory=list)
    """(set of bytes as the bits of a number, next node)."""
    accepts: dict[int, int] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)

    def node(self) -> int:
        """Add a node."""
        for table in (self.empty, self.at_start, self.at_end, self.moves):
            table.append([])
        return len(self.empty) - 1


# ---------------------------------------------------------------------------------------------------------- reading


def check(pattern: str, as_bytes: bool, text: str, at: int) -> None:
    """Check that a pattern can be run; `at` is where it begins in the filter's text.

    Raises
    ------
    FilterError
        It names the construct and points at it.
    """
    from retina_jit.filters.automaton import TooLargeError
    from retina_jit.filters.wide import build

    try:
        build([(pattern, as_bytes)])
    except _RefusedError as error:
        start = at + min(error.at, len(pattern)) if error.at >= 0 else at
        end = start + 1 if error.at >= 0 else at + len(pattern)
        raise FilterError(f"regular expression: {error.reason}", text, start, end) from None
    except TooLargeError as error:
        hint = "" if as_bytes else ", or let `~b` compare bytes instead of UTF-8 text"
        raise FilterError(
            f"regular expression: it needs {error}: shorten its repeats{hint}", text, at, at + len(pattern)
        ) from None
    except RecursionError:
        raise FilterError("regular expression: it nests too deeply", text, at, at + len(pattern)) from None


def translate(pattern: str) -> tuple[str, int, int]:
    """Return (pattern in Python's syntax, flags, how many characters were taken from its front)."""
    flags, skipped = 0, 0
    while m := _LEADING_FLAGS.match(pattern, skipped):
        for letter in m[1]:
            if letter in "mRU":
                raise _RefusedError(f"the flag {letter} is not supported", skipped)
            flags |= {"i": re.I, "s": re.S, "x": re.X}.get(letter, 0)
        for letter in m[2] or "":
            flags &= ~{"i": re.I, "s": re.S, "x": re.X}.get(letter, 0)
        skipped = m.end()
    out, inside, n = [], False, skipped
    while n < len(pattern):
        if pattern[n] == "\\" and n + 1 < len(pattern):
            letter = pattern[n + 1]
            if letter in "pP":
                raise _RefusedError("Unicode classes are not supported", n)
            if letter == "x" and pattern[n + 2 : n + 3] == "{":
                end = pattern.find("}", n)
                digits = pattern[n + 3 : end]
                if (
                    end < 0
                    or not re.fullmatch("[0-9A-Fa-f]{1,6}", digits)
                    or int(digits, 16) > LAST_CODE_POINT
                ):
                    raise _RefusedError("\\x{…} takes a code point in hex digits", n)
                out.append(f"\\U{int(digits, 16):08x}")
                n = end + 1
                continue
            out.append("\\Z" if letter == "z" and not inside else pattern[n : n + 2])
            n += 2
            continue
        if inside and pattern.startswith("[:", n):
            end = pattern.find(":]", n)
            name = pattern[n + 2 : end]
            if end < 0 or name not in _POSIX:
                raise _RefusedError("no such class of characters", n)
            out.append(_POSIX[name])
            n = end + 2
            continue
        if pattern.startswith("(?<", n) and pattern[n + 3 : n + 4] not in ("=", "!") and not inside:
            out.append("(?P<")
            n += 3
            continue
        if pattern[n] == "[" and not inside:
            inside = True
            # A bracket that comes first in a set stands for itself.
            head = re.match(r"\[\^?\]?", pattern[n:])
            assert head is not None
            out.append(head[0])
            n += head.end()
            continue
        inside = inside and pattern[n] != "]"
        out.append(pattern[n])
        n += 1
    return "".join(out), flags, skipped


@lru_cache(maxsize=4096)
def parse_pattern(pattern: str, as_bytes: bool) -> tuple[Any, int]:
    """Return (Python's parse of a pattern, flags)."""
    return _parse(pattern, as_bytes)


def _parse(pattern: str, as_bytes: bool) -> tuple[Any, int]:
    python, flags, skipped = translate(pattern)
    source: str | bytes = python
    if as_bytes:
        try:
            source = re.sub(r"\\U([0-9a-f]{8})", lambda m: f"\\x{int(m[1], 16):02x}", python).encode()
        except (ValueError, UnicodeEncodeError):
            raise _RefusedError("this is no text") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return reader.parse(source, flags), flags
    except re.error as error:
        raise _RefusedError(error.msg, (error.pos or 0) + skipped) from None
    except (FutureWarning, DeprecationWarning) as error:
        raise _RefusedError(f"{error}".lower()) from None
    except OverflowError:
        raise _RefusedError("a repeat is too large") from None


# --------------------------------------------------------------------------------------------------------- building


def add_pattern(nfa: Nfa, pattern: tuple[str, bool], number: int) -> None:
    """Add one pattern, which accepts as `number`."""
    parsed, flags = parse_pattern(*pattern)
    start = nfa.node()
    nfa.starts.append(start)
    end = _Builder(nfa, pattern[0], pattern[1]).sequence(parsed, start, flags | parsed.state.flags)
    nfa.accepts[end] = number


class _Builder:
    def __init__(self, nfa: Nfa, pattern: str, as_bytes: bool) -> None:
        self.nfa, self.pattern, self.as_bytes = nfa, pattern, as_bytes
        self.limit = len(nfa.empty) + MOST_NODES

    def node(self) -> int:
        if len(self.nfa.empty) >= self.limit:
            raise _RefusedError("its repeats make it too large")
        return self.nfa.node()

    def refuse(self, what: str) -> _RefusedError:
        for m in _REFUSED_FORMS.finditer(self.pattern):
            if m[0][0] != "[" and not (m[0][0] == "\\" and m[0][1] not in "123456789bBG"):
                return _RefusedError(f"{what} is not supported", m.start())
        return _RefusedError(f"{what} is not supported")

    def sequence(self, tokens: Any, at: int, flags: int) -> int:
        """Add tokens behind a node. Returns the node where they end."""
        for operation, value in tokens:
            at = self.token(operation, value, at, flags)
        return at

    def token(self, operation: Any, value: Any, at: int, flags: int) -> int:
        if operation is code.LITERAL:
            return self.characters(self.cased([(value, value)], flags), at)
        if operation is code.NOT_LITERAL:
            return self.characters(self.others(self.cased([(value, value)], flags)), at, negated=True)
        if operation is code.ANY:
            return self.characters(
                [(0, self.last)] if flags & re.S else self.others([(10, 10)]), at, negated=True
            )
        if operation is code.IN:
            return self.set(value, at, flags)
        if operation is code.SUBPATTERN:
            _, added, removed, inner = value
            if added & re.M:
                raise _RefusedError("the flag m is not supported")
            return self.sequence(inner, at, (flags | added) & ~removed)
        if operation is code.BRANCH:
            end = self.node()
            for alternative in value[1]:
                begin = self.node()
                self.nfa.empty[at].append(begin)
                self.nfa.empty[self.sequence(alternative, begin, flags)].append(end)
            return end
        if operation in (code.MAX_REPEAT, code.MIN_REPEAT):  # whether a text matches does not depend on greed
            least, most, inner = value
            return self.repeat(least, most, inner, at, flags)
        if operation is code.AT:
            return self.anchor(value, at)
        raise self.refuse(_REFUSED.get(operation, str(operation).lower()))

    @property
    def last(self) -> int:
        return 255 if self.as_bytes else LAST_CODE_POINT

    def others(self, ranges: Ranges) -> Ranges:
        found, begin = [], 0
        for low, high in sorted(ranges):
            if low > begin:
                found.append((begin, low - 1))
            begin = max(begin, high + 1)
        return [*found, (begin, self.last)] if begin <= self.last else found

    def cased(self, ranges: Ranges, flags: int) -> Ranges:
        if not flags & re.I:
            return ranges
        found = list(ranges)
        for low, high in ranges:
            for shift, first, end in ((32, 65, 90), (-32, 97, 122)):
                a, b = max(low, first), min(high, end)
                if a <= b:
                    found.append((a + shift, b + shift))
            if not self.as_bytes and high > 127 and high - low < 4096:
                for c in range(max(low, 128), high + 1):
                    found += [(ord(o), ord(o)) for o in {chr(c).lower(), chr(c).upper()} if len(o) == 1]
        return found

    def set(self, items: Any, at: int, flags: int) -> int:
        ranges: Ranges = []
        negated = False
        wide = False
        for operation, value in items:
            if operation is code.NEGATE:
                negated = True
            elif operation is code.LITERAL:
                ranges.append((value, value))
            elif operation is code.RANGE:
                ranges.append(value)
            elif value in _ASCII_SETS:
                ranges += _ASCII_SETS[value]
            else:
                ranges += self.others(_ASCII_SETS[_NEGATIVE_SETS[value]])
                wide = True
        ranges = self.cased(ranges, flags)
        return self.characters(self.others(ranges) if negated else ranges, at, negated=negated or wide)

    def characters(self, ranges: Ranges, at: int, *, negated: bool = False) -> int:
        """Add a move over one character of the ranges; a negated set takes the bytes that UTF-8 never uses as well."""
        end = self.node()
        if self.as_bytes:
            self.nfa.moves[at].append((_bits(ranges), end))
            return end
        single = _bits([(low, min(high, 127)) for low, high in ranges if low <= 127])
        if negated:
            for byte in NEVER_UTF8:
                single |= 1 << byte
        if single:
            self.nfa.moves[at].append((single, end))
        for low, high in ranges:
            for parts in utf8_ranges(max(low, 128), high):
                node = at
                for n, part in enumerate(parts, 1):
                    following = end if n == len(parts) else self.node()
                    self.nfa.moves[node].append((_bits([part]), following))
                    node = following
        return end

    def repeat(self, least: int, most: Any, inner: Any, at: int, flags: int) -> int:
        for _ in range(least):
            at = self.sequence(inner, at, flags)
        end = self.node()
        if most is code.MAXREPEAT:
            begin = self.node()
            self.nfa.empty[at].append(begin)
            self.nfa.empty[self.sequence(inner, begin, flags)].append(begin)
            self.nfa.empty[begin].append(end)
            return end
        self.nfa.empty[at].append(end)
        for _ in range(most - least):
            at = self.sequence(inner, at, flags)
            self.nfa.empty[at].append(end)
        return end

    def anchor(self, where: Any, at: int) -> int:
        if where in (code.AT_BEGINNING, code.AT_BEGINNING_STRING):
            end = self.node()
            self.nfa.at_start[at].append(end)
        elif where in (code.AT_END, code.AT_END_STRING):
            end = self.node()
            self.nfa.at_end[at].append(end)
        else:
            raise self.refuse("a word boundary")
        return end


def _bits(ranges: Ranges) -> int:
    found = 0
    for low, high in ranges:
        found |= ((1 << (high - low + 1)) - 1) << low
    return found


def utf8_ranges(low: int, high: int) -> list[list[tuple[int, int]]]:
    """Return sequences of byte ranges that together are the UTF-8 of the code points `low` to `high` (>= 128)."""
    found: list[list[tuple[int, int]]] = []
    for begin, end in ((0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, LAST_CODE_POINT)):
        if max(low, begin) <= min(high, end):
            _split(max(low, begin), min(high, end), found)
    return found


def _split(low: int, high: int, found: list[list[tuple[int, int]]]) -> None:
    """Cut a range whose encodings have one length until every byte of them varies on its own."""
    for n in range(1, 4):
        span = (1 << 6 * n) - 1
        if low & ~span != high & ~span:
            if low & span:
                _split(low, low | span, found)
                _split((low | span) + 1, high, found)
                return
            if high & span != span:
                _split(low, (high & ~span) - 1, found)
                _split(high & ~span, high, found)
                return
    found.append(list(zip(chr(low).encode(), chr(high).encode())))


# -------------------------------------------------------------------------------------------------------- reference


@lru_cache(maxsize=4096)
def reference(pattern: str, as_bytes: bool) -> Any:
    """Return Python's own compiled pattern with the same meaning, for the interpreter and the tests."""
    from re import _compiler  # type: ignore[attr-defined]

    parsed, flags = _parse(pattern, as_bytes)
    return _compiler.compile(_as_python(parsed), flags)


def _as_python(value: Any) -> Any:
    """Say in Python's terms what differs: the end of the text, and the ASCII classes."""
    if isinstance(value, reader.SubPattern):
        value.data = [_as_python(item) for item in value.data]
        return value
    if isinstance(value, list):
        found = []
        for item in value:
            if isinstance(item, tuple) and item[0] is code.CATEGORY:
                ranges = _ASCII_SETS.get(item[1])
                if ranges is None:
                    ranges, begin = [], 0
                    for low, high in [*_ASCII_SETS[_NEGATIVE_SETS[item[1]]], (LAST_CODE_POINT + 1, 0)]:
                        ranges.append((begin, low - 1))
                        begin = high + 1
                found += [(code.RANGE, r) for r in ranges]
            else:
                found.append(_as_python(item))
        return found
    if isinstance(value, tuple):
        return tuple(_as_python(v) for v in value)
    return code.AT_END_STRING if value is code.AT_END else value
