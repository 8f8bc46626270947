"""The worker's own records: what one endless kernel call works on. Nothing here imports Numba."""

from __future__ import annotations

import numpy as np

PACKET_LEVEL, SESSION_LEVEL, CONNECTION_LEVEL, STATIC_LEVEL, STREAMING_LEVEL, HELPER_LEVEL = range(6)
"""HELPER_LEVEL: a slot that nobody fires with, see `retina_jit.pipeline.formulas`."""
EVERY_PACKETS, EVERY_BYTES, EVERY_SECONDS = range(1, 4)
HAS_PACKETS, HAS_WAITING, HAS_STREAMS, HAS_OWN, HAS_WATCHES = 1, 2, 4, 8, 16
"""GROUP.packets: packets are delivered; wait for a filter to be decided; are counted for streams; are shown to data types of the
user's own; may tell something of what a filter asks."""
RING_TIER, JIT_TIER, ROW_TIER = range(3)
"""ROW_TIER: a compiled callback of a direct packet subscription whose data types are views of the packet row."""
MOST_TYPES = 8
"""Data types in one subscription."""

SUBSCRIPTION = np.dtype(
    [
        ("level", "i8"),
        ("owner", "i8"),  # number of the subscription; another one where this is a further slot of it
        ("tier", "i8"),
        ("direct", "i8"),  # 1: decided and delivered by the packet stage
        ("filter_services", "i8"),  # session protocols that its filter asks about, a bit each
        ("type_services", "i8"),  # session protocols whose sessions it is given
        ("must_services", "i8"),  # those without a session of which it is never called
        ("own_services", "i8"),  # connection level: those of which it keeps the first session that matches
        ("kinds", "i8"),  # connection level: kinds of items that its lists are made of, a bit each
        ("owns", "i8"),  # data types of the user's own that it reads, a bit each
        ("formula", "i8"),  # 1: see pipeline.formulas
        ("watched", "i8"),  # 1: a predicate that packets decide
        ("watch", "i8"),  # ... one of the user's own: number of its OWN + 1
        ("early", "i8"),  # 1: the stage "early" may refuse it
        ("every", "i8"),  # streaming: EVERY_PACKETS, EVERY_BYTES or EVERY_SECONDS
        ("interval", "i8"),  # how many of them; time in ns
        ("at_end", "i8"),  # 1: a last call at the end of the connection
        ("image", "i8"),  # connection level: position + 1 of its plain session type, 0: it has none
        ("track", "i8"),  # parts of a connection that its data types read, a bit each
        ("types", "i8"),  # how many data types
        ("size", "i8"),  # of their records together [byte]
        ("callback", "i8"),  # address of the compiled callback
        ("state", "i8"),  # address of its state
        ("text", "i8"),  # address of the filter's text
        ("text_len", "i8"),
        *[(f"project{n}", "i8") for n in range(MOST_TYPES)],
        *[(f"offset{n}", "i8") for n in range(MOST_TYPES)],
        *[(f"service{n}", "i8") for n in range(MOST_TYPES)],  # session protocol of a type of own_services, else 0
        *[(f"kept{n}", "i8") for n in range(MOST_TYPES)],  # list: its kinds; "... | None": its kind
    ]
)

KIND = np.dtype([("service", "i8"), ("project", "i8"), ("size", "i8")])
"""A session data type that waits for the end of connections: its protocol, entry, size of its record."""
MOST_KINDS = 62

STORED = np.dtype([("following", "i8"), ("size", "i8"), ("kind", "i8"), ("spare", "i8")])
"""Head of what is kept of a session; `size` bytes follow."""
ITEM = np.dtype([("size", "u4"), ("kind", "u4"), ("ts", "i8")])
"""Head of an item in a list of sessions: bytes with this head, kind, capture time; record and variable bytes follow."""
LISTED = np.dtype([("items", "i8"), ("count", "i8")])
"""Record of a list of sessions: packed word of its items, and how many there are."""

OWN = np.dtype([("new", "i8"), ("update", "i8"), ("clear", "i8"), ("offset", "i8"), ("size", "i8")])
"""A data type or a predicate of the user's own: its functions' addresses, where its record lies in a connection's area, and its size."""
MOST_OWN = 62

WAITING = np.dtype([("following", "i8"), ("size", "i8")])
"""Head of a packet that waits; its PACKET row and its frame follow."""

STREAM = np.dtype(
    [
        ("following", "i8"),
        ("subscription", "i8"),
        ("id", "i8"),  # index of the connection << 32 | a serial number
        ("count", "i8"),  # packets or bytes since the last call; seconds: when the next one is due [ns]
        ("calls", "i8"),  # made so far
    ]
)
MAIL = np.dtype([("id", "i8"), ("subscription", "i8")])
"""From Python to the worker: a stream that is not wanted any more."""
MOST_MAIL = 1 << 12

