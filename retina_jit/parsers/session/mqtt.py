"""MQTT 3.1, 3.1.1 and 5 over TCP: a session per CONNECT (with its CONNACK), per SUBSCRIBE and per PUBLISH.

What the client has said of itself in CONNECT stays known for all sessions of the connection. Payloads of PUBLISH are
skipped by counting.

Sources: MQTT 3.1.1 and MQTT 5.0 (OASIS), sections 2 and 3; MQTT 3.1 (IBM, 2010) for the old name of the protocol.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import entry, kernel, leaf
from retina_jit.parsers import text
from retina_jit.parsers.protocol import SessionExample, declare, session_field
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.parsers.text import STORE, append, keep, kept
from retina_jit.parsers.wire import has, part, u8, u16
from retina_jit.state.layout import INPUT
from retina_jit.status import Probe

__all__ = ["PROBE_LIMIT", "STATE", "finish", "parse", "probe", "release"]

PROBE_LIMIT = 14
BODY_LIMIT = 4096
"""So much of a packet is looked at; payloads are not needed."""
TEXT_LIMIT, STORE_LIMIT, MOST_TOPICS = 1024, 8192, 8
LENGTH_LIMIT = 4
"""Bytes of a remaining length (section 2.2.3)."""

CONNECT, CONNACK, PUBLISH, SUBSCRIBE, DISCONNECT = 1, 2, 3, 8, 14
KINDS = {"connect": CONNECT, "publish": PUBLISH, "subscribe": SUBSCRIBE}
_NEW_NAME, _OLD_NAME = int.from_bytes(b"MQTT", "big"), int.from_bytes(b"MQIsdp", "big")
CERTAIN, UNSURE, REJECTED = int(Probe.CERTAIN), int(Probe.UNSURE), int(Probe.NOT_OURS)

SIDE = np.dtype(
    [
        *STORE.descr,  # body of the packet at hand, as far as it is looked at
        ("left", "i8"),  # bytes of it that are still to come
        ("length", "i8"),
        ("have", "u1"),  # bytes of the fixed header
        ("first", "u1"),
        ("lost", "u1"),  # 1: after a gap nothing is known of where packets begin
        ("pad", "u1", 5),
    ]
)
STATE = np.dtype(
    [
        ("side0", SIDE),
        ("side1", SIDE),
        ("store", STORE),
        ("arena", "i8"),
        ("client_id", "i8"),  # words of the store
        ("username", "i8"),
        ("will_topic", "i8"),
        ("topic", "i8", MOST_TOPICS),
        ("payload_len", "i8"),
        ("base", "i4"),  # where the store goes on after what belongs to the connection
        ("keep_alive", "i4"),
        ("topics", "i4"),
        ("version", "u1"),
        ("flags", "u1"),  # of CONNECT
        ("kind", "u1"),  # of the session at hand
        ("bits", "u1"),  # flags of PUBLISH
        ("sender", "u1"),  # direction it came from
        ("client", "u1"),  # direction of the client
        ("reason", "u1"),  # of CONNACK
        ("answered", "u1"),  # 1: CONNACK was seen
        ("waiting", "u1"),  # 1: CONNECT was seen and not delivered
        ("delivered", "u1"),
        ("known", "u1"),  # 1: CONNECT was seen
        ("over", "u1"),
    ]
)
SIDE_AT, STATE_AT, INPUT_AT = memory.at(SIDE), memory.at(STATE), memory.at(INPUT)
_SIDE = SIDE.itemsize
_STORE, _TOPIC = (STATE.fields[name][1] for name in ("store", "topic"))  # type: ignore[index]


@leaf
def _string(span, at):
    """The text behind its length in two bytes; (0, 0) if it is not all there."""
    return part(span, at + 2, u16(span, at)) if has(span, at, 2) and has(span, at + 2, u16(span, at)) else (0, 0)


@kernel
def _variable(span, at):
    """A number of up to four bytes, seven bits each (section 1.5.5), and where it ends; the end is -1 if it is none."""
    value = 0
    for n in range(LENGTH_LIMIT):
        if not has(span, at + n, 1):
            return 0, -1
        byte = u8(span, at + n)
        value |= (byte & 0x7F) << (7 * n)
        if byte < 128:
            return value, at + n + 1
    return 0, -1


@kernel
def _name_length(span, at):
    """How long the protocol's name (MQTT, MQIsdp) is with its length; 0 if it is another one; -1: more bytes tell."""
    left = span[1] - at
    if left < 2:
        return -1 if left <= 0 or u8(span, at) == 0 else 0
    length = u16(span, at)
    if length != 4 and length != 6:
        return 0
    for n in range(min(left - 2, length)):
        wanted = _NEW_NAME >> (24 - 8 * n) if length == 4 else _OLD_NAME >> (40 - 8 * n)
        if u8(span, at + 2 + n) != wanted & 0xFF:
            return 0
    return 2 + length if left >= 2 + length else -1


