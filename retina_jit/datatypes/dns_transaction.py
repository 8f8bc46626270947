"""A DNS transaction: a query and its response, or one of them alone."""

from __future__ import annotations

from typing import Any

from retina_jit.datatypes.base import DataType, number, register, text
from retina_jit.parsers.dns import event
from retina_jit.parsers.dns.event import RECORD


@register
class DnsTransaction(DataType):
    """A DNS query with its response."""

    __slots__ = ()

    LEVEL = "session"
    RECORD = RECORD
    PROJECT = f"{event.__name__}:project"
    SERVICE = "dns"

    transaction_id = number(RECORD, "transaction_id", "Id of the query and its response.")
    query_domain = text(RECORD, "query_domain", "Name of the first question, without the dot at its end.")
    qtype = number(RECORD, "qtype", "Type of the first question.")
    qclass = number(RECORD, "qclass", "Class of the first question.")
    _has = number(RECORD, "has", "")
    _response_flags = number(RECORD, "response_flags", "")

    @property
    def has_query(self) -> bool:
        """Whether the query was seen."""
        return bool(self._has & event.QUERY)

    @property
    def has_response(self) -> bool:
        """Whether the response was seen."""
        return bool(self._has & event.RESPONSE)

    @property
    def response_code(self) -> int | None:
        """Response code in the header of the response."""
        return self._response_flags & 0xF if self.has_response else None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON output shows; None for what is absent."""
        return {
            "transaction_id": self.transaction_id,
            "query_domain": self.query_domain,
            "qtype": self.qtype,
            "response_code": self.response_code,
            "has_query": self.has_query,
            "has_response": self.has_response,
        }
