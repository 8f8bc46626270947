"""The compiled writers show what `to_dict` says, for records and bytes of any kind: JSON, CSV, columns."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tables import flat, same_cell
from support.writing import HEAD, Parts, opened, view, written

from retina_jit.datatypes.base import DataType, View
from retina_jit.datatypes.column import (
    LATIN1,
    UTF8_OR_HEX,
    ZERO,
    Names,
    address,
    each_named,
    flag,
    named,
    nested,
    number,
    numbers,
    objects,
    raw,
    seconds,
    text,
    texts,
    unless,
)  # fmt: skip
from retina_jit.delivery.columns import Columns, Lists, Texts
from retina_jit.delivery.sinks import address_of
from retina_jit.sinks import Csv

ITEM = np.dtype([("n", "i8"), ("name", "i8"), ("kind", "u2"), ("pad", "u2"), ("flags", "u4")])
ITEM_NAMES = Names({0: "zero", 7: 'a "quoted" na\\me', 300: "three hundred: ü"}, "Kind({n} / {x})")
RECORD = np.dtype(
    [
        *[(f"i{8 * n}", f"i{n}") for n in (2, 4, 8)],
        *[(f"u{8 * n}", f"u{n}") for n in (1, 2, 4, 8)],
        ("pad", "u1"),
        *[(n, "i8") for n in ("begin", "stop", "high", "low")],
        *[(n, "i8") for n in ("utf8", "latin", "hexed", "empty_is_empty", "bytes_", "short", "wide", "numbers16", "numbers64", "named_list", "items")],
        ("flags", "u4"),
        ("few", "u4", 3),
        ("few_count", "u1"),
        ("version", "u1"),
        ("fixed", "S16"),
        *[(f"inner_{n}", "i8") for n in ("n", "name")],
        ("inner_kind", "u2"),
        ("inner_pad", "u2"),
        ("inner_flags", "u4"),
    ]
)
assert RECORD.itemsize % 8 == 0, RECORD.itemsize
FEW = np.dtype([("kind", "u2"), ("pad", "u2")])


class Item(View):
    __slots__ = ()
    n = number(ITEM, "n", "", null=unless(ITEM, "flags", 1))
    name = text(ITEM, "name", "")
    kind = named(ITEM, "kind", ITEM_NAMES, "", null=unless(ITEM, "flags", 2))


class Few(View):
    __slots__ = ()
    kind = named(FEW, "kind", Names({1: "one"}, "unknown"), "")
    number = number(FEW, "kind", "")


class Everything(DataType):
    __slots__ = ()
    RECORD = RECORD
    RECORD = RECORD
    items = objects(RECORD, "items", Item, ITEM, "")
    i16, i32, i64 = (number(RECORD, n, "") for n in ("i16", "i32", "i64"))
    u8, u16, u32, u64 = (number(RECORD, n, "") for n in ("u8", "u16", "u32", "u64"))
    perhaps = number(RECORD, "u16", "", null=ZERO)
    flagged = number(RECORD, "i32", "", null=unless(RECORD, "flags", 0x80000001))
    inner = nested(Item, RECORD.fields["inner_n"][1], "", null=unless(RECORD, "flags", 2))
    sure = nested(Item, RECORD.fields["inner_n"][1], "")
    duration = seconds(RECORD, "stop", "", since="begin")
    pause = seconds(RECORD, "i64", "", null=ZERO)
    is_odd = flag(RECORD, "flags", 1, "")
    is_big = flag(RECORD, "u64", 1 << 63, "")
    addr = address(RECORD, "high", "low", "version", "")
    utf8 = text(RECORD, "utf8", "")
    latin = text(RECORD, "latin", "", encoding=LATIN1)
    hexed = text(RECORD, "hexed", "", encoding=UTF8_OR_HEX)
    empty_is_empty = text(RECORD, "empty_is_empty", "", null=unless(RECORD, "flags", 4), absent=None)
    fixed = text(RECORD, "fixed", "")
    bytes_ = raw(RECORD, "bytes_", "")
    part = raw(RECORD, "bytes_", "", null=None, part=(2, 6), as_hex=True)
    short = texts(RECORD, "short", "", prefix=1)
    wide = texts(RECORD, "wide", "", prefix=2, encoding=UTF8_OR_HEX, null=ZERO)
    numbers8 = numbers(RECORD, "bytes_", "", item=1)
    numbers16 = numbers(RECORD, "numbers16", "", item=2)
    little16 = numbers(RECORD, "numbers16", "", item=2, order="little")
    little32 = numbers(RECORD, "numbers16", "", item=4, order="little", null=unless(RECORD, "flags", 8))
    numbers64 = numbers(RECORD, "numbers64", "", item=8)
    named_list = each_named(RECORD, "named_list", ITEM_NAMES, "")
    few = objects(RECORD, "few", Few, FEW, "", count="few_count")


WORDS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-1000, 1000), st.sampled_from([10**k + d for k in range(19) for d in (-1, 0, 1)]))
TIMES = WORDS.map(lambda n: n >> 1)
PIECES = st.sampled_from(
    [b'"', b"\\", b"\x00", b"\x1f", b"\x7f", b"\n", b"\xc3\xa9", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf",
     b"\xe2\x82", b"\xf0\x9f", b"\xff", b"abcdefgh", b"a", b"\xe0\x80\x80", b"\xe2\x28\xa1"]
)  # fmt: skip
BYTES = st.one_of(st.binary(max_size=40), st.lists(PIECES, max_size=12).map(b"".join), st.text(max_size=20).map(lambda s: s.encode(errors="surrogatepass")))
PARTS = ("utf8", "latin", "hexed", "empty_is_empty", "bytes_", "numbers16", "numbers64", "named_list")
V6 = st.lists(st.sampled_from([0, 0, 0, 1, 0xFFFF, 0x0DB8, 0xAB]), min_size=8, max_size=8).map(lambda g: struct.unpack(">qq", struct.pack(">8H", *g)))


def lengths(pieces: list[bytes], prefix: int) -> bytes:
    return b"".join(len(p).to_bytes(prefix, "big") + p for p in pieces)


@st.composite
def events(draw: Any) -> bytes:
    parts, r = Parts(RECORD.itemsize), np.zeros(1, RECORD)
    r["i64"], r["inner_n"] = draw(WORDS), draw(WORDS)
    r["begin"], r["stop"] = draw(TIMES), draw(TIMES)
    r["high"], r["low"] = draw(st.one_of(V6, st.tuples(WORDS, WORDS)))
    for name, bits in (("i16", 16), ("i32", 32)):
        r[name] = draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    for name, bits in (("u8", 8), ("u16", 16), ("u32", 32), ("u64", 64), ("flags", 32), ("inner_flags", 4), ("inner_kind", 16)):
        r[name] = draw(st.one_of(st.integers(0, 2**bits - 1), st.sampled_from([0, 1, 7, 2**bits - 1])))
    r["flags"] = draw(st.integers(0, 15)) | draw(st.sampled_from([0, 1 << 31]))
    r["version"] = draw(st.integers(0, 1))
    for name in PARTS:
        r[name] = parts.put(draw(BYTES))
    r["named_list"] = parts.put(b"".join(n.to_bytes(2, "big") for n in draw(st.lists(st.sampled_from([0, 7, 300, 301, 65535]), max_size=5))))
    r["short"] = parts.put(lengths([b[:255] for b in draw(st.lists(BYTES, max_size=4))], 1) + draw(st.sampled_from([b"", b"\x05cut"])))
    r["wide"] = parts.put(lengths(draw(st.lists(BYTES, max_size=4)), 2) + draw(st.sampled_from([b"", b"\x00", b"\xff\xffcut"])))
    r["fixed"] = draw(st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=16)).encode()
    r["few"] = [draw(st.sampled_from([0, 1, 65535])) for _ in range(3)]
    r["few_count"] = draw(st.integers(0, 3))
    r["inner_name"] = parts.put(draw(BYTES))
    items = np.zeros(draw(st.integers(0, 3)), ITEM)
    for item in items:
        item["n"], item["flags"], item["kind"] = draw(WORDS), draw(st.integers(0, 3)), draw(st.sampled_from([0, 7, 8]))
        item["name"] = parts.put(draw(BYTES))
    r["items"] = parts.put(items.tobytes())
    return parts.event(r.tobytes())


@settings(max_examples=150, deadline=None)
@given(st.lists(events(), min_size=1, max_size=8))
def test_any_record_is_written_as_to_dict_says(made):
    lines = written([Everything], made)
    assert len(lines) == len(made)
    for line, event in zip(lines, made, strict=True):
        assert line.endswith(b"}\n") and line.count(b"\n") == 1
        shown, wanted = json.loads(line)["everything"], json.loads(json.dumps(view(Everything, event).to_dict()))
        assert list(shown) == list(wanted)
        assert [(k, shown[k], wanted[k]) for k in wanted if shown[k] != wanted[k]] == []


@settings(max_examples=100, deadline=None)
@given(st.lists(events(), min_size=1, max_size=8))
def test_any_record_is_a_row_of_csv(made):
    out = io.BytesIO()
    sink = opened(out, [[Everything]], Csv(out))
    data = b"".join(made)
    assert sink.take(address_of(data), len(data)) == len(data)
    sink.close()
    header, *rows = csv.reader(io.StringIO(out.getvalue().decode(), newline=""))
    assert len(rows) == len(made)
    for row, event in zip(rows, made, strict=True):
        cells = dict(zip(header, row, strict=True))
        shown = view(Everything, event).to_dict()
        if shown["inner"] is None:
            shown["inner"] = dict.fromkeys(("n", "name", "kind"))
        wanted = flat({"everything": shown})
        assert list(cells) == list(wanted)
        assert [(k, cells[k], v) for k, v in wanted.items() if not same_cell(cells[k], v)] == []


def _as_dict(value: Any, n: int) -> Any:
    if isinstance(value, Columns):
        return value[n].to_dict()
    if isinstance(value, Texts | Lists):
        found = value.to_list()[n]
        return [x.to_dict() if isinstance(x, View) else x for x in found] if isinstance(found, list) else found
    return value[n].item()


@settings(max_examples=60, deadline=None)
@given(st.lists(events(), min_size=1, max_size=8))
def test_columns_hold_what_the_views_say(made):
    data = b"".join(made)
    places = np.cumsum([0, *map(len, made)])[:-1]
    table = Columns(Everything, data, places, places + HEAD)
    for name in table.names:
        column, null = table[name], table.null(name)
        for n, event in enumerate(made):
            wanted = view(Everything, event).to_dict()[name]
            if null is not None:
                assert bool(null[n]) == (wanted is None), name
            if wanted is None:
                continue
            found = _as_dict(column, n)
            if isinstance(found, bytes):
                found = found.hex()
            if isinstance(wanted, float):
                assert math.isclose(found, wanted, rel_tol=1e-15)  # an array is divided as floats, rounded twice
                continue
            assert json.loads(json.dumps(found)) == json.loads(json.dumps(wanted)), name
