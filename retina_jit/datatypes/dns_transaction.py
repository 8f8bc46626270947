"""A transaction of DNS, multicast DNS or LLMNR: a query and its response, or one of them alone."""

from __future__ import annotations

from typing import Any

from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.column import Names, custom, flag, named, number, raw, seconds, text, unless
from retina_jit.datatypes.dns_records import DnsQuery, DnsResponse
from retina_jit.parsers.dns import event
from retina_jit.parsers.dns.event import RECORD
from retina_jit.parsers.iana import dns as iana

TYPES = Names(iana.TYPES, "TYPE{n}")
CLASSES = Names(iana.CLASSES, "CLASS{n}")
RCODES = Names(iana.RCODES, "RCODE{n}")
OPCODES = Names(iana.OPCODES, "OPCODE{n}")

_QUESTION, _QUERY, _RESPONSE = (unless(RECORD, "has", bit) for bit in (event.QUESTION, event.QUERY, event.RESPONSE))
_BOTH = unless(RECORD, "has", event.BOTH)

_OBJECTS = "retina_jit.parsers.dns.objects"


def _shown(message: DnsQuery | DnsResponse | None) -> dict[str, Any] | None:
    return None if message is None else message.to_dict()


@register
class DnsTransaction(DataType):
    """A DNS query with its response, or one of them alone.

    What is absent is None, or "" for names.
    """

    __slots__ = ()

    LEVEL = "session"
    RECORD = RECORD
    PROJECT = f"{event.__name__}:project"
    SERVICE = "dns"

    transaction_id = number(RECORD, "transaction_id", "Id of the query and its response.")
    opcode = named(RECORD, "opcode", OPCODES, "Kind of query: QUERY, NOTIFY, UPDATE, ...")
    query_domain = text(RECORD, "query_domain", "Name of the first question, without the dot at its end; of the root \".\".")
    qtype = number(RECORD, "qtype", "Type of the first question.", null=_QUESTION)
    qtype_name = named(RECORD, "qtype", TYPES, "Its name: A, AAAA, HTTPS, ...", null=_QUESTION)
    qclass = number(RECORD, "qclass", "Class of the first question.", null=_QUESTION)
    qclass_name = named(RECORD, "qclass", CLASSES, "Its name: IN, CH, ...", null=_QUESTION)
    response_code = number(RECORD, "response_code", "Response code in the header of the response.", null=_RESPONSE)
    response_code_name = named(RECORD, "response_code", RCODES, "Its name: NOERROR, NXDOMAIN, ...", null=_RESPONSE)
    has_query = flag(RECORD, "has", event.QUERY, "Whether the query was seen.")
    has_response = flag(RECORD, "has", event.RESPONSE, "Whether the response was seen.")
    query_ts = number(RECORD, "query_ts", "Capture time of the query.", null=_QUERY, unit="ns")
    response_ts = number(RECORD, "response_ts", "Capture time of the response.", null=_RESPONSE, unit="ns")
    rtt = seconds(RECORD, "response_ts", "From the query to the response [s].", since="query_ts", null=_BOTH)
    unicast_response = flag(RECORD, "has", event.UNICAST_RESPONSE, "Multicast DNS: whether the asker wants the answer for itself.")
    repeated = number(RECORD, "repeated", "How many equal queries were waiting for an answer when this one was sent.")
    query_message = raw(RECORD, "query_message", "The query as it was sent.", shown=False)
    response_message = raw(RECORD, "response_message", "The response as it was sent.", shown=False)

    @custom(f"{_OBJECTS}:write_query", _shown, null=_QUERY)
    def query(self) -> DnsQuery | None:
        """The query: its flags, questions and EDNS."""
        return DnsQuery(self.query_message) if self.has_query else None

    @custom(f"{_OBJECTS}:write_response", _shown, null=_RESPONSE)
    def response(self) -> DnsResponse | None:
        """The response: its flags, records and EDNS."""
        return DnsResponse(self.response_message) if self.has_response else None


@register
class MdnsTransaction(DnsTransaction):
    """A multicast DNS query with its response, or one of them alone; the same accessors as `DnsTransaction`.

    An answer that was sent to all stands alone: it does not say whose query it answers.
    """

    __slots__ = ()

    SERVICE = "mdns"


@register
class LlmnrTransaction(DnsTransaction):
    """An LLMNR query with its response, or one of them alone; the same accessors as `DnsTransaction`."""

    __slots__ = ()

    SERVICE = "llmnr"
