"""Packets and bytes that only a monitor asks for: a second look at the rows of a burst, so that runs without one pay nothing."""

from __future__ import annotations

from retina_jit.jit import kernel
from retina_jit.pipeline.access import PACKET_AT, PACKET_SIZE, add, counter
from retina_jit.pipeline.matches import MATCHED
from retina_jit.pipeline.share import NOT_SAMPLED, OTHERS
from retina_jit.state.layout import CONTINUE, PENDING, TCP, UDP

TCP_FRAMES, TCP_BYTES, UDP_FRAMES, UDP_BYTES, FILTERED_BYTES = (
    counter(n) for n in ("tcp_frames", "tcp_bytes", "udp_frames", "udp_bytes", "filtered_bytes")
)  # fmt: skip


@kernel
def count_volumes(w, rows, count, left):
    """Count the frames of a burst that is through the packet stage, but for rows with any of the layers `left`."""
    tcp_frames, tcp_bytes, udp_frames, udp_bytes, filtered_bytes = 0, 0, 0, 0, 0
    for n in range(count):
        row = PACKET_AT(rows + n * PACKET_SIZE)
        layers, verdict = row.layers, row.verdict
        if layers & left or verdict & (OTHERS | NOT_SAMPLED):
            continue
        length = row.length + 0
        if not verdict & (CONTINUE | MATCHED):
            if verdict == PENDING:
                filtered_bytes += length
        elif layers & TCP:
            tcp_frames += 1
            tcp_bytes += length
        elif layers & UDP:
            udp_frames += 1
            udp_bytes += length
    add(w, TCP_FRAMES, tcp_frames)
    add(w, TCP_BYTES, tcp_bytes)
    add(w, UDP_FRAMES, udp_frames)
    add(w, UDP_BYTES, udp_bytes)
    add(w, FILTERED_BYTES, filtered_bytes)