@entry
def probe(address, length, direction, transport):
    """What the first bytes of a direction look like: CONNECT with the protocol's name."""
    span = (address, length)
    if length == 0:
        return UNSURE
    if u8(span, 0) != CONNECT << 4:
        return REJECTED
    size, at = _variable(span, 1)
    if at < 0:
        return REJECTED if length > LENGTH_LIMIT else UNSURE
    if size < 10:
        return REJECTED
    name = _name_length(span, at)
    if name == 0:
        return REJECTED
    if name < 0 or not has(span, at + name, 1):
        return UNSURE
    version = u8(span, at + name)
    return CERTAIN if 3 <= version <= 5 else REJECTED


# ------------------------------------------------------------------------------------------------------------ parsing


@leaf
def _side(state, direction):
    return state + _SIDE * direction


@kernel
def _keep(state, span):
    return keep(STATE_AT(state).arena, state + _STORE, span, TEXT_LIMIT, STORE_LIMIT)


@kernel
def _new_session(state):
    s = STATE_AT(state)
    text.STORE_AT(state + _STORE).held = s.base
    s.topics, s.payload_len, s.bits, s.kind, s.delivered = 0, 0, 0, 0, 0


@kernel
def _add_topic(state, span):
    s = STATE_AT(state)
    if s.topics < MOST_TOPICS:
        memory.store64(state + _TOPIC + 8 * np.int64(s.topics), _keep(state, span))
        s.topics += 1


@kernel
def _behind_properties(state, body, at):
    """Where the properties of MQTT 5 end; `at` in older versions."""
    if STATE_AT(state).version < 5:
        return at
    size, end = _variable(body, at)
    return end + size if end > 0 else body[1]


@kernel
def _connect(state, body, direction):
    s = STATE_AT(state)
    at = 2 + u16(body, 0) if has(body, 0, 2) else body[1]
    if s.known or not has(body, at, 4):
        return False
    s.known = 1
    s.client = direction
    s.version = u8(body, at)
    s.flags = u8(body, at + 1)
    s.keep_alive = u16(body, at + 2)
    at = _behind_properties(state, body, at + 4)
    s.client_id = _keep(state, _string(body, at))
    at += 2 + _string(body, at)[1]
    if s.flags & 4:
        at = _behind_properties(state, body, at)
        s.will_topic = _keep(state, _string(body, at))
        at += 2 + _string(body, at)[1]
        at += 2 + (u16(body, at) if has(body, at, 2) else 0)
    if s.flags & 0x80:
        s.username = _keep(state, _string(body, at))
    s.base = text.STORE_AT(state + _STORE).held
    s.waiting = 1
    return False


@kernel
def _subscribe(state, body):
    s = STATE_AT(state)
    at = _behind_properties(state, body, 2)
    for _ in range(MOST_TOPICS):
        if not has(body, at, 3):
            break
        _add_topic(state, _string(body, at))
        at += 3 + _string(body, at)[1]
    s.kind = SUBSCRIBE
    return True


@kernel
def _publish(state, body, first, length):
    s = STATE_AT(state)
    topic = _string(body, 0)
    _add_topic(state, topic)
    at = 2 + topic[1] + (2 if first & 6 else 0)
    s.payload_len = max(length - min(_behind_properties(state, body, at), length), 0)
    s.bits = first & 15
    s.kind = PUBLISH
    return True


