"""Parts of receiving through DPDK that need no DPDK."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from retina_jit.errors import SourceError
from retina_jit.ingest.dpdk import eal
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
    made = receiver([SimpleNamespace(queues=1, start=lambda **_: starts.append(1))])
    made.start()
    made.start()
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
