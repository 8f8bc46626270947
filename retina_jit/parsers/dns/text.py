"""Text that fields of a DNS transaction give, made when first asked for. Without memory for it the text is absent."""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel
from retina_jit.parsers.dns.event import queried
from retina_jit.parsers.dns.message import HEADER, write_name
from retina_jit.parsers.dns.state import STATE_AT, TEXT_ROOM
from retina_jit.state import arena as pool


@kernel
def block(state):
    """Address of the block for text, allocated first if need be; 0 if the arena is full."""
    row = STATE_AT(state)
    if row.text == 0 and row.arena:
        row.text = pool.allocate(row.arena, TEXT_ROOM)
    return row.text + 0


@kernel
def query_domain(state):
    """Name of the first question."""
    row = STATE_AT(state)
    message = queried(state)
    text = block(state) if message[1] else 0
    if text == 0:
        return (0, 0)
    if row.domain_len == 0:
        row.domain_len = write_name(text, message, HEADER) - text
    return (text, np.int64(row.domain_len))
