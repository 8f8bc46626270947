"""Many subscriptions: their filters as data, and the kernels that run them. `indexing` writes what is read here.

A packet, connection or session is first *described*: which protocols are there (a word of bits), the value of each field,
and, for fields whose conditions do not exclude each other, one bit per condition that holds (texts that contain something,
lists). Every field's value is looked up once and leads to a *key*: a list of the formulas that this value makes possible,
or certain. Only those are evaluated. So the cost grows with what could match, not with how many filters there are.

The description lies at `s`, the stage's table at `t` (positions in it are bytes from `t`), both in 64-bit words.
"""

from __future__ import annotations

from retina_jit.filters.match import FLIP, find_text, in_ranges, in_wide_ranges, match_positions
from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import fill, load8, load32, load64, shift_right, store64, trailing_zeros
from retina_jit.parsers.wire import u8

# Words at the head of a stage's table.
ALWAYS, KEYS, KEYS_AT, FOUND, FOUND_AT, BIT_KEYS, STARTS, LISTS, FORMULAS, RESULTS_AT, SHIFT, WORDS, OWNERS = range(13)
HEAD = 13
"""ALWAYS: key of the formulas to try in any case. KEYS, KEYS_AT: how many keys the description holds, and where.
FOUND, FOUND_AT: likewise the words of condition bits; BIT_KEYS: a key for each bit. STARTS, LISTS: the formulas of each
key. FORMULAS: (first instruction, effects) of each. RESULTS_AT: where results go. SHIFT: which results share a bit of the
answer of `decide`. WORDS: in a set of subscriptions. OWNERS: how many slots belong to another subscription, then (slot, subscription) of each."""

# What a formula's instruction compares: words (operation, place of the value, a, b, next if true, next if false).
RANGE, RANGES, WIDE_RANGES, BIT = range(4)
FALSE, TRUE = 0, 1
"""Instead of a next instruction: the formula's answer."""
CERTAIN = 1 << 31
"""With a formula in a list: the key alone makes it true."""


@leaf
def key_of_number(t, lookup, value):
    """Key of a number: `lookup` leads to (shift, last bucket, buckets, begins, keys), see `indexing.number_lookup`."""
    at = t + lookup
    bucket = value >> load64(at)
    if bucket < 0:
        return 0
    bucket = min(bucket, load64(at + 8))
    buckets = t + load64(at + 16) + 4 * bucket
    low, high = load32(buckets), load32(buckets + 4)
    begins = t + load64(at + 24)
    while low < high:  # the last interval that begins at or below the value
        middle = (low + high + 1) >> 1
        if load64(begins + 8 * middle) <= value:
            low = middle
        else:
            high = middle - 1
    return load32(t + load64(at + 32) + 4 * low)


@kernel
def key_of_wide(t, lookup, high_word, low_word):
    """Key of a 128-bit number: `lookup` leads to (intervals, -, -, begins, keys)."""
    at = t + lookup
    a, b = high_word ^ FLIP, low_word ^ FLIP
    low, high = 0, load64(at) - 1
    begins = t + load64(at + 24)
    while low < high:
        middle = (low + high + 1) >> 1
        begin = load64(begins + 16 * middle)
        if begin < a or (begin == a and load64(begins + 16 * middle + 8) <= b):
            low = middle
        else:
            high = middle - 1
    return load32(t + load64(at + 32) + 4 * low)


@kernel
def number_of_text(t, lookup, span):
    """Position of a text among those that filters name, from 1; 0 if it is none of them."""
    return find_text(t + lookup, span) + 1


@leaf
def key_of_text(t, keys, number):
    """Key of a text that `number_of_text` has found."""
    return load32(t + keys + 4 * number)


@leaf
def note(t, lists, key, found):
    """Set the bits of the conditions that an element of a list fulfils."""
    at = load32(t + lists + 4 * key)
    end = load32(t + lists + 4 * key + 4)
    while at < end:
        bit = load32(t + lists + at)
        place = found + 8 * (bit >> 6)
        store64(place, load64(place) | (1 << (bit & 63)))
        at += 4


@kernel
def _say(at, found):
    """Set the bits of the patterns listed at `at`: how many, then their numbers."""
    for n in range(load32(at)):
        bit = load32(at + 4 + 4 * n)
        place = found + 8 * (bit >> 6)
        store64(place, load64(place) | (1 << (bit & 63)))


@kernel
def _run_one(table, span, found):
    """Run an automaton (`wide.pack`) over a text and set the bits of the patterns that match."""
    shift, state, talking = load64(table), load64(table + 8), load64(table + 16)
    steps, says, ends = table + load64(table + 24), table + load64(table + 32), table + load64(table + 40)
    classes = table + 64
    _say(table + load64(table + 48), found)
    for n in range(span[1]):
        state = load32(steps + 4 * (state + load8(classes + u8(span, n))))
        if state >= talking:
            _say(table + load32(says + 4 * ((state - talking) >> shift)), found)
    _say(table + load32(ends + 4 * (state >> shift)), found)


