"""Stages: when a predicate is known, and what a filter says before that.

A term that holds predicates of a later stage is neither true nor false yet. It is kept as two terms over what is known:
`sure` is true when the filter has matched whatever the rest will be, `open` as long as it still can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from retina_jit.errors import FilterError
from retina_jit.filters.normalize import Worlds, can_be
from retina_jit.filters.resolve import Names
from retina_jit.filters.syntax import (
    FALSE,
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
OF_WHOLE_CONNECTIONS = ("connection", "static")
"""Levels of subscriptions that may ask for it; static ones then fire at the end."""
OF_A_CONNECTION = ("ipv4", "ipv6", "tcp", "udp", "frame")
"""Packet protocols whose presence holds for all packets of a connection."""


def is_session(term: Present | Test, worlds: Worlds) -> bool:
    """Whether a predicate is about a session protocol."""
    return worlds.layer(term.protocol) == "session"


def is_at_end(term: Present | Test, names: Names) -> bool:
    """Whether a predicate is about the connection as a whole, which is known when it ends."""
    return names.protocols[term.protocol].level == "connection"


def is_direct(term: Term, level: str, names: Names, worlds: Worlds) -> bool:
    """Whether the packet stage decides the subscription completely, packet by packet."""
    return level == "packet" and not any(is_session(leaf, worlds) or is_at_end(leaf, names) for leaf in leaves(term))


def is_of_packets(leaf: Present | Test, names: Names, worlds: Worlds) -> bool:
    """Whether a predicate may hold for one packet of a connection and not for the next."""
    if is_session(leaf, worlds) or is_at_end(leaf, names):
        return False
    return leaf.protocol not in OF_A_CONNECTION if isinstance(leaf, Present) else not names.field(leaf).side


def refuse_unknowable(term: Term, level: str, text: str, names: Names, worlds: Worlds) -> None:
    """Check that a filter that follows connections asks only for what is known of a connection.

    Packet-level subscriptions may ask for both: their packets are tested one by one when they are delivered.

    Raises
    ------
    FilterError
        It asks for something that each packet has for itself.
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
        if level != "packet" and is_of_packets(leaf, names, worlds):
            what = leaf.protocol if isinstance(leaf, Present) else f"{leaf.protocol}.{leaf.field}"
            span = leaf.span
            assert span is not None
            reason = (
                f"{what} is known of single packets only, and this subscription follows connections. "
                "Subscribe to a packet type (ZcFrame, Payload)"
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
        rest = [t for t in term.terms if any(is_session(leaf, worlds) for leaf in leaves(t))]
        if len(rest) == 1:
            return residue(rest[0], worlds)
        return both(rest) if isinstance(term, And) else either(rest)
    return term


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
