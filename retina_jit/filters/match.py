"""What generated filters call: comparing texts, membership in large sets, running an automaton."""

from __future__ import annotations

from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import call3, fill, load8, load32, load64, shift_right, stack, store64, trailing_zeros
from retina_jit.parsers.wire import u8

FLIP = -(1 << 63)
"""XOR with it turns unsigned order into signed order."""


@leaf
def read_pair(code, session, n, out):
    """Two words that the reader at `code` gives: a span, or the halves of an address."""
    call3(code, session, n, out)
    return (load64(out), load64(out + 8))


@kernel
def equal(span, literal, length):
    """Whether a span holds exactly the `length` bytes at `literal`."""
    if span[1] != length:
        return False
    for n in range(length):
        if u8(span, n) != load8(literal + n):
            return False
    return True


@kernel
def contains(span, literal, length):
    """Whether the `length` > 0 bytes at `literal` stand somewhere in a span."""
    first = load8(literal)
    for at in range(span[1] - length + 1):
        if u8(span, at) == first:
            n = 1
            while n < length and u8(span, at + n) == load8(literal + n):
                n += 1
            if n == length:
                return True
    return False


@kernel
def in_ranges(table, value):
    """Whether a number lies in one of the sorted ranges of `tables.range_table`."""
    count = load64(table)
    low, high = 0, count
    while low < high:  # the first range that begins above the value
        middle = (low + high) >> 1
        if load64(table + 8 + 8 * middle) <= value:
            low = middle + 1
        else:
            high = middle
    return low > 0 and value <= load64(table + 8 * (count + low))


@kernel
def in_wide_ranges(table, high_word, low_word):
    """Whether a 128-bit number lies in one of the sorted ranges of `tables.wide_range_table`."""
    a, b = high_word ^ FLIP, low_word ^ FLIP
    low, high = 0, load64(table)
    while low < high:
        middle = (low + high) >> 1
        at = table + 8 + 32 * middle
        begin = load64(at)
        if begin < a or (begin == a and load64(at + 8) <= b):
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return False
    at = table + 8 + 32 * (low - 1)
    end = load64(at + 16)
    return a < end or (a == end and b <= load64(at + 24))


@leaf
def _order(span, literal, length):
    """Below, at or above zero, as the span is shorter or smaller than the literal, the same, or larger."""
    if span[1] != length:
        return span[1] - length
    for n in range(length):
        difference = u8(span, n) - load8(literal + n)
        if difference != 0:
            return difference
    return 0


@kernel
def find_text(table, span):
    """Position of a span among the texts of `tables.text_table`; -1 if it is none of them."""
    low, high = 0, load64(table)
    while low < high:
        middle = (low + high) >> 1
        at = table + 8 + 16 * middle
        order = _order(span, table + load64(at), load64(at + 8))
        if order == 0:
            return middle
        if order > 0:
            low = middle + 1
        else:
            high = middle
    return -1


@leaf
def in_texts(table, span):
    """Whether a span is one of the texts of `tables.text_table`."""
    return find_text(table, span) >= 0


@kernel
def run_automaton(table, span):
    """Which patterns of an automaton (`automaton.pack`) match somewhere in a span: bit n for the nth."""
    shift, state, talking, ends = load64(table), load64(table + 8), load64(table + 16), load64(table + 24)
    everything, steps, says = load64(table + 32), table + load64(table + 40), table + load64(table + 48)
    classes = table + 64
    found = load64(table + 56)
    for n in range(span[1]):
        state = load32(steps + 4 * (state + load8(classes + u8(span, n))))
        if state >= talking:  # only these states say that a pattern has just matched
            found |= load64(says + 8 * ((state - talking) >> shift))
            if found == everything:
                return found
    return found | load64(table + ends + 8 * (state >> shift))


POSITIONS = stack(2 * 32)


@kernel
def step_positions(table, active, following, code):
    """Take the active positions over a byte of class `code`; `following` holds what may begin here. Returns whether one matches."""
    words = load64(table + 16)
    chain, rows = table + load64(table + 72), table + load64(table + 72) + 8 * words
    places = table + load64(table + 64) + 8 * words * load64(table + 80)
    carry = 0
    for w in range(words):
        linked = load64(active + 8 * w) & load64(chain + 8 * w)
        store64(following + 8 * w, load64(following + 8 * w) | (linked << 1) | carry)
        carry = shift_right(linked, 63)
    for w in range(words):
        left = load64(active + 8 * w) & load64(rows + 8 * w)
        while left:
            row = table + load64(places + 8 * (64 * w + trailing_zeros(left)))
            left &= left - 1
            for v in range(words):
                store64(following + 8 * v, load64(following + 8 * v) | load64(row + 8 * v))
    taken, matching = table + load64(table + 64) + 8 * words * code, table + load64(table + 48)
    said = 0
    for w in range(words):
        word = load64(following + 8 * w) & load64(taken + 8 * w)
        store64(following + 8 * w, word)
        said |= word & load64(matching + 8 * w)
    return said != 0


@kernel
def match_positions(table, span):
    """Whether the pattern of `parallel.pack` matches somewhere in a text: 1, else 0."""
    length = span[1]
    words, flags = load64(table + 16), load64(table + 24)
    if flags & 1 or flags & 8 or (flags & 4 and length == 0) or flags & 2:
        return 1
    active = POSITIONS()
    following = active + 8 * words
    fill(active, 0, 8 * words)
    begin = table + load64(table + 40)
    for n in range(length):
        for w in range(words):
            store64(following + 8 * w, load64(begin + 8 * w))
        begin = table + load64(table + 32)
        if step_positions(table, active, following, load8(table + 88 + u8(span, n))):
            return 1
        active, following = following, active
    at_end = table + load64(table + 56)
    for w in range(words):
        if load64(active + 8 * w) & load64(at_end + 8 * w):
            return 1
    return 0


@entry
def run_positions(table, address, length):
    """Whether the pattern of `parallel.pack` matches somewhere in a text: 1, else 0."""
    return match_positions(table, (address, length))


@leaf
def run_apart(code, table, span):
    """Call `run_positions` at `code`: one pattern, bit 0."""
    return call3(code, table, span[0], span[1])
