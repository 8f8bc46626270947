"""Which session protocol speaks? Bytes that decide nothing are kept, and given to the parser that is found.

TCP: what came of each direction, in order, as one run of bytes. UDP: each datagram apart, for a protocol is asked about one
datagram at a time. Both are bounded; whoever cannot make up its mind within them is given up, which is counted.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import call4, copy, fill
from retina_jit.pipeline.access import WORKER_AT
from retina_jit.pipeline.layout import MOST_PASSED, PIECE, PORT_RULE, PROBE, SERVICE, STREAM_ROOM
from retina_jit.state.arena import allocate, enlarge
from retina_jit.state.flowkey import high_port, low_port, protocol_of
from retina_jit.status import Probe

SERVICE_AT, PROBE_AT, PIECE_AT, PORT_RULE_AT = memory.at(SERVICE), memory.at(PROBE), memory.at(PIECE), memory.at(PORT_RULE)
SERVICE_SIZE, PIECE_SIZE, HEAD, PORT_RULE_SIZE = SERVICE.itemsize, PIECE.itemsize, PROBE.itemsize, PORT_RULE.itemsize
PIECES = PROBE.fields["piece0"][1]  # type: ignore[index]
CERTAIN, REJECTED, UNSURE = int(Probe.CERTAIN), int(Probe.NOT_OURS), int(Probe.UNSURE)
ALL = (1 << 62) - 1
"""Every session protocol, a bit each; sets of them are never negative."""
SURE = 1
"""Answer of `ask`: a protocol is sure, its number stands above this bit."""
SYSTEM_PORTS = 1024
"""Ports below it are assigned to servers (RFC 6335, 6): the other end's port says nothing."""


@leaf
def service_address(w, service):
    """Address of a SERVICE record."""
    return WORKER_AT(w).services + service * SERVICE_SIZE


@leaf
def piece_address(buffer, n):
    """Address of the n-th PIECE of a probe buffer."""
    return buffer + PIECES + n * PIECE_SIZE


@leaf
def _serves(key, port):
    """Whether `port` is an endpoint's, and the other end has none of the system ports."""
    low, high = low_port(key), high_port(key)
    return (low == port and (high == port or high >= SYSTEM_PORTS)) or (high == port and low >= SYSTEM_PORTS)


@kernel
def fitting(w, candidates, key):
    """Those of the candidates that the connection's ports leave possible."""
    worker = WORKER_AT(w)
    if candidates & worker.port_services == 0:
        return candidates
    transport, bound, here, gone = protocol_of(key), 0, 0, 0
    for n in range(worker.port_rule_count):
        rule = PORT_RULE_AT(worker.port_rules + n * PORT_RULE_SIZE)
        bound |= 1 << rule.service
        if rule.transport == transport and _serves(key, rule.port):
            here |= 1 << rule.service
            gone |= 1 << rule.instead
    return candidates & ~(bound & ~here) & ~gone


@kernel
def ask(w, candidates, side, address, length, transport):
    """Ask every candidate. Returns service << 1 | SURE when one is sure, else those that have not said no, << 1."""
    unsure = 0
    for service in range(1, WORKER_AT(w).service_count):
        if (candidates >> service) & 1:
            answer = call4(SERVICE_AT(service_address(w, service)).probe, address, length, side, transport)
            if answer == CERTAIN:
                return (service << 1) | SURE
            if answer != REJECTED:
                unsure |= 1 << service
    return unsure << 1


@kernel
def ask_kept(w, candidates, buffer, transport):
    """Ask every candidate about each kept piece. The answer is that of `ask`."""
    left = candidates << 1
    for n in range(PROBE_AT(buffer).count):
        piece = PIECE_AT(piece_address(buffer, n))
        if piece.length and left:
            left = ask(w, left >> 1, piece.side, buffer + piece.at, piece.length + 0, transport)
            if left & SURE:
                return left
    return left


@kernel
def new_stream_buffer(arena):
    """Address of an empty probe buffer of a TCP connection, or 0."""
    size = HEAD + 2 * STREAM_ROOM
    buffer = allocate(arena, size)
    if buffer:
        fill(buffer, 0, HEAD)
        p = PROBE_AT(buffer)
        p.size, p.used, p.count = size, size, 2
        for side in range(2):
            piece = PIECE_AT(piece_address(buffer, side))
            piece.at, piece.side = HEAD + side * STREAM_ROOM, side
    return buffer


@kernel
def keep_stream(buffer, side, address, length, lost, ts):
    """Keep bytes of one direction, as many as there is room for, behind `lost` missing ones. Returns how many."""
    piece = PIECE_AT(piece_address(buffer, side))
    taken = min(length, STREAM_ROOM - piece.length)
    copy(buffer + piece.at + piece.length, address, taken)
    piece.length += taken
    piece.lost += lost
    piece.ts = ts
    return taken


@kernel
def is_needed(w, candidates, side, address, length):
    """Whether one of those that have not said no to a datagram wants to see it again."""
    for service in range(1, WORKER_AT(w).service_count):
        if (candidates >> service) & 1 and call4(SERVICE_AT(service_address(w, service)).probe, address, length, side, 17) == UNSURE:
            return True
    return False


@kernel
def pass_datagram(w, buffer):
    """Count a datagram that is not kept. Returns the probe buffer's address (0: a new one), or 0 if a cap forbids it."""
    if buffer == 0:
        buffer = allocate(WORKER_AT(w).arena, HEAD)
        if buffer == 0:
            return 0
        fill(buffer, 0, HEAD)
        PROBE_AT(buffer).size, PROBE_AT(buffer).used = HEAD, HEAD
    p = PROBE_AT(buffer)
    p.passed += 1
    return buffer if p.passed <= MOST_PASSED else 0


@kernel
def keep_datagram(w, buffer, side, address, length, ts):
    """Keep a datagram in a probe buffer (0: a new one). Returns the buffer's address, or 0 if a cap forbids it."""
    worker = WORKER_AT(w)
    arena = worker.arena + 0
    count, size, used = 0, 0, HEAD
    if buffer:
        p = PROBE_AT(buffer)
        count, size, used = p.count + 0, p.size + 0, p.used + 0
    need = used + length
    if count >= worker.probe_datagrams or need - HEAD > worker.probe_bytes:
        return 0
    grown = enlarge(arena, buffer, used, size, need)
    if grown == 0:
        return 0
    p = PROBE_AT(grown)
    if buffer == 0:
        fill(grown, 0, HEAD)
    if need > size:
        p.size = need
    piece = PIECE_AT(piece_address(grown, count))
    piece.at, piece.length, piece.side, piece.lost, piece.ts = used, length, side, 0, ts
    copy(grown + used, address, length)
    p.used = need
    p.count = count + 1
    return grown
