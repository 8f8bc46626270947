"""A program: subscriptions compiled and laid out for the kernels. Shared by all workers, read-only once built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from retina_jit import memory, objects
from retina_jit.compiled import compile_callback, compile_own, own_callback, own_function
from retina_jit.datatypes.base import DataType
from retina_jit.datatypes.column import columns
from retina_jit.datatypes.own import OwnType
from retina_jit.datatypes.sessions import Listed, items_of, kind_of
from retina_jit.delivery.columns import units as column_units
from retina_jit.delivery.event import EVENT, STREAM_ID
from retina_jit.errors import CompileError, SubscriptionError
from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.filters.nopython import entries
from retina_jit.own import OwnEntry
from retina_jit.parsers.packet.decode import NARROW
from retina_jit.parsers.protocol import protocols
from retina_jit.pipeline import layout
from retina_jit.pipeline.layout import KIND, MOST_KINDS, MOST_OWN, OWN, PORT_RULE, SERVICE, SUBSCRIPTION
from retina_jit.state.parts import RECORD
from retina_jit.subscription import Subscription

LEVELS = {"packet": layout.PACKET_LEVEL, "session": layout.SESSION_LEVEL, "connection": layout.CONNECTION_LEVEL, "static": layout.STATIC_LEVEL, "streaming": layout.STREAMING_LEVEL}
EVERY = {"packets": layout.EVERY_PACKETS, "bytes": layout.EVERY_BYTES, "seconds": layout.EVERY_SECONDS}
FIREWALLS = {
    "deliver": "retina_jit.delivery.write:deliver",
    "admit": "retina_jit.pipeline.sessions:admit",
    "feed": "retina_jit.pipeline.sessions:feed",
    "packet_delivery": "retina_jit.pipeline.following:packet_delivery",
    "read_mail": "retina_jit.pipeline.streaming:read_mail",
    "segment": "retina_jit.pipeline.segments:segment",
    "terminate": "retina_jit.pipeline.ending:terminate",
    "spread_rows": "retina_jit.pipeline.spread:spread",
    "sweep_fragments": "retina_jit.pipeline.spread:sweep",
    "update_parts": "retina_jit.pipeline.parts:update",
    "note_first": "retina_jit.pipeline.parts:note_first",
    "release_parts": "retina_jit.pipeline.parts:release",
    "make_room": "retina_jit.pipeline.expiry:make_room",
    "watch": "retina_jit.pipeline.watching:watch",
}
"""Entries of the pipeline that it calls by address: WORKER field -> entry."""

PIPELINE = ("retina_jit.ingest.readahead:help_reading", "retina_jit.delivery.scan:scan", "retina_jit.delivery.scan:gather")
LOOP, FRAMES_LOOP = "retina_jit.pipeline.run", "retina_jit.pipeline.frames"
WATCHER = "retina_jit.parsers.starttls"
"""Waits for protocols without a parser to turn into TLS."""
WALKERS = ("retina_jit.ingest.pcap:walk", "retina_jit.ingest.pcapng:walk")
AT_END = ("connection", "streaming")
"""Levels at which what is needed of a session is kept: the parser is gone when it is delivered."""
TRANSPORTS = {"tcp": 6, "udp": 17}
STAGES = ("packet", "connection", "protocol", "session", "end", "packet_deliver", "watch", "early")


class Program:
    """Subscriptions, ready to run.

    Attributes
    ----------
    plan : filters.Plan
        The compiled filters.
    subscriptions : list of Subscription
    offsets : list of list of int
        Where each data type's record stands in an event of each subscription.
    tunnels : int
        Kinds of tunnels that are looked into, a bit each.
    sampled : bool
        Whether some connections are left out.
    parts : int
        What is kept per connection, a bit each (see `retina_jit.state.parts`).

    Raises
    ------
    FilterError, SubscriptionError
        A filter or a combination of data types that cannot work.
    """

    def __init__(self, subscriptions: Sequence[Subscription], progress: objects.Progress | None = None, tunnels: int = 0, sampled: bool = False) -> None:
        if not subscriptions:
            raise SubscriptionError("no subscription: decorate a function with @subscribe(filter)")
        self.subscriptions = list(subscriptions)
        self.tunnels, self.sampled = tunnels, sampled
        self.plan = compile_filters([FilterSpec(s.filter, s.level, s.folder, _whose(s, len({x.filter for x in subscriptions}))) for s in subscriptions])
        self.sessions = {p.name: p for p in protocols().values() if p.level == "session"}
        self._check_meeting()
        self.needed = [p for p in self.sessions.values() if p.name in self._services()]
        # What filters ask of a whole connection stands in its record.
        self.parts = RECORD if self.plan.at_end else 0
        for s in subscriptions:
            self.parts |= _parts(s)
        self.offsets = [_offsets(s) for s in subscriptions]
        self._compile(progress)
        self._lay_out()

    def _compile(self, progress: objects.Progress | None) -> None:
        own = [e for e in self._own() if e.unit]
        try:
            objects.ensure([*self.units(), *(e.unit for e in own)], progress)
        except CompileError:
            objects.ensure(self.units(), progress)
            # What is wrong with a function of the user's is said when it is laid out, by its name and line.
            for e in own:
                e.failed = not objects._object_file(e.unit).exists()

    def _own(self) -> list[OwnEntry]:
        """Return the entries around functions of the user's."""
        wrapped = [*self.plan.wrapped.values(), *self.plan.wrapped_watchers.values(), *self._own_functions.values()]
        return [e for group in wrapped for e in group.values()] + list(self._own_callbacks.values())

    @cached_property
    def _own_functions(self) -> dict[type[OwnType], dict[str, OwnEntry]]:
        types = dict.fromkeys(t for s in self.subscriptions for t in s.types if issubclass(t, OwnType))
        return {t: {name: own_function(t, name) for name in t.FUNCTIONS} for t in types}

    @cached_property
    def _own_callbacks(self) -> dict[int, OwnEntry]:
        return {n: self._own_callback(n) for n, s in enumerate(self.subscriptions) if s.deliver == "jit"}

    def _services(self) -> set[str]:
        named: set[str] = set(self.plan.services)
        return named.union(*[self._types_services(n) for n in range(len(self.subscriptions))])

    def units(self) -> list[str]:
        """Return every entry that the program runs."""
        units = [*PIPELINE, f"{self.loop}:run", f"{self.loop}:finish", *FIREWALLS.values(), *WALKERS, *self.plan.units.values()]
        units += [project_unit(s, t) for s in self.subscriptions for t in s.types]
        for s in self.subscriptions:
            if s.deliver == "sink":
                units += s.sink.units(s.types)
            elif s.deliver == "batch":
                units += [u for t in s.types for u in column_units(t)]
        units += [i.PROJECT for n, s in enumerate(self.subscriptions) for t in s.types for i in self._items(n, t)]
        modules = [p.module for p in self.needed] + ([WATCHER] if self._turns(WATCHER) else [])
        units += [f"{module}:{entry}" for module in modules for entry in ("probe", "parse", "finish", "release")]
        return list(dict.fromkeys(units))

    @cached_property
    def loop(self) -> str:
        """Module of the endless kernel: a program that wants nothing but frames has one of its own."""
        only_frames = len(self.plan.direct) == len(self.plan.owners) and not self.needed and not self.parts
        only_frames = only_frames and all(t.ROW_VIEW is not None for s in self.subscriptions for t in s.types)
        if not only_frames or self.tunnels or self.sampled or "packet" not in self.plan.stages:
            return LOOP
        columns = self.plan.stages["packet"].columns
        return FRAMES_LOOP if columns is not None and columns <= NARROW else LOOP

    def _mask(self, names: Sequence[str] | frozenset[str]) -> int:
        return sum(1 << self.sessions[n].number for n in names)

    def _lay_out(self) -> None:
        count = len(self.plan.owners)
        self.region = memory.Region(count * SUBSCRIPTION.itemsize)
        records = self.region.array(SUBSCRIPTION, count)
        formulas = {c.slot for c in self.plan.conjuncts}
        self._texts = []
        for n, owner in enumerate(self.plan.owners):
            r, s = records[n], self.subscriptions[owner]
            if n in self.plan.helpers:
                # A session decides this one anew each time where it does so for its subscription.
                r["level"] = layout.SESSION_LEVEL if s.level == "session" and n not in self.plan.watched else layout.HELPER_LEVEL
                r["owner"], r["watched"] = owner, n in self.plan.watched
                r["filter_services"] = self._mask(self.plan.services_of[n])
                continue
            r["level"] = layout.CONNECTION_LEVEL if owner in self.plan.at_end else LEVELS[s.level]
            r["owner"] = owner
            r["direct"] = n in self.plan.direct
            r["tier"] = self._tier(owner)
            r["filter_services"], r["formula"] = self._mask(self.plan.services_of[n]), n in formulas
            r["early"] = n in self.plan.early
            r["type_services"] = self._mask(self._types_services(owner))
            r["must_services"] = self._mask(s.must_services)
            r["track"] = _parts(s) | (RECORD if owner in self.plan.at_end else 0)
            r["types"] = len(s.types)
            r["size"] = sum(t.RECORD.itemsize for t in s.types) + (STREAM_ID if s.level == "streaming" else 0)
            if s.every is not None:
                r["every"], r["interval"], r["at_end"] = EVERY[s.every.unit], s.every.interval, s.every.at_end
            text = np.frombuffer(s.filter.encode() or b"\0", np.uint8)
            self._texts.append(text)
            r["text"], r["text_len"] = text.ctypes.data, len(s.filter.encode())
            for k, t in enumerate(s.types):
                r[f"project{k}"] = objects.address(project_unit(s, t))
                r[f"offset{k}"] = self.offsets[owner][k]
                if s.level in AT_END:
                    self._describe_kept(r, k, t, self._items(owner, t))
        self.records = records
        self._lay_out_kinds()
        self._lay_out_own()
        self._lay_out_formulas()
        self._callbacks = [compile_callback(s, self._own_callbacks[n]) if n in self._own_callbacks else None for n, s in enumerate(self.subscriptions)]
        for n, made in enumerate(self._callbacks):
            if made is not None:
                records[n]["callback"] = made.address
        numbers = [p.number for p in self.sessions.values()]
        self.service_count = max(numbers, default=0) + 1
        self.watcher = self.service_count if self._turns(WATCHER) else 0
        self.service_count += 1 if self.watcher else 0
        self.service_names = {p.number: p.name for p in self.needed}
        self.service_region = memory.Region(self.service_count * SERVICE.itemsize)
        self.services = self.service_region.array(SERVICE, self.service_count)
        if self.watcher:
            self._describe_service(self.services[self.watcher], WATCHER)
        for p in self.needed:
            self._describe_service(self.services[p.number], p.module)
            self.services[p.number]["tcp"], self.services[p.number]["udp"] = "tcp" in p.within, "udp" in p.within
            name = np.frombuffer(p.name.encode(), np.uint8)
            self._texts.append(name)
            self.services[p.number]["name"], self.services[p.number]["name_len"] = name.ctypes.data, len(name)
        self._lay_out_ports()
        self.tables = np.array([t.ctypes.data for t in self.plan.tables] or [0], np.int64)
        self.stages = {name: objects.address(self.plan.units[name]) if name in self.plan.units else 0 for name in STAGES}

    def _lay_out_ports(self) -> None:
        """Note which protocols are found on some ports only, and which others not there."""
        needed, rules, self.port_services = {p.name for p in self.needed}, [], 0
        for p in self.sessions.values():
            about = needed & {p.name, p.like}
            if p.ports and about:
                instead = self.sessions[p.like].number if p.like else 0
                rules += [(TRANSPORTS[t], port, p.number, instead) for t in p.within for port in p.ports]
                self.port_services |= self._mask(frozenset(about))
        self.port_rules, self.port_rule_count = np.array(rules or [(0, 0, 0, 0)], PORT_RULE), len(rules)

    def _turns(self, module: str) -> int:
        """Return which needed protocols a parser may hand over to, a bit each."""
        names = getattr(objects.load_module(module), "TURNS_INTO", ())
        return sum(1 << p.number for p in self.needed if p.name in names)

    def _describe_service(self, record: Any, module: str) -> None:
        for entry in ("probe", "parse", "finish", "release"):
            record[entry] = objects.address(f"{module}:{entry}")
        record["state_size"], record["turns"] = objects.load_module(module).STATE.itemsize, self._turns(module)

    def _items(self, n: int, t: type[DataType]) -> list[type[DataType]]:
        """Return what a list type of subscription `n` is made of: sessions that its filter leaves possible."""
        return [i for i in items_of(t) if i.SERVICE in self.plan.meets[n]]

    def _types_services(self, n: int) -> frozenset[str]:
        s = self.subscriptions[n]
        return s.must_services | {i.SERVICE for t in s.types for i in self._items(n, t)}

    def _check_meeting(self) -> None:
        """Refuse data types of sessions that connections which match never have."""
        for n, s in enumerate(self.subscriptions):
            for t in s.types:
                services = {t.SERVICE} if t.SERVICE else {i.SERVICE for i in items_of(t)}
                if services and not services & self.plan.meets[n]:
                    of = " or ".join(sorted(self.plan.meets[n])) or "no session protocol"
                    raise SubscriptionError(
                        f"subscription {s.name!r}: {t.__name__} comes from {' or '.join(sorted(services))}, but the filter {s.filter!r} "
                        f"holds for {of} only; change one of them"
                    )

    def _describe_kept(self, r: Any, k: int, t: type[DataType], items: Sequence[type[DataType]]) -> None:
        """Note what is kept of sessions until the end of the connection for the data type at position `k`."""
        services = [self.sessions[i.SERVICE].number for i in items]
        if t.LEVEL == "session":
            r["image"] = k + 1
            services = [self.sessions[t.SERVICE].number]
        elif items and issubclass(t, Listed) and t.OPTIONAL:
            r[f"kept{k}"] = kind_of(items[0])
        elif items:
            r[f"kept{k}"] = sum(1 << kind_of(i) for i in items)
            r["kinds"] |= int(r[f"kept{k}"])
            return
        for number in services:
            r[f"service{k}"] = number
            r["own_services"] |= 1 << number

    def _lay_out_kinds(self) -> None:
        # Held, so that their numbers are theirs as long as there is this program.
        self.listed = {i for n, s in enumerate(self.subscriptions) for t in s.types for i in self._items(n, t)}
        self.kinds = np.zeros(MOST_KINDS, KIND)
        for item in self.listed:
            record = self.kinds[kind_of(item)]
            record["service"] = self.sessions[item.SERVICE].number
            record["project"], record["size"] = objects.address(item.PROJECT), item.RECORD.itemsize

    def _lay_out_own(self) -> None:
        """Number the data types of the user's own: one per type, but for streams that clear theirs."""
        numbers: dict[Any, int] = {}
        # What tells each of them from the others, also in another program: what it is, the slot that it is for alone, ...
        self.own_numbers: dict[tuple[Any, ...], int] = {}
        self._own_entries: list[objects.Entry] = []
        self.own, self.own_size = np.zeros(MOST_OWN, OWN), 0
        for n, s in enumerate(self.subscriptions):
            for k, t in enumerate(s.types):
                if issubclass(t, OwnType):
                    key = (t, n) if s.every is not None and "clear" in t.FUNCTIONS else t
                    if key not in numbers:
                        if len(numbers) == MOST_OWN:
                            raise SubscriptionError(f"more than {MOST_OWN} data types of your own in one program")
                        numbers[key] = len(numbers)
                        self._lay_out_one(self.own[numbers[key]], t)
                        slot = n if isinstance(key, tuple) else None
                        self.own_numbers["type", slot, t.__name__, str(t.RECORD.descr)] = numbers[key]
                    self.records[n][f"kept{k}"] = numbers[key]
                    self.records[n]["owns"] |= 1 << numbers[key]
        for k, (slot, call) in enumerate(self.plan.watchers.items(), len(numbers)):
            if k == MOST_OWN:
                raise SubscriptionError(f"more than {MOST_OWN} data types and predicates with state of your own in one program")
            made = entries(call, self.plan.wrapped_watchers[slot])
            self._own_entries += made.values()
            assert call.predicate.state is not None
            self._place(self.own[k], call.predicate.state.itemsize)
            self.own_numbers["predicate", slot, call.predicate.name, str(call.predicate.state.descr)] = k
            for name, entry in made.items():
                self.own[k][name] = entry.address
            self.records[slot]["watch"] = k + 1

    def _place(self, record: Any, size: int) -> None:
        self.own_size = self.own_size or 8  # the first word says which have begun
        record["offset"], record["size"] = self.own_size, -(-size // 8) * 8
        self.own_size += int(record["size"])

    def _lay_out_formulas(self) -> None:
        """Formulas as `pipeline.formulas` reads them; then the sets of helpers, of what outlasts sessions, and of `early`."""
        plan, words = self.plan, self.plan.words
        self.formulas = np.zeros(len(plan.conjuncts) * (1 + 2 * words) + 3 * words, np.uint64)
        at = 0
        for c in sorted(plan.conjuncts, key=lambda c: c.slot):
            self.formulas[at] = c.slot
            _fill_set(self.formulas[at + 1 :], c.holding)
            _fill_set(self.formulas[at + 1 + words :], c.failing)
            at += 1 + 2 * words
        _fill_set(self.formulas[at:], plan.helpers)
        _fill_set(self.formulas[at + words :], plan.watched | {c.slot for c in plan.conjuncts})
        _fill_set(self.formulas[at + 2 * words :], plan.early)
        self.early = self.formulas[at + 2 * words :]

    def _lay_out_one(self, record: Any, t: type[OwnType]) -> None:
        self._place(record, t.RECORD.itemsize)
        for name in t.FUNCTIONS:
            made = compile_own(t, self._own_functions[t][name])
            self._own_entries.append(made)
            record[name] = made.address

    @property
    def notes(self) -> bool:
        """Whether connections need a NOTE beside them."""
        level, direct = self.records["level"], self.records["direct"]
        waits = (level == layout.PACKET_LEVEL) & (direct == 0)
        return bool((self.records["own_services"] | self.records["kinds"] | waits | (level == layout.STREAMING_LEVEL)).any())

    def _tier(self, n: int) -> int:
        s = self.subscriptions[n]
        if s.deliver != "jit":
            return layout.RING_TIER
        in_row = n in self.plan.direct and all(t.ROW_VIEW is not None for t in s.types)
        return layout.ROW_TIER if in_row else layout.JIT_TIER

    def _own_callback(self, n: int) -> OwnEntry:
        s = self.subscriptions[n]
        if self._tier(n) == layout.ROW_TIER:
            return own_callback(s, [(t.ROW_VIEW, 0) for t in s.types], [])
        placed = list(zip(s.types, self.offsets[n], strict=True))
        texts = [o + c.place.offset for t, o in placed for c in columns(t) if c.kind == "text" and c.place.code == "i8"]
        return own_callback(s, [(t.RECORD, o) for t, o in placed], texts)

    @property
    def needs_crypto(self) -> bool:
        """Whether a session parser works on encrypted packets."""
        return any(getattr(objects.load_module(p.module), "CRYPTO", False) for p in self.needed)

    def transport_services(self, transport: str) -> int:
        """Return which needed session protocols a transport can carry, a bit each."""
        return sum(1 << p.number for p in self.needed if transport in p.within)


def _whose(s: Subscription, filters: int) -> str:
    """Return how an error in a filter names it: nothing if there is no other filter."""
    return s.where or (f"subscription {s.name!r}" if s.name and filters > 1 else "")


def project_unit(s: Subscription, t: type[DataType]) -> str:
    """Return the entry that writes a data type for a subscription; a compiled callback borrows instead of copying."""
    borrows = s.deliver == "jit" and t.PROJECT_IN_PLACE and not (t.LEVEL == "session" and s.level in AT_END)
    return t.PROJECT_IN_PLACE if borrows else t.PROJECT


def _parts(s: Subscription) -> int:
    found = 0
    for t in s.types:
        found |= t.TRACK
    return found


def _fill_set(words: np.ndarray[Any, Any], members: Iterable[int]) -> None:
    for n in members:
        words[n // 64] |= np.uint64(1 << n % 64)


def _offsets(s: Subscription) -> list[int]:
    at, offsets = EVENT.itemsize + (STREAM_ID if s.level == "streaming" else 0), []
    for t in s.types:
        offsets.append(at)
        at += t.RECORD.itemsize
    return offsets
