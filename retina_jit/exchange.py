"""Going over to another program while connections live on: what they stand for is said anew in the other one's words.

A subscription *goes on* if its filter, its data types and how often it is called are the same; its callback may be another.
What a connection may match or has matched of it stays, with all that is counted, parsed and kept for it. Subscriptions that are
new begin with the packets and connections that come from then on; of those that are gone nothing more is delivered.

Done by the delivery thread while the worker stands still between two bursts. What was delivered before lies in the ring still,
and is called as it was meant then.
"""

from __future__ import annotations

import ctypes
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retina_jit import objects
from retina_jit.datatypes.base import DataType
from retina_jit.errors import SubscriptionError
from retina_jit.memory import Region
from retina_jit.pipeline.groups import GROUP_HEAD
from retina_jit.pipeline.layout import (
    GROUP,
    MAIL,
    MOST_MAIL,
    MOST_TYPES,
    NOTE,
    PARSER,
    PROBE,
    SERVICE,
    STORED,
    STREAM,
)
from retina_jit.pipeline.probing import ALL
from retina_jit.program import Program
from retina_jit.state.layout import CONNECTION, DROPPED, FREE, NO_PARSE, OPEN, PARSING, PROBING
from retina_jit.state.parts import SIZES, lay_out
from retina_jit.subscription import Subscription

HOME = "retina_jit.pipeline.exchange"
UNITS = (f"{HOME}:intern", f"{HOME}:give_back")
NOTHING = -(1 << 40)
"""A kind that nothing is of, as in `retina_jit.pipeline.keeping`."""
NOBODY = -1
"""A subscription that there is none of."""


def _type_key(t: type[DataType]) -> tuple[str, str, str]:
    """What a data type leaves behind in a connection or an event; its class may be made anew."""
    return t.__module__, t.__name__, str(t.RECORD.descr)


def _key(s: Subscription) -> tuple[Any, ...]:
    return s.filter, s.folder, s.level, s.every, tuple(map(_type_key, s.types))


MOST_SERVICES = 61
"""Session protocols are bits of a word."""


def _is_same(one: Any, other: Any) -> bool:
    """Whether two SERVICE records are the same parser."""
    return all(one[f] == other[f] for f in ("probe", "parse", "finish", "release", "state_size"))


# Of several that have the same key the one that is most alike goes on.


def _is_itself(one: Subscription, other: Subscription) -> bool:
    return one.name == other.name and one.sink is other.sink


def _has_its_name(one: Subscription, other: Subscription) -> bool:
    return one.name == other.name


def _is_any(one: Subscription, other: Subscription) -> bool:
    return True


