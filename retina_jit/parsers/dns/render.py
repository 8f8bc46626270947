"""Records as text in nopython mode: as JSON, or plain, which is roughly how zone files show them.

`put_record` and `put_data` look once whether there is room for the worst and return 0 if there is not; what they call
writes without looking, and returns where the text ends. `json`: 1 for JSON, 0 for plain text. The Python view says the
same, `retina_jit.datatypes.dns_records`.
"""

from __future__ import annotations

from retina_jit.formats import address
from retina_jit.formats import number as decimal
from retina_jit.formats.json import AS_UTF8, put_string
from retina_jit.jit import entry, kernel, leaf
from retina_jit.links import linked
from retina_jit.memory import call8, constant, copy, load8, load16, move, store8, store32, store64
from retina_jit.parsers.dns import rdata
from retina_jit.parsers.dns.message import NAME_ROOM, skip_name, write_name
from retina_jit.parsers.dns.names import PARAM, TYPE, write_named
from retina_jit.parsers.wire import part, u8, u16, u32, u64

QUOTE, COMMA, SPACE, COLON, EQUALS = 34, 44, 32, 58, 61

_begins = constant("dns_begins", rdata.BEGINS)
_programs = constant("dns_programs", rdata.PROGRAMS)
# Digits for 4, 5 and 6 bits, 64 bytes apart.
_DIGITS = (b"0123456789abcdef", b"0123456789abcdefghijklmnopqrstuv", b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_digits = constant("dns_digits", b"".join(d.ljust(64) for d in _DIGITS))
# Kind of the value of each service parameter, and whether it is a list.
_VALUES = (rdata.PARAM_NAME, rdata.WORD, rdata.NOTHING, rdata.U16, rdata.IPV4, rdata.BASE64, rdata.IPV6, rdata.LINE)
_values = constant("dns_param_values", bytes(_VALUES))
_LISTS = 1 << rdata.PARAM_MANDATORY | 1 << rdata.PARAM_ALPN | 1 << rdata.PARAM_IPV4HINT | 1 << rdata.PARAM_IPV6HINT

_write_data = linked("retina_jit.parsers.dns.render:write_data")
ROOM_FOR_NAME = 8 * NAME_ROOM + 1024
"""A name in JSON, and space to work in."""


@kernel
def _is_plain(at, end):
    """Whether text needs no escapes in JSON."""
    while at < end:
        byte = load8(at)
        if byte < 32 or byte > 126 or byte == 34 or byte == 92:
            return False
        at += 1
    return True


@kernel
def put_name(out, message, at, json):
    """Write the name at `at`; ROOM_FOR_NAME in JSON, else NAME_ROOM."""
    if json == 0:
        return write_name(out, message, at)
    end = write_name(out + 1, message, at)
    if _is_plain(out + 1, end):
        store8(out, QUOTE)
        store8(end, QUOTE)
        return end + 1
    raw = out + 7 * NAME_ROOM
    length = end - (out + 1)
    move(raw, out + 1, length)
    return put_string(out, raw, raw, length, AS_UTF8)


@kernel
def put_named(out, key, json):
    """Write the name of a number, see `write_named`."""
    store8(out, QUOTE)
    end = write_named(out + json, key)
    store8(end, QUOTE)
    return end + json


@kernel
def put_bytes(out, span, bits, json):
    """Write bytes: as digits of 4 (hexadecimal), 5 (base 32) or 6 bits (base 64), as characters (7) or such in quotes (8)."""
    if bits >= 7 and json:
        return put_string(out, out + 6 * span[1] + 32, span[0], span[1], AS_UTF8)
    quoted = 1 if json or bits == 8 else 0
    store8(out, QUOTE)
    out += quoted
    if bits >= 7:
        copy(out, span[0], span[1])
        out += span[1]
    else:
        table = _digits() + 64 * (bits - 4)
        start = out
        word = have = 0
        for n in range(span[1]):
            word = ((word << 8) | u8(span, n)) & 0xFFFF
            have += 8
            while have >= bits:
                have -= bits
                store8(out, load8(table + ((word >> have) & ((1 << bits) - 1))))
                out += 1
        if have:
            store8(out, load8(table + ((word << (bits - have)) & ((1 << bits) - 1))))
            out += 1
        while bits == 6 and (out - start) & 3:
            store8(out, EQUALS)
            out += 1
    store8(out, QUOTE)
    return out + quoted


@kernel
def _put_bits(out, kind, span, json):
    """Write a span by the kind of its field."""
    bits = 4
    if kind == rdata.TEXT or kind == rdata.LINE:
        bits = 8
    elif kind == rdata.WORD:
        bits = 7
    elif kind == rdata.BASE64:
        bits = 6
    elif kind == rdata.HASH:
        bits = 5
    return put_bytes(out, span, bits, json)


@kernel
def _put_number(out, kind, message, at, json):
    """Write a field of fixed width that is all there."""
    if kind == rdata.U8:
        return decimal.unsigned(out, u8(message, at))
    if kind == rdata.U16:
        return decimal.unsigned(out, u16(message, at))
    if kind == rdata.U32:
        return decimal.unsigned(out, u32(message, at))
    if kind == rdata.KIND or kind == rdata.PARAM_NAME:
        return put_named(out, (TYPE if kind == rdata.KIND else PARAM) | u16(message, at), json)
    store8(out, QUOTE)
    if kind == rdata.IPV4:
        end = address.ipv4(out + json, u32(message, at))
    elif kind == rdata.IPV6:
        end = address.ipv6(out + json, u64(message, at), u64(message, at + 8))
    else:
        end = out + json
        for n in range(6):
            byte = u8(message, at + n)
            store8(end, load8(_digits() + (byte >> 4)))
            store8(end + 1, load8(_digits() + (byte & 15)))
            store8(end + 2, 45)
            end += 3
        end -= 1
    store8(end, QUOTE)
    return end + json


@kernel
def _width(kind):
    """Bytes of a field of fixed width; 0 if it has none."""
    if kind == rdata.U8:
        return 1
    if kind == rdata.U16 or kind == rdata.KIND or kind == rdata.PARAM_NAME:
        return 2
    if kind == rdata.U32 or kind == rdata.IPV4:
        return 4
    if kind == rdata.MAC:
        return 6
    return 16 if kind == rdata.IPV6 else 0


@kernel
def _put_scalar(out, message, at, end, kind, json):
    """Write the field at `at` of data that ends at `end`. Returns (out, position behind it), -1 if it does not fit."""
    width = _width(kind)
    if width:
        return (_put_number(out, kind, message, at, json), at + width) if end - at >= width else (out, -1)
    if kind == rdata.NAME:
        behind = skip_name(message, at)
        return (put_name(out, message, at, json), behind) if 0 <= behind <= end else (out, -1)
    behind = end
    if kind == rdata.TEXT or kind == rdata.WORD or kind == rdata.SALT or kind == rdata.HASH:
        if end - at < 1 or end - at < 1 + u8(message, at):
            return (out, -1)
        behind = at + 1 + u8(message, at)
        at += 1
    return (_put_bits(out, kind, part(message, at, behind - at), json), behind)


@kernel
def _put_list(out, message, at, end, kind, json):
    """Write fields of one kind up to `end`. Returns (out, position behind), -1 if the last one does not fit."""
    store8(out, 91)
    out += json
    first = at
    while 0 <= at < end:
        if at > first:
            store8(out, SPACE if json == 0 and kind == rdata.TEXT else COMMA)
            out += 1
        out, at = _put_scalar(out, message, at, end, kind, json)
    store8(out, 93)
    return (out + json, at)


@kernel
def _put_types(out, message, at, end, json):
    """Write the record types of a bitmap (RFC 4034, 4.1.2). Returns (out, position behind), -1 if it breaks a rule."""
    store8(out, 91)
    out += json
    begun = False
    while at < end:
        size = u8(message, at + 1) if end - at >= 2 else 0
        if size < 1 or size > 32 or size > end - at - 2:
            return (out, -1)
        for n in range(8 * size):
            if (u8(message, at + 2 + (n >> 3)) >> (7 - (n & 7))) & 1:
                if begun:
                    store8(out, COMMA if json else SPACE)
                    out += 1
                out = put_named(out, TYPE | (u8(message, at) << 8) + n, json)
                begun = True
        at += 2 + size
    store8(out, 93)
    return (out + json, at)


@kernel
def _put_params(out, message, at, end, json):
    """Write service parameters, which come in the order of their keys (RFC 9460, 2.2). Returns as `_put_types`."""
    store8(out, 123)
    out += json
    last = -1
    while at < end:
        if end - at < 4 or u16(message, at) <= last or u16(message, at + 2) > end - at - 4:
            return (out, -1)
        if last >= 0:
            store8(out, COMMA if json else SPACE)
            out += 1
        last = u16(message, at)
        behind = at + 4 + u16(message, at + 2)
        out = put_named(out, PARAM | last, json)
        store8(out, COLON if json else EQUALS)
        out += 1
        kind = load8(_values() + last) if last < 8 else rdata.HEX
        at += 4
        if kind == rdata.NOTHING:
            store32(out, 0x65757274)  # true
            out += 4
        elif last < 8 and (_LISTS >> last) & 1:
            out, at = _put_list(out, message, at, behind, kind, json)
        else:
            out, at = _put_scalar(out, message, at, behind, kind, json)
        if at != behind:
            return (out, -1)
    store8(out, 125)
    return (out + json, at)


@kernel
def _put_fields(out, message, at, end, step, json):
    """Write data by the program at `step`. Returns (out, position behind), which is `end` if the data fits its type."""
    first = step
    named = load8(_programs() + step + 1)
    while at >= 0:
        kind = load8(_programs() + step)
        if kind == rdata.END:
            break
        size = load8(_programs() + step + 1)
        if json and named:
            store8(out, 123 if step == first else COMMA)
            store8(out + 1, QUOTE)
            copy(out + 2, _programs() + step + 2, size)
            out += 2 + size
            store8(out, QUOTE)
            store8(out + 1, COLON)
            out += 2
        elif step != first:
            store8(out, SPACE)
            out += 1
        if kind == rdata.TEXTS:
            out, at = _put_list(out, message, at, end, rdata.TEXT, json)
        elif kind == rdata.TYPES:
            out, at = _put_types(out, message, at, end, json)
        elif kind == rdata.PARAMS:
            out, at = _put_params(out, message, at, end, json)
        else:
            out, at = _put_scalar(out, message, at, end, kind, json)
        step += 2 + size
    if json and named:
        store8(out, 125)
        out += 1
    return (out, at)


@kernel
def room_for(length, kind, json):
    """Room that the data of a record may need: a bit of a bitmap becomes up to 13 characters."""
    names = 2 * ROOM_FOR_NAME if json else 2 * NAME_ROOM
    return names + 512 + (112 if kind == 30 or kind == 47 or kind == 50 or kind == 62 else 12) * length


@entry
def write_data(out, limit, address, size, at, length, kind, json):
    """`put_data`, of the message of `size` bytes at `address`: far the most code of this file, so it is there once."""
    return _put_data(out, limit, (address, size), at, length, kind, json)


@leaf
def put_data(out, limit, message, at, length, kind, json):
    """Write the data of a record of type `kind`, all of which is in the message; null if it is empty."""
    return call8(_write_data(), out, limit, message[0], message[1], at, length, kind, json)


@kernel
def _put_data(out, limit, message, at, length, kind, json):
    """See `put_data`."""
    if limit - out < room_for(length, kind, json):
        return 0
    if length == 0:
        store32(out, 0x6C6C756E)
        return out + 4 * json
    step = load16(_begins() + 2 * kind) if kind < rdata.MOST_TYPES else 0
    if step:
        end, behind = _put_fields(out, message, at, at + length, step, json)
        if behind == at + length:
            return end
    # Unknown form (RFC 3597, 5): \# 2 c0ff
    store8(out, QUOTE)
    store8(out + json, 92)
    out += 2 * json + 1
    store8(out - 1, 92)
    store64(out, 0x2023)
    out = decimal.unsigned(out + 2, length)
    store8(out, SPACE)
    out = put_bytes(out + 1, part(message, at, length), 4, 0)
    store8(out, QUOTE)
    return out + json
