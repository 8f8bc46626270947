"""NTP, the Network Time Protocol, versions 1 to 4 and SNTP over UDP. A session is a request and its response.

A response belongs to the request whose transmit timestamp it repeats. One without a request, and what a server
broadcasts, is a session of its own; so is a request when the next one comes before its response. Modes 6 and 7
(control, private) are left out: they are another protocol on the same port.

Sources: RFC 5905 §7.3, RFC 4330 §4.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import copy
from retina_jit.parsers.protocol import SessionExample, declare, session_field
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.parsers.wire import u8, u16, u32, u64
from retina_jit.state.layout import INPUT
from retina_jit.status import Probe

__all__ = ["PROBE_LIMIT", "STATE", "finish", "parse", "probe", "release"]

PROBE_LIMIT = HEADER = 48
MODES = {"symmetric_active": 1, "symmetric_passive": 2, "client": 3, "server": 4, "broadcast": 5}
CERTAIN, UNSURE, REJECTED = int(Probe.CERTAIN), int(Probe.UNSURE), int(Probe.NOT_OURS)
_PASSIVE, _SERVER, _BROADCAST = 2, 4, 5
_EPOCH = 2_208_988_800
"""Seconds from 1900, where NTP's time begins, to 1970."""

STATE = np.dtype(
    [
        ("waiting", "u1", HEADER),  # a request without response
        ("request", "u1", HEADER),  # of the session at hand
        ("response", "u1", HEADER),
        ("waiting_ts", "i8"),  # 0: none waits
        ("request_ts", "i8"),  # 0: there is none
        ("response_ts", "i8"),
        ("asker", "i8"),  # direction of the request that waits
        ("accepted", "i8"),  # 1: a packet was seen
    ]
)
STATE_AT, INPUT_AT = memory.at(STATE), memory.at(INPUT)
_WAITING, _REQUEST, _RESPONSE = (STATE.fields[name][1] for name in ("waiting", "request", "response"))  # type: ignore[index]


@kernel
def _is_packet(span):
    """Whether a datagram is an NTP packet: every field of the header in the range that it can have."""
    if span[1] < HEADER or span[1] & 3:
        return False
    version, mode, precision = (u8(span, 0) >> 3) & 7, u8(span, 0) & 7, u8(span, 3)
    if version < 1 or version > 4 or mode < 1 or mode > _BROADCAST or u8(span, 1) > 16:
        return False
    # poll: 2^3 to 2^17 s, by some up to 2^-4; precision: 2^-32 to 1 s, which clients may leave 0
    if 17 < u8(span, 2) < 252 or 0 < precision < 224:
        return False
    # root delay and dispersion: below 16 s, the latter is 16 s for a server without time
    return u16(span, 4) <= 16 and u16(span, 8) <= 16


@entry
def probe(address, length, direction, transport):
    """What a datagram looks like."""
    if length == 0:
        return UNSURE
    return CERTAIN if _is_packet((address, length)) else REJECTED


@kernel
def _deliver_waiting(state):
    """Make the request that waits the session at hand. Returns READY, or 0 if there is none."""
    row = STATE_AT(state)
    if row.waiting_ts == 0:
        return 0
    copy(state + _REQUEST, state + _WAITING, HEADER)
    row.request_ts = row.waiting_ts
    row.waiting_ts = 0
    return READY


@entry
def parse(state, given):
    """See the contract."""
    row, i = STATE_AT(state), INPUT_AT(given)
    row.request_ts = 0
    row.response_ts = 0
    i.lost = 0
    span = (i.address + i.at, i.length - i.at)
    if span[1] == 0:
        return 0
    if not _is_packet(span):
        i.at = i.length
        return 0 if row.accepted else NOT_OURS | STOP
    mode = u8(span, 0) & 7
    response = mode == _SERVER or mode == _BROADCAST or mode == _PASSIVE
    if not response and row.waiting_ts:
        return _deliver_waiting(state)  # and come again with the same datagram
    i.at = i.length
    row.accepted = 1
    if not response:
        copy(state + _WAITING, span[0], HEADER)
        row.waiting_ts = max(i.ts, 1)
        row.asker = i.direction
        return 0
    if row.waiting_ts and row.asker != i.direction and u64((state + _WAITING, HEADER), 40) == u64(span, 24):
        _deliver_waiting(state)
    copy(state + _RESPONSE, span[0], HEADER)
    row.response_ts = max(i.ts, 1)
    return READY


@entry
def finish(state, arena):
    """See the contract."""
    row = STATE_AT(state)
    if row.waiting_ts:
        row.response_ts = 0
    return _deliver_waiting(state)


@entry
def release(state, arena):
    """Nothing lies in the arena."""
    return 0


# -------------------------------------------------------------------------------------------------------------- fields


@leaf
def _packet(session):
    """The response, or a request without one."""
    return (session + (_RESPONSE if STATE_AT(session).response_ts else _REQUEST), HEADER)


@leaf
def _there(session):
    return STATE_AT(session).response_ts != 0 or STATE_AT(session).request_ts != 0


@kernel
def _time(session, at):
    """A timestamp as nanoseconds since 1970; 0 if it is 0. Times before 1968 are those after 2036 (RFC 4330, 3)."""
    word = u64(_packet(session), at)
    if word == 0 or not _there(session):
        return 0
    seconds = u32(_packet(session), at)
    if seconds < 1 << 31:
        seconds += 1 << 32
    return (seconds - _EPOCH) * 1_000_000_000 + ((u32(_packet(session), at + 4) * 1_000_000_000) >> 32)


