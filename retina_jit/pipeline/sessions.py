"""From payload in order to sessions: probe, then parse; filters after each step.

A connection's payload goes nowhere (NO_PARSE) unless a subscription of its group looks for a session protocol. While it
is PROBING, bytes that decide nothing are kept (`retina_jit.pipeline.probing`) and given to the parser that is found. A
parser that has delivered nothing may still say "not mine": then the connection goes back to where it stood, and the other
protocols are asked about what is still there, the bytes at hand and those kept; none is asked again after it has said no.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import entry, kernel
from retina_jit.memory import call2, fill
from retina_jit.parsers.session.contract import LIMITED, NOT_OURS, READY, RESYNCED, STOP
from retina_jit.pipeline.access import WORKER_AT, add, connection_of, counter
from retina_jit.pipeline.groups import GROUP_AT, group_address, keep_only, load_sets
from retina_jit.pipeline.keeping import clear_note
from retina_jit.pipeline.layout import PARSER, STREAM_ROOM
from retina_jit.pipeline.probing import (
    PIECE_AT,
    PROBE_AT,
    SERVICE_AT,
    SURE,
    ask,
    ask_kept,
    fitting,
    keep_datagram,
    keep_stream,
    new_stream_buffer,
    piece_address,
    service_address,
)
from retina_jit.pipeline.stages import (
    connection_stage,
    protocol_stage,
    session_stage,
    settle,
    take_out_fired,
)
from retina_jit.pipeline.user import clear_area
from retina_jit.state.arena import allocate, release
from retina_jit.state.flowkey import protocol_of
from retina_jit.state.layout import (
    INPUT,
    NO_PARSE,
    PARSING,
    PROBING,
    SESSION_READY,
)

INPUT_AT, PARSER_AT = memory.at(INPUT), memory.at(PARSER)
PARSER_HEAD = PARSER.itemsize
UDP = 17
PAYLOAD_PARSED, PAYLOAD_UNPARSED = counter("payload_parsed"), counter("payload_unparsed")
SESSIONS, PROBE_GIVEN_UP, PARSER_REFUSED = counter("sessions"), counter("probe_given_up"), counter("parser_refused")
PARSER_LIMITED, PARSER_RESYNCED = counter("parser_limited"), counter("parser_resynced")
WRONG_GUESSES = counter("wrong_guesses")


@kernel
def release_parser(w, index):
    """Give back the parser's state or the probe buffer."""
    c = connection_of(w, index)
    arena = WORKER_AT(w).arena
    if c.parser:
        if c.phase == PROBING:
            release(arena, c.parser, PROBE_AT(c.parser).size)
        else:
            s = SERVICE_AT(service_address(w, c.service))
            call2(s.release, c.parser, arena)
            release(arena, c.parser - PARSER_HEAD, PARSER_HEAD + s.state_size)
        c.parser = 0
    c.phase = NO_PARSE


@kernel
def _wanted(w, index):
    """Session protocols that the connection's group looks for and its transport can carry, a bit each."""
    c = connection_of(w, index)
    transport = WORKER_AT(w).tcp_services if protocol_of(c.key) == 6 else WORKER_AT(w).udp_services
    return GROUP_AT(group_address(w, c.group)).services & transport


@kernel
def _candidates(w, index):
    """Those of them that may be spoken on the connection's ports."""
    return fitting(w, _wanted(w, index), connection_of(w, index).key + 0)


@entry
def admit(w, index):
    """A new connection: who may want it? Look for a session protocol if anybody asks, else decide that it has none."""
    clear_note(w, index)
    clear_area(w, index)
    connection_stage(w, index)
    c = connection_of(w, index)
    if _candidates(w, index):
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
def _give_up(w, index):
    """No protocol has made up its mind within the caps."""
    add(w, PROBE_GIVEN_UP, 1)
    _unknown(w, index)


@kernel
def _over(w, index):
    """Nothing more can come from the parser."""
    c = connection_of(w, index)
    load_sets(w, c.group)
    keep_only(w, c.service if c.flags & SESSION_READY else 0, 0, 0)
    settle(w, index)
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
def _take_back(w, index):
    """The parser has refused the connection as another protocol's: stand where it stood before. Returns who has said no."""
    c = connection_of(w, index)
    add(w, WRONG_GUESSES, 1)
    head = PARSER_AT(c.parser - PARSER_HEAD)
    rejected, group, service = head.rejected | (1 << c.service), head.group + 0, c.service + 0
    release_parser(w, index)
    c.phase = PROBING
    c.service = 0
    load_sets(w, group)
    take_out_fired(w, index, service)
    settle(w, index)
    return rejected


@kernel
def _parse(w, index, side, address, length, lost, cut, ts):
    """Give bytes to the parser until it has taken them all. Returns the protocols that have said no if it now says so, else 0."""
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    i = INPUT_AT(worker.input)
    i.address, i.length, i.at, i.ts = address, length, 0, ts
    i.direction, i.lost, i.cut, i.arena = side, lost, cut, worker.arena
    i.transport = protocol_of(c.key)
    if i.transport == UDP:
        cut = 0  # the next datagram does not continue this one
    s = SERVICE_AT(service_address(w, c.service))
    while True:
        answer = call2(s.parse, c.parser, worker.input)
        if answer & (LIMITED | RESYNCED):
            add(w, PARSER_LIMITED, 1 if answer & LIMITED else 0)
            add(w, PARSER_RESYNCED, 1 if answer & RESYNCED else 0)
        if answer & READY:
            _ready(w, index, ts)
        if answer & NOT_OURS and not c.flags & SESSION_READY:
            return _take_back(w, index)
        if answer & (STOP | NOT_OURS):
            _over(w, index)
            return 0
        if not answer & READY:
            if cut == 0:
                return 0
            # What the capture does not have is missing before whatever comes next in this direction.
            i.length, i.at, i.lost, i.cut = 0, 0, cut, 0
            cut = 0
            continue
        if (_wanted(w, index) >> c.service) & 1 == 0:
            _over(w, index)
            return 0