@dataclass
class Exchange:
    """From one program to another.

    Parameters
    ----------
    old, new : Program

    Attributes
    ----------
    subscriptions : dict of int to int
        Those that go on.
    slots : dict of int to int
        Likewise of the slots in the connections' sets.
    services : dict of int to int
        Likewise of the session protocols that connections may have.

    Raises
    ------
    SubscriptionError
        Connections may have more session protocols, together with those of the programs before, than there are numbers.
    """

    old: Program
    new: Program
    subscriptions: dict[int, int] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    services: dict[int, int] = field(default_factory=dict)
    _sets: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        old, new = self.old, self.new
        objects.ensure(UNITS)
        waiting: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for n, s in enumerate(old.subscriptions):
            waiting[_key(s)].append(n)
        found: set[int] = set()
        for alike in (_is_itself, _has_its_name, _is_any):
            for m, s in enumerate(new.subscriptions):
                if m in found:
                    continue
                same = waiting[_key(s)]
                for n in [n for n in same if alike(old.subscriptions[n], s)][:1]:
                    if pairs := self._slots_of(n, m):
                        same.remove(n)
                        self.subscriptions[n] = m
                        found.add(m)
                        self.slots |= pairs
        self._keep_services()

    def _slots_of(self, n: int, m: int) -> dict[int, int]:
        """Pair the slots of one subscription in both programs; nothing if they are not alike."""
        before, now = ([k for k, owner in enumerate(p.plan.owners) if owner == at] for p, at in ((self.old, n), (self.new, m)))
        told = [
            [(p.plan.labels.get(k, ""), *(int(p.records[k][f]) for f in ("level", "direct", "formula", "watched"))) for k in slots]
            for p, slots in ((self.old, before), (self.new, now))
        ]
        return dict(zip(before, now, strict=True)) if told[0] == told[1] else {}

    def _keep_services(self) -> None:
        """Let parsers come to their end in connections that have them: those that nobody asks for any more, and those of protocols that
        are declared otherwise now, which go on beside their successors under numbers that no filter knows.
        """
        old, new = self.old, self.new
        region = Region((MOST_SERVICES + 1) * SERVICE.itemsize)
        rows = region.array(SERVICE, MOST_SERVICES + 1)
        rows[: new.service_count] = new.services[: new.service_count]
        names, count, taken_over = dict(new.service_names), new.service_count, []
        for n in np.flatnonzero(old.services["probe"]).tolist():
            name = old.service_names.get(n, "")
            same = (m for m in range(1, count) if names.get(m, "") == name and _is_same(rows[m], old.services[n]))
            its_own = new.sessions[name].number if name in new.sessions else 0
            there = next(same, its_own if its_own and not rows[its_own]["probe"] else count)
            if there > MOST_SERVICES:
                raise SubscriptionError(
                    f"session protocols have been declared anew so often that there are more than {MOST_SERVICES} of them, for connections "
                    "may have the old ones still; start the run anew"
                )
            if not rows[there]["probe"]:
                rows[there] = old.services[n]
                names |= {there: name} if name else {}
                taken_over.append(n)
            count = max(count, there + 1)
            self.services[n] = there
        for n in taken_over:
            rows[self.services[n]]["turns"] = self.set_of_services(int(old.services[n]["turns"]))
        new.watcher = new.watcher or self.services.get(old.watcher, 0)
        new.services, new.service_region, new.service_count, new.service_names = rows, region, count, names

    def set_of_services(self, before: int) -> int:
        """Return a set of session protocols, a bit each, in the other program's numbers."""
        if before not in self._sets:
            self._sets[before] = sum(1 << there for n, there in self.services.items() if before >> n & 1)
        return self._sets[before]

    def summary(self) -> str:
        """Say how many subscriptions go on, are new, are gone."""
        on = len(self.subscriptions)
        return f"{on} of its subscriptions go on, {len(self.new.subscriptions) - on} are new, {len(self.old.subscriptions) - on} are gone"


def go_over(worker: Any, exchange: Exchange, reached: int = 0) -> None:
    """Let a worker that stands still go over to the other program.

    Parameters
    ----------
    worker : Worker
        Between two bursts.
    exchange : Exchange
        From its program.
    reached : int
        Number of the last frame that any worker of the run has had.
    """
    w, old, new = worker.words, exchange.old, exchange.new
    count = int(w["group_count"])
    before = Before(_alive_and_matched(w, count), int(w["notes"]), _own(old), int(w["own_area"]), int(w["own_size"]), worker.states, worker.homes)
    worker.take_program(new, reached)
    for n, m in exchange.subscriptions.items():
        was, state = before.states[n], worker.states[m]
        if was is not None and state is not None and was.dtype == state.dtype:
            state[:] = was
    _widen(worker, new.parts)
    rows = _rows(worker)
    lives = rows["life"] != FREE
    groups = _regroup(worker, exchange, before.sets)
    rows["group"][lives] = groups[rows["group"][lives]]
    for parser in rows["parser"][lives & (rows["phase"] == PARSING) & (rows["parser"] != 0)].tolist():
        head = _record(PARSER, parser - PARSER.itemsize)
        head["group"] = groups[int(head["group"])]
        _renumber_services(head, exchange)
    for buffer in rows["parser"][lives & (rows["phase"] == PROBING) & (rows["parser"] != 0)].tolist():
        _renumber_services(_record(PROBE, buffer), exchange)
    numbers = np.zeros(256, np.uint8)
    numbers[list(exchange.services)] = list(exchange.services.values())
    rows["service"][lives] = numbers[rows["service"][lives]]
    nobody = lives & (rows["life"] == OPEN) & (rows["group"] == 0) & (rows["phase"] == NO_PARSE)
    rows["life"][nobody] = DROPPED
    _readdress_notes(worker, exchange, before.notes)
    _move_own(worker, exchange, before)
    _readdress_mail(w, exchange)


