"""Values as plain text, without quotes and escapes: cells of a table, columns of text.

As in `retina_jit.formats.json`: `out`, `limit`, and 0 for what does not fit.
"""

from __future__ import annotations

from retina_jit.formats.json import AS_BYTES, AS_LATIN1, AS_UTF8, AS_UTF8_OR_HEX, utf8_length
from retina_jit.jit import kernel
from retina_jit.memory import constant, copy, load8, load16, load64, store8, store16, store64

_hex_pairs = constant("hex_pairs", b"".join(b"%02x" % n for n in range(256)))
_invalid = constant("invalid_utf8_plain", b"<Invalid UTF-8: ")
_TOPS = -0x7F7F7F7F7F7F7F80


@kernel
def put_hex_bare(out, limit, address, length):
    """Write bytes in hexadecimal."""
    if out == 0 or 2 * length > limit - out:
        return 0
    for n in range(length):
        store16(out + 2 * n, load16(_hex_pairs() + 2 * load8(address + n)))
    return out + 2 * length


@kernel
def _put_all_hex(out, address, length):
    """Write bytes that are not UTF-8 as Retina shows them."""
    copy(out, _invalid(), 16)
    out += 16
    for n in range(length):
        store16(out, load16(_hex_pairs() + 2 * load8(address + n)))
        store8(out + 2, 32)
        out += 3
    store8(out - 1, 62)
    return out


@kernel
def put_text(out, limit, address, length, encoding):
    """Write bytes as UTF-8; `encoding`: as for `put_string`."""
    if out == 0 or 4 * length + 24 > limit - out:
        return 0
    begin = out
    at = 0
    while at < length:
        if length - at >= 8:
            word = load64(address + at)
            if word & _TOPS == 0:
                store64(out, word)
                out += 8
                at += 8
                continue
        byte = load8(address + at)
        width = 1
        if byte < 0x80:
            store8(out, byte)
            out += 1
        elif encoding == AS_LATIN1:
            store16(out, 0xC0 | byte >> 6 | (0x80 | byte & 0x3F) << 8)
            out += 2
        else:
            width = utf8_length(address + at, length - at) if encoding != AS_BYTES else 0
            if width == 0 and encoding == AS_UTF8_OR_HEX:
                return _put_all_hex(begin, address, length)
            if width == 0 and encoding == AS_UTF8:
                encoding, out, at = AS_BYTES, begin, 0
                continue
            if width:
                for n in range(width):
                    store8(out + n, load8(address + at + n))
                out += width
            else:
                store16(out, 0x785C)
                store16(out + 2, load16(_hex_pairs() + 2 * byte))
                out += 4
                width = 1
        at += width
    return out
