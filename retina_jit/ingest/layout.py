"""The records that walkers and Python share. Addresses, times [ns] and counters are `i8` words."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

SOURCE = np.dtype(
    [
        # What is there. Python sets these; a walker moves `at`.
        ("base", "i8"),  # address of the first byte of the window: the mapped file, or the buffer
        ("at", "i8"),  # address of the next record
        ("end", "i8"),  # address behind the last byte
        ("final", "i8"),  # 1: nothing will follow behind `end`
        ("passed", "i8"),  # bytes of the stream before `base`
        ("guard", "i8"),  # address of an aligned word in the last page of the mapping; 0: nothing is mapped
        ("shrunk", "i8"),  # address of the page that was gone when it was touched; 0: none
        ("limit", "i8"),  # address behind the buffer
        ("fd", "i8"),  # descriptor that the kernel itself reads from; -1: none
        ("readahead", "i8"),  # address of the READAHEAD that chunks come from; 0: none
        ("reader", "i8"),  # which of its readers this one is
        ("poll", "i8"),  # a `struct pollfd`
        ("more", "i8"),  # a live source's entry that gets more frames; 0: a capture, which `read_more` reads
        ("device", "i8"),  # address of what it gets them from: RING of an interface, RECEIVE of DPDK ports
        ("idle", "i8"),  # 1: nothing came, and there is no need to ask Python about it
        ("clock", "i8"),  # a live source's time while nothing comes: no frame of before will follow [ns]; 0: not known
        ("prefilter", "i8"),  # address of the PREFILTER that frames have to pass; 0: none
        ("workers", "i8"),  # how many workers read the same capture, each from a source of its own
        ("worker", "i8"),  # which of them this one is for
        ("left_out", "i8"),  # which frames of others are not even given out: NONE, BY_CONNECTION, BY_TURN
        ("noted", "i8"),  # 1: `hints` name the records to give out, as far as it is noted
        ("unsure", "i8"),  # how many frames were given out of which it is not known that they are this worker's
        ("noted_first", "i8"),  # address of the first record that is noted, whoever's
        ("noted_after", "i8"),  # address of the first one behind them
        ("noted_number", "i8"),  # how many frames of the run stand before the first one
        ("noted_count", "i8"),  # how many they are
        # How to read it.
        ("swap", "i8"),  # 1: numbers are big-endian
        ("unit", "i8"),  # pcap: ns per fraction of a second
        ("header", "i8"),  # pcap: length of a record header
        ("link", "i8"),  # pcap: link type
        ("interfaces", "i8"),  # pcapng: address of the table of INTERFACE records
        ("interface_count", "i8"),  # pcapng: of the section
        # What came out.
        ("status", "i8"),  # a Status; valid when a walk gave no row
        ("reason", "i8"),  # a Reason, when BROKEN
        ("cut", "i8"),  # 1: the last record is not whole
        ("frames", "i8"),  # given out
        ("number", "i8"),  # number of the last frame given out, counted over all sources of a run
        ("bytes", "i8"),  # on the wire, of the frames given out
        ("captured", "i8"),  # captured, of the frames given out
        ("ts", "i8"),  # of the last frame [ns]
        ("unknown", "i8"),  # frames of a link type that the decoder does not know (a pcapng may mix them)
        ("unknown_link", "i8"),  # the last such link type
        ("ahead", "i8"),  # address up to which was prefetched
        ("hints", "i8"),  # address of the next of the words that say where records begin, for prefetching; 0: none
        ("hints_end", "i8"),
        ("hints_base", "i8"),  # what they count from
        # As it was when the last walk began, for `CaptureSource.refill` after SHRUNK.
        ("burst_at", "i8"),
        ("burst_interfaces", "i8"),
        ("burst_frames", "i8"),
        ("burst_bytes", "i8"),
        ("burst_captured", "i8"),
        ("burst_unknown", "i8"),
    ]
)

NONE, BY_CONNECTION, BY_TURN = range(3)
"""Frames of other workers: given out as well; left out where it is noted whose connection they are of; or whose turn they are."""

PREFILTER = np.dtype(
    [
        ("walk", "i8"),  # address of the walker that frames come from
        ("programs", "i8"),  # address of the first PROGRAM
        ("count", "i8"),  # of the programs
        ("cells", "i8"),  # address of the sixteen memory words of a BPF program
        ("frames", "i8"),  # addresses of the worker's counters
        ("bytes", "i8"),
        ("prefiltered", "i8"),
        ("strange", "i8"),  # frames of a link type for which the expression means nothing
        ("strange_link", "i8"),  # the last such link type
    ]
)
"""What refuses frames before they are decoded (`retina_jit.ingest.prefilter`)."""

PROGRAM = np.dtype([("link", "i8"), ("first", "i8")])
"""BPF program for a link type: address of its first INSTRUCTION; 0: the expression means nothing there."""

INSTRUCTION = np.dtype([("operation", "i8"), ("k", "i8"), ("yes", "i8"), ("no", "i8")])
"""Of a BPF program: an `Operation`, its number, and where a jump leads (addresses)."""

RING = np.dtype(
    [
        ("base", "i8"),  # address of the first block
        ("blocks", "i8"),
        ("block", "i8"),  # length of each
        ("next", "i8"),  # number of the block to look at next
        ("held", "i8"),  # address of the block that is walked; 0: none
        ("at", "i8"),  # address of the next packet in it
        ("left", "i8"),  # how many packets it still has
        ("fd", "i8"),
        ("poll", "i8"),  # a `struct pollfd`
    ]
)
"""Packets that the system writes into memory shared with it (AF_PACKET, TPACKET_V3)."""

INTERFACE = np.dtype(
    [
        ("link", "i8"),
        ("snaplen", "i8"),  # 0: none
        ("multiply", "i8"),  # ns per tick, or 0
        ("divide", "i8"),  # ticks per ns, or 0
        ("shift", "i8"),  # ticks are 2^-shift s when neither is set
        ("offset", "i8"),  # added to each time [ns]
        ("unknown", "i8"),  # 1: the decoder does not know the link type
    ]
)
MAX_INTERFACES = 4096
"""In one section. Real captures have tens."""

MAX_CAPLEN = 256 << 10
"""A record that claims more captured bytes [byte] than any capture program writes for an IP link is damage."""

MAX_BLOCK = 16 << 20
"""A larger pcapng block [byte] is damage; name resolution and secrets blocks stay far below."""

CHUNK = 512 << 10
"""Read at once [byte]: large enough for the call to cost nothing, small enough to be still in a cache when it is walked."""

PREFETCH = 4096
"""How far the walkers prefetch ahead [byte]: the records are a chain, and memory latency would be paid on each link."""


HINTS_AHEAD, OWNED_AHEAD = 12, 20
"""How many records ahead the walker prefetches where it knows where they begin; and where it gives out its worker's only."""

