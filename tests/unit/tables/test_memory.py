"""Memory of tables: not much more than their columns; batch by batch it does not grow."""

from __future__ import annotations

import pytest
from support.table_memory import measured, write_capture

import retina_jit as rj

ROWS = 500_000


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    path = tmp_path_factory.mktemp("memory") / "x.pcap"
    write_capture(path, ROWS)
    yield path
    path.unlink()


def test_a_table_takes_little_more_than_its_columns(capture):
    told = measured(capture, "collect")
    assert told["rows"] == ROWS and told["arrow"] > 100e6
    assert told["peak"] <= 1.5 * told["arrow"], told


def test_batches_keep_memory_flat(capture):
    told = measured(capture, "batches")
    levels, half = told["levels"], len(told["levels"]) // 2
    assert half >= 6
    # Freed memory may be given back a little later or sooner.
    assert max(levels[half:]) <= max(levels[:half]) + 32e6 and told["peak"] <= 0.75 * told["arrow"], told


def test_a_frame_is_no_view_of_the_table():
    table = rj.read(rj.sample_capture("tls")).connections.collect()
    before = table.to_dicts()
    frame = table.to_pandas()
    for name in ("orig.nb_pkts", "ts", "duration", "five_tuple.orig_addr"):
        frame.loc[:, name] = frame[name].iloc[::-1].to_numpy() if name != "orig.nb_pkts" else 77
    assert table.to_dicts() == before and set(frame["orig.nb_pkts"]) == {77}
