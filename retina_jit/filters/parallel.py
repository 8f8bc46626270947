"""One pattern as positions that are active or not, for patterns whose deterministic automaton gets too large.

A position is a set of bytes that has just been met and where that leads (Glushkov 1961); the active ones are the bits of a
few words, and a byte takes all of them one step (Navarro and Raffinot 1999). `a.{50}b` needs thousands of states and some
hundred positions. The work per byte is bounded by the number of positions; nothing is retried.
"""

from __future__ import annotations

import numpy as np

from retina_jit.filters.automaton import Pattern, TooLargeError, closures
from retina_jit.filters.regex import Nfa, add_pattern
from retina_jit.filters.tables import signed

MOST_POSITIONS = 2048
"""A step of one byte works on at most this many bits: 32 words."""
MOST_ROUNDS = 8
"""While nodes are found that lead to the same; what is not found stays apart, which is right too."""
MOST_NODES = 4 * MOST_POSITIONS
"""Before those that lead to the same are one."""
MARK = -1
"""First word of a table, where other automata have a shift."""
HEAD_WORDS = 11

Moves = frozenset[tuple[int, int]]
"""(set of bytes as the bits of a number, node)."""


def pack(pattern: Pattern, number: int = 0) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Return the pattern as `match.run_positions` reads it. `number`: what the table says is found.

    Words: MARK; number; words of a set of positions; flags: 1, it matches any text, 2, at the end of any text, 4, the empty
    text, 8, at the start of any text; where these sets of positions are: what may begin anywhere, what may begin at the start,
    which match, which match at the end, which a byte of each class takes, which lead to the position behind them; how many
    classes there are. Then the class of each byte. Behind the last of those sets: which positions lead to others as well.
    Behind those of the classes: where the set of these others is, for each position.

    Raises
    ------
    TooLargeError
        It has more than `MOST_POSITIONS`.
    """
    nfa = Nfa()
    add_pattern(nfa, pattern, 0)
    if len(nfa.moves) > MOST_NODES:
        raise TooLargeError(f"more than {MOST_POSITIONS} positions")
    plain, first, end, both = (
        closures(nfa, at_start=start, at_end=at_end) for start, at_end in ((False, False), (True, False), (False, True), (True, True))
    )
    (start,) = nfa.starts
    accepts = sum(1 << node for node in nfa.accepts)
    same = _same(nfa, plain, end, accepts)

    def moves(reach: int) -> dict[tuple[int, int], None]:
        return {(bits, same[target]): None for node in _bits_of(reach) for bits, target in nfa.moves[node]}

    leads: dict[int, dict[tuple[int, int], None]] = {}
    names: dict[int, int] = {}
    for node in range(len(nfa.moves)):
        names.setdefault(same[node], node)

    def from_class(kind: int) -> dict[tuple[int, int], None]:
        if kind not in leads:
            leads[kind] = moves(plain[names[kind]])
        return leads[kind]

    anywhere, at_start = moves(plain[start]), moves(first[start])
    # Numbers in the order of a walk in depth: what follows a position is then mostly the next one.
    place: dict[tuple[int, int], int] = {}
    todo = [*reversed(list(at_start)), *reversed(list(anywhere))]
    while todo:
        position = todo.pop()
        if position in place:
            continue
        place[position] = len(place)
        if len(place) > MOST_POSITIONS:
            raise TooLargeError(f"more than {MOST_POSITIONS} positions")
        todo += reversed(list(from_class(position[1])))
    positions = list(place)
    words = max(1, -(-len(positions) // 64))

    def flat(bits: int) -> list[int]:
        return [signed(bits >> 64 * w) for w in range(words)]

    def chosen(wanted: dict[tuple[int, int], None]) -> int:
        return sum(1 << place[p] for p in wanted)

    def matching(closure: list[int]) -> int:
        return sum(1 << n for n, (_, kind) in enumerate(positions) if closure[names[kind]] & accepts)

    chain, rows = 0, {}
    for n, (_, kind) in enumerate(positions):
        following = chosen(from_class(kind))
        chain |= (following >> n + 1 & 1) << n
        rest = following & ~(1 << n + 1)
        if rest:
            rows[n] = rest
    sets = list({bits for bits, _ in positions})
    signatures: dict[tuple[int, ...], int] = {}
    classes = [signatures.setdefault(tuple(s >> byte & 1 for s in sets), len(signatures)) for byte in range(256)]
    of_class = [
        sum(1 << n for n, (bits, _) in enumerate(positions) if bits >> classes.index(k) & 1) for k in range(len(signatures))
    ]
    always = bool(plain[start] & accepts)
    flags = always | (bool(end[start] & accepts) << 1) | (bool(both[start] & accepts) << 2) | (bool(first[start] & accepts) << 3)
    body = [flat(x) for x in (chosen(anywhere), chosen(at_start), matching(plain), matching(end), chain, sum(1 << n for n in rows))]
    at = 8 * HEAD_WORDS + 256
    places = []
    for part in body:
        places.append(at)
        at += 8 * len(part)
    sets_at = at
    rows_at = sets_at + 8 * words * len(of_class)
    first_row = rows_at + 8 * len(positions)
    where, content = [0] * len(positions), []
    for k, (n, row) in enumerate(rows.items()):
        where[n] = first_row + 8 * words * k
        content += flat(row)
    head = [MARK, number, words, flags, *places[:4], sets_at, places[4], len(of_class)]
    assert len(head) == HEAD_WORDS
    flat_words = [w for part in body for w in part] + [w for s in of_class for w in flat(s)] + where + content
    found = np.array(head, np.int64).tobytes() + bytes(classes) + np.array(flat_words, np.int64).tobytes()
    return np.frombuffer(found, np.uint8)


def _bits_of(number: int) -> list[int]:
    found = []
    while number:
        low = number & -number
        found.append(low.bit_length() - 1)
        number ^= low
    return found


def _same(nfa: Nfa, plain: list[int], end: list[int], accepts: int) -> list[int]:
    """Number the nodes so that those that lead to the same are one: UTF-8 spells many characters with the same tails."""
    reach = [_bits_of(r) for r in plain]
    says = [bool(plain[n] & accepts) + 2 * bool(end[n] & accepts) for n in range(len(plain))]
    kinds, count = list(range(len(plain))), len(plain)
    for _ in range(MOST_ROUNDS):
        known: dict[tuple[int, Moves], int] = {}
        kinds = [
            known.setdefault((says[n], frozenset((bits, kinds[t]) for node in reach[n] for bits, t in nfa.moves[node])), len(known))
            for n in range(len(plain))
        ]
        if len(known) == count:
            break
        count = len(known)
    return kinds
