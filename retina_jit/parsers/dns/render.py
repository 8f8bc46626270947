"""Records as text in nopython mode: as JSON, or plain, which is roughly how zone files show them.

Every function takes `out`, where to write, and `limit`, and returns where the text ends, or 0 if there was no room (see
`retina_jit.formats.json`). `json`: 1 for JSON, 0 for plain text. The Python view says the same,
`retina_jit.datatypes.dns_records`.
"""

from __future__ import annotations

from typing import Any

from retina_jit.formats import address
from retina_jit.formats.json import AS_UTF8, put_bare, put_byte, put_number, put_string
from retina_jit.jit import kernel, leaf
from retina_jit.memory import constant, load8, load16, move, store8
from retina_jit.parsers.digest import write_hex
from retina_jit.parsers.dns import rdata
from retina_jit.parsers.dns.message import NAME_ROOM, skip_name, write_name
from retina_jit.parsers.dns.names import find_class, find_option, find_param, find_rcode, find_type
from retina_jit.parsers.wire import has, part, u8, u16, u32, u64

QUOTE, COMMA, SPACE, COLON = 34, 44, 32, 58

_begins = constant("dns_begins", rdata.BEGINS)
_programs = constant("dns_programs", rdata.PROGRAMS)
_base64 = constant("base64", b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_base32 = constant("base32hex", b"0123456789abcdefghijklmnopqrstuv")


def literal(label: str, text: bytes) -> Any:
    """Return the kernel that writes a piece of text."""
    where, n = constant(f"dns_{label}", text), len(text)

    @kernel
    def put(out, limit):
        return put_bare(out, limit, where(), n)

    return put


_put_null, _put_true = literal("null", b"null"), literal("true", b"true")
_put_type_prefix, _put_class_prefix = literal("type_", b"TYPE"), literal("class_", b"CLASS")
_put_rcode_prefix, _put_option_prefix, _put_param_prefix = literal("rcode_", b"RCODE"), literal("opt_", b"OPT"), literal("key_", b"key")
_put_unknown, _put_unknown_json = literal("unknown", b"\\# "), literal("unknown_json", b'"\\\\# ')


@kernel
def put_mark(out, limit, byte, json):
    """Write a byte that only JSON has."""
    return put_byte(out, limit, byte) if json else out


# --------------------------------------------------------------------------------------------------------------- names


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
def put_name(out, limit, message, at, json):
    """Write the name at `at`."""
    if out == 0 or limit - out < (8 if json else 1) * NAME_ROOM:
        return 0
    if json == 0:
        return write_name(out, message, at)
    end = write_name(out + 1, message, at)
    if _is_plain(out + 1, end):
        store8(out, QUOTE)
        store8(end, QUOTE)
        return end + 1
    length = end - (out + 1)
    raw = limit - NAME_ROOM
    move(raw, out + 1, length)
    return put_string(out, raw, raw, length, AS_UTF8)


@kernel
def _put_known(out, limit, span, json):
    out = put_mark(out, limit, QUOTE, json)
    out = put_bare(out, limit, span[0], span[1])
    return put_mark(out, limit, QUOTE, json)


@kernel
def put_type(out, limit, number, json):
    """Write the name of a record type."""
    span = find_type(number)
    if span[1]:
        return _put_known(out, limit, span, json)
    out = _put_type_prefix(put_mark(out, limit, QUOTE, json), limit)
    return put_mark(put_number(out, limit, number), limit, QUOTE, json)


@kernel
def put_class(out, limit, number):
    """Write the name of a class, in quotes."""
    span = find_class(number)
    if span[1]:
        return _put_known(out, limit, span, 1)
    return put_byte(put_number(_put_class_prefix(put_byte(out, limit, QUOTE), limit), limit, number), limit, QUOTE)


@kernel
def put_rcode(out, limit, number):
    """Write the name of a response code, in quotes."""
    span = find_rcode(number)
    if span[1]:
        return _put_known(out, limit, span, 1)
    return put_byte(put_number(_put_rcode_prefix(put_byte(out, limit, QUOTE), limit), limit, number), limit, QUOTE)


@kernel
def put_option(out, limit, number):
    """Write the name of an EDNS option, in quotes."""
    span = find_option(number)
    if span[1]:
        return _put_known(out, limit, span, 1)
    return put_byte(put_number(_put_option_prefix(put_byte(out, limit, QUOTE), limit), limit, number), limit, QUOTE)


@kernel
def _put_param_name(out, limit, number, json):
    span = find_param(number)
    if span[1]:
        return _put_known(out, limit, span, json)
    out = _put_param_prefix(put_mark(out, limit, QUOTE, json), limit)
    return put_mark(put_number(out, limit, number), limit, QUOTE, json)


# --------------------------------------------------------------------------------------------------------------- bytes


@kernel
def put_digits(out, limit, span, json):
    """Write bytes in hexadecimal."""
    if out == 0 or limit - out < 2 * span[1] + 2:
        return 0
    if json:
        store8(out, QUOTE)
        out += 1
    write_hex(out, span[0], span[1])
    return put_mark(out + 2 * span[1], limit, QUOTE, json)


@kernel
def _put_text(out, limit, span, json):
    """Write characters; in quotes."""
    if json:
        return put_string(out, limit, span[0], span[1], AS_UTF8)
    return put_byte(put_bare(put_byte(out, limit, QUOTE), limit, span[0], span[1]), limit, QUOTE)


@kernel
def _put_base64(out, limit, span, json):
    if out == 0 or limit - out < 4 * (span[1] // 3) + 8:
        return 0
    if json:
        store8(out, QUOTE)
        out += 1
    for n in range(0, span[1], 3):
        left = span[1] - n
        word = u8(span, n) << 16
        if left > 1:
            word |= u8(span, n + 1) << 8
        if left > 2:
            word |= u8(span, n + 2)
        store8(out, load8(_base64() + (word >> 18)))
        store8(out + 1, load8(_base64() + ((word >> 12) & 63)))
        store8(out + 2, load8(_base64() + ((word >> 6) & 63)) if left > 1 else 61)
        store8(out + 3, load8(_base64() + (word & 63)) if left > 2 else 61)
        out += 4
    return put_mark(out, limit, QUOTE, json)


@kernel
def _put_base32(out, limit, span, json):
    """Without the padding (RFC 5155, 3.3)."""
    if out == 0 or limit - out < 2 * span[1] + 4:
        return 0
    if json:
        store8(out, QUOTE)
        out += 1
    word = bits = 0
    for n in range(span[1]):
        word = ((word << 8) | u8(span, n)) & 0xFFFF
        bits += 8
        while bits >= 5:
            bits -= 5
            store8(out, load8(_base32() + ((word >> bits) & 31)))
            out += 1
    if bits:
        store8(out, load8(_base32() + ((word << (5 - bits)) & 31)))
        out += 1
    return put_mark(out, limit, QUOTE, json)


@kernel
def _put_mac(out, limit, span, json):
    out = put_mark(out, limit, QUOTE, json)
    if out == 0 or limit - out < 18:
        return 0
    for n in range(6):
        if n:
            store8(out, 45)
            out += 1
        write_hex(out, span[0] + n, 1)
        out += 2
    return put_mark(out, limit, QUOTE, json)


@kernel
def _put_ipv4(out, limit, word, json):
    out = put_mark(out, limit, QUOTE, json)
    if out == 0 or limit - out < 48:
        return 0
    return put_mark(address.ipv4(out, word), limit, QUOTE, json)


@kernel
def _put_ipv6(out, limit, high, low, json):
    out = put_mark(out, limit, QUOTE, json)
    if out == 0 or limit - out < 64:
        return 0
    return put_mark(address.ipv6(out, high, low), limit, QUOTE, json)


# --------------------------------------------------------------------------------------------------------------- lists


@leaf
def _put_between(out, limit, first, json):
    """What stands between the elements of a list."""
    return out if first else put_byte(out, limit, COMMA if json else SPACE)


@kernel
def _put_texts(out, limit, data, json):
    """Character strings to the end of the data; BROKEN ones leave a rest."""
    out = put_mark(out, limit, 91, json)
    at = 0
    while has(data, at, 1) and has(data, at + 1, u8(data, at)):
        out = _put_between(out, limit, at == 0, json)
        out = _put_text(out, limit, part(data, at + 1, u8(data, at)), json)
        at += 1 + u8(data, at)
    return (put_mark(out, limit, 93, json), at)


@kernel
def _put_types(out, limit, data, json):
    """Record types of a bitmap (RFC 4034, 4.1.2)."""
    out = put_mark(out, limit, 91, json)
    at = 0
    first = True
    while has(data, at, 2) and 0 < u8(data, at + 1) <= 32 and has(data, at + 2, u8(data, at + 1)):
        window, size = u8(data, at), u8(data, at + 1)
        for n in range(8 * size):
            if (u8(data, at + 2 + (n >> 3)) >> (7 - (n & 7))) & 1:
                out = _put_between(out, limit, first, json)
                out = put_type(out, limit, 256 * window + n, json)
                first = False
        at += 2 + size
    return (put_mark(out, limit, 93, json), at)


@kernel
def _put_param_value(out, limit, key, value, json):
    """Write the value of a service parameter (RFC 9460, 7). Returns 0 for no room, -1 if it breaks a rule."""
    size = value[1]
    if key == rdata.PARAM_ALPN or key == rdata.PARAM_MANDATORY or key == rdata.PARAM_IPV4HINT or key == rdata.PARAM_IPV6HINT:
        out = put_mark(out, limit, 91, json)
        at = 0
        while at < size:
            if at:
                out = put_byte(out, limit, COMMA)
            if key == rdata.PARAM_ALPN:
                n = u8(value, at)
                if not has(value, at + 1, n):
                    return -1
                name = part(value, at + 1, n)
                out = put_string(out, limit, name[0], name[1], AS_UTF8) if json else put_bare(out, limit, name[0], name[1])
                at += 1 + n
            elif key == rdata.PARAM_MANDATORY:
                if not has(value, at, 2):
                    return -1
                out = _put_param_name(out, limit, u16(value, at), json)
                at += 2
            elif key == rdata.PARAM_IPV4HINT:
                if not has(value, at, 4):
                    return -1
                out = _put_ipv4(out, limit, u32(value, at), json)
                at += 4
            else:
                if not has(value, at, 16):
                    return -1
                out = _put_ipv6(out, limit, u64(value, at), u64(value, at + 8), json)
                at += 16
        return put_mark(out, limit, 93, json)
    if key == rdata.PARAM_PORT:
        return put_number(out, limit, u16(value, 0)) if size == 2 else -1
    if key == rdata.PARAM_NO_DEFAULT_ALPN:
        return _put_true(out, limit) if size == 0 else -1
    if key == rdata.PARAM_ECH:
        return _put_base64(out, limit, value, json)
    if key == rdata.PARAM_DOHPATH:
        return _put_text(out, limit, value, json)
    return put_digits(out, limit, value, json)


@kernel
def _put_params(out, limit, data, json):
    """Service parameters in the strictly ascending order of their keys (RFC 9460, 2.2)."""
    out = put_mark(out, limit, 123, json)
    at = 0
    last = -1
    while has(data, at, 4) and has(data, at + 4, u16(data, at + 2)) and u16(data, at) > last:
        key, size = u16(data, at), u16(data, at + 2)
        out = _put_between(out, limit, last < 0, json)
        out = _put_param_name(out, limit, key, json)
        out = put_byte(out, limit, COLON if json else 61)
        out = _put_param_value(out, limit, key, part(data, at + 4, size), json)
        if out < 0:
            return (0, -1)
        at += 4 + size
        last = key
    return (put_mark(out, limit, 125, json), at)


# ---------------------------------------------------------------------------------------------------------------- data


@kernel
def _put_field(out, limit, message, at, end, kind, json):
    """Write the field of this kind at `at` of data that ends at `end`. Returns (out, position behind), -1 if it does not fit."""
    left = end - at
    rest = part(message, at, left)
    if kind == rdata.NAME:
        behind = skip_name(message, at)
        if behind < 0 or behind > end:
            return (out, -1)
        return (put_name(out, limit, message, at, json), behind)
    if kind == rdata.IPV4:
        return (_put_ipv4(out, limit, u32(message, at), json), at + 4) if left >= 4 else (out, -1)
    if kind == rdata.IPV6:
        if left < 16:
            return (out, -1)
        return (_put_ipv6(out, limit, u64(message, at), u64(message, at + 8), json), at + 16)
    if kind == rdata.U8:
        return (put_number(out, limit, u8(message, at)), at + 1) if left >= 1 else (out, -1)
    if kind == rdata.U16:
        return (put_number(out, limit, u16(message, at)), at + 2) if left >= 2 else (out, -1)
    if kind == rdata.KIND:
        return (put_type(out, limit, u16(message, at), json), at + 2) if left >= 2 else (out, -1)
    if kind == rdata.U32:
        return (put_number(out, limit, u32(message, at)), at + 4) if left >= 4 else (out, -1)
    if kind == rdata.MAC:
        return (_put_mac(out, limit, rest, json), at + 6) if left >= 6 else (out, -1)
    if kind == rdata.TEXT or kind == rdata.SALT or kind == rdata.HASH:
        if left < 1 or left < 1 + u8(message, at):
            return (out, -1)
        inner = part(message, at + 1, u8(message, at))
        if kind == rdata.TEXT:
            out = _put_text(out, limit, inner, json)
        elif kind == rdata.SALT:
            out = put_digits(out, limit, inner, json)
        else:
            out = _put_base32(out, limit, inner, json)
        return (out, at + 1 + inner[1])
    if kind == rdata.LINE:
        return (_put_text(out, limit, rest, json), end)
    if kind == rdata.HEX:
        return (put_digits(out, limit, rest, json), end)
    if kind == rdata.BASE64:
        return (_put_base64(out, limit, rest, json), end)
    if kind == rdata.TEXTS:
        found = _put_texts(out, limit, rest, json)
    elif kind == rdata.TYPES:
        found = _put_types(out, limit, rest, json)
    else:
        found = _put_params(out, limit, rest, json)
    return (found[0], at + found[1]) if found[1] >= 0 else (out, -1)


@kernel
def _put_raw(out, limit, span, json):
    """Write data of unknown form (RFC 3597, 5)."""
    out = _put_unknown_json(out, limit) if json else _put_unknown(out, limit)
    out = put_byte(put_number(out, limit, span[1]), limit, SPACE)
    return put_mark(put_digits(out, limit, span, 0), limit, QUOTE, json)


@kernel
def put_data(out, limit, message, at, length, kind, json):
    """Write the data of a record of type `kind`, all of which is in the message; null if it is empty."""
    if length == 0:
        return _put_null(out, limit) if json else out
    begin = out
    step = load16(_begins() + 2 * kind) if kind < rdata.MOST_TYPES else 0
    end = at + length
    place = at if step else -1
    named = False
    first = True
    while place >= 0:
        code = load8(_programs() + step)
        if code == rdata.END:
            break
        size = load8(_programs() + step + 1)
        if size:
            if json:
                out = put_byte(out, limit, 123 if first else COMMA)
                out = put_byte(put_bare(put_byte(out, limit, QUOTE), limit, _programs() + step + 2, size), limit, QUOTE)
                out = put_byte(out, limit, COLON)
            elif not first:
                out = put_byte(out, limit, SPACE)
            named = True
        found = _put_field(out, limit, message, place, end, code, json)
        out, place = found[0], found[1]
        step += 2 + size
        first = False
    if place != end:
        return _put_raw(begin, limit, part(message, at, length), json)
    return put_mark(out, limit, 125, 1 if json and named else 0)
