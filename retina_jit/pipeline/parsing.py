"""The parser of a connection: begun, given bytes, taken back, ended; what follows for the connection from what it says.

A parser that has delivered nothing may still say "not mine": then the connection goes back to where it stood. One that says
that another protocol goes on (TURNED, STARTTLS) leaves open those subscriptions that ask for that one.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import call2, fill
from retina_jit.parsers.session.contract import LIMITED, NOT_OURS, READY, RESYNCED, STOP, TURNED
from retina_jit.pipeline.access import WORKER_AT, add, connection_of, counter
from retina_jit.pipeline.formulas import keep_watched
from retina_jit.pipeline.groups import GROUP_AT, GROUP_HEAD, group_address, keep_asking, keep_only, load_sets
from retina_jit.pipeline.layout import PARSER
from retina_jit.pipeline.probing import ALL, PROBE_AT, SERVICE_AT, new_stream_buffer, service_address
from retina_jit.pipeline.stages import protocol_stage, session_stage, settle, take_out_fired
from retina_jit.state.arena import allocate, release
from retina_jit.state.flowkey import protocol_of
from retina_jit.state.layout import INPUT, NO_PARSE, PARSING, PROBING, SESSION_READY

INPUT_AT, PARSER_AT = memory.at(INPUT), memory.at(PARSER)
PARSER_HEAD = PARSER.itemsize
UDP = 17
SESSIONS, PARSER_REFUSED, WRONG_GUESSES = counter("sessions"), counter("parser_refused"), counter("wrong_guesses")
PARSER_LIMITED, PARSER_RESYNCED = counter("parser_limited"), counter("parser_resynced")
CONNECTIONS_TURNED, TURN_GIVEN_UP = counter("turned"), counter("turn_given_up")
HANDED_ON = -1
"""What `parse` gives when another protocol goes on with the bytes that the INPUT still has; no set of protocols."""


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
def wanted(w, index):
    """Session protocols that the connection's group looks for and its transport can carry, a bit each."""
    c = connection_of(w, index)
    transport = WORKER_AT(w).tcp_services if protocol_of(c.key) == 6 else WORKER_AT(w).udp_services
    return GROUP_AT(group_address(w, c.group)).services & transport


@leaf
def _had(w, index):
    """Session protocols of which the connection has had sessions, a bit each; it has a parser."""
    c = connection_of(w, index)
    return PARSER_AT(c.parser - PARSER_HEAD).had | (1 << c.service if c.flags & SESSION_READY else 0)


@kernel
def _over(w, index):
    """Nothing more can come from the parser."""
    c = connection_of(w, index)
    load_sets(w, c.group)
    keep_only(w, _had(w, index), 0, 0)
    settle(w, index)
    release_parser(w, index)
    if c.service == WORKER_AT(w).watcher:
        c.service = 0


@kernel
def ready(w, index, ts):
    """The parser has a session."""
    c = connection_of(w, index)
    add(w, SESSIONS, 1)
    c.flags |= SESSION_READY
    load_sets(w, c.group)
    session_stage(w, index, c.service, c.parser, ts)
    settle(w, index)


@kernel
def _turn(w, index):
    """The parser says that another protocol goes on. Returns HANDED_ON if anybody wants that one, else 0."""
    c = connection_of(w, index)
    add(w, CONNECTIONS_TURNED, 1)
    turns = SERVICE_AT(service_address(w, c.service)).turns + 0
    had = _had(w, index)
    release_parser(w, index)
    if c.service == WORKER_AT(w).watcher:
        c.service = 0
    c.flags &= ~SESSION_READY
    load_sets(w, c.group)
    keep_asking(w, turns)
    keep_only(w, turns | had, 1, 1)
    settle(w, index)
    asked_for = wanted(w, index) & turns
    buffer = new_stream_buffer(WORKER_AT(w).arena) if asked_for else 0
    if buffer:
        p = PROBE_AT(buffer)
        p.rejected, p.had = ALL & ~turns, had
        c.parser = buffer
        c.phase = PROBING
        return HANDED_ON
    if asked_for:
        add(w, PARSER_REFUSED, 1)
    load_sets(w, c.group)
    keep_only(w, had, 0, 0)
    settle(w, index)
    return 0


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
    if WORKER_AT(w).conjunct_count:
        keep_watched(w, group_address(w, c.group) + GROUP_HEAD)
    take_out_fired(w, index, service)
    settle(w, index)
    return rejected


@kernel
def parse(w, index, side, address, length, lost, cut, ts):
    """Give bytes to the parser until it has taken them all.

    Returns the protocols that have said no if it now says so, HANDED_ON, or 0.
    """
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
            add(w, PARSER_LIMITED if c.service != worker.watcher else TURN_GIVEN_UP, 1 if answer & LIMITED else 0)
            add(w, PARSER_RESYNCED, 1 if answer & RESYNCED else 0)
        if answer & READY:
            ready(w, index, ts)
        if answer & NOT_OURS and _had(w, index) == 0:
            return _take_back(w, index)
        if answer & TURNED:
            i.at += length - i.length  # told of what is cut off, it has taken all before
            return _turn(w, index)
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
        if wanted(w, index) & (s.turns | (1 << c.service)) == 0:
            _over(w, index)
            return 0


@kernel
def identified(w, index, service, rejected):
    """A protocol is sure. Returns True if it is to be parsed; the probe buffer is the caller's from here on."""
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    before, had = c.group + 0, PROBE_AT(c.parser).had if c.parser else 0
    load_sets(w, before)
    c.service = service if service != worker.watcher else 0
    c.parser = 0
    c.phase = NO_PARSE
    turns = SERVICE_AT(service_address(w, service)).turns + 0
    protocol_stage(w, index, c.service, turns)
    keep_only(w, (1 << service) | turns | had, 1, 1)
    settle(w, index)
    if wanted(w, index) & ((1 << service) | turns) == 0:
        return False
    size = PARSER_HEAD + SERVICE_AT(service_address(w, service)).state_size
    block = allocate(worker.arena, size)
    if block == 0:
        add(w, PARSER_REFUSED, 1)
        return False
    fill(block, 0, size)
    head = PARSER_AT(block)
    head.rejected, head.group, head.had = rejected, before, had
    c.service = service
    c.parser = block + PARSER_HEAD
    c.phase = PARSING
    return True
