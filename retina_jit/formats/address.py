"""IP addresses as text (RFC 5952). The caller has made sure of room for 48 bytes."""

from __future__ import annotations

from retina_jit.jit import kernel
from retina_jit.memory import constant, load8, load32, shift_right, store8, store32

_octets = constant("octets", b"".join(f"{n}.".ljust(4).encode() for n in range(256)))
_digits = constant("hex_digits", b"0123456789abcdef")


@kernel
def ipv4(out, word):
    """Write an IPv4 address. Returns the address behind it."""
    for shift in range(24, -1, -8):
        octet = (word >> shift) & 0xFF
        store32(out, load32(_octets() + 4 * octet))
        out += 4 if octet >= 100 else 3 if octet >= 10 else 2
    return out - 1


@kernel
def _group(out, value):
    """Write up to four hexadecimal digits."""
    begun = False
    for shift in range(12, -1, -4):
        digit = (value >> shift) & 15
        if begun or digit or shift == 0:
            store8(out, load8(_digits() + digit))
            out += 1
            begun = True
    return out


@kernel
def _word(high, low, n):
    """The `n`-th of the eight groups."""
    return shift_right(high if n < 4 else low, 48 - 16 * (n & 3)) & 0xFFFF


@kernel
def ipv6(out, high, low):
    """Write an IPv6 address: the first longest run of zero groups shortened, embedded IPv4 dotted. Returns the address behind it."""
    best, longest, begin = 8, 1, -1
    for n in range(9):
        if n < 8 and _word(high, low, n) == 0:
            if begin < 0:
                begin = n
        elif begin >= 0:
            if n - begin > longest:
                best, longest = begin, n - begin
            begin = -1
    if best == 0 and (longest == 6 or (longest == 5 and _word(high, low, 5) == 0xFFFF)):
        store8(out, 58)
        store8(out + 1, 58)
        out += 2
        if longest == 5:
            store32(out, 0x66666666)
            store8(out + 4, 58)
            out += 5
        return ipv4(out, low & 0xFFFFFFFF)
    n = 0
    while n < 8:
        if n == best:
            store8(out, 58)
            store8(out + 1, 58)
            out += 2
            n += longest
            continue
        if n and n != best + longest:
            store8(out, 58)
            out += 1
        out = _group(out, _word(high, low, n))
        n += 1
    return out
