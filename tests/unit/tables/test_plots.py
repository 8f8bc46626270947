"""Pictures show the sums of the table."""

from __future__ import annotations

import itertools
import tracemalloc

import matplotlib as mpl
import numpy as np
import pytest

from retina_jit.delivery.vectors import DURATION, NUMBERS, TEXT, TIME, Field, Vector
from retina_jit.tables.table import Table

mpl.use("Agg")

TIMES = np.array([0, 1, 1, 9], np.int64) * 10**9
TABLE = Table(
    (Field("ts", TIME), Field("host", TEXT, True), Field("size", NUMBERS["u4"]), Field("took", DURATION, True)),
    [
        (
            Vector(Field("ts", TIME), 4, None, (TIMES,)),
            Vector(Field("host", TEXT, True), 4, np.array([0b1011], np.uint8), (np.array(list(itertools.accumulate([1, 1, 0, 1], initial=0))), np.frombuffer(b"aba", np.uint8))),
            Vector(Field("size", NUMBERS["u4"]), 4, None, (np.array([10, 20, 30, 40], np.uint32),)),
            Vector(Field("took", DURATION, True), 4, np.array([0b0111], np.uint8), (np.array([0, 10**9, 3 * 10**9, 0]),)),
        )
    ],
)


def test_traffic():
    values, edges, _ = TABLE.plot(bins=9).patches[0].get_data()
    assert values.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 1] and len(edges) == 10
    assert TABLE.plot.traffic("size", bins=9).patches[0].get_data().values.tolist() == [10, 50, 0, 0, 0, 0, 0, 0, 40]


def test_talkers():
    ax = TABLE.plot.talkers("host", "size", most=2)
    assert [(t.get_text(), b.get_width()) for t, b in zip(ax.get_yticklabels(), ax.patches, strict=True)] == [("(null)", 30), ("a", 50)]
    assert sorted(b.get_width() for b in TABLE.plot.talkers().patches) == [1, 1, 2]


def test_cdf_in_the_axes_that_are_given():
    ax = TABLE.plot.traffic()
    line = TABLE.plot.cdf("took", ax=ax).get_lines()[-1]
    assert line.get_xdata().tolist() == [1, 3] and line.get_ydata().tolist() == [2 / 3, 1] and line.get_label() == "took [s]"
    assert TABLE.plot.cdf("took", ax=ax) is ax


def test_what_has_no_picture():
    with pytest.raises(KeyError, match="no numbers"):
        TABLE.plot.cdf("host")
    with pytest.raises(KeyError, match="name one of size"):
        TABLE[["size"]].plot()
    assert TABLE[:0].plot().texts[0].get_text() == "no rows"


def test_a_null_weighs_nothing():
    ax = TABLE.plot.talkers("host", "took")
    assert {t.get_text(): b.get_width() for t, b in zip(ax.get_yticklabels(), ax.patches, strict=True)} == {"a": 0, "b": 1, "(null)": 3}
    assert TABLE.plot.traffic("took", bins=9).patches[0].get_data().values.tolist() == [0, 4, 0, 0, 0, 0, 0, 0, 0]


def test_one_long_text_costs_its_length_only_once():
    texts = ["x" * (1 << 14), *("ab" * 1000)]
    ends = np.array(list(itertools.accumulate(map(len, texts), initial=0)))
    names = Vector(Field("name", TEXT), len(texts), None, (ends, np.frombuffer("".join(texts).encode(), np.uint8)))
    figure = Table((Field("name", TEXT),), [(names,)])
    tracemalloc.start()
    try:
        ax = figure.plot.talkers()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [b.get_width() for b in ax.patches] == [1, 1000, 1000]
    assert peak < 32 << 20, "2,001 rows of 64 KiB each would be 131 MB"
