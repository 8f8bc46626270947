"""How a DTLS session is written into an event: as a TLS one; `retina_jit.datatypes.dtls_handshake` reads it."""

from __future__ import annotations

import numpy as np

from retina_jit.delivery.event import CONTEXT_AT
from retina_jit.jit import entry
from retina_jit.parsers.dtls.state import STATE_AT
from retina_jit.parsers.tls.event import RECORD, RECORD_AT, VERIFIED, put_session

__all__ = ["RECORD", "project"]


@entry
def project(context):
    """Write a DTLS session to an event."""
    put_session(context, np.int64(100))  # 'd'
    c = CONTEXT_AT(context)
    if STATE_AT(c.session).verified:
        RECORD_AT(c.out).flags |= VERIFIED
    return 0
