"""From payload in order to sessions: probe, then parse; filters after each step.

A connection's payload goes nowhere (NO_PARSE) unless a subscription of its group looks for a session protocol. While it
is PROBING, bytes that decide nothing are kept (a few hundred per direction) and given to the parser that is found.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import call2, call4, copy, fill, shift_right
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.pipeline.access import WORKER_AT, add, connection_of, counter
from retina_jit.pipeline.groups import GROUP_AT, group_address, keep_only, load_sets
from retina_jit.pipeline.layout import PROBE, PROBE_ROOM, PROBE_SIZE, SERVICE
from retina_jit.pipeline.stages import connection_stage, deliver_packet, protocol_stage, session_stage, settle
from retina_jit.state.arena import allocate, release
from retina_jit.state.flowkey import protocol_of
from retina_jit.state.layout import (
    INPUT,
    NO_PARSE,
    PARSED,
    PARSING,
    PROBING,
    SESSION_READY,
)
from retina_jit.status import Probe

SERVICE_AT = memory.at(SERVICE)
INPUT_AT = memory.at(INPUT)
PROBE_AT = memory.at(PROBE)
SERVICE_SIZE = SERVICE.itemsize
PROBE_HEAD = PROBE.itemsize
CERTAIN, REJECTED = int(Probe.CERTAIN), int(Probe.NOT_OURS)
SESSIONS, PROBE_GIVEN_UP, PARSER_REFUSED = counter("sessions"), counter("probe_given_up"), counter("parser_refused")


@leaf
def service_address(w, service):
    """Address of a SERVICE record."""
    return WORKER_AT(w).services + service * SERVICE_SIZE


@kernel
def release_parser(w, index):
    """Give back the parser's state or the probe buffer."""
    c = connection_of(w, index)
    arena = WORKER_AT(w).arena
    if c.parser:
        if c.phase == PROBING:
            release(arena, c.parser, PROBE_SIZE)
        else:
            s = SERVICE_AT(service_address(w, c.service))
            call2(s.release, c.parser, arena)
            release(arena, c.parser, s.state_size)
        c.parser = 0
    c.phase = NO_PARSE


@kernel
def _wanted(w, index):
    """Session protocols that the connection's group looks for and its transport can carry, a bit each."""
    c = connection_of(w, index)
    transport = WORKER_AT(w).tcp_services if shift_right(c.key, 32) & 0xFF == 6 else WORKER_AT(w).udp_services
    return GROUP_AT(group_address(w, c.group)).services & transport


@entry
def admit(w, index):
    """A new connection: who may want it? Look for a session protocol if anybody asks, else decide that it has none."""
    connection_stage(w, index)
    c = connection_of(w, index)
    if _wanted(w, index):
        c.phase = PROBING
    else:
        c.phase = NO_PARSE
        if GROUP_AT(group_address(w, c.group)).undecided:
            load_sets(w, c.group)
            protocol_stage(w, index, 0)
            keep_only(w, 0, 0, 0)
            settle(w, index)
    return 0


@kernel
def _unknown(w, index):
    """No protocol that is looked for speaks here."""
    c = connection_of(w, index)
    release_parser(w, index)
    c.service = 0
    load_sets(w, c.group)
    protocol_stage(w, index, 0)
    keep_only(w, 0, 0, 0)
    settle(w, index)


@kernel
def _over(w, index):
    """Nothing more can come from the parser: keep its session if it is to be delivered at the end, else drop it."""
    c = connection_of(w, index)
    load_sets(w, c.group)
    keep_only(w, c.service if c.flags & SESSION_READY else 0, 0, 0)
    settle(w, index)
    if c.flags & SESSION_READY and (GROUP_AT(group_address(w, c.group)).kept >> c.service) & 1:
        c.phase = PARSED
    else:
        release_parser(w, index)


@kernel
def _ready(w, index, ts):
    """The parser has a session."""
    c = connection_of(w, index)
    add(w, SESSIONS, 1)
    c.flags |= SESSION_READY
    load_sets(w, c.group)
    session_stage(w, index, c.service, c.parser, ts)
    settle(w, index)


@kernel
def _parse(w, index, side, address, length, lost, cut, ts):
    """Give bytes to the parser until it has taken them all."""
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    i = INPUT_AT(worker.input)
    i.address, i.length, i.at, i.ts = address, length, 0, ts
    i.direction, i.lost, i.cut, i.arena = side, lost, cut, worker.arena
    i.transport = protocol_of(c.key)
    s = SERVICE_AT(service_address(w, c.service))
    while True:
        answer = call2(s.parse, c.parser, worker.input)
        if answer & READY:
            _ready(w, index, ts)
        if answer & NOT_OURS:
            _unknown(w, index)
            return
        if answer & STOP:
            _over(w, index)
            return
        if not answer & READY:
            if cut == 0:
                return
            # What the capture does not have is missing before whatever comes next in this direction.
            i.length, i.at, i.lost, i.cut = 0, 0, cut, 0
            cut = 0
            continue
        if (_wanted(w, index) >> c.service) & 1 == 0:
            _over(w, index)
            return


