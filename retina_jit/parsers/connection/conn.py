"""A connection as a whole, as it is known at its end. Filters on connection types may ask for it.

Readers get the address of the CONNECTION and of its TRACK; a text is written to `out`, which has room for it.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import kernel
from retina_jit.memory import load8, store8
from retina_jit.parsers.protocol import declare, session_field
from retina_jit.state.layout import CONNECTION, HISTORY_LETTERS, TRACK

CONNECTION_AT, TRACK_AT = memory.at(CONNECTION), memory.at(TRACK)
SECOND, MILLISECOND = 1_000_000_000, 1_000_000
MOST_LETTERS = 16

_letters = memory.constant("conn_history", b"?" + HISTORY_LETTERS.encode() + b"?" + HISTORY_LETTERS.lower().encode() + b"??")


@session_field("int", "From the first packet to the last, whole seconds.", unit="s")
def duration(connection, track):
    """From the first packet to the last, whole seconds."""
    c = CONNECTION_AT(connection)
    return (c.last - c.first) // SECOND


@session_field("int", "From the first packet to the last, whole milliseconds.", unit="ms")
def duration_ms(connection, track):
    """From the first packet to the last, whole milliseconds."""
    c = CONNECTION_AT(connection)
    return (c.last - c.first) // MILLISECOND


@session_field("int", "From the first packet to the last.", unit="ns")
def duration_ns(connection, track):
    """From the first packet to the last."""
    c = CONNECTION_AT(connection)
    return c.last - c.first


@session_field("int", "Packets of both sides.")
def packets(connection, track):
    """Packets of both sides."""
    t = TRACK_AT(track)
    return t.nb_pkts0 + t.nb_pkts1


@session_field("int", "Frames of both sides, as long as on the wire.", unit="byte")
def bytes(connection, track):  # noqa: A001
    """Frames of both sides, as long as on the wire."""
    t = TRACK_AT(track)
    return t.nb_pkt_bytes0 + t.nb_pkt_bytes1


@session_field("int", "Payload of both sides.", unit="byte")
def payload_bytes(connection, track):
    """Payload of both sides."""
    t = TRACK_AT(track)
    return t.nb_payload_bytes0 + t.nb_payload_bytes1


@session_field("int", "Packets of the originator.")
def orig_packets(connection, track):
    """Packets of the originator."""
    return TRACK_AT(track).nb_pkts0 + 0


@session_field("int", "Packets of the responder.")
def resp_packets(connection, track):
    """Packets of the responder."""
    return TRACK_AT(track).nb_pkts1 + 0


@session_field("int", "Frames of the originator, as long as on the wire.", unit="byte")
def orig_bytes(connection, track):
    """Frames of the originator, as long as on the wire."""
    return TRACK_AT(track).nb_pkt_bytes0 + 0


@session_field("int", "Frames of the responder, as long as on the wire.", unit="byte")
def resp_bytes(connection, track):
    """Frames of the responder, as long as on the wire."""
    return TRACK_AT(track).nb_pkt_bytes1 + 0


@session_field("int", "Payload of the originator.", unit="byte")
def orig_payload_bytes(connection, track):
    """Payload of the originator."""
    return TRACK_AT(track).nb_payload_bytes0 + 0


@session_field("int", "Payload of the responder.", unit="byte")
def resp_payload_bytes(connection, track):
    """Payload of the responder."""
    return TRACK_AT(track).nb_payload_bytes1 + 0


@kernel
def _spell(word, out):
    n = 0
    while n < MOST_LETTERS and (word >> (4 * n)) & 15:
        store8(out + n, load8(_letters() + ((word >> (4 * n)) & 15)))
        n += 1
    return n


@session_field("text", "Which flags each side has sent, as in ConnRecord: S, H, A, D, F, R; lower case: the responder.")
def history(connection, track, out):
    """Which flags each side has sent, as in ConnRecord: S, H, A, D, F, R; lower case: the responder."""
    return (out, _spell(TRACK_AT(track).history + 0, out))


declare("conn", "Connection at its end", level="connection", within=["tcp", "udp"])
