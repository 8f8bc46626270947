"""Patterns to deterministic automata: subset construction over classes of bytes, minimised, packed for kernels.

Nothing accepts for ever: a state says which patterns end in it, and the runner collects that. So the states of two
patterns need not remember each other's success, and many literals cost what they cost in a keyword tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from retina_jit.filters.regex import Nfa, add_pattern
from retina_jit.filters.tables import signed

MOST_STATES = 8192
MOST_PATTERNS = 64
"""In one automaton: what is found is collected in the bits of one word."""
MOST_WORK = 5_000_000
"""Steps of nodes while states are found; some seconds."""
MOST_ROUNDS = 200
"""Of the minimisation."""
HEAD = 64
CLASSES_END = HEAD + 256

Pattern = tuple[str, bool]


class TooLargeError(Exception):
    """There are too many states."""


def fits(patterns: tuple[Pattern, ...]) -> bool:
    """Whether patterns have one automaton that is not too large."""
    try:
        determine(patterns)
    except TooLargeError:
        return False
    return True


def bits_of(number: int) -> Iterable[int]:
    """Positions of the bits that are set."""
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def closures(nfa: Nfa, *, at_start: bool, at_end: bool) -> list[int]:
    """For every node the set of nodes that empty moves lead to, itself included."""
    found = []
    for node in range(len(nfa.empty)):
        seen, todo = 1 << node, [node]
        while todo:
            n = todo.pop()
            for other in [
                *nfa.empty[n],
                *(nfa.at_start[n] if at_start else ()),
                *(nfa.at_end[n] if at_end else ()),
            ]:
                if not seen >> other & 1:
                    seen |= 1 << other
                    todo.append(other)
        found.append(seen)
    return found


Dfa = tuple[list[int], "np.ndarray[Any, Any]", list[int], list[int]]


@lru_cache(maxsize=256)
def determine(patterns: tuple[Pattern, ...]) -> Dfa:
    """Return (class of each byte, next state by state and class, patterns said in a state, patterns said at the end)."""
    nfa = Nfa()
    for number, pattern in enumerate(patterns):
        add_pattern(nfa, pattern, number)
    sets = list({bits for moves in nfa.moves for bits, _ in moves})
    signatures: dict[tuple[int, ...], int] = {}
    classes = [
        signatures.setdefault(tuple(s >> byte & 1 for s in sets), len(signatures)) for byte in range(256)
    ]
    sample = [classes.index(k) for k in range(len(signatures))]
    plain = closures(nfa, at_start=False, at_end=False)
    moves: list[list[tuple[int, int]]] = []
    for node in range(len(nfa.moves)):
        row: dict[int, int] = {}
        for bits, target in nfa.moves[node]:
            for k, byte in enumerate(sample):
                if bits >> byte & 1:
                    row[k] = row.get(k, 0) | plain[target]
        moves.append(list(row.items()))
    # What may begin anywhere belongs to every state: it is left out of their names, which keeps the names small.
    always = 0
    for start in nfa.starts:
        always |= plain[start]
    relevant = 0
    for node in range(len(nfa.moves)):
        if nfa.moves[node] or nfa.at_end[node] or node in nfa.accepts:
            relevant |= 1 << node

    def step(nodes: int) -> list[int]:
        row = [0] * len(sample)
        for node in bits_of(nodes):
            for k, targets in moves[node]:
                row[k] |= targets
        return row

    from_anywhere = step(always)
    initial = 0
    for start, reach in zip(nfa.starts, (closures(nfa, at_start=True, at_end=False)[s] for s in nfa.starts)):
        initial |= reach | 1 << start
    accept_mask = sum(1 << node for node in nfa.accepts)

    def said(nodes: int) -> int:
        return sum(1 << nfa.accepts[n] for n in bits_of(nodes & accept_mask))

    first = (initial & ~always & relevant, True)
    order = [first]
    index = {first: 0}
    table: list[list[int]] = []
    work = 0
    for state in order:
        following_states: list[int] = []
        work += state[0].bit_count()
        if work > MOST_WORK:
            raise TooLargeError("more work than it is worth")
        for targets, more in zip(step(state[0]), from_anywhere):
            following = ((targets | more) & ~always & relevant, False)
            number = index.get(following, -1)
            if number < 0:
                number = index[following] = len(order)
                order.append(following)
                if number >= MOST_STATES:
                    raise TooLargeError(f"more than {MOST_STATES} states")
            following_states.append(number)
        table.append(following_states)
    ends = closures(nfa, at_start=False, at_end=True)
    both = closures(nfa, at_start=True, at_end=True)

    def at_end(nodes: int, reach: list[int]) -> int:
        found = 0
        for node in bits_of(nodes):
            found |= reach[node]
        return said(found)

    says = [said(nodes | always) for nodes, _ in order]
    last = [at_end(nodes | always, both if is_first else ends) for nodes, is_first in order]
    return _minimise(classes, np.array(table, np.int64), says, last)


def _minimise(classes: list[int], table: np.ndarray[Any, Any], says: list[int], last: list[int]) -> Dfa:
    """Merge states that no text tells apart (Moore's refinement)."""
    kinds: dict[tuple[int, int], int] = {}
    block = np.array([kinds.setdefault(pair, len(kinds)) for pair in zip(says, last)], np.int64)
    count = len(kinds)
    for _ in range(MOST_ROUNDS):
        view = np.concatenate([block[:, None], block[table]], axis=1)
        _, first, fresh = np.unique(view, axis=0, return_index=True, return_inverse=True)
        block = fresh.reshape(-1)
        if len(first) == count:
            break
        count = len(first)
    else:
        return classes, table, says, last  # a long chain: little to merge, and a round per link
    # The state of the empty text is kept first; the others stay in the order of their discovery.
    order = np.argsort(first)
    rename = np.empty_like(order)
    rename[order] = np.arange(count)
    block = rename[block]
    chosen = first[order]
    return classes, block[table[chosen]], [says[n] for n in chosen], [last[n] for n in chosen]


def pack(patterns: tuple[Pattern, ...]) -> np.ndarray[Any, Any]:
    """Return the automaton as `match.run_automaton` reads it.

    Words: shift of a state's number, first state, first state that says something, position of what states say at the
    end, all patterns, position of the steps, position of what states say, what the first state says; then the class of
    each byte, then the steps, whose states are shifted already, then what is said.
    """
    classes, table, says, last = determine(patterns)
    count, width = table.shape
    shift = max(0, (width - 1).bit_length())
    # States that say something come last, so that the runner needs one comparison.
    order = sorted(range(count), key=lambda n: says[n] != 0)
    place = np.empty(count, np.int64)
    place[order] = np.arange(count)
    silent = sum(1 for n in range(count) if not says[n])
    steps = np.zeros((count, 1 << shift), np.uint32)
    steps[:, :width] = place[table[order]] << shift
    steps_at = CLASSES_END
    says_at = steps_at + 4 * (count << shift)
    says_at += -says_at % 8
    ends_at = says_at + 8 * (count - silent)
    everything = signed((1 << len(patterns)) - 1)
    head = [
        shift,
        int(place[0]) << shift,
        silent << shift,
        ends_at,
        everything,
        steps_at,
        says_at,
        signed(says[0]),
    ]
    content = np.array(head, np.int64).tobytes() + bytes(classes) + steps.tobytes()
    content += bytes(says_at - len(content))
    content += np.array(
        [signed(says[n]) for n in order[silent:]] + [signed(last[n]) for n in order], np.int64
    ).tobytes()
    return np.frombuffer(content, np.uint8)
