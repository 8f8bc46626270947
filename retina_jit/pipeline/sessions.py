"""From payload in order to sessions: probe, then parse; filters after each step.

A connection's payload goes nowhere (NO_PARSE) unless a subscription of its group looks for a session protocol. While it
is PROBING, bytes that decide nothing are kept (`retina_jit.pipeline.probing`) and given to the parser that is found. A
parser that has delivered nothing may still say "not mine": then the connection goes back to where it stood, and the other
protocols are asked about what is still there, the bytes at hand and those kept; none is asked again after it has said no.

A connection may turn into another protocol (TURNED, STARTTLS). Subscriptions that ask for that one are left open as long
as it can happen; then probing begins anew, for it alone, behind the bytes that the first parser has taken. For protocols
that no parser is wanted for, `retina_jit.parsers.starttls` waits in the parser's place (the worker's `watcher`).
"""

from __future__ import annotations

from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import call2, trailing_zeros
from retina_jit.parsers.session.contract import READY
from retina_jit.pipeline.access import WORKER_AT, add, connection_of, counter
from retina_jit.pipeline.groups import GROUP_AT, group_address, keep_only, load_sets
from retina_jit.pipeline.keeping import clear_note
from retina_jit.pipeline.layout import STREAM_ROOM
from retina_jit.pipeline.parsing import (
    HANDED_ON,
    INPUT_AT,
    PARSER_REFUSED,
    UDP,
    identified,
    parse,
    ready,
    release_parser,
    wanted,
)
from retina_jit.pipeline.probing import (
    ALL,
    PIECE_AT,
    PROBE_AT,
    SERVICE_AT,
    SURE,
    ask,
    ask_kept,
    fitting,
    is_needed,
    keep_datagram,
    keep_stream,
    new_stream_buffer,
    pass_datagram,
    piece_address,
    service_address,
)
from retina_jit.pipeline.stages import connection_stage, protocol_stage, settle
from retina_jit.pipeline.user import clear_area
from retina_jit.state.arena import release
from retina_jit.state.flowkey import protocol_of
from retina_jit.state.layout import NO_PARSE, PARSING, PROBING

TCP = 6
PAYLOAD_PARSED, PAYLOAD_UNPARSED, PROBE_GIVEN_UP = counter("payload_parsed"), counter("payload_unparsed"), counter("probe_given_up")


@kernel
def _candidates(w, index):
    """Session protocols that are wanted and may be spoken on the connection's ports, a bit each."""
    return fitting(w, wanted(w, index), connection_of(w, index).key + 0)


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
            protocol_stage(w, index, 0, 0)
            keep_only(w, 0, 0, 0)
            settle(w, index)
    return 0


@kernel
def _unknown(w, index):
    """No protocol that is looked for speaks here."""
    c = connection_of(w, index)
    had = PROBE_AT(c.parser).had if c.parser else 0
    release_parser(w, index)
    c.service = trailing_zeros(had) if had else 0
    load_sets(w, c.group)
    protocol_stage(w, index, 0, 0)
    keep_only(w, had, 0, 0)
    settle(w, index)


@kernel
def _give_up(w, index):
    """No protocol has made up its mind within the caps."""
    add(w, PROBE_GIVEN_UP, 1)
    _unknown(w, index)


@leaf
def _kept_piece(w, service, buffer, n):
    """Address of the n-th piece to replay. To the service that waits the server's bytes come first: they end where TLS begins."""
    return piece_address(buffer, PROBE_AT(buffer).count - 1 - n if service == WORKER_AT(w).watcher else n)


@kernel
def _replay(w, index, buffer):
    """Give the parser what was kept. Returns what `_parse` does; if another protocol goes on, it finds the rest kept."""
    c = connection_of(w, index)
    service = c.service + 0
    for n in range(PROBE_AT(buffer).count):
        piece = PIECE_AT(_kept_piece(w, service, buffer, n))
        if piece.length and c.phase == PARSING:
            told = parse(w, index, piece.side + 0, buffer + piece.at, piece.length + 0, piece.lost + 0, 0, piece.ts + 0)
            if told == HANDED_ON:
                _keep_rest(w, index, buffer, n, service)
            if told:
                return told
    return 0


