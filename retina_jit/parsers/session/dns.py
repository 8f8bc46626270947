"""DNS, the Domain Name System, over UDP and TCP.

Multicast DNS and LLMNR have the same messages, and this parser, under names of their own: see `mdns.py` and `llmnr.py`.

A session is a transaction: a query and its response. A query without a response is delivered when it has waited long
enough or the connection ends, a response without a query at once; so every message is in just one transaction, a
repeated query too. See `retina_jit.parsers.dns.state` for what belongs together, and for the limits.

A connection is DNS when a datagram, or the first message of a stream, has a header that makes sense and questions and
records that can be walked. NetBIOS's name service, which has the same format, is left out.

Sources: RFC 1035, RFC 2136, RFC 4795, RFC 6762, RFC 6891.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import entry, kernel, leaf
from retina_jit.parsers.dns import message, stream, text
from retina_jit.parsers.dns import state as state_of
from retina_jit.parsers.dns.event import RECORD, project
from retina_jit.parsers.dns.examples import EXAMPLES
from retina_jit.parsers.dns.state import STATE, STATE_AT
from retina_jit.parsers.iana import dns as iana
from retina_jit.parsers.protocol import declare, session_field
from retina_jit.parsers.wire import has, part, u16
from retina_jit.status import Probe

__all__ = ["PROBE_LIMIT", "RECORD", "STATE", "finish", "parse", "probe", "project", "release"]

PROBE_LIMIT = 2 + message.HEADER + message.LONGEST_NAME + message.RECORD_TAIL
"""Length prefix, header, first entry up to its data."""

CERTAIN, UNSURE, NOT_OURS = int(Probe.CERTAIN), int(Probe.UNSURE), int(Probe.NOT_OURS)
_TCP = 6


@kernel
def _probe_stream(span):
    if not has(span, 0, 4):
        return UNSURE if span[1] < 2 or u16(span, 0) >= message.HEADER else NOT_OURS
    size = u16(span, 0)
    if size < message.HEADER:
        return NOT_OURS
    first = part(span, 2, size)
    if first[1] < message.HEADER:
        return UNSURE
    answer = message.check(first, 0)
    if answer == 1:
        return CERTAIN
    return UNSURE if answer == message.SHORT and first[1] < size else NOT_OURS


@entry
def probe(address, length, direction, transport):
    """What the first bytes of a direction, or a datagram, look like."""
    span = (address, length)
    if transport == _TCP:
        return _probe_stream(span)
    if length == 0:
        return UNSURE
    # A short snapshot may have cut the datagram anywhere.
    return CERTAIN if message.check(span, 0) == 1 and message.walk(span) != message.BROKEN else NOT_OURS


@entry
def parse(state, given):
    """See the contract."""
    return stream.feed(state, given)


@entry
def finish(state, arena):
    """See the contract."""
    return state_of.take_oldest(state, arena)


@entry
def release(state, arena):
    """See the contract."""
    state_of.free(state, arena)
    return 0


# ----------------------------------------------------------------------------------------------------- the transaction


@leaf
def _query_flags(session):
    return message.flags_of(_query(session)) if STATE_AT(session).query_len else 0


@leaf
def _response_flags(session):
    return message.flags_of(text.response_of(session)) if STATE_AT(session).response_len else 0


@leaf
def _query(session):
    row = STATE_AT(session)
    return (row.query + 0, np.int64(row.query_len))


@leaf
def _any(session):
    """The query, or a response without one."""
    return _query(session) if STATE_AT(session).query_len else text.response_of(session)


@session_field("int", "Id of the query and its response.", bits=16, aliases=("dns.id",))
def transaction_id(session):
    return message.transaction_id_of(_any(session)) if _any(session)[1] else 0


@session_field("int", "Kind of query.", bits=4, enum=iana.OPCODE_NUMBERS, aliases=("dns.flags.opcode",))
def opcode(session):
    return message.opcode_of(_any(session)) if _any(session)[1] else 0


@session_field("bool", "The query was seen.")
def has_query(session):
    return STATE_AT(session).query_len > 0


@session_field("bool", "The response was seen.", aliases=("dns.flags.response",))
def has_response(session):
    return STATE_AT(session).response_len > 0


@session_field("int", "From the query to its response; 0 if one of them was not seen.", unit="ns")
def rtt(session):
    row = STATE_AT(session)
    return row.response_ts - row.query_ts if row.query_len and row.response_len else 0


@session_field("int", "How many equal queries were waiting for an answer when this one was sent.", bits=16)
def repeated(session):
    return np.int64(STATE_AT(session).repeated)


# ------------------------------------------------------------------------------------------------------------ questions


@session_field("text", "Name of the first question, without the dot at its end; of the root \".\".", aliases=("dns.qry.name",))
def query_domain(session):
    return text.query_domain(session)


@session_field("texts", "Names of all questions; multicast DNS asks several at once.")
def queries(session, n):
    return text.question_name(session, n)


@session_field("int", "Type of the first question.", bits=16, enum=iana.TYPE_NUMBERS, aliases=("dns.qry.type",))
def qtype(session):
    return text.question_word(session, 0)


@session_field("int", "Class of the first question.", bits=16, enum=iana.CLASS_NUMBERS, aliases=("dns.qry.class",))
def qclass(session):
    return message.shown_class(text.question_word(session, 2))


@session_field("bool", "Multicast DNS: the asker wants the answer for itself.", aliases=("dns.qry.qu",))
def unicast_response(session):
    return message.shown_class(text.question_word(session, 2)) != text.question_word(session, 2)


@session_field("bool", "RD: the asker wants recursion.", aliases=("dns.flags.recdesired",))
def recursion_desired(session):
    return message.flags_of(_any(session)) & message.RD != 0 if _any(session)[1] else False


@session_field("bool", "CD: the asker takes data that is not verified.", aliases=("dns.flags.checkdisable",))
def checking_disabled(session):
    return message.flags_of(_any(session)) & message.CD != 0 if _any(session)[1] else False


@session_field("int", "How many questions the header promises.", bits=16, aliases=("dns.count.queries",))
def num_questions(session):
    return message.count_of(_any(session), 0) if _any(session)[1] else 0


@session_field("bool", "The query has EDNS.")
def query_has_edns(session):
    return text.opt_tail(_query(session)) > 0


@session_field("int", "Size of datagrams that the asker can take (EDNS); 0 without EDNS.", bits=16, unit="byte",
               aliases=("dns.rr.udp_payload_size",))  # fmt: skip
def edns_udp_size(session):
    tail = text.opt_tail(_query(session))
    return u16(_query(session), tail + 2) if tail > 0 else 0


@session_field("bool", "The asker understands DNSSEC (EDNS).", aliases=("dns.resp.z.do",))
def edns_do(session):
    tail = text.opt_tail(_query(session))
    return u16(_query(session), tail + 6) & 0x8000 != 0 if tail > 0 else False


# ------------------------------------------------------------------------------------------------------------- response


@session_field("int", "Response code, with the upper bits of EDNS.", bits=12, enum=iana.RCODE_NUMBERS,
               aliases=("dns.rcode", "dns.flags.rcode"))  # fmt: skip
def response_code(session):
    found = text.response_of(session)
    tail = text.opt_tail(found)
    upper = u16(found, tail + 4) >> 8 << 4 if tail > 0 else 0
    return upper | (_response_flags(session) & message.RCODE)


@session_field("bool", "AA: the server has authority over the name.", aliases=("dns.flags.authoritative",))
def authoritative(session):
    return _response_flags(session) & message.AA != 0


@session_field("bool", "TC: the response did not fit into a datagram.", aliases=("dns.flags.truncated",))
def truncated(session):
    return _response_flags(session) & message.TC != 0


@session_field("bool", "RA: the server offers recursion.", aliases=("dns.flags.recavail",))
def recursion_available(session):
    return _response_flags(session) & message.RA != 0


@session_field("bool", "AD: the server has verified the data.", aliases=("dns.flags.authenticated",))
def authenticated_data(session):
    return _response_flags(session) & message.AD != 0


@session_field("int", "How many answers the header of the response promises.", bits=16, aliases=("dns.count.answers",))
def num_answers(session):
    return message.count_of(text.response_of(session), 1) if STATE_AT(session).response_len else 0


@session_field("int", "How many records of authority it promises.", bits=16, aliases=("dns.count.auth_rr",))
def num_nameservers(session):
    return message.count_of(text.response_of(session), 2) if STATE_AT(session).response_len else 0


@session_field("int", "How many additional records it promises.", bits=16, aliases=("dns.count.add_rr",))
def num_additional(session):
    return message.count_of(text.response_of(session), 3) if STATE_AT(session).response_len else 0


@session_field("texts", "Data of each answer as zone files show it: an address, a name, \"10 mail.example.com\", ...")
def answers(session, n):
    return text.record_data(session, 1, n)


@session_field("texts", "Names of the answers, which follow aliases.", aliases=("dns.resp.name",))
def answer_names(session, n):
    return text.record_name(session, 1, n)


@session_field("ints", "Types of the answers.", bits=16, enum=iana.TYPE_NUMBERS, aliases=("dns.resp.type",))
def answer_types(session, n):
    return text.record_word(session, 1, n, 0)


@session_field("ints", "How long the answers may be kept.", bits=32, unit="s", aliases=("dns.resp.ttl",))
def ttls(session, n):
    return text.record_word(session, 1, n, 4) << 16 | text.record_word(session, 1, n, 6) if n >= 0 else text.record_word(session, 1, n, 0)


@session_field("texts", "Data of each record of authority.")
def nameservers(session, n):
    return text.record_data(session, 2, n)


@session_field("texts", "Data of each additional record, EDNS's left out.")
def additionals(session, n):
    return text.record_data(session, 3, n)


@session_field("text", "The whole response in JSON, as the data type shows it.")
def response(session):
    return text.response_json(session)


PROTOCOL = declare("dns", "Domain Name System", level="session", within=["tcp", "udp"], examples=EXAMPLES)
