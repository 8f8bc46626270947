"""Parts of receiving through DPDK that need no DPDK."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from retina_jit.errors import ConfigError, SourceError
from retina_jit.ingest.dpdk import eal, mempool
from retina_jit.ingest.dpdk.links import COMING_UP, Links
from retina_jit.ingest.dpdk.port import Port
from retina_jit.ingest.dpdk.source import Receiver, Settings


class FailingPort:
    queues = 1

    def __init__(self):
        self.starts = 0

    def start(self, *, promiscuous):
        self.starts += 1
        raise SourceError("net0: starting failed")


def receiver(ports):
    made = Receiver.__new__(Receiver)  # not one that asks DPDK
    made._lock, made._started, made._fault = threading.Lock(), False, None
    made.links, made._watching = None, []
    made.ports, made.settings, made.rules, made.sinks, made.workers, made.lanes = ports, Settings(), [], (), 2, ()
    return made


def test_ports_that_do_not_start_are_an_error_of_every_worker():
    port = FailingPort()
    made = receiver([port])
    for _ in range(3):
        with pytest.raises(SourceError, match="net0: starting failed"):
            made.start()
    assert port.starts == 1


def test_ports_are_started_once():
    starts = []
    made = receiver([SimpleNamespace(queues=1, start=lambda **_: starts.append(1), name="net0", link=(True, 10))])
    made.start()
    made.start()
    made.links.end()
    assert starts == [1]


def test_a_counter_with_a_name_of_64_bytes_does_not_run_into_the_next_one():
    names = [b"a" * 64, b"rx_good_packets"]

    def xstats(_, values, count):
        for n in range(count):
            values[2 * n], values[2 * n + 1] = n, 7 + n
        return len(names)

    def names_of(_, buffer, count):
        buffer[: 64 * count] = b"".join(n.ljust(64, b"\0") for n in names)

    port = Port.__new__(Port)
    port.number, port._call = 0, {"rte_eth_xstats_get": xstats, "rte_eth_xstats_get_names": names_of}
    assert port.details == {"a" * 64: 7, "rx_good_packets": 8}


def test_a_word_with_a_space_in_it_stays_one(monkeypatch):
    monkeypatch.setattr(eal, "free_huge_pages", lambda: 0)
    further = ["-d", "/opt/my drivers/x.so", "--file-prefix=a b"]
    assert eal.arguments([], 1 << 20, further=further)[-3:] == further


class Cable:
    """A port whose link is what `states` say, look by look; None: it cannot be asked."""

    name = "net0"

    def __init__(self, states):
        self._states = iter(states)

    @property
    def link(self):
        up = next(self._states)
        if up is None:
            raise SourceError("net0: asking for its link failed")
        return up, 25000


@pytest.mark.parametrize(
    ("states", "outages", "told"),
    [
        ([True] * 3, 0, []),
        # A card takes its time after the start.
        ([False] * (COMING_UP - 1) + [True] * 2, 0, []),
        ([False] * (COMING_UP + 3), 1, ["down"]),
        ([False] * COMING_UP + [True, False, False], 2, ["down", "up", "down"]),
        ([True, False, False, None, True, True, None], 2, ["down", "up", "down"]),
    ],
)
def test_a_link_that_goes_down_is_told_once(states, outages, told, caplog):
    links = Links([Cable(states)], threading.Lock())
    for _ in states:
        links.look()
    assert links.outages == {"net0": outages}
    assert [m.partition("the link is ")[2].split()[0].strip(";") for m in caplog.messages] == told


def test_a_pool_that_the_queues_of_cards_would_empty_is_refused_with_one_that_is_enough():
    mempool.check(15, 512, 0, 0)  # of virtual devices alone: they fill no descriptors
    mempool.check(65536, 512, 8 * 4096, 8)
    with pytest.raises(ConfigError, match=r"\[mempool\] capacity = 65536: too small.*hold 65536 packet buffers and 16 workers 14336") as error:
        mempool.check(65536, 512, 16 * 4096, 16)
    assert "Fix: capacity = 131072" in str(error.value)
    mempool.check(131072, 512, 16 * 4096, 16)
