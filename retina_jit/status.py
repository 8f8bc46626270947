"""Integer codes that cross the line between kernels and Python."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Why an entry came back."""

    DONE = 0
    """The source is at its end and all of it is processed."""
    NEED_INPUT = 1
    """The chunk of bytes is used up: give the next one."""
    STOPPED = 2
    """The control word asked for it."""
    SHRUNK = 3
    """The mapped file became shorter than it was."""
    PAUSED = 4
    """The event ring is full and nobody drains it beside us: drain and come back."""
    BROKEN = 5
    """The source holds something that is no record; the reason is in its `reason` word."""


class Parse(IntEnum):
    """What a header gate or a session parser says. Values below zero are not positions."""

    NEED_MORE = -1
    """All bytes were taken, the next ones may complete it."""
    TRUNCATED = -2
    """The capture ends inside."""
    MALFORMED = -3
    """The bytes break a rule of the protocol."""
    NOT_OURS = -4
    """Another protocol."""


class Probe(IntEnum):
    """What a session protocol says about the first bytes of a connection."""

    UNSURE = 0
    CERTAIN = 1
    NOT_OURS = 2
    LATER = 3
    """UDP: this datagram is none of ours, a later one may be; it need not be kept."""