@kernel
def _end_packet(state, direction):
    """A packet is complete. Returns whether there is a session."""
    s, side = STATE_AT(state), SIDE_AT(_side(state, direction))
    body = (side.address + 0, np.int64(side.held))
    kind = np.int64(side.first) >> 4
    s.sender = direction
    if kind == CONNECT:
        return _connect(state, body, direction)
    if kind == CONNACK:
        if not s.waiting:
            return False
        s.reason = u8(body, 1) if has(body, 1, 1) else 0
        s.answered = 1
        s.waiting = 0
        s.kind = CONNECT
        return True
    if kind == DISCONNECT:
        s.over = 1
        return False
    if kind == SUBSCRIBE:
        return _subscribe(state, body)
    if kind == PUBLISH:
        return _publish(state, body, np.int64(side.first), side.length + 0)
    return False


@kernel
def _header(state, direction, byte):
    """A byte of the fixed header. Returns False if it is none."""
    side = SIDE_AT(_side(state, direction))
    if side.have == 0:
        side.first = byte
        side.length = 0
        side.have = 1
        return byte >> 4 != 0
    side.length |= (byte & 0x7F) << (7 * (np.int64(side.have) - 1))
    side.have += 1
    if byte < 128:
        side.left = side.length
        side.held = 0
        side.have = 9
        return True
    return side.have <= LENGTH_LIMIT


@entry
def parse(state, given):
    """See the contract."""
    s, i = STATE_AT(state), INPUT_AT(given)
    s.arena = i.arena
    direction = i.direction
    if s.delivered:
        _new_session(state)
    side = SIDE_AT(_side(state, direction))
    span = (i.address, i.length)
    if i.lost > 0:
        if side.have == 9 and side.left > i.lost and side.held >= BODY_LIMIT:
            side.left -= i.lost
        else:
            side.lost = 1
        i.lost = 0
    while i.at < i.length and not s.over and not side.lost:
        if side.have < 9:
            good = _header(state, direction, u8(span, i.at))
            i.at += 1
            if not good:
                if s.known == 0:
                    i.at = i.length
                    return NOT_OURS | STOP
                side.lost = 1
                break
        else:
            count = min(i.length - i.at, side.left)
            append(s.arena, _side(state, direction), part(span, i.at, count), BODY_LIMIT)
            i.at += count
            side.left -= count
        if side.have == 9 and side.left == 0:
            side.have = 0
            if _end_packet(state, direction):
                s.delivered = 1
                return READY
    if not s.over and not side.lost:
        return 0
    i.at = i.length
    if not s.over and not SIDE_AT(_side(state, 1 - direction)).lost:
        return 0
    s.over = 1
    return STOP | _conclude(state)


@kernel
def _conclude(state):
    """READY if CONNECT was not delivered."""
    s = STATE_AT(state)
    if not s.waiting:
        return 0
    s.waiting = 0
    s.kind = CONNECT
    s.delivered = 1
    return READY


@entry
def finish(state, arena):
    """See the contract."""
    s = STATE_AT(state)
    if s.waiting and s.delivered:
        _new_session(state)
    return _conclude(state)


@entry
def release(state, arena):
    """See the contract."""
    s = STATE_AT(state)
    text.free(arena, _side(state, 0))
    text.free(arena, _side(state, 1))
    text.free(arena, state + _STORE)
    s.client_id, s.username, s.will_topic = 0, 0, 0
    s.base = 0
    _new_session(state)
    s.waiting = 0
    s.over = 1
    return 0


# ------------------------------------------------------------------------------------------------------------- fields


@session_field("int", "Packet that the session is about: connect, publish or subscribe.", bits=8, enum=KINDS, aliases=("mqtt.msgtype",))
def kind(session):
    return np.int64(STATE_AT(session).kind)


@session_field("int", "Version of the protocol: 3 (MQTT 3.1), 4 (3.1.1) or 5.", bits=8, absent=0, aliases=("mqtt.ver",))
def version(session):
    return np.int64(STATE_AT(session).version)


@session_field("text", "Name that the client gives itself.", aliases=("mqtt.clientid",))
def client_id(session):
    return kept(session + _STORE, STATE_AT(session).client_id)


@session_field("text", "Name of the user.", aliases=("mqtt.username",))
def username(session):
    return kept(session + _STORE, STATE_AT(session).username)


@session_field("text", "Topic of the message that is published when the client goes silent.", aliases=("mqtt.willtopic",))
def will_topic(session):
    return kept(session + _STORE, STATE_AT(session).will_topic)


