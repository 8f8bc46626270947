"""All passes in a row: texts of filters in, compilable units and their tables out."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from retina_jit import objects
from retina_jit.errors import FilterError
from retina_jit.filters import conditions, load
from retina_jit.filters.halves import parts_of
from retina_jit.filters.nopython import entries, own_entries
from retina_jit.filters.normalize import Worlds, can_be, refuse_impossible
from retina_jit.filters.parse import parse
from retina_jit.filters.predicates import Call, predicates
from retina_jit.filters.resolve import Names, resolve
from retina_jit.filters.split import (
    EARLY,
    END,
    LEVELS,
    PACKET_DELIVER,
    STAGES,
    WATCH,
    is_at_end,
    is_direct,
    is_session,
    is_undecided,
    may_still,
    refuse_unknowable,
)
from retina_jit.filters.staging import Context, Stage
from retina_jit.filters.syntax import TRUE, Present, Term, Test, both, either, leaves, show
from retina_jit.filters.tabled import ENGINE, SCRATCH, SCRATCH_WORDS
from retina_jit.filters.tables import Tables
from retina_jit.filters.watching import Conjunct, Watches
from retina_jit.own import OwnEntry
from retina_jit.parsers.protocol import Protocol, protocols


@dataclass(frozen=True)
class FilterSpec:
    """One subscription's filter.

    Attributes
    ----------
    text : str
        The filter; empty: everything.
    level : str
        When its callback fires: "packet", "session", "connection", "static" or "streaming".
    folder : str
        Where relative paths of `in @file` begin; empty: the current folder.
    where : str
        Whose it is, for errors; empty: there is just this one.
    """

    text: str
    level: str
    folder: str = ""
    where: str = ""


@dataclass(frozen=True)
class Plan:
    """What a set of filters compiles to. Subscriptions are numbered as they were given.

    Attributes
    ----------
    units : dict of str to str
        Stage name to unit, for `retina_jit.jit`. A stage that no subscription needs is absent: "packet" if there is no
        subscription, "connection" if all are direct, "protocol" and "session" if everything is known before. Beside the stages: "protocol.field" for readers that they call.
    data : list of numpy.ndarray
        Constant data, with a zero for the address of each reader.
    readers : dict of int to str
        Index of such a zero to the unit whose address belongs there.
    direct : frozenset of int
        Subscriptions of level "packet" that the packet stage decides completely.
    services_of : tuple of frozenset of str
        Session protocols that each filter asks for.
    meets : tuple of frozenset of str
        Session protocols that a connection may have for which each filter holds: a data type of any other never comes.
    words : int
        64-bit words in a set of subscriptions.
    undecided : dict of str to frozenset of int
        For "protocol" and "session": the subscriptions that may still be open when the stage is reached.
    owners : tuple of int
        The stages' bitsets number *slots*. The first are the subscriptions; a filter that mixes packet and session
        predicates under `or` has further ones. This is each slot's subscription.
    per_packet : frozenset of int
        Subscriptions whose packets are tested one by one once their connection matches. The stage "packet_deliver"
        (tables, row, sets) takes the slots that the connection matches and answers, as matched, the subscriptions that
        get this packet, those without such tests included. It is absent if there are none.
    at_end : frozenset of int
        Subscriptions that ask for the connection as a whole (`conn`): they fire at its end, static ones too, and need its
        TRACK. The stage "end" (tables, row, connection, track, sets) is "packet_deliver" for them.
    calls : dict of int to (Call, Protocol)
        Index of a zero in `data` to the user's predicate whose address belongs there, and what it is asked of.
    helpers, watched : frozenset of int
        Slots that no subscription fires with: of what a formula asks, and among them those of watched predicates (see
        `filters.watching`). The stage "watch" (tables, row, sets) says which of them a packet makes true.
    watchers : dict of int to Call
        The user's predicate of a watched slot, where it is one of connections.
    conjuncts : tuple of Conjunct
        The formulas.
    first : tuple of Term
        What the packet stage asks, for a network card (see `filters.offload`).
    labels : dict of int to str
        What each helper stands for, as a filter.
    early : frozenset of int
        Slots that the stage "early" (like "end") may refuse before the end of a connection, for good.
    """

    specs: tuple[FilterSpec, ...]
    terms: tuple[Term, ...]
    stages: dict[str, Stage]
    units: dict[str, str]
    data: list[np.ndarray[Any, Any]]
    readers: dict[int, str]
    direct: frozenset[int]
    services_of: tuple[frozenset[str], ...]
    meets: tuple[frozenset[str], ...]
    words: int
    undecided: dict[str, frozenset[int]]
    owners: tuple[int, ...] = ()
    per_packet: frozenset[int] = frozenset()
    at_end: frozenset[int] = frozenset()
    calls: dict[int, tuple[Call, Protocol]] = field(default_factory=dict)
    watchers: dict[int, Call] = field(default_factory=dict)
    conjuncts: tuple[Conjunct, ...] = ()
    helpers: frozenset[int] = frozenset()
    watched: frozenset[int] = frozenset()
    early: frozenset[int] = frozenset()
    first: tuple[Term, ...] = ()
    labels: dict[int, str] = field(default_factory=dict)

    @property
    def services(self) -> frozenset[str]:
        """Session protocols that some filter asks for."""
        return frozenset().union(*self.services_of)

    @cached_property
    def wrapped(self) -> dict[int, dict[str, OwnEntry]]:
        """The user's predicates as entries, not compiled yet: by the index of their data, those of `calls`."""
        return {index: own_entries(call, protocol) for index, (call, protocol) in self.calls.items()}

    @cached_property
    def wrapped_watchers(self) -> dict[int, dict[str, OwnEntry]]:
        """Likewise by their slots, those of `watchers`."""
        return {slot: own_entries(call, None) for slot, call in self.watchers.items()}

    @cached_property
    def tables(self) -> list[np.ndarray[Any, Any]]:
        """Constant data, complete: the stages get the address of an int64 array of the addresses of these.

        Compiles the readers that are not compiled yet; keep the plan as long as a stage may run.
        """
        found = list(self.data)
        for index, unit in self.readers.items():
            found[index] = np.array([objects.address(unit)], np.int64)
        for index, (call, _) in self.calls.items():
            found[index] = np.array([entries(call, self.wrapped[index])["call"].address], np.int64)
        return found

    def explain(self) -> str:
        """Return the stages as text: for each its trie, then the source made of it."""
        lines = []
        for n, (spec, term) in enumerate(zip(self.specs, self.terms)):
            lines.append(
                f"subscription {n}, {spec.level}{', decided per packet' if n in self.direct else ''}: {spec.text.strip() or '(everything)'}"
            )
            lines.append(f"    {show(term)}")
        for name, stage in self.stages.items():
            lines += ["", f"== {name} stage", "", *stage.drawn, "", stage.source.rstrip()]
        return "\n".join(lines) + "\n"


