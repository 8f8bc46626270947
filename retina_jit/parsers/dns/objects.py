"""The query and the response of a transaction as JSON objects, written from the messages in an event."""

from __future__ import annotations

from retina_jit.formats.json import put_bare, put_byte, put_number
from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import constant
from retina_jit.parsers.dns.event import RECORD_AT
from retina_jit.parsers.dns.message import (
    AA,
    AD,
    CD,
    HEADER,
    OPT,
    QUESTION_TAIL,
    RA,
    RCODE,
    RD,
    RECORD_TAIL,
    TC,
    count_of,
    flags_of,
    shown_class,
    skip_name,
    skip_questions,
)
from retina_jit.parsers.dns.render import (
    COMMA,
    literal,
    put_class,
    put_data,
    put_digits,
    put_name,
    put_option,
    put_rcode,
    put_type,
)
from retina_jit.parsers.wire import has, part, u16, u32

_false, _true = constant("dns_false", b"false"), constant("dns_true", b"true")
_name, _type, _class = literal("j_name", b'{"name":'), literal("j_type", b',"type":'), literal("j_class", b',"class":')
_ttl, _data, _null = literal("j_ttl", b',"ttl":'), literal("j_data", b',"data":'), literal("j_null", b"null")
_num_questions, _num_answers = literal("j_nq", b'{"num_questions":'), literal("j_na", b',"num_answers":')
_num_nameservers, _num_additional = literal("j_nn", b',"num_nameservers":'), literal("j_nx", b',"num_additional":')
_response_code, _aa, _tc = literal("j_rc", b'{"response_code":'), literal("j_aa", b',"authoritative":'), literal("j_tc", b',"truncated":')
_rd, _ra = literal("j_rd", b',"recursion_desired":'), literal("j_ra", b',"recursion_available":')
_ad, _cd = literal("j_ad", b',"authenticated_data":'), literal("j_cd", b',"checking_disabled":')
_questions, _edns = literal("j_q", b',"questions":['), literal("j_e", b',"edns":')
_answers, _nameservers, _additionals = (literal(f"j_{n}", b',"%s":[' % n.encode()) for n in ("answers", "nameservers", "additionals"))
_udp_size, _version = literal("j_us", b'{"udp_size":'), literal("j_ev", b',"version":')
_do, _extended, _options = literal("j_do", b',"do":'), literal("j_xr", b',"extended_response_code":'), literal("j_o", b',"options":[')
_code, _option_name = literal("j_oc", b'{"code":'), literal("j_on", b',"name":')

BRACKET, BRACE = 93, 125


@leaf
def _put_flag(out, limit, value):
    return put_bare(out, limit, _true() if value else _false(), 4 if value else 5)


@kernel
def _put_questions(out, limit, message):
    """The list of questions. Returns (out, position behind them), -1 if they are not all there."""
    at = HEADER
    for n in range(count_of(message, 0)):
        tail = skip_name(message, at)
        if tail < 0 or not has(message, tail, QUESTION_TAIL):
            return (put_byte(out, limit, BRACKET), -1)
        if n:
            out = put_byte(out, limit, COMMA)
        out = put_name(_name(out, limit), limit, message, at, 1)
        out = put_type(_type(out, limit), limit, u16(message, tail), 1)
        out = put_byte(put_class(_class(out, limit), limit, shown_class(u16(message, tail + 2))), limit, BRACE)
        at = tail + QUESTION_TAIL
    return (put_byte(out, limit, BRACKET), at + 0)


@kernel
def _put_records(out, limit, message, at, count):
    """Records but OPT, and the bracket that ends them. Returns (out, position behind, -1 if cut; of the last OPT, 0; how many)."""
    opt = shown = 0
    for _ in range(count):
        if at < 0:
            break
        tail = skip_name(message, at)
        if tail < 0 or not has(message, tail, RECORD_TAIL) or not has(message, tail + RECORD_TAIL, u16(message, tail + 8)):
            at = -1
            break
        kind, length = u16(message, tail), u16(message, tail + 8)
        if kind == OPT:
            opt = at
        else:
            if shown:
                out = put_byte(out, limit, COMMA)
            shown += 1
            out = put_name(_name(out, limit), limit, message, at, 1)
            out = put_type(_type(out, limit), limit, kind, 1)
            out = put_class(_class(out, limit), limit, shown_class(u16(message, tail + 2)))
            out = put_number(_ttl(out, limit), limit, u32(message, tail + 4))
            out = put_byte(put_data(_data(out, limit), limit, message, tail + RECORD_TAIL, length, kind, 1), limit, BRACE)
        at = tail + RECORD_TAIL + length
    return (put_byte(out, limit, BRACKET), at, opt, shown)


