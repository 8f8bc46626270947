"""Columns in Arrow's layout: cutting and joining them is cutting and joining lists; libraries read what was put in."""

from __future__ import annotations

import ctypes
import gc
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retina_jit.delivery import capsules
from retina_jit.delivery.capsules import ArrowBatch, ArrowRows
from retina_jit.delivery.growing import concat
from retina_jit.delivery.vectors import (
    BOOL,
    BYTES,
    LIST,
    NUMBERS,
    STRUCT,
    TEXT,
    Field,
    Vector,
    empty,
    struct,
)


def bits(values):
    return np.packbits(np.array(values, bool), bitorder="little")


def made(field, values):
    """A vector of Python values, by hand."""
    valid = bits([v is not None for v in values]) if field.nullable and None in values else None
    code = field.format
    if code == BOOL:
        return Vector(field, len(values), valid, (bits([bool(v) for v in values]),))
    if code in (TEXT, BYTES):
        parts = [(v or b"" if code == BYTES else (v or "").encode()) for v in values]
        ends = np.array(list(itertools.accumulate(map(len, parts), initial=0)), np.int64)
        return Vector(field, len(values), valid, (ends, np.frombuffer(b"".join(parts), np.uint8)))
    if code == LIST:
        ends = np.array(list(itertools.accumulate((len(v or []) for v in values), initial=0)), np.int64)
        return Vector(field, len(values), valid, (ends,), (made(field.children[0], [x for v in values for x in v or []]),))
    if code == STRUCT:
        parts = tuple(made(c, [None if v is None else v[c.name] for v in values]) for c in field.children)
        return Vector(field, len(values), valid, (), parts)
    dtype = next(n for n, c in NUMBERS.items() if c == code)
    return Vector(field, len(values), valid, (np.array([v or 0 for v in values], dtype),))


NUMBER, FLAG, WORD, RAW = Field("n", "S", True), Field("f", BOOL, True), Field("w", TEXT, True), Field("r", BYTES, True)
WORDS = Field("ws", LIST, True, (Field("item", TEXT),))
OBJECT = Field("o", STRUCT, False, (Field("a", "S", True), Field("b", BOOL, True)))
FIELDS = [NUMBER, FLAG, WORD, RAW, WORDS, OBJECT]
number, flag = st.none() | st.integers(0, 65535), st.none() | st.booleans()
row = st.tuples(
    number, flag, st.none() | st.text(max_size=5), st.none() | st.binary(max_size=5), st.none() | st.lists(st.text(max_size=3), max_size=3),
    st.fixed_dictionaries({"a": number, "b": flag}),
)  # fmt: skip


@given(st.lists(row, max_size=20), st.data())
def test_cut_and_join_as_lists_do(rows, data):
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    for n, field in enumerate(FIELDS):
        values = [r[n] for r in rows]
        whole = made(field, values)
        assert whole.to_list() == values
        part = whole.slice(start, stop)
        assert part.to_list() == values[start:stop]
        assert concat([part, whole, empty(field), part]).to_list() == values[start:stop] + values + values[start:stop]
        assert part.null_count == values[start:stop].count(None)


@given(st.lists(row, max_size=20), st.data())
def test_pyarrow_reads_what_was_put_in(rows, data):
    start = data.draw(st.integers(0, len(rows)))
    table = struct("", [made(f, [r[n] for r in rows]).slice(start, len(rows)) for n, f in enumerate(FIELDS)])
    batch = pa.record_batch(ArrowBatch(table))
    batch.validate(full=True)
    assert [tuple(r.values()) for r in batch.to_pylist()] == rows[start:]
    read = pa.table(ArrowRows(table.field.children, iter([table, table])))
    read.validate(full=True)
    assert [tuple(r.values()) for r in read.to_pylist()] == 2 * rows[start:]


def test_everything_is_given_back_whoever_lets_go_first():
    gc.collect()
    before = len(capsules._kept), len(capsules._structures)
    table = struct("", [made(WORD, ["a", None]), made(WORDS, [["b"], []])])
    ArrowBatch(table).__arrow_c_array__()  # never taken
    ArrowRows(table.field.children, iter([table])).__arrow_c_stream__()
    batch = pa.record_batch(ArrowBatch(table))
    column = batch.column(1)
    del batch
    gc.collect()
    assert column.to_pylist() == [["b"], []]
    del column
    gc.collect()
    assert (len(capsules._kept), len(capsules._structures)) == before


def test_a_child_that_was_moved_out_outlives_its_parent():
    gc.collect()
    before = len(capsules._kept)
    table = struct("", [made(NUMBER, [7, 9])])
    parent, child = capsules._Array(), capsules._Array()
    capsules.fill_array(ctypes.addressof(parent), table)
    place = ctypes.c_void_p.from_address(parent.children).value
    ctypes.memmove(ctypes.addressof(child), place, ctypes.sizeof(child))
    capsules._Array.from_address(place).release = None
    capsules._let_go(capsules._Array, ctypes.addressof(parent))
    assert not parent.release and len(capsules._kept) == before + 1
    values = (ctypes.c_void_p * 2).from_address(child.buffers)[1]
    assert list((ctypes.c_uint16 * 2).from_address(values)) == [7, 9]
    capsules._let_go(capsules._Array, ctypes.addressof(child))
    assert len(capsules._kept) == before


def test_an_error_within_a_stream_is_told_to_the_reader():
    table = struct("", [made(NUMBER, [1])])

    def failing():
        yield table
        raise ValueError("the capture is gone")

    reader = pa.RecordBatchReader.from_stream(ArrowRows(table.field.children, failing()))
    assert reader.read_next_batch().num_rows == 1
    with pytest.raises((OSError, pa.ArrowException), match="ValueError: the capture is gone"):
        reader.read_next_batch()