NOTE = np.dtype(
    [
        ("stored", "i8"),  # first STORED
        ("stored_last", "i8"),
        ("stored_count", "i8"),
        ("packets", "i8"),  # first packet that waits for the filter
        ("packets_last", "i8"),
        ("packet_count", "i8"),
        ("packet_bytes", "i8"),
        ("streams", "i8"),  # first STREAM
    ]
)
"""What lies beside a connection, same index, if any subscription of the program needs it."""
assert NOTE.itemsize == 64

SERVICE = np.dtype(
    [
        ("probe", "i8"),  # addresses of the parser's entries
        ("parse", "i8"),
        ("finish", "i8"),
        ("release", "i8"),
        ("state_size", "i8"),
        ("tcp", "i8"),  # 1: runs over TCP
        ("udp", "i8"),
        ("turns", "i8"),  # session protocols that it may turn into (STARTTLS), a bit each
        ("name", "i8"),  # address of its name
        ("name_len", "i8"),
    ]
)

PORT_RULE = np.dtype([("transport", "i8"), ("port", "i8"), ("service", "i8"), ("instead", "i8")])
"""A port on which `service`, which is found nowhere else, is asked `instead` of another (0: beside the others)."""

MOST_ROWS = 10 * 64
"""Rows of a burst at most: each frame, what is in its tunnels (four deep), and the datagram that each of these may complete."""

GROUP = np.dtype(
    [
        ("hash", "i8"),
        ("services", "i8"),  # session protocols to look for, a bit each
        ("kept", "i8"),  # session protocols of whose sessions something is kept until the end of the connection
        ("track", "i8"),
        ("packets", "i8"),  # what each packet is needed for: HAS_PACKETS, ...
        ("any", "i8"),  # 1: some subscription wants it or may come to want it
        ("undecided", "i8"),  # 1: some filter is not decided yet
        ("kinds", "i8"),  # kinds of items that its lists are made of, a bit each
        ("owns", "i8"),  # data types of the user's own to show packets to, a bit each
    ]
)
"""A set of subscriptions that a connection may still match (alive) and does match (matched). Two bitsets follow."""

MOST_GROUPS = 1 << 16

MOST_PASSED = 64
"""Most datagrams of a connection that nobody knows while a later one may tell."""
MOST_PIECES = 8
"""Most datagrams that a probe buffer can hold."""

PIECE = np.dtype(
    [
        ("at", "i4"),  # where its bytes stand, from the start of the buffer
        ("length", "i4"),
        ("side", "i8"),
        ("lost", "i8"),  # bytes missing before it
        ("ts", "i8"),  # capture time of the (last) packet that brought it [ns]
    ]
)
PROBE = np.dtype(
    [
        ("rejected", "i8"),  # session protocols that have said no, a bit each
        ("had", "i8"),  # session protocols of which the connection has had sessions before it turned to another, a bit each
        ("size", "i8"),  # of the whole buffer [byte]
        ("used", "i8"),
        ("passed", "i8"),  # datagrams that nobody wanted to keep
        ("count", "i8"),  # pieces
        *[(f"piece{n}", PIECE) for n in range(MOST_PIECES)],
    ]
)
"""What is kept while no protocol is sure. UDP: a piece per datagram. TCP: one per direction, each with its own room."""
STREAM_ROOM = 512
"""Bytes kept per direction of a TCP stream; as much as any probe asks for."""

PARSER = np.dtype(
    [
        ("rejected", "i8"),  # session protocols that have said no before this one was sure
        ("group", "i8"),  # of the connection before this protocol was taken for sure
        ("had", "i8"),  # as in PROBE
    ]
)
"""Stands before the state of a session parser: where to go on if it says that the bytes are not its own."""

