"""Connection tracking in plain Python: the slow twin of `retina_jit.state` and `retina_jit.pipeline.connections`.

Written from the declared meaning (ARCHITECTURE, the docstrings of `retina_jit.state`), on dicts, lists and bytes. Every
connection is looked at when its own next packet comes: on one clock that never stands still, that and a timer are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from oracle.decode import IPV6, TCP, UDP, decode

FIN, SYN, RST, ACK = 1, 2, 4, 16
MS = 1_000_000
MOST_CHUNKS = 100
MOST_AHEAD = 64 << 20
ENOUGH = 8
RST_WINDOW = 1 << 24
LONGEST_RTT = 0xFFFFFFFF  # [100 ns]


@dataclass
class Settings:
    """Times in ms, as in the configuration."""

    tcp_establish: int = 5000
    tcp_inactivity: int = 300_000
    udp_inactivity: int = 60_000
    tcp_close: int = 1000
    midstream: bool = False
    most_held: int = 100
    parse: bool = False
    """Whether a session parser (`support.streams`) looks at every TCP connection."""


def distance(a: int, b: int) -> int:
    """How far sequence number `a` lies ahead of `b` (RFC 1982)."""
    d = (a - b) % 2**32
    return d - 2**32 if d >= 2**31 else d


# ------------------------------------------------------------------------------------------------------ counters


@dataclass
class Flow:
    """One direction of a ConnRecord."""

    nb_pkts: int = 0
    nb_malformed_pkts: int = 0
    nb_late_start_pkts: int = 0
    nb_pkt_bytes: int = 0
    nb_payload_bytes: int = 0
    max_simult_gaps: int = 0
    content_gaps: int = 0
    missed_bytes: int = 0
    data_start: int = 0
    chunks: list[tuple[int, int]] = field(default_factory=list)
    gaps: dict[int, int] = field(default_factory=dict)
    nb_retransmits: int = 0
    nb_out_of_order: int = 0
    started: bool = False
    ever_gap: bool = False

    def count(self, p: Seen, acked: int | None) -> str:
        """Count a packet; `acked`: what the other side has acknowledged. Returns Zeek's T for what was sent again."""
        self.nb_pkts += 1
        self.nb_pkt_bytes += p.length
        if len(p.data) < p.payload_len:
            self.nb_malformed_pkts += 1
            return ""
        self.nb_payload_bytes += p.payload_len
        return self.follow(p, acked) if p.tcp else ""

    def follow(self, p: Seen, acked: int | None) -> str:
        seq = p.seq + bool(p.flags & SYN)
        if not self.started:
            self.started, self.data_start = True, seq % 2**32
        reach = self.chunks[-1][1] if self.chunks else 0
        start = reach + distance(seq, self.data_start + reach)
        if start < 0:
            self.nb_late_start_pkts += 1
            return ""
        if start - reach > MOST_AHEAD and (acked is None or distance(acked, p.seq) < 0):
            return ""
        told = ""
        end = start + p.payload_len
        if p.payload_len and start < reach and not (p.payload_len == 1 and end == reach):
            if any(a <= start and min(end, reach) <= b for a, b in self.chunks):
                self.nb_retransmits += 1
                told = "T"
            else:
                self.nb_out_of_order += 1
        if p.payload_len:
            self.add(start, start + p.payload_len)
        # Gaps are noted from the first one on.
        holes = self.holes()
        self.ever_gap = self.ever_gap or bool(holes)
        self.max_simult_gaps = max(self.max_simult_gaps, len(holes))
        for at, _ in holes:
            if at in self.gaps or len(self.gaps) < MOST_CHUNKS:
                self.gaps[at] = self.gaps.get(at, 0) + 1
        return told

    def unseen(self, ack: int) -> bool:
        """Whether an acknowledgement says that bytes were sent that were not seen."""
        reach = self.chunks[-1][1] if self.chunks else 0
        return self.started and distance(ack, self.data_start + reach) > 1

    def add(self, start: int, end: int) -> None:
        touching = [c for c in self.chunks if c[1] >= start and c[0] <= end]
        if not touching and len(self.chunks) >= MOST_CHUNKS:
            return
        rest = [c for c in self.chunks if c not in touching]
        merged = (min([start, *(c[0] for c in touching)]), max([end, *(c[1] for c in touching)]))
        self.chunks = sorted([*rest, merged])

    def holes(self) -> list[tuple[int, int]]:
        ends = [0, *(c[1] for c in self.chunks)]
        return [(a, b[0]) for a, b in zip(ends, self.chunks) if b[0] > a]

    def result(self) -> dict[str, Any]:
        names = ("nb_pkts", "nb_malformed_pkts", "nb_late_start_pkts", "nb_pkt_bytes", "nb_payload_bytes", "max_simult_gaps", "data_start", "nb_retransmits", "nb_out_of_order")
        holes = self.holes()
        return {n: getattr(self, n) for n in names} | {
            "content_gaps": len(holes),
            "missed_bytes": sum(b - a for a, b in holes),
            "chunks": self.chunks if self.ever_gap else [],
            "gaps": self.gaps,
        }


