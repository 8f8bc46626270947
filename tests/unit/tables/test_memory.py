"""Memory of tables: not much more than their columns; batch by batch it does not grow."""

from __future__ import annotations

import pytest
from support.table_memory import measured, write_again_and_again, write_capture

import retina_jit as rj

ROWS, COPIES = 800_000, 3000
"""Enough for what a run takes whatever it reads, some 40 MB, to be a small part of it."""


@pytest.fixture(scope="module")
def connections(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "x.pcap"
    write_capture(path, ROWS)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def handshakes(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "tls.pcap"
    write_again_and_again(path, rj.sample_capture("tls"), COPIES)
    yield path
    path.unlink()


@pytest.mark.parametrize("what", ["collect", "to_polars", "to_pandas"])
def test_a_table_of_connections_takes_little_more_than_its_columns(connections, what):
    told = measured(connections, what)
    assert told["rows"] == ROWS and told["arrow"] > 200e6
    assert told["peak"] <= 1.5 * told["arrow"], told


@pytest.mark.parametrize("what", ["to_arrow", "to_polars", "to_pandas"])
def test_a_table_of_long_texts_and_lists_takes_little_more_than_its_columns(handshakes, what):
    told = measured(handshakes, what, "handshakes")
    assert told["rows"] == 21 * COPIES and told["arrow"] > 100e6
    assert told["peak"] <= 1.5 * told["arrow"], told


def test_batches_keep_memory_flat(connections):
    told = measured(connections, "batches")
    levels, half = told["levels"], len(told["levels"]) // 2
    assert half >= 6
    # Freed memory may be given back a little later or sooner.
    assert max(levels[half:]) <= max(levels[:half]) + 0.2 * told["arrow"] and told["peak"] <= 0.75 * told["arrow"], told


def test_a_frame_is_no_view_of_the_table():
    table = rj.read(rj.sample_capture("tls")).connections.collect()
    before = table.to_dicts()
    frame = table.to_pandas()
    for name in ("orig.nb_pkts", "ts", "duration", "five_tuple.orig_addr"):
        frame.loc[:, name] = frame[name].iloc[::-1].to_numpy() if name != "orig.nb_pkts" else 77
    assert table.to_dicts() == before and set(frame["orig.nb_pkts"]) == {77}
