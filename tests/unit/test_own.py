"""The user's functions in the cache: what is compiled again, what is not, and what only this process can compile."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from support.running import SAMPLES

import retina_jit
from retina_jit import objects
from retina_jit.errors import SubscriptionError
from retina_jit.own import DoesNotCompile, OwnEntry
from retina_jit.packing import Packer, Unpackable, unpack
from retina_jit.program import Program
from retina_jit.subscription import named

HERE = 3
TABLE = np.arange(8)


def made(function: Any, where: str = "a test", **more: Any) -> OwnEntry:
    return OwnEntry(where, function, "word", ["return user(word)"], **more)


def from_text(text: str, **known: Any) -> Any:
    """A function that stands in no file."""
    scope = {"np": np, "TABLE": TABLE, **known}
    exec(text, scope)
    return scope["f"]


def twice(word):
    return 2 * word


@numba.njit
def thrice(word):
    return 3 * word


ONE = "def f(word):\n    return word + HERE\n"


def test_the_same_function_has_the_same_unit_wherever_it_stands():
    one, other = made(from_text(ONE, HERE=3)), made(from_text("\n\n# moved\n" + ONE, HERE=3, UNUSED=5))
    assert one.unit
    assert one.unit == other.unit


def test_comments_and_empty_lines_within_do_not_count():
    plain = "def f(word):\n    g = lambda x: x * 2\n    if word > 3:\n        return g(word)\n    return word\n"
    commented = "def f(word):\n    # Why.\n\n    g = lambda x: x * 2  # and what for\n    if (\n        word > 3\n    ):\n        return g(word)\n    return word\n"
    assert made(from_text(plain)).unit == made(from_text(commented)).unit != ""
    assert [made(from_text(commented)).entry()(n) for n in (3, 4)] == [3, 8]


def test_a_module_of_the_users_that_hides_one_of_pythons_goes_along(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("FIVE = 5\n\ndef more(word):\n    return word + FIVE\n")
    spec = importlib.util.spec_from_file_location("queue", tmp_path / "queue.py")
    hides = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "queue", hides)
    spec.loader.exec_module(hides)
    for text, known in (("more(word)", hides.more), ("queue.more(word)", hides)):
        own = made(from_text(f"def f(word):\n    return {text}\n", more=known, queue=known))
        assert own.unit
        assert own.entry()(4) == 9
        assert own.dispatcher is None
    hides.FIVE = 6
    assert made(from_text("def f(word):\n    return more(word)\n", more=hides.more)).entry()(4) == 10


@pytest.mark.parametrize(
    "other",
    [
        from_text(ONE, HERE=4),
        from_text(ONE, HERE=True),
        from_text(ONE, HERE=np.int32(3)),
        from_text(ONE.replace("+", "-"), HERE=3),
        from_text("def f(word):\n    return word + abs(HERE)\n", HERE=3),
        from_text("def f(word, more=3):\n    return word + more\n"),
    ],
)
def test_another_function_has_another_unit(other):
    assert made(other).unit not in ("", made(from_text(ONE, HERE=3)).unit)


def test_what_is_called_counts_as_well():
    text = "def f(word):\n    return g(word)\n"
    units = {made(from_text(text, g=g)).unit for g in (twice, thrice, numba.njit(twice), numba.njit(fastmath=True)(twice))}
    assert "" not in units
    # A plain function is compiled as Numba's decorator would.
    assert len(units) == 4


def test_what_a_function_refers_to_goes_with_it():
    least, weights, inf = 40, np.array([[1, 2], [3, 4]], np.int16), float("inf")

    def one(word):
        best = np.int64(0)
        for n in range(len(TABLE)):
            best += TABLE[n]
        return best + twice(word) + thrice(word) + (least if word < inf else 0) + np.int64(weights[1, 0]) + retina_jit.ACCEPT

    own = made(one)
    assert own.unit
    assert own.entry()(7) == sum(range(8)) + 14 + 21 + 40 + 3 + retina_jit.ACCEPT
    assert own.dispatcher is None, "a child process has compiled it"


def test_signatures_of_its_own_hold():
    narrow = numba.njit("uint8(uint8)")(lambda word: word)
    own = made(from_text("def f(word):\n    return g(word)\n", g=narrow), "narrow")
    assert own.entry()(300) == made(narrow, "narrow").entry()(300) == 300 % 256
    with pytest.raises(Unpackable, match="f uses g, compiled with signatures of its own"):
        Packer().value(from_text("def f():\n    return g()\n", g=narrow), "it")


def test_a_division_by_zero_means_the_same_in_every_process():
    large = np.arange(1 << 18)

    @numba.njit
    def ratio(word):
        return 5 // word

    @numba.njit
    def here(word):
        return 5 // word + large[0]

    for f in (ratio, here):
        with pytest.raises(ZeroDivisionError):
            f(0)
    packed, local = made(ratio), made(here, "here")
    assert packed.unit
    assert not local.unit
    assert packed.entry()(0) == local.entry()(0) == 0


def test_values_come_back_as_they_were():
    packer = Packer()
    records = np.zeros(3, np.dtype([("a", "u1"), ("b", "<i8", (2,))], align=True))
    for value in (1, -1.5, float("-inf"), True, None, "ü", b"\0", (1, ("x",)), 3 + 2j, np.float32(2.5), records.dtype, np, np.sqrt, numba.int64):
        assert unpack(packer.functions, packer.value(value, "")) == value
        assert type(unpack(packer.functions, packer.value(value, ""))) is type(value)
    again = unpack([], packer.value(records, ""))
    assert again.dtype == records.dtype
    assert (again == records).all()
    assert str(unpack([], packer.value(float("nan"), ""))) == "nan"


class Odd:
    value = 3


@pytest.mark.parametrize("value", [Odd(), {1: 2}, np.zeros(1 << 18), np.zeros((4, 4)).T[1:], print, numba.njit(locals={"x": numba.int32})(twice)])
def test_what_has_no_text_is_refused_by_name(value):
    if value is print:
        value = Odd
    with pytest.raises(Unpackable, match="f uses g"):
        Packer().value(from_text("def f():\n    return g\n", g=value), "it")


def test_a_closure_over_what_only_this_process_has_is_compiled_in_it(caplog):
    large = np.arange(1 << 18)

    def one(word):
        return large[word]

    own = made(one)
    with caplog.at_level(logging.WARNING):
        assert own.entry()(5) == 5
    assert own.dispatcher is not None
    assert "a test is compiled anew at each start, for one uses large, an array" in caplog.text


def test_faults_are_those_of_this_process():
    with pytest.raises(DoesNotCompile, match="No implementation of function"):
        made(from_text("def f(word):\n    return word + 'x'\n")).entry()
    record = np.dtype([("a", "i8")])
    with pytest.raises(KeyError, match="b"):
        OwnEntry("a test", from_text("def f(r):\n    return r.b\n"), "word", ["return user(record_at(word))"], values={"record": record}).entry()


def test_functions_are_packed_once_and_given_to_children_once(monkeypatch):
    packed, compiled = [], []
    monkeypatch.setattr(Packer, "function", lambda self, f, original=Packer.function: (packed.append(f.__name__), original(self, f))[1])
    monkeypatch.setattr(objects, "_compile", lambda units, progress, original=objects._compile: (compiled.append(len(units)), original(units, progress))[1])

    @retina_jit.predicate
    def a_predicate(packet):
        return packet.length > 60

    @retina_jit.predicate
    class a_watcher:  # noqa: N801 - as filters call it
        state = np.dtype([("packets", "i8")])

        def update(state, packet):  # noqa: N805
            return retina_jit.ACCEPT

    @retina_jit.data_type
    class OnceOnly:
        state = np.dtype([("packets", "i8")])

        def update(state, packet):  # noqa: N805
            state.packets += 1

    def a_callback(total):
        pass

    def program(callback):
        return Program([
            named(["OnceOnly"], "a_predicate and a_watcher", print, "each"),
            named(["OnceOnly"], "tcp", callback, "jit"),
        ])  # fmt: skip

    program(a_callback)
    assert sorted(packed) == ["a_callback", "a_predicate", "update", "update"]
    compiled.clear()

    def faulty(total):
        return total.packets + "x"

    with pytest.raises(SubscriptionError, match="does not compile in nopython mode"):
        program(faulty)
    assert compiled == [1]


APP = """
import atexit
import sys

