"""Key, table, timers and arena against a dict, a heap and a set."""

from __future__ import annotations

import itertools
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import state_kernels

from retina_jit import objects
from retina_jit.memory import Region
from retina_jit.state.arena import ARENA
from retina_jit.state.layout import CONNECTION, IPV4, IPV6, PACKET, TCP
from retina_jit.state.table import TABLE, set_up
from retina_jit.state.timers import BLOCK, PER_BLOCK, SLOTS, TIMERS

FILE = str(Path(state_kernels.__file__))


@cache
def entry(name: str) -> objects.Entry:
    return objects.function(f"{FILE}:{name}")


def call(name: str, *words: int) -> int:
    return entry(name)(*words)


def at(array: Any) -> int:
    return int(array.ctypes.data)


def rows(flows: list[tuple[int, int, int, int, int, int, bool]], seed: int = 7) -> Any:
    """Decoded rows of (src_hi, src_lo, dst_hi, dst_lo, src_port, dst_port, ipv6), keys set."""
    made = np.zeros(len(flows), PACKET)
    for row, (a, b, c, d, e, f, v6) in zip(made, flows):
        row["src_hi"], row["src_lo"], row["dst_hi"], row["dst_lo"], row["src_port"], row["dst_port"] = a, b, c, d, e, f
        row["protocol"], row["layers"] = 6, TCP | (IPV6 if v6 else IPV4)
    call("set_keys", at(made), len(made), seed)
    return made


def flow(rng: random.Random) -> tuple[int, int, int, int, int, int, bool]:
    def word() -> int:
        return rng.choice((rng.getrandbits(64) - 2**63, rng.randrange(4)))

    if rng.random() < 0.5:
        return word(), word(), word(), word(), rng.randrange(4), rng.randrange(4), True
    return 0, rng.randrange(5), 0, rng.getrandbits(32), rng.randrange(65536), 443, False


# ------------------------------------------------------------------------------------------------------------- keys


def test_key_and_hash_do_not_depend_on_the_direction():
    rng = random.Random(1)
    flows = [flow(rng) for _ in range(2000)]
    there = rows(flows)
    back = rows([(c, d, a, b, f, e, v6) for a, b, c, d, e, f, v6 in flows])
    assert (there["key"] == back["key"]).all() and (there["hash"] == back["hash"]).all()
    same = [(a, b, e) == (c, d, f) for a, b, c, d, e, f, _ in flows]
    assert ((there["direction"] + back["direction"] == 1) | np.array(same)).all()


def test_hash_depends_on_the_seed_and_on_each_field():
    base = (5, 6, 7, 8, 100, 200, True)
    changed = [base[:n] + (base[n] + 1,) + base[n + 1 :] for n in range(6)]
    hashes = rows([base, *changed])["hash"].tolist()
    assert len(set(hashes)) == 7
    assert rows([base], seed=8)["hash"][0] != hashes[0]
    assert rows([(0, 1, 0, 2, 3, 4, True), (0, 1, 0, 2, 3, 4, False)])["key"].tolist()[0] != rows([(0, 1, 0, 2, 3, 4, False)])["key"][0]


def test_hash_spreads_neighbouring_addresses():
    flows = [(0, 0x0A000000 + n, 0, 0xC0000201, 40000 + n % 7, 443, False) for n in range(20000)]
    slots = rows(flows)["hash"] & 0xFFFF
    # As many places are hit as by chance: 65536 * (1 - exp(-20000 / 65536)) = 17218.
    assert abs(len(np.unique(slots)) - 17218) < 300


# ------------------------------------------------------------------------------------------------------------ table


class Table:
    def __init__(self, most: int, first: int) -> None:
        self.words = np.zeros(1, TABLE)
        self.ranges, self.pool = np.zeros(8 * most, np.int64), np.zeros(most, CONNECTION)
        w = self.words
        set_up(w[0], at(self.ranges), first, 4 * most)
        w["pool"], w["most"] = at(self.pool), most

    def entries(self) -> int:
        """How many slots stand for a connection, in the range that is left as well."""

        def slots(address: int, mask: int) -> Any:
            start = (address - at(self.ranges)) // 8
            return self.ranges[start : start + mask + 1] & 0xFFFFFFFF

        w = self.words[0]
        left = slots(int(w["old"]), int(w["old_mask"]))[int(w["moved"]) :] if w["old"] else np.zeros(0)
        return np.count_nonzero(slots(int(w["slots"]), int(w["mask"]))) + np.count_nonzero(left)

    def do(self, packets: Any, operations: list[tuple[int, int]]) -> list[int]:
        given, answers = np.array(operations, np.int64), np.zeros(len(operations), np.int64)
        call("table", at(self.words), at(packets), at(given), len(operations), at(answers))
        return list(answers.tolist())


