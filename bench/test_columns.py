"""Tables of half a million connections: ns per row, and the most memory of the process beside what the columns hold."""

from __future__ import annotations

import measure
import pytest
from support.table_memory import measured, write_capture

import retina_jit as rj

ROWS, ROUNDS = 500_000, 3


@pytest.fixture(scope="module")
def capture(tmp_path_factory):
    path = tmp_path_factory.mktemp("columns") / "x.pcap"
    write_capture(path, ROWS)
    yield path
    path.unlink()


@pytest.mark.benchmark(group="columns")
@pytest.mark.parametrize("what", ["batches", "collect", "to_arrow", "to_polars", "to_pandas"])
def test_columns(benchmark, capture, what):
    def work() -> None:
        table = rj.read(capture).select("", rj.ConnRecord, rj.FiveTuple)
        found = table.batches() if what == "batches" else getattr(table, what)()
        assert (sum(map(len, found)) if what == "batches" else len(found)) == ROWS

    work()
    benchmark.pedantic(work, rounds=ROUNDS)
    told = measured(capture, what)
    of_arrow = told["peak"] / told["arrow"]
    measure.note(benchmark, ROWS, "row", arrow_mb=round(told["arrow"] / 1e6), peak_mb=round(told["peak"] / 1e6), peak_of_arrow=round(of_arrow, 2))
    assert of_arrow <= 1.5
