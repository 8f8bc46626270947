"""Stages: when a predicate is known, and what a filter says before that.

A term that holds predicates of a later stage is neither true nor false yet. It is kept as two terms over what is known:
`sure` is true when the filter has matched whatever the rest will be, `open` as long as it still can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from retina_jit.errors import FilterError
from retina_jit.filters.literals import top
from retina_jit.filters.normalize import Worlds, can_be
from retina_jit.filters.predicates import WATCHED
from retina_jit.filters.resolve import Names
from retina_jit.filters.syntax import (
    FALSE,
    TRUE,
    And,
    Not,
    Or,
    Present,
    Term,
    Test,
    Truth,
    both,
    either,
    leaves,
    negation,
    title,
)

LEVELS = ("packet", "session", "connection", "static", "streaming")
STAGES = ("packet", "connection", "protocol", "session")
PACKET_DELIVER = "packet_deliver"
"""Asked of each packet of a connection that matches, where a filter has packet predicates beside session predicates."""
END = "end"
"""Asked when a connection that matches ends, where a filter has predicates about the whole of it."""
WATCH = "watch"
"""Asked of each packet of a connection: which predicates does it make true that ask for some packet of it?"""
EARLY = "early"
"""Asked with each packet, where what `END` will ask may have become impossible already."""
GROWING = (
    "duration", "duration_ms", "duration_ns", "packets", "bytes", "payload_bytes", "orig_packets", "resp_packets", "orig_bytes", "resp_bytes",
    "orig_payload_bytes", "resp_payload_bytes",
)  # fmt: skip
"""Fields of `conn` that never become less: what is above a bound stays above it."""
OF_WHOLE_CONNECTIONS = ("connection", "static")
"""Levels of subscriptions that may ask for it; static ones then fire at the end."""
OF_A_CONNECTION = ("ipv4", "ipv6", "tcp", "udp", "frame")
"""Packet protocols whose presence holds for all packets of a connection."""


def is_session(term: Present | Test, worlds: Worlds) -> bool:
    """Whether a predicate is about a session protocol."""
    return worlds.layer(term.protocol) == "session"


def is_watched(term: Present | Test) -> bool:
    """Whether a predicate is found out packet by packet while a connection lives."""
    return term.protocol == WATCHED


def is_undecided(term: Present | Test, worlds: Worlds) -> bool:
    """Whether a predicate becomes known while a connection lives: its session protocol, a session, what is watched."""
    return is_watched(term) or is_session(term, worlds)


def is_at_end(term: Present | Test, names: Names) -> bool:
    """Whether a predicate is about the connection as a whole, which is known when it ends."""
    return names.protocols[term.protocol].level == "connection"


def is_direct(term: Term, level: str, names: Names, worlds: Worlds) -> bool:
    """Whether the packet stage decides the subscription completely, packet by packet."""
    return level == "packet" and not any(is_undecided(leaf, worlds) or is_at_end(leaf, names) for leaf in leaves(term))


def is_of_packets(leaf: Present | Test, names: Names, worlds: Worlds) -> bool:
    """Whether a predicate may hold for one packet of a connection and not for the next."""
    if is_undecided(leaf, worlds) or is_at_end(leaf, names):
        return False
    return leaf.protocol not in OF_A_CONNECTION if isinstance(leaf, Present) else not names.field(leaf).side


def refuse_unknowable(term: Term, level: str, text: str, names: Names, worlds: Worlds) -> None:
    """Check that a filter that follows connections asks only for what can be known when its subscription fires.

    Raises
    ------
    FilterError
        It asks for the whole connection and fires before its end, or no connection can match.
    """
    for leaf in leaves(term):
        if is_at_end(leaf, names) and level not in OF_WHOLE_CONNECTIONS:
            span = leaf.span
            assert span is not None
            reason = (
                f"{title(leaf) if isinstance(leaf, Test) else leaf.protocol} is known when the connection ends, and this "
                f"subscription fires before. Subscribe to a connection type (ConnRecord)"
            )
            raise FilterError(reason, text, span.start, span.end)
    if not can_be(term, worlds)[0] & (worlds.of("tcp") | worlds.of("udp")):
        raise FilterError(
            "this matches no connection: connections are tracked for TCP and UDP", text, 0, len(text)
        )


@dataclass(frozen=True)
class Known:
    """A filter at a stage: `sure` implies `open`; they are equal where nothing is unknown."""

    sure: Term
    open: Term


def at_stage(term: Term, stage: str, worlds: Worlds) -> Known:
    """Return what is known of a filter at a stage."""
    if isinstance(term, Truth):
        return Known(term, term)
    if isinstance(term, Present | Test):
        return _leaf(term, stage, worlds)
    if isinstance(term, Not):
        inner = at_stage(term.term, stage, worlds)
        return Known(negation(inner.open), negation(inner.sure))
    parts = [at_stage(t, stage, worlds) for t in term.terms]
    join = both if isinstance(term, And) else either
    return Known(join(p.sure for p in parts), join(p.open for p in parts))


def _leaf(term: Present | Test, stage: str, worlds: Worlds) -> Known:
    if is_watched(term):
        return Known(FALSE, TRUE)
    if not is_session(term, worlds) or stage == "session":
        return Known(term, term)
    if stage == "protocol":
        there = Present(term.protocol)
        return Known(there, there) if isinstance(term, Present) else Known(FALSE, there)
    return Known(FALSE, either(Present(t) for t in sorted(worlds.sessions[term.protocol])))


def residue(term: Term, worlds: Worlds) -> Term:
    """Return what is left to ask of a filter that is open: every session predicate, and what decides between them.

    Where a conjunction is open, those of its parts that were known have been true; where a disjunction is open, they
    have been false. If then one part is left, that part is open itself.
    """
    if isinstance(term, Not):
        return negation(residue(term.term, worlds))
    if isinstance(term, And | Or):
        rest = [t for t in term.terms if any(is_undecided(leaf, worlds) for leaf in leaves(t))]
        if len(rest) == 1:
            return residue(rest[0], worlds)
        return both(rest) if isinstance(term, And) else either(rest)
    return term


def may_still(term: Term, names: Names, worlds: Worlds, holds: bool = True) -> Term:
    """Return what must hold now for the term to hold when the connection ends (not `holds`: for it to be false then)."""
    if isinstance(term, Test) and is_at_end(term, names):
        ranges = term.value if term.form == "range" and not term.negated and term.field in GROWING and not term.called else ()
        if not ranges:
            return TRUE
        low, high, largest = ranges[0][0], ranges[-1][1], top(names.field(term))  # type: ignore[misc,index]
        if holds:
            return TRUE if high == largest else replace(term, value=((0, high),), shown=f"<= {high}")
        return TRUE if high < largest or (low == 0 and len(ranges) == 1) else replace(term, value=((0, int(ranges[-1][0]) - 1),), shown=f"< {ranges[-1][0]}")  # type: ignore[misc,index]
    if isinstance(term, Truth | Present | Test):
        return term if holds else negation(term)
    if isinstance(term, Not):
        return may_still(term.term, names, worlds, not holds)
    join = both if isinstance(term, And) == holds else either
    return join(may_still(t, names, worlds, holds) for t in term.terms)


def turned(term: Term, names: Names) -> Term:
    """Return the filter as a packet of the other direction has to fulfil it: source and destination swapped."""
    if isinstance(term, Test):
        field = names.field(term)
        if not field.side:
            return term
        other = {"src": "dst", "dst": "src"}[field.side] + term.field[3:]
        return replace(term, field=other)
    if isinstance(term, And):
        return both(turned(t, names) for t in term.terms)
    if isinstance(term, Or):
        return either(turned(t, names) for t in term.terms)
    return negation(turned(term.term, names)) if isinstance(term, Not) else term