@pytest.mark.parametrize("mask", [0xFFFFFFFFFFFFFFFF, 0xF, 0x3, 0])
@pytest.mark.parametrize("most", [64, 1024])
def test_table_agrees_with_a_dict(mask, most):
    rng = random.Random(mask + most)
    flows = list({f for f in (flow(rng) for _ in range(3 * most)) if f[:2] + f[4:5] != f[2:4] + f[5:6]})
    packets = rows(flows)
    # Fewer bits of hash: collisions of place and tag.
    packets["hash"] &= np.int64(mask - 2**64 if mask >= 2**63 else mask)
    operations = [(rng.choice((0, 1, 1, 2)), rng.randrange(len(flows))) for _ in range(6000)]
    table = Table(most, 8)
    answers = table.do(packets, operations)
    known: dict[Any, int] = {}
    for (what, n), got in zip(operations, answers):
        key = frozenset((flows[n][:2] + flows[n][4:5], flows[n][2:4] + flows[n][5:6])), flows[n][6]
        index = known.get(key, -1)
        if what == 1 and index < 0 and len(known) < most:
            assert 0 <= got < most and got not in known.values()
            known[key] = got
        else:
            assert got == index
            if what == 2:
                known.pop(key, None)
    assert int(table.words["live"][0]) == len(known)
    assert int(table.words["grown"][0]) > 0
    assert table.entries() == len(known)


@pytest.mark.parametrize("mask", [-1, 0x1F, 0])
@pytest.mark.parametrize("step", [1, 7, 100])
def test_table_agrees_with_a_dict_at_every_step_of_its_growth(mask, step):
    """Found, removed and inserted anew while slots are moved, from the first doubling to the last."""
    rng = random.Random(step + mask)
    flows = list({f for f in (flow(rng) for _ in range(1500)) if f[:2] + f[4:5] != f[2:4] + f[5:6]})[:1000]
    packets = rows(flows)
    packets["hash"] &= np.int64(mask)
    table, live, growing = Table(1024, 8), {}, 0
    for start in range(0, len(flows), step):
        fresh = list(range(start, min(start + step, len(flows))))
        found = [rng.choice(range(start + 1)) for _ in range(3 * step)]
        ended = [n for n in rng.sample(range(start + 1), min(start + 1, step)) if rng.random() < 0.3]
        operations = [(1, n) for n in fresh] + [(0, n) for n in found] + [(2, n) for n in ended] + [(0, n) for n in ended]
        for (what, n), got in zip(operations, table.do(packets, operations)):
            if what == 1:
                assert got not in live.values()
                live[n] = got
            assert got == live.get(n, -1)
            if what == 2:
                live.pop(n, None)
        growing += bool(table.words["old"][0])
        assert table.entries() == len(live) == int(table.words["live"][0])
    assert int(table.words["grown"][0]) >= 6
    assert growing


def test_an_insertion_moves_few_slots():
    """No insertion pays for a whole doubling, and each doubling is over before the next one."""
    flows = [(0, n, 0, 1, 1000, 443, False) for n in range(1 << 15)]
    packets = rows(flows)
    table, before = Table(1 << 15, 8), 0
    for n in range(len(flows)):
        begins = not table.words["old"][0]
        table.do(packets, [(1, n)])
        w = table.words[0]
        moved = int(w["moved"]) if w["old"] else 0
        assert moved - (0 if begins else before) <= 8
        if int(w["grown"]) and 2 * int(w["live"]) == int(w["mask"]) - 1:
            assert not w["old"]
        before = moved
    assert int(table.words["grown"][0]) == 14


# ----------------------------------------------------------------------------------------------------------- timers

RESOLUTION = 100


class Timers:
    def __init__(self, count: int, blocks: int = 0) -> None:
        self.table = Table(max(count, 8), 8)
        self.table.pool["life"][:count] = 1
        self.table.words["unused"] = count
        self.words = np.zeros(1, TIMERS)
        self.slots = np.zeros(SLOTS, np.int64)
        self.most = blocks or SLOTS + count
        self.region = Region(self.most * BLOCK)
        w = self.words
        w["resolution"], w["slots"], w["blocks"], w["most"] = RESOLUTION, at(self.slots), self.region.address, self.most
        self.out = np.zeros(100_000, np.int64)

    def file(self, index: int, due: int) -> int:
        return call("file_timer", at(self.words), at(self.table.words), index, due)

    def take(self, tick: int) -> list[int]:
        n = call("take", at(self.words), at(self.table.words), tick, at(self.out))
        return list(self.out[:n].tolist())


