"""Static data types about the subscription and the worker rather than the traffic."""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.column import number, text
from retina_jit.delivery.event import CONTEXT_AT, put_bytes
from retina_jit.jit import entry
from retina_jit.pipeline.access import SUBSCRIPTION_AT, WORKER_AT

CORE = np.dtype([("core", "i8")])
FILTER = np.dtype([("text", "i8")])
CORE_AT, FILTER_AT = memory.at(CORE), memory.at(FILTER)


@entry
def project_core(context):
    """Write the number of the worker."""
    c = CONTEXT_AT(context)
    CORE_AT(c.out).core = WORKER_AT(c.worker).id
    return 0


@entry
def project_filter(context):
    """Write the text of the subscription's filter."""
    c = CONTEXT_AT(context)
    s = SUBSCRIPTION_AT(c.subscription)
    FILTER_AT(c.out).text = put_bytes(context, s.text, s.text_len)
    return 0


@register
class CoreId(DataType):
    """Number of the worker that saw it, from 0: index for state per worker."""

    __slots__ = ()
    LEVEL = "static"
    RECORD = CORE
    PROJECT = f"{__name__}:project_core"

    core = number(CORE, "core", "The number.")

    def raw(self) -> int:
        """Return the number."""
        return int(self.core)

    __index__ = raw
    __int__ = raw


@register
class FilterStr(DataType):
    """Text of the filter of the subscription that matched."""

    __slots__ = ()
    LEVEL = "static"
    RECORD = FILTER
    PROJECT = f"{__name__}:project_filter"

    text = text(FILTER, "text", "The filter as it was written.", null=None)

    def __str__(self) -> str:
        return str(self.text)
