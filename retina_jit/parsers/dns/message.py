"""Reading a DNS message: header, names, questions, records. A message is a span without TCP's length prefix.

A name is followed backwards only: the target of a compression pointer lies before everything that was read of the name
so far, and behind the header. So a loop cannot be, and a name costs at most MOST_JUMPS jumps and 255 bytes.

Sources: RFC 1035 §4.1, RFC 2136 §2.2, RFC 6762 §18, RFC 6891 §6.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.memory import mix, store8
from retina_jit.parsers.wire import has, u8, u16, u64

HEADER = 12
QUESTION_TAIL, RECORD_TAIL = 4, 10
"""Bytes behind the name: type and class; type, class, TTL, length of the data."""

LONGEST_NAME = 255
MOST_JUMPS = 128
NAME_ROOM = 4 * LONGEST_NAME
"""What `write_name` may need: every byte as a backslash and three digits."""

# The word of flags in the header.
QR, AA, TC, RD, RA, Z, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0040, 0x0020, 0x0010
RCODE = 0x000F
UNICAST = 0x8000
"""mDNS: the top bit of a class, "answer me alone" in a question and "forget what you knew" in a record."""

OPT = 41

# What a walk answers instead of a position.
BROKEN, SHORT = -1, -2
"""Breaks a rule; goes on behind the end of the span."""


@leaf
def transaction_id_of(message):
    """First word of the header."""
    return u16(message, 0)


@leaf
def flags_of(message):
    """Second word of the header."""
    return u16(message, 2)


@leaf
def opcode_of(message):
    """0 query, 4 notify, 5 update, ..."""
    return (u16(message, 2) >> 11) & 0xF


@leaf
def count_of(message, section):
    """What the header says how many entries a section has; 0 questions, 1 answers, 2 authority, 3 additional."""
    return u16(message, 4 + 2 * section)


@kernel
def skip_name(message, at):
    """Position behind the name at `at`, pointers not followed, or BROKEN or SHORT."""
    start = at
    length = 0
    while True:
        if not has(message, at, 1):
            return SHORT
        size = u8(message, at)
        if size == 0:
            return at + 1
        if size >= 0xC0:
            if not has(message, at, 2):
                return SHORT
            target = u16(message, at) & 0x3FFF
            return at + 2 if HEADER <= target < start else BROKEN
        if size > 63:
            return BROKEN
        at += 1 + size
        length += 1 + size
        if length >= LONGEST_NAME:
            return BROKEN


@leaf
def _put_byte(target, value):
    """Write a byte of a label (RFC 1035, 5.1). Returns where it ends.

    Dot and backslash get a backslash, control characters become a backslash and three digits. What is beyond ASCII stays:
    names of multicast DNS are UTF-8 (RFC 6762, 16).
    """
    if value == 46 or value == 92:
        store8(target, 92)
        store8(target + 1, value)
        return target + 2
    if value >= 32 and value != 127:
        store8(target, value)
        return target + 1
    store8(target, 92)
    store8(target + 1, 48 + value // 100)
    store8(target + 2, 48 + value // 10 % 10)
    store8(target + 3, 48 + value % 10)
    return target + 4


@kernel
def write_name(target, message, at):
    """Write a name, NAME_ROOM bytes at most, dots between the labels, "." for the root. Returns where the text ends.

    Of a name that breaks a rule, or is not there to its end, the labels before that are written.
    """
    begin = target
    floor = at
    length = jumps = 0
    while has(message, at, 1):
        size = u8(message, at)
        if size >= 0xC0:
            if not has(message, at, 2):
                break
            at = u16(message, at) & 0x3FFF
            jumps += 1
            if at < HEADER or at >= floor or jumps > MOST_JUMPS:
                break
            floor = at
            continue
        if size == 0:
            if target == begin:
                store8(target, 46)
                target += 1
            break
        length += 1 + size
        if size > 63 or length >= LONGEST_NAME or not has(message, at, 1 + size):
            break
        if target != begin:
            store8(target, 46)
            target += 1
        for n in range(at + 1, at + 1 + size):
            target = _put_byte(target, u8(message, n))
        at += 1 + size
    return target


@leaf
def is_class(value):
    """Whether a class is one that is in use: IN, CH, HS, NONE, ANY; mDNS's bit aside."""
    value &= ~UNICAST
    return value == 1 or value == 3 or value == 4 or value == 254 or value == 255


@leaf
def shown_class(value):
    """A class without multicast DNS's top bit, where that makes it one in use."""
    return value & ~UNICAST if is_class(value) else value