def _renumber_services(head: Any, exchange: Exchange) -> None:
    """Say anew which protocols have said no, and which the connection had. Those that were not asked are not asked any more."""
    head["had"] = exchange.set_of_services(int(head["had"]))
    asked = exchange.set_of_services(ALL)
    head["rejected"] = ALL & ~asked | exchange.set_of_services(int(head["rejected"]))


@dataclass
class Before:
    """What is asked of the worker after it has the other program's words."""

    sets: np.ndarray[Any, Any]
    notes: int
    own: dict[tuple[Any, ...], tuple[int, int, int]]
    own_area: int
    own_size: int
    states: list[np.ndarray[Any, Any] | None]
    homes: list[Region]
    """Memory that the words before this point to."""


def _view(dtype: np.dtype[Any], address: int, count: int, stride: int = 0) -> np.ndarray[Any, Any]:
    """View memory at an address as records."""
    stride = stride or dtype.itemsize
    raw: Any = (ctypes.c_uint8 * (stride * count)).from_address(address) if count else bytearray()
    return np.ndarray((count,), dtype, raw, 0, (stride,))


def _bytes(address: int, count: int, size: int) -> np.ndarray[Any, Any]:
    """View memory at an address as rows of bytes."""
    return _view(np.dtype(np.uint8), address, count * size).reshape(count, size)


def _record(dtype: np.dtype[Any], address: int) -> Any:
    return _view(dtype, address, 1)[0]


def _rows(worker: Any) -> np.ndarray[Any, Any]:
    table = worker.table
    return _view(CONNECTION, int(table["pool"]), int(table["unused"]), int(table["stride"]))


def _alive_and_matched(w: Any, count: int) -> np.ndarray[Any, Any]:
    """Copy the sets of all groups: a row each."""
    words = int(w["words"])
    of_a_group = np.dtype([("head", GROUP), ("sets", np.uint64, (2 * words,))])
    assert of_a_group.itemsize == int(w["group_size"]) and of_a_group.fields["sets"][1] == GROUP_HEAD  # type: ignore[index]
    return _view(of_a_group, int(w["groups"]), count)["sets"].copy().reshape(count, 2 * words)


