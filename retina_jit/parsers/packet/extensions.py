"""IPv6 extension headers. Source: RFC 8200, 4; authentication header: RFC 4302, 2; form of all others: RFC 6564.

ESP (50) and No Next Header (59) end the chain like a transport: what is behind them is not readable.
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.parsers.wire import has, u8, u16
from retina_jit.status import Parse

TRUNCATED, MALFORMED = int(Parse.TRUNCATED), int(Parse.MALFORMED)

HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
MOBILITY, HIP, SHIM6 = 135, 139, 140
MOST = 16
"""Headers in one chain; RFC 8200 lets each stand once, or twice for destination options."""

IS_FRAGMENT, IS_LATER_FRAGMENT = 1, 2


@leaf
def is_extension(number):
    """Whether a header number names an extension header that can be walked over."""
    return (
        number == HOP_BY_HOP or number == ROUTING or number == FRAGMENT or number == AUTHENTICATION
        or number == DESTINATION or number == MOBILITY or number == HIP or number == SHIM6
    )  # fmt: skip


@kernel
def find_fragment(span, at, number):
    """Where the fragment header stands in the chain that begins with the header `number` at `at`; -1 if there is none."""
    for _ in range(MOST):
        if not is_extension(number) or not has(span, at, 8):
            return -1
        if number == FRAGMENT:
            return at
        following, words = u8(span, at), u8(span, at + 1)
        at += (words + 2) << 2 if number == AUTHENTICATION else (words + 1) << 3
        number = following
    return -1


@kernel
def walk_extensions(span, at, number):
    """Walk from the header `number` at `at`: (where the chain ends or TRUNCATED, MALFORMED; number there; fragment bits).

    A later fragment ends the chain: what is behind its fragment header is the middle of something.
    """
    found = 0
    for _ in range(MOST):
        if not is_extension(number):
            return at, number, found
        if not has(span, at, 8):
            return TRUNCATED, number, found
        following = u8(span, at)
        length = (u8(span, at + 1) + 1) << 3
        if number == FRAGMENT:
            length = 8
            word = u16(span, at + 2)
            if word >> 3:
                return at + 8, following, IS_FRAGMENT | IS_LATER_FRAGMENT
            # RFC 6946: offset 0 and no more fragments is a whole packet that merely carries the header.
            found |= word & IS_FRAGMENT
        elif number == AUTHENTICATION:
            length = (u8(span, at + 1) + 2) << 2
            if length < 12:
                return MALFORMED, number, found
        if not has(span, at, length):
            return TRUNCATED, number, found
        at += length
        number = following
    return MALFORMED, number, found
