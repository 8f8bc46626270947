"""DNS, the Domain Name System, over UDP and TCP; with it multicast DNS and LLMNR, which have the same messages.

A session is a transaction: a query and its response. A query without a response is delivered when it has waited long
enough or the connection ends, a response without a query at once; so every message is in just one transaction, a
repeated query too. See `retina_jit.parsers.dns.state` for what belongs together, and for the limits.

A connection is DNS when a datagram, or the first message of a stream, has a header that makes sense and questions and
records that can be walked. NetBIOS's name service, which has the same format, is left out.

Sources: RFC 1035, RFC 2136, RFC 4795, RFC 6762, RFC 6891.
"""

from __future__ import annotations

from retina_jit.jit import entry, kernel
from retina_jit.parsers.dns import message, stream, text
from retina_jit.parsers.dns import state as state_of
from retina_jit.parsers.dns.event import RECORD, project, queried
from retina_jit.parsers.dns.examples import EXAMPLES
from retina_jit.parsers.dns.state import STATE
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


# ------------------------------------------------------------------------------------------------------------- question


@kernel
def _of_question(state, at):
    """Type (0) or class (2) of the first question."""
    found = queried(state)
    end = message.skip_name(found, message.HEADER) if found[1] else -1
    return u16(found, end + at) if end > 0 and has(found, end, message.QUESTION_TAIL) else 0


@session_field("text", "Name of the first question, without the dot at its end; of the root \".\".", aliases=("dns.qry.name",))
def query_domain(session):
    return text.query_domain(session)


@session_field("int", "Type of the first question.", bits=16, enum=iana.TYPE_NUMBERS, aliases=("dns.qry.type",))
def qtype(session):
    return _of_question(session, 0)


declare("dns", "Domain Name System", level="session", within=["tcp", "udp"], examples=EXAMPLES)