@entry
def run_patterns(tables, automata, address, length, found):
    """Run all automata of a field over a text. `automata`: position in `tables` of how many, then position of each."""
    span = (address, length)
    own = load64(tables + automata)
    for n in range(load64(own)):
        table = load64(tables + load64(own + 8 + 8 * n))
        if load64(table) >= 0:
            _run_one(table, span, found)
        elif match_positions(table, span):
            bit = load64(table + 8)
            place = found + 8 * (bit >> 6)
            store64(place, load64(place) | (1 << (bit & 63)))
    return 0


@kernel
def _holds(tables, t, at, s):
    """Whether a formula is true of what is described at `s`; `at`: its first instruction."""
    while at > TRUE:
        i = t + at
        operation = load64(i)
        place = s + load64(i + 8)
        value = load64(place)
        if operation == RANGE:
            yes = load64(i + 16) <= value and value <= load64(i + 24)
        elif operation == BIT:
            yes = shift_right(value, load64(i + 16)) & 1 != 0
        elif operation == RANGES:
            yes = in_ranges(load64(tables + load64(i + 16)), value)
        else:
            yes = in_wide_ranges(load64(tables + load64(i + 16)), value, load64(place + 8))
        at = load64(i + 32) if yes else load64(i + 40)
    return at == TRUE


@kernel
def _try(tables, t, key, s):
    """Evaluate the formulas of a key; write what the true ones do. Returns which groups of results have changed."""
    at = load32(t + load64(t + 8 * STARTS) + 4 * key)
    end = load32(t + load64(t + 8 * STARTS) + 4 * key + 4)
    results, shift = s + load64(t + 8 * RESULTS_AT), load64(t + 8 * SHIFT)
    changed = 0
    while at < end:
        f = load32(t + load64(t + 8 * LISTS) + 4 * at)
        at += 1
        formula = t + load64(t + 8 * FORMULAS) + 16 * (f & (CERTAIN - 1))
        if f & CERTAIN or _holds(tables, t, load64(formula), s):
            effects = t + load64(formula + 8)
            for n in range(load64(effects)):
                word, mask = load64(effects + 8 + 16 * n), load64(effects + 16 + 16 * n)
                store64(results + 8 * word, load64(results + 8 * word) | mask)
                changed |= 1 << (word >> shift)
    return changed


@entry
def decide(tables, t, s):
    """Evaluate all formulas that the description at `s` makes possible; their effects are ORed to the results.

    Returns which results have changed: bit n for the words from n << SHIFT to below (n + 1) << SHIFT.
    """
    changed = 0
    if load64(t + 8 * ALWAYS):
        changed = _try(tables, t, load64(t + 8 * ALWAYS), s)
    keys = s + load64(t + 8 * KEYS_AT)
    for n in range(load64(t + 8 * KEYS)):
        key = load64(keys + 8 * n)
        if key:
            changed |= _try(tables, t, key, s)
    found = s + load64(t + 8 * FOUND_AT)
    bit_keys = t + load64(t + 8 * BIT_KEYS)
    for n in range(load64(t + 8 * FOUND)):
        left = load64(found + 8 * n)
        while left:
            bit = trailing_zeros(left)
            left &= left - 1
            key = load32(bit_keys + 4 * (64 * n + bit))
            if key:
                changed |= _try(tables, t, key, s)
    return changed


@leaf
def clear(t, s):
    """Forget the condition bits of what was described before."""
    fill(s + load64(t + 8 * FOUND_AT), 0, 8 * load64(t + 8 * FOUND))


@leaf
def clear_results(t, s):
    """Forget the results of both kinds."""
    fill(s + load64(t + 8 * RESULTS_AT), 0, 16 * load64(t + 8 * WORDS) + 8)


@kernel
def report(t, s, changed, k, matches, count):
    """Append the subscriptions that match row `k`, in their order, and clear the results.

    Returns 2 * (how many matches there are now) + (whether some subscription wants the connection).
    """
    results, shift, words = s + load64(t + 8 * RESULTS_AT), load64(t + 8 * SHIFT), load64(t + 8 * WORDS)
    keep = 0
    while changed:
        group = trailing_zeros(changed)
        changed &= changed - 1
        for w in range(group << shift, min((group + 1) << shift, words + 1)):
            left = load64(results + 8 * w)
            store64(results + 8 * w, 0)
            if w == words:
                keep = left & 1
                break
            while left:
                store64(matches + 8 * count, (k << 32) | (64 * w + trailing_zeros(left)))
                count += 1
                left &= left - 1
    return 2 * count + keep


@kernel
def answer(t, s, sets):
    """Write what the results say of the subscriptions that are alive: matched, and not decided yet."""
    results, words = s + load64(t + 8 * RESULTS_AT), load64(t + 8 * WORDS)
    for w in range(words):
        alive, sure, maybe = load64(sets + 8 * w), load64(results + 8 * w), load64(results + 8 * (words + w))
        store64(sets + 8 * (words + w), alive & sure)
        store64(sets + 8 * (2 * words + w), alive & maybe & ~sure)
    owners = t + load64(t + 8 * OWNERS)
    for n in range(load64(owners)):
        slot, owner = load64(owners + 8 + 16 * n), load64(owners + 16 + 16 * n)
        place = sets + 8 * (words + (slot >> 6))
        if shift_right(load64(place), slot & 63) & 1:
            store64(place, load64(place) & ~(1 << (slot & 63)))
            place = sets + 8 * (words + (owner >> 6))
            store64(place, load64(place) | (1 << (owner & 63)))
