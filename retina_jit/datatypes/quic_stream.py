"""A QUIC connection: what both sides have said in Initial packets, and the packets that said it."""

from __future__ import annotations

from retina_jit.datatypes.base import View, register
from retina_jit.datatypes.column import (
    UTF8_OR_HEX,
    ZERO,
    Names,
    each_named,
    flag,
    named,
    number,
    objects,
    raw,
    text,
    texts,
    unless,
)
from retina_jit.datatypes.tls_hellos import Hellos
from retina_jit.parsers.quic import event, frames, packet, state
from retina_jit.parsers.quic.event import PACKET, RECORD
from retina_jit.parsers.tls.event import HELLOS

_OPENED = unless(PACKET, "flags", event.OPENED)
_CLOSED = unless(RECORD, "flags", event.IS_CLOSED)


class QuicPacket(View):
    """One packet."""

    __slots__ = ()

    sender = named(PACKET, "sender", Names({0: "client", 1: "server"}, "{n}"), "client or server.")
    packet_type = named(PACKET, "kind", Names(dict(enumerate(packet.KINDS)), "{n}"), "Initial, ZeroRTT, Handshake, Retry or VersionNegotiation.")
    version = number(PACKET, "version", "Version in its header.")
    dcid = raw(PACKET, "dcid", "Destination connection id in hexadecimal.", as_hex=True)
    scid = raw(PACKET, "scid", "Source connection id in hexadecimal.", as_hex=True)
    token_len = number(PACKET, "token_len", "Length of the token.", unit="byte")
    payload_bytes_count = number(PACKET, "length", "Length of packet number, frames and tag.", unit="byte")
    packet_number = number(PACKET, "number", "Packet number; None if the packet was not opened.", null=_OPENED)
    frames = each_named(PACKET, "frames", Names(frames.NAMES, "{n}"), "Types of the frames in it, each once.", item=1)


@register
class QuicStream(Hellos):
    """A QUIC connection.

    Numbers are 0, text is "" and lists are empty where nothing was seen; `to_dict` gives None for those.
    """

    __slots__ = ()

    LEVEL = "session"
    RECORD = RECORD
    PROJECT = f"{event.__name__}:project"
    SERVICE = "quic"

    version = number(
        RECORD, "quic_version", "Version of QUIC: the server's, if it has answered in another one than it was asked in.", null=ZERO, absent=0
    )
    first_version = number(RECORD, "first_version", "Version of the client's first packet that could be read.", null=ZERO, absent=0)
    tls_version = number(RECORD, "version", "Version of TLS, 0x0304; the client's version field if no server has answered.", null=ZERO, absent=0)
    alpn = texts(HELLOS, "client_alpn_protocols", "Application protocols that the client offers.", prefix=1, encoding=UTF8_OR_HEX)
    client_alpn_protocols = texts(
        HELLOS, "client_alpn_protocols", "The same, as TlsHandshake names it.", prefix=1, encoding=UTF8_OR_HEX, shown=False
    )
    dcid = raw(RECORD, "dcid", "Destination connection id of the client's first packet, in hexadecimal.", as_hex=True)
    scid = raw(RECORD, "scid", "Connection id that the client has chosen, in hexadecimal.", as_hex=True)
    server_scid = raw(RECORD, "server_scid", "Connection id that the server has chosen, in hexadecimal.", as_hex=True)
    initial_packets = number(RECORD, "initial_packets", "Initial packets that were read.")
    token_len = number(RECORD, "token_len", "Length of the token in the client's Initial packets.", unit="byte")
    retry = flag(RECORD, "flags", state.RETRIED, "Whether the server has asked the client to prove its address.")
    version_negotiation = flag(RECORD, "flags", state.NEGOTIATED, "Whether the server has refused a version.")
    zero_rtt = flag(RECORD, "flags", state.EARLY_DATA, "Whether the client has sent data before the handshake.")
    hello_retry_request = flag(RECORD, "flags", state.HELLO_RETRY, "Whether the server has asked for another ClientHello.")
    is_resumption = flag(RECORD, "flags", event.RESUMED, "Whether an earlier session was taken up with a pre-shared key.")
    ech = flag(RECORD, "flags", event.ECH, "Whether the client hides its true hello, or pretends to.")
    closed = flag(RECORD, "flags", event.IS_CLOSED, "Whether a side has closed the connection in an Initial packet.")
    error_code = number(RECORD, "error_code", "Error code of that; None without it.", null=_CLOSED)
    incomplete = flag(RECORD, "flags", event.INCOMPLETE, "Whether the end of the ClientHello is missing.")

    ja3_hash = text(RECORD, "ja3_hash", "JA3, fingerprint of the client: MD5 in hexadecimal.")
    ja3s_hash = text(RECORD, "ja3s_hash", "JA3S, fingerprint of the server's answer: MD5 in hexadecimal.")
    ja4 = text(RECORD, "ja4", "JA4, fingerprint of the client that does not depend on the order of its extensions.")

    user_agent = text(RECORD, "user_agent", "What Google's clients call themselves.")
    max_idle_timeout = number(RECORD, "max_idle_timeout", "Silence after which the client gives the connection up.", null=ZERO, absent=0, unit="ms")
    max_udp_payload_size = number(RECORD, "max_udp_payload_size", "Longest datagram that the client takes.", null=ZERO, absent=0, unit="byte")
    initial_max_data = number(RECORD, "initial_max_data", "Data that the client takes at first.", null=ZERO, absent=0, unit="byte")
    initial_max_stream_data_bidi_local = number(
        RECORD, "initial_max_stream_data_bidi_local", "The same on a bidirectional stream that it opens.", null=ZERO, absent=0, unit="byte"
    )
    initial_max_stream_data_bidi_remote = number(
        RECORD, "initial_max_stream_data_bidi_remote", "The same on one that the server opens.", null=ZERO, absent=0, unit="byte"
    )
    initial_max_stream_data_uni = number(RECORD, "initial_max_stream_data_uni", "The same on a unidirectional stream.", null=ZERO, absent=0, unit="byte")
    initial_max_streams_bidi = number(RECORD, "initial_max_streams_bidi", "Bidirectional streams that the server may open at first.", null=ZERO, absent=0)
    initial_max_streams_uni = number(RECORD, "initial_max_streams_uni", "Unidirectional streams that the server may open at first.", null=ZERO, absent=0)
    active_connection_id_limit = number(RECORD, "active_connection_id_limit", "Connection ids that the client keeps.", null=ZERO, absent=0)
    max_datagram_frame_size = number(RECORD, "max_datagram_frame_size", "Longest DATAGRAM frame that it takes.", null=ZERO, absent=0, unit="byte")

    packets = objects(RECORD, "packets", QuicPacket, PACKET, "The first packets with a long header, no more than thirty.")

    @property
    def cids(self) -> tuple[str, ...]:
        """All connection ids of the packets, in hexadecimal, each once."""
        return tuple(dict.fromkeys(i for p in self.packets for i in (p.dcid, p.scid) if i))

    @property
    def tls(self) -> Hellos:
        """What the two hellos say; `version` in it is that of TLS."""
        return Hellos(self._buffer, self._event, self._at)