@kernel
def _put_edns(out, limit, message, at):
    """An OPT record (RFC 6891, 6.1); null for at = 0."""
    if at == 0:
        return _null(out, limit)
    tail = skip_name(message, at)
    ttl, length = u32(message, tail + 4), u16(message, tail + 8)
    out = put_number(_udp_size(out, limit), limit, u16(message, tail + 2))
    out = put_number(_version(out, limit), limit, (ttl >> 16) & 0xFF)
    out = _put_flag(_do(out, limit), limit, ttl & 0x8000)
    out = _options(put_number(_extended(out, limit), limit, ttl >> 24), limit)
    options = part(message, tail + RECORD_TAIL, length)
    place = 0
    while has(options, place, 4) and has(options, place + 4, u16(options, place + 2)):
        size = u16(options, place + 2)
        if place:
            out = put_byte(out, limit, COMMA)
        out = put_number(_code(out, limit), limit, u16(options, place))
        out = put_option(_option_name(out, limit), limit, u16(options, place))
        out = put_byte(put_digits(_data(out, limit), limit, part(options, place + 4, size), 1), limit, BRACE)
        place += 4 + size
    return put_byte(put_byte(out, limit, BRACKET), limit, BRACE)


@kernel
def put_response(out, limit, message):
    """Write a response as a JSON object."""
    flags = flags_of(message) if message[1] >= HEADER else 0
    out = put_rcode(_response_code(out, limit), limit, flags & RCODE)
    out = _put_flag(_aa(out, limit), limit, flags & AA)
    out = _put_flag(_tc(out, limit), limit, flags & TC)
    out = _put_flag(_ra(out, limit), limit, flags & RA)
    out = _put_flag(_ad(out, limit), limit, flags & AD)
    out = _put_flag(_cd(out, limit), limit, flags & CD)
    whole = message[1] >= HEADER
    out = put_number(_num_answers(out, limit), limit, count_of(message, 1) if whole else 0)
    out = put_number(_num_nameservers(out, limit), limit, count_of(message, 2) if whole else 0)
    out = put_number(_num_additional(out, limit), limit, count_of(message, 3) if whole else 0)
    at = skip_questions(message) if whole else -1
    opt = 0
    for section in range(1, 4):
        out = _answers(out, limit) if section == 1 else _nameservers(out, limit) if section == 2 else _additionals(out, limit)
        found = _put_records(out, limit, message, at, count_of(message, section) if whole else 0)
        out, at = found[0], found[1]
        opt = found[2] if found[2] else opt
    return put_byte(_put_edns(_edns(out, limit), limit, message, opt), limit, BRACE)


@entry
def write_response(record, event, out, limit):
    """Custom column: the response."""
    word = RECORD_AT(record).response_message + 0
    return put_response(out, limit, (event + (word >> 32), word & 0xFFFFFFFF))


@entry
def write_query(record, event, out, limit):
    """Custom column: the query. Its records (of an update, of a query of multicast DNS) are shown where there are any."""
    word = RECORD_AT(record).query_message + 0
    message = (event + (word >> 32), word & 0xFFFFFFFF)
    whole = message[1] >= HEADER
    flags = flags_of(message) if whole else 0
    out = put_number(_num_questions(out, limit), limit, count_of(message, 0) if whole else 0)
    out = _put_flag(_rd(out, limit), limit, flags & RD)
    out = _put_flag(_ad(out, limit), limit, flags & AD)
    out = _put_flag(_cd(out, limit), limit, flags & CD)
    out = _questions(out, limit)
    at = HEADER
    if whole:
        found = _put_questions(out, limit, message)
        out, at = found[0], found[1]
    else:
        out = put_byte(out, limit, BRACKET)
    opt = 0
    for section in range(1, 4):
        begin = out
        out = _answers(out, limit) if section == 1 else _nameservers(out, limit) if section == 2 else _additionals(out, limit)
        listed = _put_records(out, limit, message, at, count_of(message, section) if whole else 0)
        out, at = listed[0], listed[1]
        opt = listed[2] if listed[2] else opt
        if listed[3] == 0 and out:
            out = begin
    return put_byte(_put_edns(_edns(out, limit), limit, message, opt), limit, BRACE)
