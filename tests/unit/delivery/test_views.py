"""Columns as views are the same columns, and hold what comes again once."""

from __future__ import annotations

import itertools

import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retina_jit.delivery.capsules import ArrowBatch
from retina_jit.delivery.vectors import BYTES, LIST, NUMBERS, STRUCT, TEXT, Field, Vector, struct
from retina_jit.delivery.views import with_views

WORDS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["", "a" * 12, "a" * 13, "a" * 16, "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA257", "x" * 1000]),
)


def texts(values: list[str], name: str = "t", code: str = TEXT) -> Vector:
    raw = [v.encode() for v in values]
    # What comes before the first offset is not the column's.
    ends = np.array(list(itertools.accumulate(map(len, raw), initial=3)), np.int64)
    return Vector(Field(name, code), len(values), None, (ends, np.frombuffer(b"???" + b"".join(raw), np.uint8)))


def kept_bytes(v: Vector) -> int:
    return sum(d.nbytes for d in v.data[1:])


@settings(deadline=None)  # the first one compiles
@given(st.lists(WORDS, max_size=50))
def test_polars_reads_the_same_texts(values):
    frame = polars.DataFrame(ArrowBatch(struct("", [with_views(texts(values)), with_views(texts(values, "b", BYTES))])))
    assert frame["t"].to_list() == values
    assert frame["b"].to_list() == [v.encode() for v in values]


@settings(deadline=None)  # the first one compiles
@given(st.lists(st.lists(WORDS, max_size=5), max_size=20))
def test_within_lists_and_structs(values):
    flat = texts([v for part in values for v in part], "item")
    ends = np.array(list(itertools.accumulate(map(len, values), initial=0)), np.int64)
    lists = Vector(Field("l", LIST, False, (flat.field,)), len(values), None, (ends,), (flat,))
    numbers = Vector(Field("n", NUMBERS["u4"]), len(values), None, (np.arange(len(values), dtype=np.uint32),))
    inner = Vector(Field("s", STRUCT, False, (lists.field, numbers.field)), len(values), None, (), (lists, numbers))
    frame = polars.DataFrame(ArrowBatch(struct("", [with_views(inner)])))
    assert frame["s"].to_list() == [{"l": part, "n": n} for n, part in enumerate(values)]


def test_absent_texts_stay_absent():
    column = texts(["", "b" * 20, ""])
    column = Vector(Field("t", TEXT, True), 3, np.array([0b010], np.uint8), column.data)
    assert polars.DataFrame(ArrowBatch(struct("", [with_views(column)])))["t"].to_list() == [None, "b" * 20, None]


@pytest.mark.parametrize("several", [1, 3, 40])
def test_what_comes_again_is_kept_once(several):
    words = [f"{n:02d}".center(30, "-") for n in range(several)]
    made = with_views(texts(words * 1000))
    assert kept_bytes(made) <= 2 * 30 * several + 8
    assert kept_bytes(with_views(texts(["short"] * 1000))) == 0


def test_texts_that_differ_everywhere_take_their_bytes():
    words = [f"{n:020d}" for n in range(5000)]
    made = with_views(texts(words))
    assert kept_bytes(made) == 20 * 5000 + 8
    assert polars.DataFrame(ArrowBatch(struct("", [made])))["t"].to_list() == words