AHEAD_CHUNK = 256 << 10
"""Read at once by one of several threads [byte]."""
SLOTS, SHARED_SLOTS = 16, 16
"""Slots of a ring of such chunks, and of one that several workers read: one may be so far behind when it has no core."""
READERS = 64
HINTS = 4096
"""Room for where the records of a chunk begin; in traffic some 600 begin in one."""

READAHEAD = np.dtype(
    [
        ("fd", "i8"),
        ("size", "i8"),  # of the file when it was opened
        ("chunks", "i8"),
        ("ring", "i8"),  # address of the first slot
        ("claimed", "i8"),  # chunks from here on nobody reads yet
        ("slots", "i8"),  # a power of two
        ("readers", "i8"),
        ("stop", "i8"),
        ("hints", "i8"),  # address of the lists of hints, HINTS words each; see `retina_jit.ingest.noting`
        ("lists", "i8"),  # of each slot: one for each worker, or one
        ("tails", "i8"),  # address of a word for each list: where the next hint goes
        ("noting", "i8"),  # 1: a thread is noting
        ("walked", "i8"),  # chunks whose records are noted, in order
        ("record", "i8"),  # where in the file the first record behind them begins
        ("swap", "i8"),  # how records are read, as in SOURCE
        ("unit", "i8"),
        ("header", "i8"),
        ("link", "i8"),
        ("by", "i8"),  # how it is told whose a record is: NONE (it is not, or no more), BY_CONNECTION, BY_TURN
        ("seed", "i8"),  # of the connections' hash
        ("number", "i8"),  # how many frames of the run stand before `record`
        ("latest", "i8"),  # latest capture time before `record` [ns]
        ("row", "i8"),  # address of a PACKET to decode records in
        *[(f"ready{n}", "i8") for n in range(SHARED_SLOTS)],  # chunk + 1 << 32 | bytes, when it is there
        *[(f"whose{n}", "i8") for n in range(SHARED_SLOTS)],  # the reader in whose caches it is; -1: the helper's
        *[(f"count{n}", "i8") for n in range(SHARED_SLOTS)],  # chunk + 1 << 32 | how many records are noted, when they are
        *[(f"first{n}", "i8") for n in range(SHARED_SLOTS)],  # where the first of them begins, and where the first one
        *[(f"after{n}", "i8") for n in range(SHARED_SLOTS)],  # behind them does, from the beginning of the chunk on
        *[(f"before{n}", "i8") for n in range(SHARED_SLOTS)],  # how many frames of the run stand before it
        *[(f"latest{n}", "i8") for n in range(SHARED_SLOTS)],  # latest capture time so far [ns]
        *[(f"next{n}", "i8") for n in range(READERS)],  # each reader's next chunk
        *[(f"taken{n}", "i8") for n in range(READERS)],  # chunks before this one a reader is done with
    ]
)
"""A file that several threads read (`retina_jit.ingest.readahead`)."""


class Reason(IntEnum):
    """Why a source is BROKEN."""

    NONE = 0
    CAPLEN = 1
    BLOCK = 2
    TRAILER = 3
    BYTE_ORDER = 4
    VERSION = 5
    NO_INTERFACE = 6
    INTERFACES = 7
    RESOLUTION = 8
    ZEROS = 9
    COMPRESSION = 10
    PACKET = 11
    LINK = 12


REASONS = {
    Reason.NONE: "",
    Reason.CAPLEN: f"a record claims more than {MAX_CAPLEN} captured bytes",
    Reason.BLOCK: f"a block is shorter than its form, not a multiple of four, or longer than {MAX_BLOCK} bytes",
    Reason.TRAILER: "a block ends with another length than it begins with",
    Reason.BYTE_ORDER: "a section header has no byte order mark",
    Reason.VERSION: "a section has a version other than 1",
    Reason.NO_INTERFACE: "a packet names an interface that was not described",
    Reason.INTERFACES: f"a section describes more than {MAX_INTERFACES} interfaces",
    Reason.RESOLUTION: "an interface has a clock finer than 10^-18 s",
    Reason.ZEROS: "a record of zeros: the file was not written to its end",
    Reason.COMPRESSION: "the compressed data is damaged",
    Reason.PACKET: "a packet is longer than the block that holds it",
    Reason.LINK: "link type not supported",
}
