"""Automata against Python's `re`: random patterns and texts, patterns together, what is refused."""

from __future__ import annotations

import ctypes
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retina_jit import objects, stamp
from retina_jit.errors import FilterError
from retina_jit.filters import parallel, regex, wide
from retina_jit.stamp import cache_dir

_SOURCE = '''from retina_jit.filters.match import match_positions, run_automaton
from retina_jit.jit import entry
from retina_jit.memory import load64


@entry
def run(table, address, length):
    if load64(table) < 0:
        return match_positions(table, (address, length))
    return run_automaton(table, (address, length))
'''


@pytest.fixture(scope="module")
def entry():
    file = cache_dir() / "test_run_automaton.py"
    if not file.exists() or file.read_text() != _SOURCE:
        file.write_text(_SOURCE)
        stamp.forget_sources()
    return objects.function(f"{file}:run")


@pytest.fixture(scope="module")
def run(entry):
    def matches(patterns, text: bytes) -> list[bool]:
        held = ctypes.create_string_buffer(text, len(text) or 1)
        found = {}
        for table, inside in wide.build(patterns):
            bits = entry(int(table.ctypes.data), ctypes.addressof(held), len(text))
            found |= {p: bool(bits >> n & 1) for n, p in enumerate(inside)}
        return [found[p] for p in patterns]

    return matches


def _expected(patterns, text: bytes) -> list[bool]:
    return [bool(regex.reference(*p).search(text if p[1] else text.decode())) for p in patterns]


_atoms = st.sampled_from(["a", "b", "c", ".", "é", "漢", "[ab]", "[^a]", r"\d", r"\W", r"\.", "[^é]", "[à-ü]", "(?:)", "[^\\d\\s]"])


def _grow(inner):
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda p: f"(?:{p[0]}|{p[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{1,2}", "{2}", "*?", "{0,3}"])).map(lambda p: f"(?:{p[0]}){p[1]}"),
        inner.map(lambda p: f"^{p}"),
        inner.map(lambda p: f"{p}$"),
        inner.map(lambda p: f"(?i:{p})"),
    )


_patterns = st.recursive(_atoms, _grow, max_leaves=8)
_texts = st.text(alphabet="abcABé5\n. ü漢É", max_size=9)


@settings(max_examples=400, deadline=None)
@given(st.lists(_patterns, min_size=1, max_size=4, unique=True), st.lists(_texts, min_size=1, max_size=8))
def test_automaton_equals_re(run, patterns, texts):
    pairs = [(p, False) for p in patterns]
    for text in texts:
        assert run(pairs, text.encode()) == _expected(pairs, text.encode()), (patterns, text)


@pytest.fixture(scope="module")
def run_positions(entry):
    """Whether one pattern matches, by its positions."""

    def matches(pattern, text: bytes) -> bool:
        held, table = ctypes.create_string_buffer(text, len(text) or 1), parallel.pack(pattern)
        return bool(entry(int(table.ctypes.data), ctypes.addressof(held), len(text)))

    return matches


@settings(max_examples=400, deadline=None)
@given(_patterns, st.lists(_texts, min_size=1, max_size=8))
def test_positions_equal_re(run_positions, pattern, texts):
    for text in texts:
        assert run_positions((pattern, False), text.encode()) == _expected([(pattern, False)], text.encode())[0], (pattern, text)


@settings(max_examples=150, deadline=None)
@given(_patterns.filter(str.isascii), st.binary(max_size=12))
def test_positions_of_bytes_equal_re(run_positions, pattern, data):
    assert run_positions((pattern, True), data) == _expected([(pattern, True)], data)[0]


LARGE = ["a.{50}b", "(xy*)+y.{8}[ab].{12}[^a]", "^(?:[abx].{1,40}){3}é", "(?i)[k漢].{90}z"]


@pytest.mark.parametrize("pattern", LARGE)
def test_a_pattern_of_too_many_states_runs_as_positions(entry, pattern):
    rng = random.Random(8)
    (table, inside), = wide.build([(pattern, False)])
    assert inside == ((pattern, False),)
    assert table[:8].tobytes() == b"\xff" * 8, "it has no automaton of states"
    found = 0
    for _ in range(300):
        text = "".join(rng.choices("abxyéZk漢", k=rng.choice((1, 5, 20, 52, 100, 200)))).encode()
        held = ctypes.create_string_buffer(text, len(text))
        got = bool(entry(int(table.ctypes.data), ctypes.addressof(held), len(text)))
        assert [got] == _expected([(pattern, False)], text), text
        found += got
    assert 0 < found < 300


def test_large_patterns_beside_others(run):
    patterns = [(p, False) for p in ("^a", LARGE[0], "b$", LARGE[1], "é")]
    assert len(wide.build(patterns)) > 2
    text = "ab" + "x" * 49 + "b"
    assert run(patterns, text.encode()) == _expected(patterns, text.encode()) == [True, True, True, False, False]