@kernel
def skip_question(message, at):
    """Position behind the question at `at`, or BROKEN or SHORT."""
    at = skip_name(message, at)
    if at < 0:
        return at
    if not has(message, at, QUESTION_TAIL):
        return SHORT
    return at + QUESTION_TAIL


@kernel
def skip_questions(message):
    """Where the records begin, or BROKEN or SHORT."""
    at = HEADER
    for _ in range(count_of(message, 0)):
        at = skip_question(message, at)
        if at < 0:
            return at
    return at + 0


@kernel
def skip_record(message, at):
    """Position behind the record at `at`, or BROKEN or SHORT."""
    at = skip_name(message, at)
    if at < 0:
        return at
    if not has(message, at, RECORD_TAIL):
        return SHORT
    end = at + RECORD_TAIL + u16(message, at + 8)
    return end if end <= message[1] else SHORT


@kernel
def header_is_sane(message):
    """Whether the 12 bytes of the header may begin a message.

    The counts must have a chance to fit into 64 KiB, a question being 5 bytes at least, a record 11.
    """
    flags = flags_of(message)
    opcode = opcode_of(message)
    questions, answers, rest = count_of(message, 0), count_of(message, 1), count_of(message, 2) + count_of(message, 3)
    if opcode == 3 or opcode > 6 or flags & Z:
        return False
    if 5 * questions + 11 * (answers + rest) > 0xFFFF:
        return False
    if flags & QR:
        # Without anything in it a message is an error, or one to keep a session alive (RFC 8490).
        return questions + answers + rest > 0 or flags & RCODE != 0 or opcode == 6
    if flags & RCODE:
        return False
    return questions > 0 or opcode == 6 or (opcode == 0 and answers + rest > 0)  # none: a cookie alone (RFC 7873, 5.4)


@kernel
def _is_netbios(message, end):
    """Whether the first name is one of NetBIOS (RFC 1002, 4.2): the same format, another protocol.

    end: position behind it. 16 bytes as 32 letters from A to P, and type NB or NBSTAT, which is DNS's SRV.
    """
    kind = u16(message, end) if has(message, end, 2) else 0
    if u8(message, HEADER) != 32 or (kind != 32 and kind != 33):
        return False
    strange = 0
    for n in range(32):
        letter = u8(message, HEADER + 1 + n)
        strange += letter < 65 or letter > 80
    return kind == 32 or strange == 0


@kernel
def check(message, whole):
    """Whether a span is a DNS message as far as header and first entry tell: 1, or BROKEN or SHORT.

    whole: 0 if the message goes on behind the span; then a record may be cut.
    """
    if message[1] < HEADER:
        return SHORT
    if not header_is_sane(message):
        return BROKEN
    entries = count_of(message, 0) + count_of(message, 1) + count_of(message, 2) + count_of(message, 3)
    if entries == 0:
        return 1
    at = skip_name(message, HEADER)
    if at < 0:
        return at
    if not has(message, at, QUESTION_TAIL):
        return SHORT
    if _is_netbios(message, at):
        return BROKEN
    if count_of(message, 0):
        return 1 if is_class(u16(message, at + 2)) else BROKEN
    if u16(message, at) == OPT:  # its class is a size
        return 1
    if not is_class(u16(message, at + 2)):
        return BROKEN
    return 1 if whole == 0 or skip_record(message, HEADER) > 0 else SHORT


@kernel
def walk(message):
    """Whether all entries that the header promises are there: where they end, or BROKEN or SHORT."""
    at = skip_questions(message)
    if at < 0:
        return at
    for _ in range(count_of(message, 1) + count_of(message, 2) + count_of(message, 3)):
        at = skip_record(message, at)
        if at < 0:
            return at
    return at + 0


_FOLD = np.int64(0x2020202020202020)
_K = np.int64(0x2D358DCCAA6C78A5)


@kernel
def question_hash(message):
    """A number for the first question (or record), never 0 and below 2^32, without regard to case; 0 without one.

    Servers copy the question, but some do so in lower case.
    """
    if count_of(message, 0) + count_of(message, 1) == 0:
        return 0
    end = skip_name(message, HEADER)
    if end < 0 or not has(message, end, QUESTION_TAIL):
        return 0
    h = (u16(message, end) << 16) | (u16(message, end + 2) & ~UNICAST)
    for at in range(HEADER, end - 8, 8):
        h = mix(h ^ _K, u64(message, at) | _FOLD)
    left = end - HEADER - ((end - HEADER - 1) & ~7)
    last = u64(message, end - 8)
    if left < 8:
        last &= (1 << (8 * left)) - 1
    h = mix(h ^ _K, last | _FOLD)
    return (h & 0xFFFFFFFF) | 1