def read_filter(text: str, names: Names, worlds: Worlds, folder: str = "") -> Term:
    """Return the checked terms of one filter.

    Raises
    ------
    FilterError
        The text is no filter, or it can never match.
    """
    term = resolve(parse(text), text, names, folder)
    refuse_impossible(term, text, worlds)
    return term


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the garbage collector out: trees of thousands of filters are no garbage, and looking through them takes a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_without_collector()
def compile_filters(
    specs: Sequence[FilterSpec], declared: Mapping[str, Protocol] | None = None, engine: str = "auto"
) -> Plan:
    """Compile the filters of all subscriptions together.

    Parameters
    ----------
    specs : sequence of FilterSpec
        Their positions are the numbers of the subscriptions.
    declared : mapping of str to Protocol, optional
        The protocols that filters may name; all that are declared if not given.
    engine : str
        "code" writes filters as code, "tables" as data, which needs no compilation per filter; "auto" chooses for each
        stage. For tests: "plain" is "code" without merging, "any" is "tables" with code that serves every set of filters.

    Raises
    ------
    FilterError
        A filter that cannot be compiled.
    """
    known = protocols() if declared is None else declared
    names, worlds = Names(known, predicates()), Worlds(known)
    watches = Watches(names, worlds)
    terms, whole = [], []
    for spec in specs:
        if spec.level not in LEVELS:
            raise FilterError(f"there is no level {spec.level!r}; the levels are {', '.join(LEVELS)}")
        with _errors_of(spec):
            term = read_filter(spec.text, names, worlds, spec.folder)
            whole.append(term)
            if not is_direct(term, spec.level, names, worlds):
                refuse_unknowable(term, spec.level, spec.text, names, worlds)
                if spec.level != "packet":
                    term = watches.some_packet(term, spec.text)
            terms.append(term)
    direct = frozenset(n for n, spec in enumerate(specs) if is_direct(terms[n], spec.level, names, worlds))
    owners, terms, tests = _slots(specs, terms, direct, names, worlds)
    for n in range(len(terms)):
        with _errors_of(specs[owners[n]]):
            watches.add(n, terms[n], specs[owners[n]].text, owners, terms)
    followed = [n for n in range(len(terms)) if n not in direct]
    firing = set(followed) - watches.helpers
    asks = {n: any(is_undecided(leaf, worlds) for leaf in leaves(terms[n])) for n in followed}
    reads = {
        n: any(isinstance(leaf, Test) and is_undecided(leaf, worlds) for leaf in leaves(terms[n]))
        for n in followed
    }
    undecided = {
        "protocol": frozenset(n for n in followed if asks[n]),
        "session": frozenset(n for n in followed if reads[n]),
    }
    members = {"packet": sorted(direct | firing), "connection": followed, **undecided}
    # Per packet everything is asked that subscriptions follow their connections for, the tests of all others being empty.
    of_packets = {n for n in firing if specs[owners[n]].level == "packet"}
    members[PACKET_DELIVER] = sorted(of_packets) if of_packets & tests.keys() else []
    members[END] = sorted(firing - of_packets) if tests.keys() - of_packets else []
    early = {n for n in tests.keys() - of_packets if may_still(tests[n], names, worlds) != TRUE}
    members[EARLY] = sorted(firing - of_packets) if early else []
    members[WATCH] = sorted(watches.tests())
    packets = watches.tests()
    tables, words = Tables(), -(-len(terms) // 64)
    code = conditions.Code(tables)
    if engine == "any":
        code.keep([*STAGES, PACKET_DELIVER, WATCH, EARLY, END, f"{ENGINE}:decide", f"{ENGINE}:run_patterns", SCRATCH])
        tables.put(code.place(SCRATCH), np.zeros(SCRATCH_WORDS, np.int64))
        code.keep((p.name, f) for p in known.values() if p.level != "packet" for f in p.fields)
    context = Context(names, worlds, tables, words, code)
    stages, units = {}, {}
    # A connection is TCP or UDP, whatever else it has to be.
    tracked = either([Present("tcp"), Present("udp")])
    asked_first = context.wanted("packet", members["packet"], terms, direct)
    first = tuple(both([tracked, t]) if effect[0] == "keep" else t for t, effect in asked_first)
    for stage in (*STAGES, PACKET_DELIVER, WATCH, EARLY, END):
        if members[stage]:
            asked = [tests.get(n, TRUE) for n in range(len(terms))] if stage in (PACKET_DELIVER, EARLY, END) else terms
            asked = [packets.get(n, TRUE) for n in range(len(terms))] if stage == WATCH else asked
            wanted = context.wanted(stage, members[stage], asked, direct)
            deliver = direct if stage == "packet" else members[stage]
            stages[stage] = context.stage(stage, wanted, deliver, owners, engine)
            units[stage] = load.unit(stages[stage].source, f"{stage}_stage")
    readers, calls = {}, {}
    for unit, index in code.entries.items():
        units[f"engine.{unit.rpartition(':')[2]}"] = readers[index] = unit
    for (protocol, name), index in code.index.items():
        if (protocol, name) in names.calls:
            calls[index] = names.calls[(protocol, name)], known[protocol]
            continue
        source = conditions.reader_source(known[protocol].module, known[protocol].fields[name], known[protocol].level == "connection")
        units[f"{protocol}.{name}"] = readers[index] = load.unit(source, "read")
    services = tuple(
        frozenset(leaf.protocol for leaf in leaves(t) if is_session(leaf, worlds)) for t in terms
    )
    meets = tuple(frozenset(s for s in worlds.sessions if can_be(t, worlds)[0] & worlds.of(s)) for t in whole)
    return Plan(
        tuple(specs), tuple(whole), stages, units, tables.arrays(), readers, direct, services, meets, words, undecided,
        tuple(owners), frozenset(owners[n] for n in of_packets & tests.keys()), frozenset(owners[n] for n in tests.keys() - of_packets),
        calls, watches.calls(), tuple(watches.conjuncts), frozenset(watches.helpers), frozenset(watches.slots), frozenset(early), first,
        {n: show(terms[n]) for n in sorted(watches.helpers)},
    )  # fmt: skip


@contextmanager
def _errors_of(spec: FilterSpec) -> Iterator[None]:
    """Say of an error whose filter it is in."""
    try:
        yield
    except FilterError as fault:
        if spec.where:
            fault.args = (f"{spec.where}:\n{fault}",)
        raise


def _slots(
    specs: Sequence[FilterSpec], terms: list[Term], direct: frozenset[int], names: Names, worlds: Worlds
) -> tuple[list[int], list[Term], dict[int, Term]]:
    """Return (subscription of each slot, what is asked of the connection, what is asked of each packet)."""
    owners, asked = list(range(len(terms))), list(terms)
    tests: dict[int, Term] = {}
    for n, spec in enumerate(specs):
        of_packets = spec.level == "packet"
        if (of_packets and n not in direct) or any(is_at_end(leaf, names) for leaf in leaves(terms[n])):
            with _errors_of(spec):
                parts = parts_of(terms[n], spec.text, names, worlds, packets=of_packets)
            for k, (connection, packet) in enumerate(parts):
                slot = len(owners) if k else n
                if k:
                    owners.append(n)
                    asked.append(connection)
                else:
                    asked[n] = connection
                if packet != TRUE:
                    tests[slot] = packet
    return owners, asked, tests