def _regroup(worker: Any, exchange: Exchange, sets: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the new number of each group."""
    words_before, words = sets.shape[1] // 2, int(worker.words["words"])
    said = np.zeros((len(sets), 2 * words), np.uint64)
    for a, b in exchange.slots.items():
        for half in range(2):
            bit = (sets[:, half * words_before + a // 64] >> np.uint64(a % 64)) & np.uint64(1)
            said[:, half * words + b // 64] |= bit << np.uint64(b % 64)
    intern, mine = objects.function(UNITS[0]), _view(np.dtype(np.uint64), int(worker.words["mine"]), 2 * words)
    numbers = np.zeros(len(sets), np.uint32)
    for n in range(len(sets)):
        mine[:] = said[n]
        numbers[n] = intern(worker.address)
    return numbers


def _widen(worker: Any, parts: int) -> None:
    """Give every row the further parts that the program needs; none is ever taken away."""
    w, table = worker.words, worker.table
    had = int(w["parts"])
    if had | parts == had:
        return
    unused, stride = int(table["unused"]), int(table["stride"])
    before, _ = lay_out(had)
    old = _bytes(int(table["pool"]), unused, stride)
    home = worker.make_room_for_parts(had | parts)
    now, _ = lay_out(had | parts)
    rows = _bytes(int(table["pool"]), unused, int(table["stride"]))
    base = CONNECTION.itemsize
    rows[:, :base] = old[:, :base]
    for bit, size in SIZES.items():
        if had & bit and size:
            rows[:, base + now[bit] : base + now[bit] + size] = old[:, base + before[bit] : base + before[bit] + size]
    del home


def _readdress_notes(worker: Any, exchange: Exchange, notes: int) -> None:
    """Sessions that are kept for one subscription, and its streams, become those of the one that it goes on as."""
    if not notes:
        return
    give_back = objects.function(UNITS[1])
    found, lives = _view(NOTE, notes, int(worker.table["unused"])), _rows(worker)["life"] != FREE
    for at in found["stored"][lives & (found["stored"] != 0)].tolist():
        while at:
            stored = _record(STORED, at)
            kind = int(stored["kind"])
            if kind < 0 and kind != NOTHING:
                slot, position = divmod(-1 - kind, MOST_TYPES)
                stored["kind"] = -1 - (exchange.slots[slot] * MOST_TYPES + position) if slot in exchange.slots else NOTHING
            at = int(stored["following"])
    for n in np.flatnonzero(lives & (found["streams"] != 0)).tolist():
        first, kept = int(found["streams"][n]), []
        while first:
            stream = _record(STREAM, first)
            following, slot = int(stream["following"]), int(stream["subscription"])
            if slot in exchange.slots:
                stream["subscription"] = exchange.slots[slot]
                kept.append(first)
            else:
                give_back(worker.address, first, STREAM.itemsize)
            first = following
        for at, after in zip(kept, [*kept[1:], 0], strict=True):
            _record(STREAM, at)["following"] = after
        found["streams"][n] = kept[0] if kept else 0


def _own(program: Program) -> dict[tuple[Any, ...], tuple[int, int, int]]:
    """Return number, place and size of what each data type and predicate of the user's own keeps."""
    return {key: (n, int(program.own[n]["offset"]), int(program.own[n]["size"])) for key, n in program.own_numbers.items()}


def _move_own(worker: Any, exchange: Exchange, before: Before) -> None:
    """Move what the user's data types and predicates keep to its places in the new areas."""
    unused, size = int(worker.table["unused"]), int(worker.words["own_size"])
    if not before.own_size or not size or not unused:
        return
    area = _bytes(before.own_area, unused, before.own_size)
    new = _bytes(int(worker.words["own_area"]), unused, size)
    begun, now_begun = area[:, :8].copy().view(np.uint64)[:, 0], np.zeros(unused, np.uint64)
    places = _own(exchange.new)
    for (what, slot, *rest), (n, at, length) in before.own.items():
        if slot is not None and slot not in exchange.slots:
            continue
        place = places.get((what, None if slot is None else exchange.slots[slot], *rest))
        if place is not None and place[2] == length:
            m, to, _ = place
            new[:, to : to + length] = area[:, at : at + length]
            now_begun |= ((begun >> np.uint64(n)) & np.uint64(1)) << np.uint64(m)
    new[:, :8] = now_begun.view(np.uint8).reshape(unused, 8)


def _readdress_mail(w: Any, exchange: Exchange) -> None:
    """What Python has unsubscribed and the worker has not read yet."""
    mail = _view(MAIL, int(w["mail"]), MOST_MAIL)
    for n in range(int(w["mail_tail"]), int(w["mail_head"])):
        place = n % MOST_MAIL
        mail["subscription"][place] = exchange.slots.get(int(mail["subscription"][place]), NOBODY)


__all__ = ["Exchange", "go_over"]
