"""What a packet means to the subscriptions that follow its connection: show it, deliver it, let it wait, count it for a stream."""

from __future__ import annotations

from retina_jit.jit import entry
from retina_jit.pipeline.access import connection_of
from retina_jit.pipeline.groups import GROUP_AT, group_address
from retina_jit.pipeline.layout import HAS_OWN, HAS_PACKETS, HAS_STREAMS, HAS_WAITING
from retina_jit.pipeline.streaming import stream_packet
from retina_jit.pipeline.user import update_own
from retina_jit.pipeline.waiting import deliver_packet, keep_packet


@entry
def packet_delivery(w, index, row):
    """Take one packet of a connection whose group has `packets` set, after everything else was done with it."""
    g = GROUP_AT(group_address(w, connection_of(w, index).group))
    wanted = g.packets + 0
    if wanted & HAS_OWN:
        update_own(w, index, row, g.owns + 0)
    if wanted & HAS_PACKETS:
        deliver_packet(w, index, row)
    if wanted & HAS_WAITING:
        keep_packet(w, index, row)
    if wanted & HAS_STREAMS:
        stream_packet(w, index, row)
    return 0
