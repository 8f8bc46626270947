"""One worker: its memory, its thread, its endless kernel call."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np

from retina_jit import cores, objects, stats
from retina_jit.backing import Backing, Growing
from retina_jit.config import RuntimeConfig
from retina_jit.delivery.event import CONTEXT, MAX_EVENT
from retina_jit.filters.conditions import ROOM
from retina_jit.ingest.bpf import Compiled
from retina_jit.ingest.layout import BY_CONNECTION, BY_TURN, NONE
from retina_jit.ingest.prefilter import Prefilter
from retina_jit.ingest.sources import Source
from retina_jit.ingest.stream import ReadingStopped, asked_to_stop
from retina_jit.memory import Region
from retina_jit.parsers.crypto.library import Crypto
from retina_jit.pipeline.groups import GROUP_HEAD
from retina_jit.pipeline.layout import MAIL, MOST_GROUPS, MOST_MAIL, MOST_ROWS, NOTE, WORKER
from retina_jit.program import FIREWALLS, FRAMES_LOOP, Program
from retina_jit.state.arena import ARENA
from retina_jit.state.fragments import DATAGRAM, FRAGMENTS
from retina_jit.state.layout import CONNECTION, INPUT, PACKET
from retina_jit.state.parts import PART_LINK, write_offsets
from retina_jit.state.table import TABLE, end_of_slots, set_up
from retina_jit.state.timers import BLOCK, PER_BLOCK, SLOTS, TIMERS
from retina_jit.status import Status

PAUSE, RUN, STOP, ABANDON = range(-1, 3)
MS = 1_000_000
FIRST_SLOTS = 1 << 16
FIRST_GROUP = 1
LATE = 200 * MS
"""How late a packet of an interface may be handed over [ns]."""
POLL = 0.2
"""How long to wait for input before looking at the control word again [s]."""


def left_out(loop: str, config: RuntimeConfig) -> int:
    """Return which frames of other workers no worker has to look at: NONE, BY_CONNECTION, BY_TURN."""
    # What is in a tunnel may be ours though its frame is not; what is filtered before is counted by all together.
    if config.bpf or config.tunnels():
        return NONE
    return BY_TURN if loop == FRAMES_LOOP else BY_CONNECTION


def _power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


class Worker:
    """Runs a program over sources, in a thread of its own.

    Parameters
    ----------
    program : Program
    config : RuntimeConfig
    number : int
        The worker's CoreId.
    workers : int
        How many read the same captures, each its own share of the packets (see `retina_jit.pipeline.share`).
    seed : int, optional
        Of the connection table's hash, the same for all workers; random by default.
    prefilter : Compiled, optional
        What frames have to pass first.
    """

    def __init__(
        self, program: Program, config: RuntimeConfig, number: int = 0, workers: int = 1, seed: int | None = None, prefilter: Compiled | None = None
    ) -> None:
        self.program = program
        self.config = config
        self._regions: list[Region] = []
        self.counters = self._reserve(8 * len(stats.INDEX)).array(np.int64, len(stats.INDEX))
        self._control = self._reserve(8).array(np.int64, 1)
        home = self._reserve(WORKER.itemsize)
        self.address = home.address
        self.words = home.array(WORKER, 1)[0]
        self.source: Source | None = None
        self._own_core = config.cores[number] if config.cores else None
        self.frames_done = 0
        self.idle_polls = 0
        self._dropped_before = 0
        self.problems: list[str] = []
        self.error: BaseException | None = None
        self.opened = threading.Event()
        self.finished = threading.Event()
        self.paused = threading.Event()
        self.exchanging = threading.Lock()
        self._go_on = threading.Event()
        self._asked = RUN
        """The furthest end that was asked for: RUN, STOP, ABANDON. The control word follows it, but for pauses."""
        self._thread: threading.Thread | None = None
        w = self.words
        w["control"], w["id"], w["stats"] = self._control.ctypes.data, number, self.counters.ctypes.data
        w["sample"] = round(config.sample * (1 << 32)) if config.sample < 1 else 0
        w["seed"] = secrets.randbits(63) if seed is None else seed
        self._workers = workers
        self._crypto: Crypto | None = None
        self._programs = [program]
        self.homes: list[Region] = []
        self.loop = program.loop
        self._prefilter = None if prefilter is None else Prefilter(prefilter, *map(self._counter, ("frames", "bytes", "prefiltered")))
        self._lay_out_scratch()
        self._lay_out_program()
        self._lay_out_state()
        self._lay_out_ring()
        self._backing = Backing(self._growing())

    def _reserve(self, size: int) -> Region:
        region = Region(size)
        self._regions.append(region)
        return region

    def _reserve_for_program(self, size: int) -> Region:
        region = Region(size)
        self.homes.append(region)
        return region

    def _counter(self, name: str) -> int:
        """Return the address of a counter."""
        return int(self.counters.ctypes.data) + 8 * stats.INDEX[name]

    def _lay_out_scratch(self) -> None:
        w = self.words
        w["rows"] = self._reserve(MOST_ROWS * PACKET.itemsize).address
        w["spread"] = self._reserve(MOST_ROWS * PACKET.itemsize).address
        w["survivors"] = self._reserve(8 * MOST_ROWS).address
        w["oriented"] = self._reserve(PACKET.itemsize).address
        w["input"] = self._reserve(INPUT.itemsize).address
        w["context"] = self._reserve(CONTEXT.itemsize).address
        w["mail"] = self._reserve(MAIL.itemsize * MOST_MAIL).address

    def _lay_out_program(self) -> None:
        w, p = self.words, self.program
        count = len(p.plan.owners)
        words = p.plan.words
        reserve = self._reserve_for_program
        w["matches"] = reserve(8 * MOST_ROWS * count).address
        if p.needs_crypto and self._crypto is None:
            self._crypto = Crypto()
            given = next(r for r in self._regions if r.address == int(w["input"]))
            given.array(INPUT, 1)["crypto"] = self._crypto.address
        w["sets"] = reserve(24 * words + 8 * ROOM).address
        w["mine"] = reserve(16 * words).address
        w["getting"], w["got"] = reserve(8 * words).address, reserve(8 * words).address
        w["tables"] = p.tables.ctypes.data
        for name, unit in FIREWALLS.items():
            w[name] = objects.address(unit)
        for name, address in p.stages.items():
            w[f"{name}_stage"] = address
        # The worker's own copy: compiled callbacks have a state per worker.
        own = reserve(p.records.nbytes).array(p.records.dtype, count)
        own[:] = p.records
        self.states: list[np.ndarray[Any, Any] | None] = []
        for n, s in enumerate(p.subscriptions):
            state = s.state.copy() if s.state is not None else None
            self.states.append(state)
            own[n]["state"] = state.ctypes.data if state is not None else 0
        w["subscriptions"], w["count"], w["words"] = own.ctypes.data, count, words
        w["conjuncts"], w["conjunct_count"], w["early"] = p.formulas.ctypes.data, len(p.plan.conjuncts), p.early.ctypes.data
        w["watching"] = bool(p.plan.watched or p.plan.early)
        w["kinds"], w["own"], w["own_size"] = p.kinds.ctypes.data, p.own.ctypes.data, p.own_size
        w["services"], w["service_count"] = p.services.ctypes.data, p.service_count
        w["watcher"] = p.watcher
        w["tcp_services"], w["udp_services"] = p.transport_services("tcp"), p.transport_services("udp")
        w["port_services"], w["port_rules"], w["port_rule_count"] = p.port_services, p.port_rules.ctypes.data, p.port_rule_count
        w["group_size"] = GROUP_HEAD + 16 * words
        groups = reserve(int(w["group_size"]) * MOST_GROUPS)
        w["groups"], w["group_index"] = groups.address, reserve(4 * 2 * MOST_GROUPS).address
        # Group 0 is nobody; group 1, outside the index, is where every connection starts.
        w["group_count"], w["first_group"] = FIRST_GROUP + 1, FIRST_GROUP
        alive = groups.array(np.uint64, words, FIRST_GROUP * int(w["group_size"]) + GROUP_HEAD)
        for n in range(count):
            if n not in p.plan.direct:
                alive[n // 64] |= np.uint64(1 << (n % 64))

    def _lay_out_state(self) -> None:
        w, c = self.words, self.config.conntrack
        most = c.max_connections
        table_region = self._reserve(TABLE.itemsize)
        table = table_region.array(TABLE, 1)[0]
        slots = max(FIRST_SLOTS, _power_of_two(2 * most))
        row = set_up(table, self._reserve(16 * slots).advise_huge().address, FIRST_SLOTS, slots, write_offsets(w, self.program.parts))
        self._pool = Region(row * most).advise_huge()
        table["pool"], table["most"] = self._pool.address, most
        w["parts"], w["most_listed"] = self.program.parts, c.packet_list_bytes
        w["link"] = self._reserve(PART_LINK.itemsize).address
        self.table = table
        timers_region = self._reserve(TIMERS.itemsize)
        timers = timers_region.array(TIMERS, 1)[0]
        timers["resolution"] = c.timeout_resolution * MS
        timers["slots"] = self._reserve(8 * SLOTS).address
        # A record may be filed again (reuse, a deadline moved forward) before its old entry is visited: then they are swept.
        # Meanwhile a packet adds two at most, and four or more are swept.
        timers["most_entries"] = 4 * most
        timers["most"] = SLOTS + (8 * most + 16 * MOST_ROWS) // PER_BLOCK + 1
        timers["blocks"] = self._reserve(BLOCK * int(timers["most"])).address
        arena_region = self._reserve(ARENA.itemsize)
        arena = arena_region.array(ARENA, 1)[0]
        pool = self._reserve(c.memory << 20)
        pool.advise_huge()
        arena["top"], arena["end"] = pool.address, pool.address + pool.size
        self.arena = arena
        w["table"], w["timers"], w["arena"] = table_region.address, timers_region.address, arena_region.address
        for key in ("tcp_inactivity", "udp_inactivity", "tcp_establish", "tcp_close"):
            w[key] = getattr(c, f"{key}_timeout") * MS
        self._lay_out_fragments()
        w["vlan_mask"], w["vni_in_key"] = 0xFFF if c.vlan_in_key else 0, c.vni_in_key
        w["evict"], w["most_half_open"] = c.table_full == "evict", min(c.max_half_open, most)
        w["half_open"] = self._reserve(8 * int(w["most_half_open"])).address
        w["decap"] = self.config.tunnels()
        w["midstream"], w["most_held"] = self.config.midstream, c.max_out_of_order
        w["most_sessions"] = c.max_sessions
        w["most_waiting"], w["most_waiting_bytes"] = c.max_waiting_packets, c.max_waiting_bytes
        self._lay_out_beside()
        w["probe_datagrams"], w["probe_bytes"] = c.probe_datagrams, c.probe_bytes

    def _lay_out_beside(self) -> None:
        """What lies beside connections, where the program needs it."""
        w, most = self.words, self.config.conntrack.max_connections
        if self.program.own_size:
            w["own_area"] = self._reserve_for_program(self.program.own_size * most).address
        if self.program.notes and not w["notes"]:
            w["notes"] = self._reserve(NOTE.itemsize * most).address

    def _lay_out_fragments(self) -> None:
        w, c = self.words, self.config.conntrack
        region = self._reserve(FRAGMENTS.itemsize)
        fragments = region.array(FRAGMENTS, 1)[0]
        most = _power_of_two(c.max_datagrams)
        fragments["most"], fragments["timeout"] = most, c.fragment_timeout * MS
        fragments["records"] = most + MOST_ROWS
        fragments["pool"] = self._reserve(DATAGRAM.itemsize * (most + MOST_ROWS)).address
        fragments["heads"], fragments["seed"] = self._reserve(8 * most).address, w["seed"]
        w["fragments"], w["defrag"] = region.address, self._needs_datagrams()

    def _needs_datagrams(self) -> bool:
        """Packet subscriptions want frames as they are; only connections need whole datagrams."""
        p = self.program
        return self.config.conntrack.max_datagrams > 0 and len(p.plan.direct) < len(p.subscriptions)

    def _lay_out_ring(self) -> None:
        w = self.words
        size = _power_of_two(self.config.delivery.ring << 20)
        w["ring"], w["ring_size"], w["wait"] = self._reserve(size + MAX_EVENT).advise_huge().address, size, 1
        w["scratch"] = self._reserve(MAX_EVENT).address

    def _growing(self) -> list[Growing]:
        """What is used from its beginning on, fast enough that the worker would wait for the system."""
        w, table, arena = self.words, self.table, self.arena
        bytes_of = int(arena["top"])
        ranges = [Growing(int(w["ring"]), int(w["ring_size"]), lambda: int(w["head"]))]
        if self.loop != FRAMES_LOOP:
            ranges.append(Growing(int(table["pool"]), int(table["stride"] * table["most"]), lambda: int(table["unused"] * table["stride"])))
            ranges.append(Growing(bytes_of, int(arena["end"]) - bytes_of, lambda: int(arena["top"]) - bytes_of))
            # Slots are touched all over as soon as there are more of them: each packet of a burst might wait for a page of its own.
            slots = int(table["ranges"])
            ranges.append(Growing(slots, 16 * int(table["most_slots"]), lambda: end_of_slots(table), 8 * int(table["mask"] + 1)))
        return ranges

    # ------------------------------------------------------------------------------------------------- running

    def start(self, sources: Iterable[Source]) -> None:
        """Begin to process sources, one after the other, in a new thread."""
        self._load()
        thread = threading.Thread(target=self._main, args=(sources,), name=f"retina-jit worker {int(self.words['id'])}", daemon=True)
        thread.start()
        self._thread = thread

    def _load(self) -> None:
        """Load the endless kernel; later this process may not have the right to."""
        self._run, self._finish = objects.function(f"{self.loop}:run"), objects.function(f"{self.loop}:finish")

    @property
    def core(self) -> int | None:
        """The core that it is bound to while it runs; None: the system moves it about."""
        bound = self.source.core if self.source is not None else None
        return self._own_core if bound is None else bound

    def snapshot(self) -> dict[str, int]:
        """Return the counters as they are now; from any thread."""
        source, before = self.source, self._dropped_before
        found = stats.snapshot(self.counters)
        if source is not None and source.is_live:
            found["dropped"] = max(found["dropped"], before + source.dropped)
        return found

    def count_volumes(self) -> None:
        """Count `stats.VOLUMES`, too; before it starts, or they begin in the middle."""
        self.words["monitored"] = 1

    def volumes(self) -> dict[str, int]:
        """Return `stats.VOLUMES` as they are now, if they are counted; from any thread."""
        return stats.volumes(self.counters) if self.words["monitored"] else {}

    def control(self, word: int) -> None:
        """STOP: finish this burst, end all connections, deliver. ABANDON: and deliver nothing more."""
        self._asked = max(self._asked, word)
        self._control[0] = self._asked
        self._go_on.set()

    def pause(self) -> None:
        """Ask the worker to stand still after this burst; `paused` is set when it does, for as long as `exchanging` is held."""
        if self._asked == RUN and self._control[0] == RUN:
            self._go_on.clear()
            self._set(PAUSE)

    def resume(self) -> None:
        """Let it go on."""
        if self._control[0] == PAUSE:
            self._set(RUN)
        self._go_on.set()

    def _set(self, word: int) -> None:
        """Write a word, but never over an end that is asked for meanwhile: by a signal between any two steps, or by another thread."""
        self._control[0] = word
        if self._asked != RUN:
            self._control[0] = self._asked
            self._go_on.set()

    def _stand_still(self) -> None:
        self.paused.set()
        while self._control[0] == PAUSE:
            self._go_on.wait()
        with self.exchanging:
            self.paused.clear()

    def take_program(self, program: Program, reached: int = 0) -> None:
        """Lay out another program's words; the connections are the caller's (`retina_jit.exchange`). The worker stands still.

        `reached`: the number of the last frame that any worker of the run has had.
        """
        self.program = program
        self._programs.append(program)  # what connections and events point to lives as long as the worker
        self.homes = []
        self._lay_out_program()
        self._lay_out_beside()
        self.words["defrag"] = self._needs_datagrams()
        if self.loop == FRAMES_LOOP:
            self.loop = program.loop  # the other loop runs any program, and there may be connections
            self._load()
            if self.loop != FRAMES_LOOP and self.source is not None and self.words["workers"] > 1:
                # From here on it is another way of sharing than that by which the rest of this source was noted.
                self.source.leave_out(NONE)
                self.words["turns_until"] = reached

    def make_room_for_parts(self, parts: int) -> Region:
        """Move to a pool of rows with these parts, which is empty. Returns the one before, to be kept until it is copied."""
        w, table, before = self.words, self.table, self._pool
        size = write_offsets(w, parts)
        w["parts"] = parts
        table["track"], table["stride"] = CONNECTION.itemsize, CONNECTION.itemsize + -(-size // 64) * 64
        self._backing.end()
        self._pool = Region(int(table["stride"] * table["most"])).advise_huge()
        table["pool"] = self._pool.address
        if not self.finished.is_set():
            self._backing = Backing(self._growing())
            self._backing.start()
        return before

    def join(self) -> None:
        """Wait for the thread."""
        if self._thread is not None:
            self._thread.join()

    def _main(self, sources: Iterable[Source]) -> None:
        try:
            self._backing.start()
            asked_to_stop.set(lambda: self._control[0] >= STOP)
            # While the first bytes of a pipe were waited for; what came before it is ended as usual.
            with contextlib.suppress(ReadingStopped):
                self._read(sources)
            self._finish(self.address)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for us
            self.error = error
        finally:
            self.finished.set()
            self.opened.set()
            self._backing.end()

    def _read(self, sources: Iterable[Source]) -> None:
        # A generator closes its source in this thread, also when the run is stopped.
        with contextlib.closing(sources) if isinstance(sources, Generator) else contextlib.nullcontext():
            self._read_each(sources)

    def _read_each(self, sources: Iterable[Source]) -> None:
        for source in sources:
            self._dropped_before = int(self.counters[stats.INDEX["dropped"]])
            self.source = source
            self.words["wait"] = self._waits(source)
            self.words["source"] = source.address
            self.words["workers"] = source.give_to(int(self.words["id"]), self._workers)
            source.leave_out(left_out(self.loop, self.config) if source.number >= self.words["turns_until"] else NONE)
            self.words["walk"] = objects.address(source.walk_unit) if self._prefilter is None else self._prefilter.put_before(source)
            self.opened.set()
            with cores.bound(self._own_core if source.core is None else None):
                status = self._process(source)
            self.frames_done += source.frames
            self.counters[stats.INDEX["dropped"]] = self._dropped_before + source.dropped
            if status == Status.STOPPED:
                break
            if source.problem:
                self.problems.append(source.problem)
            if self._prefilter is not None and (problem := self._prefilter.problem(source)):
                self.problems.append(problem)
            if source.unsupported:
                self.problems.append(f"{source.name}: {source.unsupported} frames of {source.unsupported_link} were not decoded")

    def _waits(self, source: Source) -> bool:
        """Whether the worker waits for room in a full ring: a capture has time."""
        policy = self.config.delivery.when_full
        return policy == "wait" or (policy == "auto" and not source.is_live)

    def _process(self, source: Source) -> int:
        while True:
            status = self._run(self.address)
            if status == Status.STOPPED and self._control[0] < STOP:
                # Asked to pause; by now it may have been told to go on.
                self._stand_still()
                continue
            if status in (Status.NEED_INPUT, Status.SHRUNK) and source.refill(timeout=POLL):
                self.idle_polls += 1
                if source.is_live:
                    # Nothing came for a while, but connections grow old.
                    self.words["now"] = max(int(self.words["now"]), time.time_ns() - LATE)
                continue
            return status