@settings(max_examples=150, deadline=None)
@given(st.lists(_patterns.filter(str.isascii), min_size=1, max_size=3, unique=True), st.binary(max_size=12))
def test_bytes_are_matched_byte_by_byte(run, patterns, data):
    pairs = [(p, True) for p in patterns]
    assert run(pairs, data) == _expected(pairs, data)


def test_dollar_is_the_end_of_the_text_only(run):
    assert run([("com$", False)], b"x.com") == [True]
    assert run([("com$", False)], b"x.com\n") == [False]


def test_many_patterns_in_automata_of_64(run):
    rng = random.Random(2)
    names = [f"{rng.choice(['cdn', 'www', 'mail'])}{n}" for n in range(200)]
    patterns = [(rf"(^|\.){name}\.example\.com$", False) for name in names]
    assert len(wide.build(patterns)) == 4
    for name in (names[0], names[77], names[199], "other"):
        text = f"a.{name}.example.com".encode()
        assert run(patterns, text) == _expected(patterns, text)


def test_patterns_that_blow_up_together_are_kept_apart(run):
    patterns = [(f"{chr(97 + n)}x.*y{n}", False) for n in range(14)]
    assert 1 < len(wide.build(patterns)) < 14
    assert run(patterns, b"axbxcx...y1y2") == [False, True, True] + [False] * 11


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (r"(?-u)^\x32\.\x30$", b"2.0", True),
        (r"(?i)netflix", b"NetFlix.com", True),
        (r"(?s)a.b", b"a\nb", True),
        ("a.b", b"a\nb", False),
        (r"(?x) a b # comment", b"ab", True),
        (r"[[:alpha:]]+[[:digit:]]$", b"abc1", True),
        (r"^[^[:space:]]+$", b"a b", False),
        (r"a\z", b"ba", True),
        (r"\x{e9}", "é".encode(), True),
        (r"(?<name>a)(?P<other>b)", b"ab", True),
        ("^.$", "漢".encode(), True),
        ("^.$", b"\xff", True),  # UTF-8 never holds this byte: it counts as one character
        ("^..$", "漢".encode(), False),
    ],
)
def test_syntax_of_rust(run, pattern, text, matches):
    regex.check(pattern, False, pattern, 0)
    assert run([(pattern, False)], text) == [matches]


@pytest.mark.parametrize(
    ("pattern", "at", "reason"),
    [
        ("a(?=b)", 1, "look-around is not supported"),
        ("(?<!a)b", 0, "look-around is not supported"),
        (r"x\bfoo", 1, "a word boundary is not supported"),
        (r"(a)\1", 3, "a back-reference is not supported"),
        ("a++", 1, "a possessive repeat is not supported"),
        ("(?>a)", 0, "an atomic group is not supported"),
        ("(?m)^a", 0, "the flag m is not supported"),
        ("ab[", 2, "unterminated character set"),
        ("a**", 2, "multiple repeat"),
        (r"\p{L}", 0, "Unicode classes are not supported"),
        (r"[[:foo:]]", 1, "no such class of characters"),
    ],
)
def test_refused_with_position(pattern, at, reason):
    with pytest.raises(FilterError) as caught:
        regex.check(pattern, False, f"tls.sni ~ '{pattern}'", 11)
    assert caught.value.reason == f"regular expression: {reason}"
    assert caught.value.start == 11 + at


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab^$.*+?()[]{}|\\dwx,1-:&~é#=!<>P'", max_size=12), st.booleans())
def test_any_text_is_a_pattern_or_an_error(pattern, as_bytes):
    start = 0
    try:
        regex.check(pattern, as_bytes, pattern, 0)
    except FilterError as error:
        start = error.start
    assert 0 <= start <= len(pattern)


def test_utf8_ranges_cover_exactly():
    rng = random.Random(1)
    for _ in range(40):
        low = rng.choice([128, 2047, 2048, 0xD7FF, 0xE000, 0x10000, rng.randint(128, 0x10FFFF)])
        high = min(0x10FFFF, low + rng.choice([0, 1, 63, 64, 5000, 70000]))
        parts = regex.utf8_ranges(low, high)
        for c in {low, high, *rng.choices(range(128, 0x110000), k=200)}:
            if not 0xD800 <= c <= 0xDFFF:
                encoded = chr(c).encode()
                inside = any(len(p) == len(encoded) and all(a <= b <= z for b, (a, z) in zip(encoded, p)) for p in parts)
                assert inside == (low <= c <= high), (hex(c), hex(low), hex(high))


def test_tables_are_bytes():
    (table, inside), = wide.build([("a", False)])
    assert table.dtype == np.uint8
    assert inside == (("a", False),)
