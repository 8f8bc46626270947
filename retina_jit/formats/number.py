"""Numbers as decimal text. The caller has made sure of room: 20 bytes for a number, 32 for seconds."""

from __future__ import annotations

from retina_jit.jit import kernel
from retina_jit.memory import constant, load16, shift_right, store8, store16

_pairs = constant("decimal_pairs", b"".join(b"%02d" % n for n in range(100)))


@kernel
def digits(value):
    """How many decimal digits a number >= 0 has."""
    n = 1
    while value >= 10000:
        value //= 10000
        n += 4
    if value >= 1000:
        return n + 3
    if value >= 100:
        return n + 2
    if value >= 10:
        return n + 1
    return n


@kernel
def _positive(out, value):
    n = digits(value)
    at = out + n
    while value >= 100:
        rest = value // 100
        at -= 2
        store16(at, load16(_pairs() + 2 * (value - 100 * rest)))
        value = rest
    if value >= 10:
        store16(at - 2, load16(_pairs() + 2 * value))
    else:
        store8(at - 1, 48 + value)
    return out + n


@kernel
def unsigned(out, value):
    """Write a word as a number without sign. Returns the address behind it."""
    if value >= 0:
        return _positive(out, value)
    rest = shift_right(value, 1) // 5
    end = _positive(out, rest)
    store8(end, 48 + value - 10 * rest)
    return end + 1


@kernel
def signed(out, value):
    """Write a number. Returns the address behind it."""
    if value >= 0:
        return _positive(out, value)
    store8(out, 45)
    return unsigned(out + 1, -value)  # -(-2**63) is 2**63 without sign


@kernel
def seconds(out, nanoseconds):
    """Write nanoseconds as seconds, exact, with at least one decimal. Returns the address behind it."""
    if nanoseconds < 0:
        store8(out, 45)
        out += 1
        nanoseconds = -nanoseconds
    whole = shift_right(nanoseconds, 9) // 1953125  # 10**9 = 2**9 * 1953125; -(-2**63) counts as 2**63
    part = nanoseconds - whole * 1000000000
    out = _positive(out, whole)
    end = _positive(out, part + 1000000000)  # its leading 1 gives way to the point
    store8(out, 46)
    while part % 10 == 0 and end > out + 2:
        part //= 10
        end -= 1
    return end