WORKER = np.dtype(
    [
        # -- control and source
        ("control", "i8"),  # address of the word that Python writes: 0 run, 1 stop, 2 abandon
        ("walk", "i8"),  # entry that fills rows from the source
        ("source", "i8"),
        ("rows", "i8"),
        ("spread", "i8"),  # scratch: MOST_ROWS rows, see pipeline.spread
        ("survivors", "i8"),  # scratch: MOST_ROWS words
        ("matches", "i8"),  # scratch: what the packet stage reports
        ("oriented", "i8"),  # scratch: a PACKET row, originator to responder
        ("input", "i8"),  # scratch: an INPUT
        ("context", "i8"),  # scratch: a CONTEXT
        ("sets", "i8"),  # scratch: alive, matched, maybe, two words of the filters' own
        ("mine", "i8"),  # scratch: alive, matched of the connection at hand
        ("now", "i8"),  # latest capture time [ns]
        ("id", "i8"),
        # -- entries of the pipeline, called by address
        ("deliver", "i8"),
        ("admit", "i8"),
        ("feed", "i8"),
        ("terminate", "i8"),
        ("segment", "i8"),
        ("spread_rows", "i8"),
        ("sweep_fragments", "i8"),
        ("update_parts", "i8"),
        ("note_first", "i8"),
        ("release_parts", "i8"),
        ("make_room", "i8"),
        ("packet_delivery", "i8"),
        ("watch", "i8"),
        ("read_mail", "i8"),
        # -- program
        ("tables", "i8"),
        ("packet_stage", "i8"),
        ("connection_stage", "i8"),
        ("protocol_stage", "i8"),
        ("session_stage", "i8"),
        ("end_stage", "i8"),
        ("packet_deliver_stage", "i8"),
        ("watch_stage", "i8"),
        ("early_stage", "i8"),
        ("early", "i8"),  # set of slots that the stage "early" may refuse
        ("watching", "i8"),  # 1: some packets are shown to `watch`
        ("conjuncts", "i8"),  # see pipeline.formulas
        ("conjunct_count", "i8"),
        ("subscriptions", "i8"),
        ("count", "i8"),
        ("words", "i8"),
        ("services", "i8"),  # address of SERVICE records, number n at n
        ("service_count", "i8"),
        ("tcp_services", "i8"),
        ("udp_services", "i8"),
        ("port_services", "i8"),  # those that a PORT_RULE is about, a bit each
        ("port_rules", "i8"),  # address of the PORT_RULE records
        ("port_rule_count", "i8"),
        ("watcher", "i8"),  # number of the service that waits for a protocol without parser to turn into another; 0: none
        ("groups", "i8"),
        ("group_size", "i8"),
        ("group_count", "i8"),
        ("group_index", "i8"),  # open addressing over MOST_GROUPS * 2 words of 4 bytes
        ("first_group", "i8"),  # the group of a connection that nothing is known of
        # -- configuration [ns]
        ("tcp_establish", "i8"),
        ("tcp_inactivity", "i8"),
        ("udp_inactivity", "i8"),
        ("tcp_close", "i8"),
        ("midstream", "i8"),
        ("decap", "i8"),  # kinds of tunnels to look into, a bit each
        ("defrag", "i8"),  # 1: fragments are put together
        ("most_held", "i8"),
        ("most_waiting", "i8"),  # packets per connection that wait for its filter
        ("most_waiting_bytes", "i8"),
        ("most_sessions", "i8"),  # sessions kept per connection
        ("probe_datagrams", "i8"),  # datagrams kept per connection while no protocol is sure
        ("probe_bytes", "i8"),  # and their bytes
        ("seed", "i8"),
        ("workers", "i8"),  # how many share the packets, see pipeline.share
        ("turns_until", "i8"),  # frames up to this number are shared by turns, connections or not; 0: none
        ("sample", "i8"),  # of 2^32 connections so many are taken, 0: all
        ("vlan_mask", "i8"),  # bits of the tag that are a part of the key
        ("vni_in_key", "i8"),  # 1: so is the virtual network's identifier
        # -- ring
        ("ring", "i8"),
        ("ring_size", "i8"),
        ("head", "i8"),  # bytes ever written
        ("tail", "i8"),  # bytes ever drained; Python writes it
        ("lap_end", "i8"),  # where the previous lap ended
        ("wait", "i8"),  # 1: wait when the ring is full, 0: lose the event and count it
        ("scratch", "i8"),  # MAX_EVENT bytes for compiled callbacks
        ("stats", "i8"),
        # -- state
        ("table", "i8"),
        ("timers", "i8"),
        ("arena", "i8"),
        ("notes", "i8"),  # address of the NOTE records, 0: not needed
        ("kinds", "i8"),  # address of the KIND records
        ("own", "i8"),  # address of the OWN records
        ("own_area", "i8"),  # address of what they fill, per connection
        ("own_size", "i8"),
        ("getting", "i8"),  # scratch: two sets
        ("got", "i8"),
        ("serial", "i8"),  # of the last stream
        ("mail", "i8"),
        ("mail_head", "i8"),  # ever written; Python writes it
        ("mail_tail", "i8"),  # ever read
        ("fragments", "i8"),
        ("parts", "i8"),  # parts of a connection that the program needs, a bit each (see state.parts)
        *[(f"part{n}", "i8") for n in range(8)],  # where each stands in the row beside the connection
        ("most_listed", "i8"),  # bytes of packets kept per connection
        ("link", "i8"),  # scratch: a PART_LINK
        ("evict", "i8"),  # 1: a full table makes room, 0: it refuses
        ("room_tick", "i8"),  # tick of the wheel up to which it has made room
        ("half_open", "i8"),  # ring of connection attempts: time << 32 | index
        ("most_half_open", "i8"),
        ("attempts", "i8"),  # ever noted in it
        ("monitored", "i8"),  # 1: somebody looks at the run, and `stats.VOLUMES` are counted
    ]
)