def test_timers_agree_with_a_plain_list():
    rng = random.Random(3)
    timers = Timers(50)
    now, due = 10_000, {}
    timers.words["now"] = now
    for _ in range(3000):
        index = rng.randrange(50)
        wanted = (now + rng.choice((-5, 0, 1, 7, 100, SLOTS - 2, SLOTS, 10 * SLOTS))) * RESOLUTION + rng.randrange(RESOLUTION)
        # The tick after the one that `due` lies in, but within the turn.
        tick = min(max(wanted // RESOLUTION + 1, now + 1), now + SLOTS - 1)
        timers.file(index, wanted)
        due[index] = tick
        for _ in range(rng.choice((0, 0, 1, 3))):
            now += 1
            assert sorted(timers.take(now)) == sorted(i for i, t in due.items() if t == now)
            due = {i: t for i, t in due.items() if t != now}
    for _ in range(SLOTS):
        now += 1
        assert sorted(timers.take(now)) == sorted(i for i, t in due.items() if t == now)
    assert int(timers.words["entries"][0]) == 0


@pytest.mark.parametrize("ticks", [1, 300])
def test_stale_entries_are_swept_while_time_stands_still(ticks):
    """In part after each packet, and while others are filed: also what stands many times in one slot stays once."""
    timers, due, sweeps = Timers(10), {}, 0
    w = timers.words
    w["now"] = 5
    for n in range(20_000):
        timers.file(n % 10, (6 + n % ticks) * RESOLUTION)
        due[n % 10] = 7 + n % ticks
        if int(w["sweep"][0]) or int(w["swept"][0]):
            for _ in range(2):
                call("sweep_block", at(w), at(timers.table.words))
        elif int(w["entries"][0]) > 400:
            w["sweep"] = SLOTS
            sweeps += 1
    assert sweeps > 10
    assert int(w["unused"][0]) < 1000
    for tick in range(6, 6 + SLOTS):
        assert sorted(timers.take(tick)) == sorted(i for i in range(10) if due[i] == tick)
    assert int(w["entries"][0]) == 0


def test_what_falls_due_while_its_slot_is_swept_is_not_put_off_for_a_turn():
    timers = Timers(1000)
    w = timers.words
    w["now"] = 5
    for n in range(1000):
        timers.file(n, 19 * RESOLUTION)
    w["sweep"] = 21  # the slots below it: that of tick 20 is the first
    assert call("sweep_block", at(w), at(timers.table.words)) == 1
    assert int(w["swept"][0]) != 0
    found = [index for tick in range(6, 23) for index in timers.take(tick)]
    assert 0 < len(found) < 1000
    while int(w["swept"][0]):
        call("sweep_block", at(w), at(timers.table.words))
    found += timers.take(22) + timers.take(23)
    assert sorted(found) == list(range(1000))


# ------------------------------------------------------------------------------------------------------------ arena


def test_arena_gives_blocks_that_do_not_overlap_and_takes_them_back():
    rng = random.Random(4)
    pool = Region(8 << 20)
    words = np.zeros(1, ARENA)
    words["top"], words["end"] = pool.address, pool.address + pool.size
    out: dict[int, int] = {}

    def do(*operation: int) -> int:
        given, answer = np.array([operation], np.int64), np.zeros(1, np.int64)
        call("blocks", at(words), at(given), 1, at(answer))
        return int(answer[0])

    def block(size: int) -> int:
        return max(256, 1 << (size - 1).bit_length())

    refused = 0
    for _ in range(4000):
        if out and rng.random() < 0.45:
            address = rng.choice(list(out))
            if rng.random() < 0.7:
                do(1, address, out.pop(address))
            else:
                old, new = out[address], out[address] + rng.randint(1, 100_000)
                pool.array(np.uint8, 4, address - pool.address)[:] = (1, 2, 3, 4)
                moved = do(2, address, old << 32 | new)
                if moved:
                    held = min(old, 4)
                    assert pool.array(np.uint8, 4, moved - pool.address).tolist()[:held] == [1, 2, 3, 4][:held]
                    del out[address]
                    # A block that was large enough keeps the size that it was asked for.
                    out[moved] = new if moved != address else max(old, new)
                else:
                    refused += 1
        else:
            size = rng.choice((1, 255, 256, 257, 5000, 70_000, 300_000))
            address = do(0, size, 0)
            if address:
                assert address not in out
                out[address] = size
            else:
                refused += 1
        spans = sorted((a, a + block(s)) for a, s in out.items())
        assert all(x[1] <= y[0] for x, y in itertools.pairwise(spans))
        assert not spans or (spans[0][0] >= pool.address and spans[-1][1] <= pool.address + pool.size)
        assert int(words["used"][0]) == sum(b - a for a, b in spans)
    assert refused and int(words["refused"][0]) >= refused
    for address in list(out):
        do(1, address, out.pop(address))
    assert int(words["used"][0]) == 0
    assert do(0, (8 << 20) + 1, 0) == 0
    assert PER_BLOCK == 60
