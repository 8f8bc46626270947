"""A DTLS handshake over UDP, 1.0 to 1.3: everything that both sides have said in clear."""

from __future__ import annotations

from retina_jit.datatypes.base import register
from retina_jit.datatypes.column import flag
from retina_jit.datatypes.tls_handshake import TlsHandshake
from retina_jit.parsers.dtls import event as dtls
from retina_jit.parsers.tls import event


@register
class DtlsHandshake(TlsHandshake):
    """A DTLS handshake; versions are DTLS's own numbers: 0xfeff is 1.0, 0xfefd is 1.2, 0xfefc is 1.3.

    Numbers are 0, text is "" and lists are empty where nothing was seen; `to_dict` gives None for those.
    """

    __slots__ = ()

    PROJECT = f"{dtls.__name__}:project"
    SERVICE = "dtls"

    hello_verify_request = flag(event.RECORD, "flags", event.VERIFIED, "Whether the server has asked the client to prove its address.")
