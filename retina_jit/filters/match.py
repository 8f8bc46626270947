"""What generated filters call: comparing texts, membership in large sets, running an automaton."""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.memory import call3, load8, load32, load64
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