@kernel
def _identified(w, index, service, rejected):
    """A protocol is sure. Returns True if it is to be parsed; the probe buffer is the caller's from here on."""
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    before = c.group + 0
    load_sets(w, before)
    c.service = service
    c.parser = 0
    c.phase = NO_PARSE
    protocol_stage(w, index, service)
    keep_only(w, service, 1, 1)
    settle(w, index)
    if (_wanted(w, index) >> service) & 1 == 0:
        return False
    size = PARSER_HEAD + SERVICE_AT(service_address(w, service)).state_size
    block = allocate(worker.arena, size)
    if block == 0:
        add(w, PARSER_REFUSED, 1)
        return False
    fill(block, 0, size)
    head = PARSER_AT(block)
    head.rejected, head.group = rejected, before
    c.parser = block + PARSER_HEAD
    c.phase = PARSING
    return True


@kernel
def _replay(w, index, buffer):
    """Give the parser what was kept. Returns what `_parse` does."""
    c = connection_of(w, index)
    for n in range(PROBE_AT(buffer).count):
        piece = PIECE_AT(piece_address(buffer, n))
        if piece.length and c.phase == PARSING:
            rejected = _parse(w, index, piece.side + 0, buffer + piece.at, piece.length + 0, piece.lost + 0, 0, piece.ts + 0)
            if rejected:
                return rejected
    return 0


@kernel
def _ask_again(w, index, buffer, rejected, side, address, length):
    """Ask those that have not said no about what was kept, and about the bytes at hand that were not."""
    transport = protocol_of(connection_of(w, index).key)
    answer = (_candidates(w, index) & ~rejected) << 1
    if buffer:
        answer = ask_kept(w, answer >> 1, buffer, transport)
    if answer & SURE or (buffer and transport != UDP):
        return answer
    return ask(w, answer >> 1, side, address, length, transport)


@kernel
def _probe(w, index, side, address, length, lost, cut, ts, rejected):
    """Ask whose bytes these are. rejected: who has said no, known to the caller where there is no buffer."""
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    transport = protocol_of(c.key)
    buffer = c.parser + 0
    start, asked, taken = address + 0, length + 0, 0
    if buffer:
        rejected = PROBE_AT(buffer).rejected + 0
        if transport != UDP:
            piece = PIECE_AT(piece_address(buffer, side))
            if piece.length and lost:
                _give_up(w, index)
                return
            taken = keep_stream(buffer, side, address, length, lost, ts)
            start, asked = buffer + piece.at, piece.length + 0
            lost = 0
    answer = ask(w, _candidates(w, index) & ~rejected, side, start, asked, transport)
    while answer & SURE:
        refused = 0
        if _identified(w, index, answer >> 1, rejected):
            if buffer:
                refused = _replay(w, index, buffer)
            if refused == 0 and c.phase == PARSING and (transport == UDP or buffer == 0 or taken < length or cut):
                refused = _parse(w, index, side, address + taken, length - taken, lost, cut, ts)
        if refused == 0:
            if buffer:
                release(worker.arena, buffer, PROBE_AT(buffer).size)
            return
        rejected = refused
        c.parser = buffer
        answer = _ask_again(w, index, buffer, rejected, side, address, length)
    if answer == 0:
        _unknown(w, index)
        return
    if transport == UDP:
        buffer = keep_datagram(w, buffer, side, address, length, ts)
    elif buffer:
        if taken < length or (cut and asked):
            buffer = 0
        else:
            keep_stream(buffer, side, address, 0, cut, ts)
    elif length <= STREAM_ROOM and not (cut and length):
        buffer = new_stream_buffer(worker.arena)
        if buffer == 0:
            add(w, PARSER_REFUSED, 1)
            _unknown(w, index)
            return
        keep_stream(buffer, side, address, length, lost + cut, ts)
    if buffer == 0:
        _give_up(w, index)
        return
    c.parser = buffer
    PROBE_AT(buffer).rejected = ~(answer >> 1)


@entry
def feed(w, index, side, address, length, lost, cut, ts):
    """Take payload of a connection that follows in order (`lost` bytes are missing before it).

    side: 0 from the originator. cut: bytes behind it that the capture does not have. ts: of its packet [ns].
    """
    c = connection_of(w, index)
    add(w, PAYLOAD_PARSED if c.phase == PARSING or c.phase == PROBING else PAYLOAD_UNPARSED, length)
    if c.phase == PARSING:
        rejected = _parse(w, index, side, address, length, lost, cut, ts)
        if rejected:
            _probe(w, index, side, address, length, lost, cut, ts, rejected)
    elif c.phase == PROBING:
        _probe(w, index, side, address, length, lost, cut, ts, 0)
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
