"""Automata for any number of patterns: a state leads to a list of what has matched. `engine.run_patterns` runs them.

Texts to be found somewhere (`contains`) make a keyword tree with failure links (Aho and Corasick 1975), written out as an
automaton; regular expressions go through `automaton`. What does not fit into one automaton is split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from retina_jit.filters import automaton, parallel
from retina_jit.filters.automaton import Pattern

MOST_WORDS = 1 << 22
"""Steps in one automaton: 16 MiB."""
MOST_TOGETHER = 128
"""Regular expressions that are tried in one automaton."""

Says = tuple[int, ...]


def literals(texts: Sequence[bytes], numbers: Sequence[int]) -> list[np.ndarray[Any, Any]]:
    """Return automata that say the number of each text that stands somewhere."""
    if not texts:
        return []
    size = 1 + sum(map(len, texts))
    width = 1 << (len({b for t in texts for b in t})).bit_length()
    if size * width > MOST_WORDS and len(texts) > 1:
        half = len(texts) // 2
        return literals(texts[:half], numbers[:half]) + literals(texts[half:], numbers[half:])
    used = sorted({byte for text in texts for byte in text})
    classes = [0] * 256
    for k, byte in enumerate(used, 1):
        classes[byte] = k
    children: list[dict[int, int]] = [{}]
    own: list[list[int]] = [[]]
    for text, number in zip(texts, numbers):
        state = 0
        for byte in text:
            following = children[state].get(classes[byte])
            if following is None:
                following = children[state][classes[byte]] = len(children)
                children.append({})
                own.append([])
            state = following
        own[state].append(number)
    table = np.zeros((len(children), len(used) + 1), np.int64)
    says: list[Says] = [()] * len(children)
    fail = [0] * len(children)
    order = [0]
    for state in order:
        if state:
            table[state] = table[fail[state]]
        for k, child in children[state].items():
            fail[child] = int(table[fail[state], k]) if state else 0
            says[child] = (*own[child], *says[fail[child]])
            order.append(child)
        for k, child in children[state].items():
            table[state, k] = child
    return [pack(classes, table, says, [()] * len(children))]


def patterns(wanted: Sequence[Pattern], numbers: Sequence[int]) -> list[np.ndarray[Any, Any]]:
    """Return automata that say the number of each regular expression that matches somewhere."""
    found: list[np.ndarray[Any, Any]] = []
    for group in groups(wanted, MOST_TOGETHER):
        if len(group) == 1 and not automaton.fits((wanted[group[0]],)):
            found.append(parallel.pack(wanted[group[0]], numbers[group[0]]))
            continue
        classes, table, says, last = automaton.determine(tuple(wanted[n] for n in group))

        def listed(bits: int, group: tuple[int, ...] = group) -> Says:
            return tuple(numbers[group[k]] for k in automaton.bits_of(bits))

        found.append(pack(classes, table, [listed(s) for s in says], [listed(s) for s in last]))
    return found


def groups(wanted: Sequence[Pattern], most: int) -> Iterable[tuple[int, ...]]:
    """Cut patterns into groups of at most `most` that have one automaton each, or of one that has none; as positions."""
    return _groups(tuple(range(len(wanted))), wanted, most)


def _groups(inside: tuple[int, ...], wanted: Sequence[Pattern], most: int) -> Iterable[tuple[int, ...]]:
    if not inside:
        return
    if len(inside) == 1 or (len(inside) <= most and automaton.fits(tuple(wanted[n] for n in inside))):
        yield inside
        return
    half = min(most, len(inside) // 2)
    yield from _groups(inside[:half], wanted, most)
    yield from _groups(inside[half:], wanted, most)


def build(wanted: Sequence[Pattern]) -> list[tuple[np.ndarray[Any, Any], tuple[Pattern, ...]]]:
    """Return tables with the patterns inside, for filters that are code: `match.run_automaton` or `match.run_positions`.

    Raises
    ------
    TooLargeError
        A pattern alone is too large for both.
    """
    found = []
    for group in groups(wanted, automaton.MOST_PATTERNS):
        inside = tuple(wanted[n] for n in group)
        alone = len(inside) == 1 and not automaton.fits(inside)
        found.append((parallel.pack(inside[0]) if alone else automaton.pack(inside), inside))
    return found


def pack(classes: list[int], table: np.ndarray[Any, Any], says: list[Says], last: list[Says]) -> np.ndarray[Any, Any]:
    """Return the automaton as `engine` reads it.

    Words: shift of a state's number, first state, first state that says something, position of the steps, of what states
    say, of what they say at the end, of what the first state says, 0; the class of each byte; the steps. What is said is
    the position of a list: how many, then the numbers. State 0 is the first.
    """
    count, width = table.shape
    shift = max(0, (width - 1).bit_length())
    order = sorted(range(count), key=lambda n: says[n] != ())
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    silent = sum(1 for n in range(count) if says[n] == ())
    steps = np.zeros((count, 1 << shift), np.uint32)
    steps[:, :width] = place[table[order]] << shift
    steps_at = automaton.CLASSES_END
    says_at = steps_at + 4 * (count << shift)
    ends_at = says_at + 4 * (count - silent)
    lists_at = ends_at + 4 * count
    lists: list[int] = []
    known: dict[Says, int] = {}

    def listed(numbers: Says) -> int:
        if numbers not in known:
            known[numbers] = lists_at + 4 * len(lists)
            lists.extend((len(numbers), *numbers))
        return known[numbers]

    said = [listed(says[n]) for n in order[silent:]]
    ends = [listed(last[n]) for n in order]
    first = listed(says[0])
    head = [shift, int(place[0]) << shift, silent << shift, steps_at, says_at, ends_at, first, 0]
    content = np.array(head, np.int64).tobytes() + bytes(classes) + steps.tobytes()
    content += np.array([*said, *ends, *lists], np.uint32).tobytes()
    return np.frombuffer(content + bytes(-len(content) % 8), np.uint8)