@session_field("bool", "The request was seen.")
def has_request(session):
    return STATE_AT(session).request_ts != 0


@session_field("bool", "The response, or a broadcast, was seen.")
def has_response(session):
    return STATE_AT(session).response_ts != 0


@session_field("int", "Mode of the response, or of a request without one.", bits=3, enum=MODES, aliases=("ntp.flags.mode",))
def mode(session):
    return u8(_packet(session), 0) & 7 if _there(session) else 0


@session_field("int", "Version of the protocol.", bits=3, aliases=("ntp.flags.vn",))
def version(session):
    return (u8(_packet(session), 0) >> 3) & 7 if _there(session) else 0


@session_field("int", "Leap indicator: 1 a second more, 2 one less, 3 the clock is not set.", bits=2, aliases=("ntp.flags.li",))
def leap(session):
    return u8(_packet(session), 0) >> 6 if _there(session) else 0


@session_field("int", "How far from a reference clock; 1: it has one, 0: a kiss of death, 16: not set.", bits=8, aliases=("ntp.stratum",))
def stratum(session):
    return u8(_packet(session), 1) if _there(session) else 0


@session_field("int", "Interval between requests, log2 of seconds.", bits=8, aliases=("ntp.ppoll",))
def poll(session):
    return (u8(_packet(session), 2) ^ 128) - 128 if _there(session) else 0


@session_field("int", "Precision of the clock, log2 of seconds.", bits=8, aliases=("ntp.precision",))
def precision(session):
    return (u8(_packet(session), 3) ^ 128) - 128 if _there(session) else 0


@session_field("int", "Round trip to the reference clock.", bits=64, unit="ns", aliases=("ntp.rootdelay",))
def root_delay(session):
    return (u32(_packet(session), 4) * 1_000_000_000) >> 16 if _there(session) else 0


@session_field("int", "Error of the clock at most.", bits=64, unit="ns", aliases=("ntp.rootdispersion",))
def root_dispersion(session):
    return (u32(_packet(session), 8) * 1_000_000_000) >> 16 if _there(session) else 0


@session_field("int", "Which clock or server the time comes from, as a number.", bits=32, aliases=("ntp.refid",))
def reference_id(session):
    return u32(_packet(session), 12) if _there(session) else 0


@session_field("text", "Name of the reference clock (stratum 1), or why the server refuses (stratum 0).")
def reference_code(session):
    packet = _packet(session)
    if not _there(session) or u8(packet, 1) > 1 or u8(packet, 12) == 0:
        return (0, 0)
    n = 1
    while n < 4 and u8(packet, 12 + n):
        n += 1
    return (packet[0] + 12, n)


@session_field("int", "When the clock was set last, since 1970.", bits=64, unit="ns", aliases=("ntp.reftime",))
def reference_ts(session):
    return _time(session, 16)


@session_field("int", "When the asker has sent its request, by its clock, since 1970.", bits=64, unit="ns", aliases=("ntp.org",))
def origin_ts(session):
    return _time(session, 24)


@session_field("int", "When the server has received it, by its clock, since 1970.", bits=64, unit="ns", aliases=("ntp.rec",))
def receive_ts(session):
    return _time(session, 32)


@session_field("int", "When the packet was sent, by its sender's clock, since 1970.", bits=64, unit="ns", aliases=("ntp.xmt",))
def transmit_ts(session):
    return _time(session, 40)


@session_field("int", "From the request to its response, by capture time; 0 if one was not seen.", bits=64, unit="ns")
def rtt(session):
    row = STATE_AT(session)
    return row.response_ts - row.request_ts if row.request_ts and row.response_ts else 0


# ------------------------------------------------------------------------------------------------------------ examples

_ASKED = bytes.fromhex("23 00 06 ec 00000000 00000000 00000000" + 24 * "00" + "e7a1b2c3 80000000")
_ANSWERED = bytes.fromhex(
    "24 01 06 e9 00000040 00000140 47505300"  # stratum 1, GPS
    "e7a1b2c0 00000000 e7a1b2c3 80000000 e7a1b2c3 90000000 e7a1b2c3 a0000000"
)
_BROADCASTED = bytes.fromhex("1d 02 06 ec 00000a00 00001000 c0000201 e7a1b2c0 00000000" + 16 * "00" + "e7a1b2c4 00000000")
_SENT = (0xE7A1B2C3 - _EPOCH) * 10**9 + 5 * 10**8

EXAMPLES = (
    SessionExample(
        "asked twice, answered once",
        ((0, _ASKED), (1, _ANSWERED), (0, _ASKED)),
        (
            {
                "has_request": True, "has_response": True, "mode": 4, "version": 4, "stratum": 1, "precision": -23, "poll": 6,
                "reference_code": "GPS", "origin_ts": _SENT, "receive_ts": _SENT + 62_500_000, "rtt": 10**9, "root_delay": 976_562,
            },
            {"has_request": True, "has_response": False, "mode": 3, "transmit_ts": _SENT, "receive_ts": 0, "rtt": 0},
        ),
        transport=17,
    ),
    SessionExample(
        "broadcast",
        ((0, _BROADCASTED),),
        ({"has_request": False, "has_response": True, "mode": 5, "version": 3, "stratum": 2, "reference_id": 0xC0000201, "reference_code": None},),
        transport=17,
    ),
)  # fmt: skip

declare("ntp", "Network Time Protocol", level="session", within=["udp"], examples=EXAMPLES, data_type="NtpExchange")
