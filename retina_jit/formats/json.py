"""JSON in nopython mode: values written one behind the other.

Every function here takes `out`, where to write, and `limit`, the first address that may not be written; it returns the
address behind what it wrote, or 0 if that did not fit. An `out` of 0 is passed on, so calls can be chained and one look
at the end tells whether all of it fitted.
"""

from __future__ import annotations

from retina_jit.formats import number
from retina_jit.jit import kernel
from retina_jit.memory import constant, copy, load8, load16, load64, store8, store16, store32, store64

AS_UTF8, AS_LATIN1, AS_UTF8_OR_HEX, AS_BYTES = range(4)
"""How bytes become text; the first three are `UTF8`, `LATIN1` and `UTF8_OR_HEX` of columns. AS_BYTES: what UTF8 makes of
a text that is no UTF-8: each byte beyond ASCII as \\xNN, also where two of them would be a character by chance."""

_hex_pairs = constant("hex_pairs", b"".join(b"%02x" % n for n in range(256)))
_invalid = constant("invalid_utf8", b'"<Invalid UTF-8: ')

# The letter of the short escape of each control character, 0 if it has none (RFC 8259, 7).
_escapes = constant("json_escapes", bytes({8: 98, 9: 116, 10: 110, 12: 102, 13: 114}.get(n, 0) for n in range(32)))

_ONES, _SPACES, _QUOTES, _SLASHES = (n * 0x0101010101010101 for n in (1, 0x20, 0x22, 0x5C))
_TOPS = -0x7F7F7F7F7F7F7F80


@kernel
def put_byte(out, limit, byte):
    """Write one byte."""
    if out == 0 or out >= limit:
        return 0
    store8(out, byte)
    return out + 1


@kernel
def put_bare(out, limit, address, length):
    """Write bytes as they are: JSON already."""
    if out == 0 or length > limit - out:
        return 0
    copy(out, address, length)
    return out + length


@kernel
def put_number(out, limit, value):
    """Write a number with sign."""
    if out == 0 or limit - out < 21:
        return 0
    return number.signed(out, value)


@kernel
def put_hex(out, limit, address, length):
    """Write bytes in hexadecimal, in quotes."""
    if out == 0 or 2 * length + 2 > limit - out:
        return 0
    store8(out, 34)
    out += 1
    for n in range(length):
        store16(out, load16(_hex_pairs() + 2 * load8(address + n)))
        out += 2
    store8(out, 34)
    return out + 1


@kernel
def utf8_length(address, left):
    """Length of the UTF-8 sequence that begins here, 2 to 4 bytes; 0 if it is none (Unicode, table 3-7)."""
    first = load8(address)
    if left < 2 or first < 0xC2 or first > 0xF4 or load8(address + 1) & 0xC0 != 0x80:
        return 0
    if first < 0xE0:
        return 2
    second = load8(address + 1)
    if left < 3 or load8(address + 2) & 0xC0 != 0x80:
        return 0
    if first < 0xF0:
        if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F):
            return 0
        return 3
    if left < 4 or load8(address + 3) & 0xC0 != 0x80:
        return 0
    if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):
        return 0
    return 4


@kernel
def _put_escape(out, byte):
    """Write a byte below 0x80 that JSON does not allow as it is."""
    if byte >= 32:
        store16(out, 92 | byte << 8)
        return out + 2
    letter = load8(_escapes() + byte)
    if letter:
        store16(out, 92 | letter << 8)
        return out + 2
    store32(out, 0x3030755C)  # \u00
    store16(out + 4, load16(_hex_pairs() + 2 * byte))
    return out + 6


@kernel
def _put_all_hex(out, address, length):
    """Write bytes that are not UTF-8 as Retina shows them: <Invalid UTF-8: ff fe>."""
    copy(out, _invalid(), 17)
    out += 17
    for n in range(length):
        store16(out, load16(_hex_pairs() + 2 * load8(address + n)))
        store8(out + 2, 32)
        out += 3
    store16(out - 1, 62 | 34 << 8)
    return out + 1


@kernel
def put_string(out, limit, address, length, encoding):
    """Write bytes as a string, in quotes; `encoding`: AS_UTF8, AS_LATIN1 or AS_UTF8_OR_HEX."""
    if out == 0 or 6 * length + 24 > limit - out:
        return 0
    begin = out
    store8(out, 34)
    out += 1
    at = 0
    while at < length:
        if length - at >= 8:
            word = load64(address + at)
            quotes, slashes = word ^ _QUOTES, word ^ _SLASHES
            # The top bit of each byte: not ASCII, or below a space, or a quote, or a backslash (at least in the lowest such byte).
            odd = word | ((word - _SPACES) & ~word) | ((quotes - _ONES) & ~quotes) | ((slashes - _ONES) & ~slashes)
            if odd & _TOPS == 0:
                store64(out, word)
                out += 8
                at += 8
                continue
        byte = load8(address + at)
        if byte < 0x80:
            if byte < 32 or byte == 34 or byte == 92:
                out = _put_escape(out, byte)
            else:
                store8(out, byte)
                out += 1
            at += 1
        elif encoding == AS_LATIN1:
            store16(out, 0xC0 | byte >> 6 | (0x80 | byte & 0x3F) << 8)
            out += 2
            at += 1
        else:
            width = utf8_length(address + at, length - at) if encoding != AS_BYTES else 0
            if width:
                for n in range(width):
                    store8(out + n, load8(address + at + n))
                out += width
                at += width
            elif encoding == AS_UTF8_OR_HEX:
                return _put_all_hex(begin, address, length)
            elif encoding == AS_UTF8:
                encoding, out, at = AS_BYTES, begin + 1, 0
            else:
                store16(out, 0x5C5C)
                store8(out + 2, 120)
                store16(out + 3, load16(_hex_pairs() + 2 * byte))
                out += 5
                at += 1
    store8(out, 34)
    return out + 1