@kernel
def _identified(w, index, service):
    """A protocol is sure. Returns True if it is to be parsed."""
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    load_sets(w, c.group)
    c.service = service
    protocol_stage(w, index, service)
    keep_only(w, service, 1, 1)
    settle(w, index)
    if (_wanted(w, index) >> service) & 1 == 0:
        return False
    size = SERVICE_AT(service_address(w, service)).state_size
    state = allocate(worker.arena, size)
    if state == 0:
        add(w, PARSER_REFUSED, 1)
        return False
    fill(state, 0, size)
    c.parser = state
    c.phase = PARSING
    return True


@kernel
def _ask(w, rejected, wanted, side, address, length, transport):
    """Ask every probe. Returns service << 1 | 1 when one is sure, else the services that are not rejected, << 1."""
    unsure = 0
    for service in range(1, WORKER_AT(w).service_count):
        if ((wanted & ~rejected) >> service) & 1:
            answer = call4(SERVICE_AT(service_address(w, service)).probe, address, length, side, transport)
            if answer == CERTAIN:
                return (service << 1) | 1
            if answer != REJECTED:
                unsure |= 1 << service
    return unsure << 1


@leaf
def _note_probe(buffer, side, length, lost):
    """Note that bytes were kept, and how many are missing before the first one."""
    p = PROBE_AT(buffer)
    if side:
        p.length1 += length
        p.lost1 += lost
    else:
        p.length0 += length
        p.lost0 += lost


@kernel
def _probe(w, index, side, address, length, lost, cut, ts):
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    wanted = _wanted(w, index)
    buffer = c.parser + 0
    if buffer == 0:
        answer = _ask(w, 0, wanted, side, address, length, protocol_of(c.key))
        if answer & 1:
            if _identified(w, index, answer >> 1):
                _parse(w, index, side, address, length, lost, cut, ts)
            elif c.phase == PROBING:
                c.phase = NO_PARSE
            return
        if answer == 0:
            _unknown(w, index)
            return
        if length > PROBE_ROOM or (cut and length):
            add(w, PROBE_GIVEN_UP, 1)
            _unknown(w, index)
            return
        buffer = allocate(worker.arena, PROBE_SIZE)
        if buffer == 0:
            add(w, PARSER_REFUSED, 1)
            _unknown(w, index)
            return
        fill(buffer, 0, PROBE_HEAD)
        c.parser = buffer
        p = PROBE_AT(buffer)
        p.rejected = wanted & ~(answer >> 1)
        copy(buffer + PROBE_HEAD + side * PROBE_ROOM, address, length)
        _note_probe(buffer, side, length, lost + cut)
        return
    p = PROBE_AT(buffer)
    had = (p.length1 if side else p.length0) + 0
    if had and lost:
        add(w, PROBE_GIVEN_UP, 1)
        _unknown(w, index)
        return
    taken = min(length, PROBE_ROOM - had)
    place = buffer + PROBE_HEAD + side * PROBE_ROOM
    copy(place + had, address, taken)
    _note_probe(buffer, side, taken, lost)
    answer = _ask(w, p.rejected, wanted, side, place, had + taken, protocol_of(c.key))
    if answer & 1:
        before0, before1 = p.length0 + 0, p.length1 + 0
        if _identified(w, index, answer >> 1):
            # What was kept comes first, the originator's side before the other, then what did not fit.
            if before0:
                _parse(w, index, 0, buffer + PROBE_HEAD, before0, p.lost0, 0, ts)
            if before1 and c.phase == PARSING:
                _parse(w, index, 1, buffer + PROBE_HEAD + PROBE_ROOM, before1, p.lost1, 0, ts)
            if c.phase == PARSING and (taken < length or cut):
                _parse(w, index, side, address + taken, length - taken, 0, cut, ts)
        elif c.phase == PROBING:
            c.phase = NO_PARSE
            c.parser = 0
        release(worker.arena, buffer, PROBE_SIZE)
        return
    p.rejected |= wanted & ~(answer >> 1)
    if answer == 0:
        _unknown(w, index)
    elif taken < length or (cut and had + taken):
        add(w, PROBE_GIVEN_UP, 1)
        _unknown(w, index)
    else:
        _note_probe(buffer, side, 0, cut)


@entry
def feed(w, index, side, address, length, lost, cut, ts):
    """Take payload of a connection that follows in order (`lost` bytes are missing before it).

    side: 0 from the originator. cut: bytes behind it that the capture does not have. ts: of its packet [ns].
    """
    c = connection_of(w, index)
    if c.phase == PARSING:
        _parse(w, index, side, address, length, lost, cut, ts)
    elif c.phase == PROBING:
        _probe(w, index, side, address, length, lost, cut, ts)
    return 0


@kernel
def finish(w, index, ts):
    """The connection is over: take what its parser still has."""
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    if c.phase == PARSING:
        s = SERVICE_AT(service_address(w, c.service))
        while call2(s.finish, c.parser, worker.arena) & READY:
            _ready(w, index, ts)
    elif c.phase == PROBING:
        _unknown(w, index)


@entry
def packet_delivery(w, index, row):
    """Give one packet to the packet-level subscriptions that its connection matches."""
    deliver_packet(w, index, row)
    return 0