import numpy as np
from retina_jit import ACCEPT, DROP, ConnRecord, TlsHandshake, ZcFrame, data_type, predicate, subscribe

LEAST = {least}

@predicate("tls")
def ends(sni, suffix):
    return sni.upper().endswith(suffix.upper()) and "numba" not in suffix

@predicate
def long_one(packet, least=LEAST):
    return packet.length >= least

@predicate
class many:
    state = np.dtype([("packets", "i8")])

    def update(state, packet):
        state.packets += 1
        return {verdict}

@data_type
class Sum:
    state = np.dtype([("bytes", "i8")])

    def update(state, packet):
        state.bytes += packet.length

seen = []

@subscribe("ends('.COM') and long_one")
def names(tls: TlsHandshake):
    seen.append(tls.sni)

@subscribe("many and tcp")
def sums(record: ConnRecord, total: Sum):
    seen.append(total.bytes)

total = np.zeros(1, np.dtype([("n", "i8")]))

@subscribe("tcp", deliver="jit", state=total)
def counted(frame: ZcFrame, state):
    state.n += 1

def tell():
    numbers = [n for n in seen if isinstance(n, int)]
    print("SAW", len(seen) - len(numbers), len(numbers), sum(numbers) > 0, "numba" in sys.modules)

atexit.register(tell)
"""


def test_a_second_start_compiles_nothing_and_imports_no_numba(tmp_path: Path):
    app = tmp_path / "app.py"

    def run(least: int, verdict: str, before: str = "") -> tuple[str, list[str], list[str]]:
        app.write_text(before + APP.format(least=least, verdict=verdict))
        command = [sys.executable, "-m", "retina_jit", "run", str(app), "-r", str(SAMPLES / "tls.pcap")]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert "SAW" in result.stdout, result.stderr
        names, connections, bytes_seen, numba_there = result.stdout.partition("SAW")[2].split()
        assert numba_there == "False"
        return result.stderr.partition("compil")[1], [names, connections], [bytes_seen]

    run(60, "ACCEPT")
    compiled, all_of_them, _ = run(60, "ACCEPT", before="# Only a comment.\n")
    assert compiled == ""
    assert int(all_of_them[0]) > 0
    assert int(all_of_them[1]) > 0
    assert run(10**6, "ACCEPT")[1][0] == "0", "no packet is as long"
    assert run(60, "DROP")[1] == [all_of_them[0], "0"]
    assert run(60, "ACCEPT") == (compiled, all_of_them, ["True"])
