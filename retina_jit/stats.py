"""Named counters, one 64-bit word each, in one array per worker. Nothing here imports Numba.

The ledger: every frame read ends in exactly one of `LEDGER`, so their sum is `frames`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LEDGER = (
    "malformed",  # a header breaks its own rules
    "truncated_header",  # the capture ends inside a header
    "not_ip",  # ARP, LLDP, ... and frames of link types that are not decoded
    "not_transport",  # IP without TCP or UDP header: ICMP, later fragments, ...
    "fragment_held",  # fragments of datagrams that are not whole yet; none at the end
    "fragment_used",  # ... that became whole: these reach their connection
    "fragment_timeout",  # ... that were given up: too old, the table was full, or the input over
    "fragment_refused",  # fragments that break the rules of `state.fragments`, or found no memory
    "prefiltered",  # refused by the BPF program of `-F`, before anything else
    "not_sampled",  # of a connection outside the sample
    "filtered",  # no subscription can want it
    "delivered",  # given to packet subscriptions; no connection needs it
    "not_syn",  # TCP of a connection whose start was not seen (see midstream)
    "table_full",  # no room for another connection
    "unwanted",  # of a connection that no subscription wants any more
    "tracked",  # counted, parsed and kept for a connection
)

COUNTERS = (
    "frames",
    "bytes",
    *LEDGER,
    "dropped",  # by the interface's ring, for want of room: not among the frames
    "datagrams",  # put together from fragments; no frames of their own
    "fragment_overlap",  # fragments with bytes that were there already
    "fragment_inconsistent",  # ... and differed
    "tunnelled",  # packets found in tunnels; not frames of their own
    "samples_refused",  # sFlow datagrams of which samples were left out: a burst had no room for them
    "connections",
    "connections_tcp",
    "connections_udp",
    "connections_midstream",
    "ended_closed",  # by FIN or RST
    "ended_reused",  # by a new connection on the same five-tuple
    "ended_expired",
    "ended_evicted",  # to make room in a full table (conntrack.table_full = "evict")
    "ended_half_open",  # unanswered attempts that made room for others
    "ended_drained",  # at the end of the input
    "sessions",
    "packets_kept",  # until the filter of their connection is decided
    "packets_not_kept",  # a cap did not allow it
    "unsubscribed",  # connections of which a streaming callback wanted no more
    "streams_refused",  # streams not begun because the byte pool is used up
    "sessions_kept",  # for the end of their connection, once for each shape in which they are wanted
    "sessions_left_out",  # not kept: a cap did not allow it
    "events",
    "events_cut",  # longer than the longest event: variable parts are missing
    "events_lost",  # the ring was full and the policy is not to wait
    "segments_held",
    "segments_old",  # retransmissions, nothing new in them
    "overlap",
    "overlap_inconsistent",
    "payload_held",  # bytes held out of order now; none at the end
    "payload_parsed",  # bytes of payload given to a parser
    "payload_unparsed",  # ... of connections that no parser looks at, or not any more
    "payload_old",  # ... that had been passed on or were held already: the first copy counts
    "payload_dropped",  # ... held, and then not wanted any more or out of any window
    "payload_cut",  # ... that the capture does not have
    "rst_ignored",  # RST segments that their receiver would not believe
    "acks",  # acknowledgements that go on, of connections whose bytes are followed
    "acks_unseen",  # ... beyond all that was seen: lost by the capture
    "holes",  # gaps in a stream that were given up
    "hole_bytes",
    "held_refused",  # early segments that a cap did not allow to keep
    "parser_refused",  # connections not parsed because the byte pool is used up
    "parser_limited",  # times that a session parser has left something out because of a cap
    "parser_resynced",  # times that one has lost its place in a stream, to a hole or to nonsense
    "probe_given_up",  # connections of which no session protocol was sure in time
    "wrong_guesses",  # session protocols that said "not mine" after they had been sure
    "turned",  # connections that turned to another session protocol (STARTTLS)
    "turn_given_up",  # ... that began like such ones and did not turn within a cap
    "groups_full",
    "left_out",  # packets and pauses that a list of a connection had no room for
)
PAYLOAD = ("payload_parsed", "payload_unparsed", "payload_old", "payload_dropped", "payload_held", "payload_cut")
"""Where each byte of payload of tracked packets ends."""

VOLUMES = (
    "tcp_frames",  # TCP that the packet filter lets through
    "tcp_bytes",  # ... on the wire
    "udp_frames",
    "udp_bytes",
    "filtered_bytes",  # of the frames counted as `filtered`
    "not_syn_bytes",  # ... as `not_syn`
)
"""What is counted only while somebody looks at the run (`retina_jit.monitor`); behind `COUNTERS` in the same array."""

INDEX = {name: n for n, name in enumerate(COUNTERS + VOLUMES)}


def snapshot(counters: np.ndarray[Any, Any]) -> dict[str, int]:
    """Return the counters by name."""
    return {name: int(counters[n]) for n, name in enumerate(COUNTERS)}


def volumes(counters: np.ndarray[Any, Any]) -> dict[str, int]:
    """Return what is counted for the monitor, by name."""
    return {name: int(counters[INDEX[name]]) for name in VOLUMES}


def capture_loss(counters: dict[str, int]) -> float | None:
    """Return the share of acknowledgements that went beyond what was seen: an estimate of what the capture has lost."""
    return counters["acks_unseen"] / counters["acks"] if counters["acks"] else None


SEEN_BY_ALL = (
    "fragment_held",
    "fragment_used",
    "fragment_timeout",
    "fragment_refused",
    "datagrams",
    "fragment_overlap",
    "fragment_inconsistent",
)
"""Every worker puts all datagrams together: only then it is known whose connection a fragment belongs to."""


def merge(parts: list[dict[str, int]]) -> dict[str, int]:
    """Return the snapshot of several workers together."""
    return {name: parts[0][name] if name in SEEN_BY_ALL else sum(p[name] for p in parts) for name in COUNTERS}
