"""TCP life: who has synchronised, finished, reset, and when a connection is over.

Works on sequence numbers alone, so that a connection ends rightly whether or not its payload is reassembled (upstream
needs reassembly for it). Source: RFC 9293, 3.3 to 3.6.
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.state.layout import (
    ACK_KNOWN,
    ANSWERED,
    FIN_SEEN,
    MIDSTREAM,
    NEXT_KNOWN,
    OVER,
    RESP,
    RST_SEEN,
    SYN_SEEN,
)
from retina_jit.state.track import signed32

FIN, SYN, RST, ACK = 1, 2, 4, 16
ENDED, IGNORED, ACKED = 1, 2, 4
LATE_SYN = 65536
"""Bytes of a connection that may come before its SYN: cards and kernels disorder what comes within a millisecond."""
RST_WINDOW = 1 << 24
"""Bytes; a blind RST has one chance in 256."""


@leaf
def sent(c, side, what):
    """Whether a side has sent what the bit stands for."""
    return (c.tcp >> (RESP * side)) & what != 0


@kernel
def is_new_connection(c, row, side):
    """Whether a SYN on a known five-tuple begins another connection.

    It does after the old one has ended, when that one was picked up in the middle, and when it carries another sequence
    number although the first one has been answered. Until then another number is a new attempt of the same connection.
    """
    flags = row.tcp_flags
    if not flags & SYN or flags & (ACK | RST):
        return False
    if c.flags & OVER:
        return True
    if c.flags & MIDSTREAM:
        # Unless it is the SYN of this one, which the capture has put behind what followed it.
        return side != 0 or signed32(c.isn0 - row.seq) < 0 or signed32(c.isn0 - row.seq) > LATE_SYN
    if side:
        # The other side opens: simultaneous open (RFC 9293, 3.5, figure 7) unless the connection stands already. Until its
        # FIN, `fin1` holds what number its SYN had: the same again is a repetition.
        repeated = sent(c, 1, SYN_SEEN) and not sent(c, 1, FIN_SEEN) and row.seq == c.fin1
        return c.flags & ANSWERED != 0 and not repeated
    return c.flags & ANSWERED != 0 and row.seq != c.isn0


@kernel
def reset_counts(c, row, side):
    """Whether a RST is one that its receiver would believe (RFC 9293, 3.5.3; RFC 5961, 3).

    In the receiver's window, whose size is not known here: from what it has acknowledged last, RST_WINDOW bytes. In answer
    to a SYN: it acknowledges the SYN. Where nothing is known yet, it counts.
    """
    if sent(c, 1 - side, ACK_KNOWN):
        ahead = signed32(row.seq - (c.ack0 if side else c.ack1))
        return ahead >= -1 and ahead < RST_WINDOW
    if side and row.tcp_flags & ACK and not c.flags & MIDSTREAM:
        ahead = signed32(row.ack - c.isn0)
        return ahead > 0 and ahead <= 65536
    return True


@kernel
def update(c, row, side):
    """Follow one segment. Returns bits: ENDED when the connection is over with it, IGNORED for a RST out of place, ACKED."""
    flags = row.tcp_flags
    shift = RESP * side
    if flags & RST and not reset_counts(c, row, side):
        return IGNORED
    told = 0
    if flags & SYN:
        if side == 0 and not c.flags & ANSWERED:
            if row.seq != c.isn0 and not c.flags & MIDSTREAM:
                # A new attempt: its stream begins anew.
                c.tcp &= ~NEXT_KNOWN
            c.isn0 = row.seq
        if side and not sent(c, 1, FIN_SEEN):
            c.fin1 = row.seq
        c.tcp |= SYN_SEEN << shift
    if side:
        c.flags |= ANSWERED
    if flags & ACK:
        known = c.ack1 if side else c.ack0
        if not sent(c, side, ACK_KNOWN) or signed32(row.ack - known) > 0:
            c.tcp |= ACK_KNOWN << shift
            told = ACKED
            if side:
                c.ack1 = row.ack
            else:
                c.ack0 = row.ack
    if flags & FIN:
        c.tcp |= FIN_SEEN << shift
        after = (row.seq + row.payload_len + 1 + (1 if flags & SYN else 0)) & 0xFFFFFFFF
        if side:
            c.fin1 = after
        else:
            c.fin0 = after
    if flags & RST:
        c.tcp |= RST_SEEN << shift
        return told | ENDED
    both = FIN_SEEN | ACK_KNOWN
    both |= both << RESP
    if c.tcp & both == both and signed32(c.ack1 - c.fin0) >= 0 and signed32(c.ack0 - c.fin1) >= 0:
        return told | ENDED
    return told