@session_field("int", "Longest silence of the client.", bits=16, unit="s", aliases=("mqtt.kalive",))
def keep_alive(session):
    return np.int64(STATE_AT(session).keep_alive)


@session_field("bool", "The client wants no state from before (clean session, clean start).", aliases=("mqtt.conflag.cleansess",))
def clean_start(session):
    return STATE_AT(session).flags & 2 != 0


@session_field("bool", "CONNACK was seen.")
def answered(session):
    return STATE_AT(session).answered != 0


@session_field("int", "Return or reason code of CONNACK; 0: accepted.", bits=8, aliases=("mqtt.conack.val",))
def reason(session):
    return np.int64(STATE_AT(session).reason)


@session_field("texts", "Topic of PUBLISH, filters of SUBSCRIBE (the first eight).", aliases=("mqtt.topic",))
def topics(session, n):
    s = STATE_AT(session)
    if n < 0:
        return (0, np.int64(s.topics))
    return kept(session + _STORE, memory.load64(session + _TOPIC + 8 * n))


@session_field("int", "Bytes of the message that is published.", unit="byte")
def payload_len(session):
    return STATE_AT(session).payload_len + 0


@session_field("int", "Quality of service of PUBLISH.", bits=2, aliases=("mqtt.qos",))
def qos(session):
    return (np.int64(STATE_AT(session).bits) >> 1) & 3


@session_field("bool", "PUBLISH is to be kept for later subscribers.", aliases=("mqtt.retain",))
def retain(session):
    return STATE_AT(session).bits & 1 != 0


@session_field("bool", "The packet came from the client.")
def from_client(session):
    s = STATE_AT(session)
    return s.kind == CONNECT or s.sender == s.client


def _packet(first: int, body: bytes) -> bytes:
    return bytes([first, len(body)]) + body if len(body) < 128 else bytes([first, len(body) & 0x7F | 0x80, len(body) >> 7]) + body


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


_BODY = _text(b"MQTT") + b"\x04\xc6\x00\x3c" + _text(b"pump-7") + _text(b"dead/pump-7") + _text(b"gone") + _text(b"me") + _text(b"secret")
EXAMPLES = (
    SessionExample(
        "3.1.1",
        (
            (0, _packet(0x10, _BODY)),
            (1, _packet(0x20, b"\x00\x00")),
            (0, _packet(0x82, b"\x00\x01" + _text(b"cmd/#") + b"\x01" + _text(b"time") + b"\x00") + _packet(0x33, _text(b"t/1") + b"\x00\x07" + bytes(300))),
            (1, _packet(0x90, b"\x00\x01\x01\x00") + _packet(0x30, _text(b"cmd/stop") + b"now")),
            (0, _packet(0xE0, b"")),
        ),
        (
            {"kind": 1, "version": 4, "client_id": "pump-7", "will_topic": "dead/pump-7", "username": "me", "keep_alive": 60,
             "clean_start": True, "answered": True, "reason": 0, "topics": []},
            {"kind": 8, "topics": ["cmd/#", "time"], "client_id": "pump-7", "from_client": True},
            {"kind": 3, "topics": ["t/1"], "payload_len": 300, "qos": 1, "retain": True, "from_client": True},
            {"kind": 3, "topics": ["cmd/stop"], "payload_len": 3, "qos": 0, "retain": False, "from_client": False},
        ),
    ),
    SessionExample(
        "5, refused",
        (
            (0, _packet(0x10, _text(b"MQTT") + b"\x05\x02\x00\x0a\x05\x11\x00\x00\x00\x01" + _text(b"x"))),
            (1, _packet(0x20, b"\x00\x87\x00")),
        ),
        ({"kind": 1, "version": 5, "client_id": "x", "reason": 0x87, "username": None},),
    ),
    SessionExample(
        "3.1, unanswered", ((0, _packet(0x10, _text(b"MQIsdp") + b"\x03\x02\x00\x0a" + _text(b"old"))),),
        ({"kind": 1, "version": 3, "client_id": "old", "answered": False},),
    ),
)  # fmt: skip

declare("mqtt", "Message Queuing Telemetry Transport", level="session", within=["tcp"], examples=EXAMPLES)