@kernel
def _keep_rest(w, index, buffer, first, service):
    """Keep anew what of the pieces from the `first` replayed on `service` has not taken, for the protocol that goes on."""
    c = connection_of(w, index)
    skip = INPUT_AT(WORKER_AT(w).input).at + 0
    for n in range(first, PROBE_AT(buffer).count):
        piece = PIECE_AT(_kept_piece(w, service, buffer, n))
        keep_stream(c.parser, piece.side + 0, buffer + piece.at + skip, piece.length - skip, piece.lost if n > first else 0, piece.ts + 0)
        skip = 0


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
def _watch(w, index, buffer, side, address, length, rejected):
    """No protocol that is looked for begins so. Returns what `ask` does, about the service that waits for one to turn."""
    watcher = WORKER_AT(w).watcher
    if watcher == 0 or (rejected >> watcher) & 1 or wanted(w, index) & SERVICE_AT(service_address(w, watcher)).turns == 0:
        return 0
    if buffer == 0:
        return ask(w, 1 << watcher, side, address, length, TCP)
    # The greeting of one side is enough: what the other one says first may be anything.
    for n in range(PROBE_AT(buffer).count):
        piece = PIECE_AT(piece_address(buffer, n))
        if piece.length:
            answer = ask(w, 1 << watcher, piece.side, buffer + piece.at, piece.length + 0, TCP)
            if answer & SURE:
                return answer
    return 0


@kernel
def _probe(w, index, side, address, length, lost, cut, ts, rejected):
    """Ask whose bytes these are, and once more about those that another protocol goes on with."""
    at = _probe_once(w, index, side, address, length, lost, cut, ts, rejected)
    while at >= 0:
        address += at
        length -= at
        at = _probe_once(w, index, side, address, length, 0, cut, ts, 0)


@kernel
def _probe_once(w, index, side, address, length, lost, cut, ts, rejected):
    """Ask whose bytes these are. Returns where to ask once more, or -1.

    rejected: who has said no, known to the caller where there is no buffer.
    """
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
                return -1
            taken = keep_stream(buffer, side, address, length, lost, ts)
            start, asked = buffer + piece.at, piece.length + 0
            lost = 0
    answer = ask(w, _candidates(w, index) & ~rejected, side, start, asked, transport)
    if answer == 0 and transport != UDP:
        answer = _watch(w, index, buffer, side, address, length, rejected)
    while answer & SURE:
        refused, went = 0, taken + 0
        if identified(w, index, answer >> 1, rejected):
            if buffer:
                refused = _replay(w, index, buffer)
            if refused == 0 and c.phase == PARSING and (transport == UDP or buffer == 0 or taken < length or cut):
                refused = parse(w, index, side, address + taken, length - taken, lost, cut, ts)
                went += INPUT_AT(worker.input).at
        if refused == 0 or refused == HANDED_ON:
            if buffer:
                release(worker.arena, buffer, PROBE_AT(buffer).size)
            return went if refused else -1
        rejected = refused
        c.parser = buffer
        answer = _ask_again(w, index, buffer, rejected, side, address, length)
        if answer == 0 and transport != UDP:
            answer = _watch(w, index, buffer, side, address, length, rejected)
    if answer == 0:
        _unknown(w, index)
        return -1
    if transport == UDP:
        if is_needed(w, answer >> 1, side, address, length):
            buffer = keep_datagram(w, buffer, side, address, length, ts)
        else:
            buffer = pass_datagram(w, buffer)
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
            return -1
        keep_stream(buffer, side, address, length, lost + cut, ts)
    if buffer == 0:
        _give_up(w, index)
        return -1
    c.parser = buffer
    # The service that waits has not been asked yet, unless the connection has turned already.
    PROBE_AT(buffer).rejected = ALL & ~((answer >> 1) | ((1 << worker.watcher) & ~rejected))
    return -1


@entry
def feed(w, index, side, address, length, lost, cut, ts):
    """Take payload of a connection that follows in order (`lost` bytes are missing before it).

    side: 0 from the originator. cut: bytes behind it that the capture does not have. ts: of its packet [ns].
    """
    c = connection_of(w, index)
    add(w, PAYLOAD_PARSED if c.phase == PARSING or c.phase == PROBING else PAYLOAD_UNPARSED, length)
    if c.phase == PARSING:
        rejected = parse(w, index, side, address, length, lost, cut, ts)
        if rejected == HANDED_ON:
            at = INPUT_AT(WORKER_AT(w).input).at
            _probe(w, index, side, address + at, length - at, 0, cut, ts, 0)
        elif rejected:
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
            ready(w, index, ts)
    elif c.phase == PROBING:
        _unknown(w, index)