@dataclass
class Seen:
    """A packet as tracking needs it."""

    ts: int
    length: int
    src: tuple[int, int, int]
    dst: tuple[int, int, int]
    ipv6: bool
    tcp: bool
    flags: int
    seq: int
    ack: int
    payload_len: int
    data: bytes
    window: int = 1


def see(ts: int, data: bytes, length: int, link: int) -> Seen | None:
    """Decode a frame; None unless it is TCP or UDP."""
    row = decode(data, link, length)
    if row["verdict"] or not row["layers"] & (TCP | UDP):
        return None
    payload = data[row["payload"] : row["payload"] + row["captured_len"]]
    return Seen(
        ts, length, (row["src_hi"], row["src_lo"], row["src_port"]), (row["dst_hi"], row["dst_lo"], row["dst_port"]),
        bool(row["layers"] & IPV6), bool(row["layers"] & TCP), row["tcp_flags"], row["seq"], row["ack"], row["payload_len"], payload, row["window"],
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- reassembly

Token = bytes | int
"""What the parser sees of one direction: bytes, or a number of bytes that are missing."""


@dataclass
class Piece:
    start: int
    data: bytes
    cut: int


@dataclass
class Stream:
    """One direction, by positions that never wrap."""

    known: bool = False
    base: int = 0
    next: int = 0
    held: list[Piece] = field(default_factory=list)

    def position(self, seq: int) -> int:
        return self.next + distance(seq, self.base + self.next)


# ---------------------------------------------------------------------------------------------------- connections


@dataclass
class Connection:
    tracker: Tracker
    orig: tuple[int, int, int]
    resp: tuple[int, int, int]
    ipv6: bool
    tcp: bool
    first: int
    last: int
    midstream: bool = False
    second: int = 0
    pause: int = 0
    two: bool = False
    answered: bool = False
    over: bool = False
    history: str = ""
    zeek: str = ""
    syn_ts: int | None = None
    answer_ts: int | None = None
    rtt: list[int] = field(default_factory=lambda: [0, 0])
    resets: list[bool] = field(default_factory=lambda: [False, False])
    resp_isn: int | None = None
    nb_overlaps: int = 0
    nb_inconsistent: int = 0
    lost: int = 0
    isn: int = 0
    flows: tuple[Flow, Flow] = field(default_factory=lambda: (Flow(), Flow()))
    acks: list[int | None] = field(default_factory=lambda: [None, None])
    fins: list[int | None] = field(default_factory=lambda: [None, None])
    streams: tuple[Stream, Stream] = field(default_factory=lambda: (Stream(), Stream()))
    resp_answered: bool = False
    phase: str = "off"
    kept: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    kept_lost: list[int] = field(default_factory=lambda: [0, 0])
    tokens: tuple[list[Token], list[Token]] = field(default_factory=lambda: ([], []))

    @property
    def window(self) -> int:
        s = self.tracker.settings
        if self.over:
            return s.tcp_close * MS
        if not self.tcp:
            return s.udp_inactivity * MS
        return (s.tcp_inactivity if self.two else s.tcp_establish) * MS

    # -- counting

    def take(self, p: Seen, side: int, first: bool) -> None:
        if not first:
            self.two = True
            if self.second == 0:
                self.second = p.ts
            self.pause = max(self.pause, p.ts - self.last)
        self.last = max(self.last, p.ts)
        goes_on = p.tcp and self.live(p, side)
        self.write_history(p, side)
        self.write_zeek(self.flows[side].count(p, self.acks[1 - side]), side)
        if goes_on:
            self.tracker.counters["acks"] += 1
            self.tracker.counters["acks_unseen"] += self.flows[1 - side].unseen(p.ack)
        self.tracker.payload += p.payload_len
        self.tracker.counters["payload_cut"] += p.payload_len - len(p.data)
        if self.phase != "off":
            if p.tcp:
                self.segment(p, side)
            elif p.payload_len:
                self.feed(side, p.data, 0, p.payload_len - len(p.data))
        else:
            self.tracker.counters["payload_unparsed"] += len(p.data)

    def write_history(self, p: Seen, side: int) -> None:
        letters = ""
        if p.tcp:
            if p.flags & SYN:
                letters += "H" if p.flags & ACK else "S"
            elif p.flags & (FIN | RST | ACK) == ACK and p.payload_len == 0:
                letters += "A"
            letters += "F" if p.flags & FIN else ""
            letters += "R" if p.flags & RST else ""
        letters += "D" if p.payload_len else ""
        for letter in letters:
            letter = letter.lower() if side else letter
            if letter not in self.history:
                self.history += letter
        odd = ""
        if p.tcp:
            odd += "W" if p.window == 0 and not p.flags & RST else ""
            odd += "I" if p.flags & RST and p.flags & FIN else ""
            odd += "Q" if p.flags & SYN and p.flags & (FIN | RST) else ""
        answers = side == 0 and self.answer_ts is not None and {"A", "D"} & set(letters) - set(self.zeek)
        self.write_zeek(letters + odd, side)
        if answers and not self.rtt[0]:
            self.rtt[0] = min(max(0, p.ts - self.answer_ts) // 100, LONGEST_RTT) * 100  # type: ignore[operator]
            self.answer_ts = None
        if p.flags & SYN and p.tcp:
            if side == 0 and not p.flags & ACK and self.resp_answered is False:
                self.syn_ts = p.ts
            elif side == 1 and p.flags & ACK and self.syn_ts is not None and not self.resp_answered:
                self.rtt[1] = min(max(0, p.ts - self.syn_ts) // 100, LONGEST_RTT) * 100
                self.answer_ts, self.resp_answered = p.ts, True

    def write_zeek(self, letters: str, side: int) -> None:
        for letter in letters:
            letter = letter.lower() if side else letter
            if letter not in self.zeek and len(self.zeek) < 24:
                self.zeek += letter

    def state(self) -> str:
        """Zeek's conn_state."""
        seen = set(self.history)
        if not self.resets[0]:
            seen.discard("R")
        if not self.resets[1]:
            seen.discard("r")
        if not self.tcp:
            return {(True, True): "SF", (True, False): "S0", (False, True): "SHR"}.get(("D" in seen, "d" in seen), "OTH")
        asked, answered = "S" in seen, "h" in seen
        if asked and (answered or "s" in seen):
            for letters, name in (("Ff", "SF"), ("R", "RSTO"), ("r", "RSTR"), ("F", "S2"), ("f", "S3")):
                if set(letters) <= seen:
                    return name
            return "S1"
        if asked:
            for letter, name in (("r", "REJ"), ("R", "RSTOS0"), ("F", "SH")):
                if letter in seen:
                    return name
            return "OTH" if any(x.islower() for x in seen) else "S0"
        if answered:
            return "RSTRH" if "r" in seen else "SHR" if "f" in seen else "OTH"
        return "OTH"

    def believes(self, p: Seen, side: int) -> bool:
        """Whether a RST would end the connection of the side that gets it."""
        acked = self.acks[1 - side]
        if acked is not None:
            return -1 <= distance(p.seq, acked) < RST_WINDOW
        if side == 1 and p.flags & ACK and not self.midstream:
            return 0 < distance(p.ack, self.isn) <= 65536
        return True

    def live(self, p: Seen, side: int) -> bool:
        """SYN, ACK, FIN and RST: when it is over. Returns whether the acknowledgement goes on."""
        goes_on = False
        if p.flags & RST and not self.believes(p, side):
            self.tracker.counters["rst_ignored"] += 1
            return False
        if p.flags & SYN and side == 0 and not self.answered:
            if p.seq != self.isn and not self.midstream:
                self.streams[0].known = False
            self.isn = p.seq
        if p.flags & SYN and side == 1 and self.fins[1] is None:
            self.resp_isn = p.seq
        self.answered = self.answered or side == 1
        if p.flags & ACK:
            known = self.acks[side]
            if known is None or distance(p.ack, known) > 0:
                self.acks[side] = p.ack
                goes_on = True
        if p.flags & FIN:
            self.fins[side] = (p.seq + p.payload_len + 1 + bool(p.flags & SYN)) % 2**32
        if p.flags & RST:
            self.over = self.resets[side] = True
        elif None not in self.fins and None not in self.acks:
            done = [distance(self.acks[1 - n], self.fins[n]) >= 0 for n in (0, 1)]  # type: ignore[arg-type]
            self.over = self.over or all(done)
        return goes_on

    def begins_anew(self, p: Seen, side: int) -> bool:
        if not p.flags & SYN or p.flags & (ACK | RST):
            return False
        if self.over:
            return True
        if self.midstream:
            return side == 1 or not 0 <= distance(self.isn, p.seq) <= 65536
        if side == 1:
            return self.answered and (self.fins[1] is not None or p.seq != self.resp_isn)
        return self.answered and p.seq != self.isn

    # -- reassembly

    def segment(self, p: Seen, side: int) -> None:
        t, s = self.tracker, self.streams[side]
        seq = p.seq + bool(p.flags & SYN)
        if not s.known:
            if not p.flags & SYN and not p.payload_len and not self.midstream:
                return
            s.known, s.base = True, seq - s.next
            self.drop(side)
        if not p.payload_len:
            return
        cut = p.payload_len - len(p.data)
        start = s.position(seq)
        if start + p.payload_len <= s.next:
            t.counters["segments_old"] += 1
            t.counters["payload_old"] += len(p.data)
            return
        if start - s.next > 2**30:
            t.counters["payload_dropped"] += len(p.data)
            return
        before = self.accounted()
        if start > s.next:
            t.counters["segments_held"] += 1
            ack = self.acks[1 - side]
            while s.held and ack is not None and distance(ack, s.base + s.held[0].start) >= 0:
                self.skip_hole(side)
        else:
            for piece in s.held:
                self.compare(piece, start, p.data)
        self.place(side, start, p.data, cut)
        left = len(p.data) - (self.accounted() - before)
        t.counters["payload_old" if self.phase != "off" else "payload_unparsed"] += left
        if self.phase == "off":
            self.drop(0)
            self.drop(1)

    def accounted(self) -> int:
        """Bytes that went somewhere or are held."""
        return sum(self.tracker.counters[f"payload_{n}"] for n in ("parsed", "unparsed", "old", "dropped")) + sum(
            len(x.data) for s in self.streams for x in s.held
        )

    def drop(self, side: int) -> None:
        """Nobody wants what is held any more."""
        held = self.streams[side].held
        self.tracker.counters["payload_dropped"] += sum(len(x.data) for x in held)
        held.clear()

    def wild(self, side: int) -> bool:
        """Whether what is held lies out of any window."""
        s, acked = self.streams[side], self.acks[1 - side]
        first = s.held[0].start
        heard = acked is not None and distance(acked, s.base + first) >= 0
        return first - s.next > MOST_AHEAD and sum(len(x.held) for x in self.streams) < ENOUGH and not heard

    def compare(self, piece: Piece, start: int, data: bytes) -> None:
        low, high = max(start, piece.start), min(start + len(data), piece.start + len(piece.data))
        if low < high:
            self.tracker.counters["overlap"] += 1
            self.nb_overlaps += 1
            if data[low - start : high - start] != piece.data[low - piece.start : high - piece.start]:
                self.tracker.counters["overlap_inconsistent"] += 1
                self.nb_inconsistent += 1

    def count_hole(self, side: int, lost: int) -> None:
        self.lost += lost
        self.write_zeek("G", side)
        self.tracker.counters["holes"] += 1
        self.tracker.counters["hole_bytes"] += lost

    def skip_hole(self, side: int) -> None:
        s = self.streams[side]
        piece = s.held.pop(0)
        lost = piece.start - s.next
        self.count_hole(side, lost)
        s.next = piece.start + len(piece.data) + piece.cut
        self.feed(side, piece.data, lost, piece.cut)
        self.pass_held(side)

    def pass_held(self, side: int) -> None:
        s = self.streams[side]
        while s.held and s.held[0].start <= s.next:
            piece = s.held.pop(0)
            old = s.next - piece.start
            self.tracker.counters["payload_old"] += min(old, len(piece.data))
            if old < len(piece.data):
                s.next = piece.start + len(piece.data) + piece.cut
                self.feed(side, piece.data[old:], 0, piece.cut)

    def place(self, side: int, start: int, data: bytes, cut: int) -> None:
        s = self.streams[side]
        lost = 0
        while self.phase != "off" and start + len(data) + cut > s.next:
            if start <= s.next:
                old = s.next - start
                cut -= max(0, old - len(data))
                data, start = data[old:], s.next
                room = s.held[0].start - s.next if s.held else len(data) + cut
                taken = data[:room]
                missing = min(cut, room - len(taken)) if len(taken) == len(data) else 0
                s.next += len(taken) + missing
                self.feed(side, taken, lost, missing)
                lost = 0
                self.pass_held(side)
            elif self.hold(side, start, data, cut):
                return
            else:
                self.tracker.counters["held_refused"] += 1
                if s.held and self.wild(side):
                    self.drop(side)
                elif s.held:
                    self.skip_hole(side)
                else:
                    lost = start - s.next
                    self.count_hole(side, lost)
                    s.next = start

    def hold(self, side: int, start: int, data: bytes, cut: int) -> bool:
        """Keep what is not held yet; False when a cap forbids it."""
        s = self.streams[side]
        end = start + len(data)
        at = start
        for piece in [*s.held, None]:
            stop = end if piece is None else min(end, piece.start)
            if at < stop:
                if sum(len(x.held) for x in self.streams) >= self.tracker.settings.most_held:
                    return False
                s.held.append(Piece(at, data[at - start : stop - start], cut if stop == end else 0))
                s.held.sort(key=lambda x: x.start)
                at = stop
            if piece is not None and at < end:
                if at < piece.start + len(piece.data):
                    self.compare(piece, at, data[at - start :])
                at = max(at, min(end, piece.start + len(piece.data)))
        return True

    # -- probing and parsing, as `support.streams` does

    def feed(self, side: int, data: bytes, lost: int, cut: int) -> None:
        self.tracker.counters["payload_parsed" if self.phase != "off" else "payload_unparsed"] += len(data)
        if self.phase == "parsing":
            self.parse(side, lost, data, cut)
        elif self.phase == "probing":
            kept = self.kept[side]
            had = len(kept)
            if had and lost:
                return self.give_up()
            self.kept_lost[side] += lost
            kept += data
            if len(kept) < 4:
                if cut and kept:
                    return self.give_up()
                self.kept_lost[side] += cut
            elif kept[:1] == b"N":
                self.phase = "off"
            else:
                self.phase = "parsing"
                for n in (0, 1):
                    if self.kept[n]:
                        self.parse(n, self.kept_lost[n], bytes(self.kept[n]), cut if n == side else 0)
        return None

    def give_up(self) -> None:
        self.tracker.counters["probe_given_up"] += 1
        self.phase = "off"

    def parse(self, side: int, lost: int, data: bytes, cut: int) -> None:
        for token in (lost, data, cut):
            put(self.tokens[side], token)

    # -- end

    def end(self, why: str) -> None:
        if self.phase != "off":
            for side in (0, 1):
                while self.streams[side].held:
                    if self.wild(side):
                        self.drop(side)
                    else:
                        self.skip_hole(side)
        self.drop(0)
        self.drop(1)
        self.tracker.counters[f"ended_{why}"] += 1
        self.tracker.ended.append(self)

    def result(self) -> dict[str, Any]:
        a, b = (str(_address(e, self.ipv6)) for e in (self.orig, self.resp))
        return {
            "five_tuple": (a, self.orig[2], b, self.resp[2], "tcp" if self.tcp else "udp"),
            "first_seen_ts": self.first,
            "second_seen_ts": self.second or None,
            "last_seen_ts": self.last,
            "max_inactivity": self.pause,
            "history": self.history,
            "zeek_history": self.zeek,
            "conn_state": self.state(),
            "rtt_orig": self.rtt[0] / 1e9 or None,
            "rtt_resp": self.rtt[1] / 1e9 or None,
            "nb_overlaps": self.nb_overlaps,
            "nb_inconsistent": self.nb_inconsistent,
            "lost_bytes": self.lost,
            "orig": self.flows[0].result(),
            "resp": self.flows[1].result(),
        }


def put(tokens: list[Token], token: Token) -> None:
    """Append, joining what is of the same kind."""
    if not token:
        return
    if tokens and type(tokens[-1]) is type(token):
        tokens[-1] += token  # type: ignore[operator]
    else:
        tokens.append(token)


def _address(end: tuple[int, int, int], ipv6: bool) -> IPv4Address | IPv6Address:
    high, low, _ = end
    return IPv6Address(high % 2**64 << 64 | low % 2**64) if ipv6 else IPv4Address(low)


class Tracker:
    """All connections."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.live: dict[Any, Connection] = {}
        self.ended: list[Connection] = []
        names = (
            "frames", "not_syn", "tracked", "connections", "ended_closed", "ended_reused", "ended_expired", "ended_drained",
            "segments_held", "segments_old", "overlap", "overlap_inconsistent", "holes", "hole_bytes", "held_refused", "probe_given_up",
            "payload_parsed", "payload_unparsed", "payload_old", "payload_dropped", "payload_cut", "rst_ignored", "acks", "acks_unseen",
        )  # fmt: skip
        self.counters = dict.fromkeys(names, 0)
        self.payload = 0
        self.now = 0

    def frame(self, ts: int, data: bytes, length: int = 0, link: int = 1) -> None:
        self.counters["frames"] += 1
        self.now = max(self.now, ts)
        p = see(ts, data, length or len(data), link)
        if p is not None:
            self.packet(p)

    def packet(self, p: Seen) -> None:
        key = (p.tcp, p.ipv6, frozenset((p.src, p.dst)))
        c = self.live.get(key)
        if c is not None and p.ts - c.last > c.window:
            c = self.remove(key, "closed" if c.over else "expired")
        if c is not None and p.tcp and c.begins_anew(p, self.side(c, p)):
            c = self.remove(key, "closed" if c.over else "reused")
        first = c is None
        if c is None:
            c = self.create(p)
            if c is None:
                return
            self.live[key] = c
        self.counters["tracked"] += 1
        c.take(p, self.side(c, p), first)

    @staticmethod
    def side(c: Connection, p: Seen) -> int:
        # Both ends alike: the one that stands second in a key is never the source then.
        return 0 if p.src == c.orig else 1

    def create(self, p: Seen) -> Connection | None:
        opening = p.flags & SYN and not p.flags & (ACK | RST)
        midstream = p.tcp and not opening
        if midstream and not self.settings.midstream:
            self.counters["not_syn"] += 1
            return None
        self.counters["connections"] += 1
        swap = midstream and (p.flags & SYN or (p.src[2] < 1024 and p.dst[2] >= 1024))
        orig, resp = (p.dst, p.src) if swap else (p.src, p.dst)
        c = Connection(self, orig, resp, p.ipv6, p.tcp, p.ts, p.ts, midstream=bool(midstream))
        if midstream:
            c.isn = ((p.ack if swap else p.seq) - 1) % 2**32
        if self.settings.parse and p.tcp:
            c.phase = "probing"
        return c

    def remove(self, key: Any, why: str) -> None:
        self.live.pop(key).end(why)

    def finish(self) -> list[Connection]:
        """End of the input. Returns all connections."""
        for key in list(self.live):
            c = self.live[key]
            silent = self.now - c.last > c.window
            self.remove(key, "closed" if c.over else "expired" if silent else "drained")
        return self.ended
