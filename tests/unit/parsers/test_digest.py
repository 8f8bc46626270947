from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retina_jit import objects
from retina_jit.parsers.digest import SHA256_WORK, SPARE

FILE = Path(__file__).parents[2] / "support" / "digests.py"
objects.ensure(f"{FILE}:{name}" for name in ("run_md5", "run_sha256", "run_hex", "run_sort"))
run_md5, run_sha256, run_hex, run_sort = (objects.function(f"{FILE}:run_{n}") for n in ("md5", "sha256", "hex", "sort"))

# RFC 1321, A.5
MD5 = {
    b"": "d41d8cd98f00b204e9800998ecf8427e",
    b"a": "0cc175b9c0f1b6a831c399e269772661",
    b"abc": "900150983cd24fb0d6963f7d28e17f72",
    b"message digest": "f96b697d7cb7938d525a2f31aaf161d0",
    b"abcdefghijklmnopqrstuvwxyz": "c3fcd3d76192e4007dfb496cca67e13b",
    b"1234567890" * 8: "57edf4a22be3c955ac49da2e2107b67a",
}
# FIPS 180-4 examples (csrc.nist.gov/projects/cryptographic-standards-and-guidelines/example-values)
SHA256 = {
    b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}


def digest(name: str, message: bytes) -> str:
    guard = b"\xa5" * 16
    held = ctypes.create_string_buffer(message + b"\xff" * SPARE + guard, len(message) + SPARE + 16)
    target, work = (ctypes.create_string_buffer(n) for n in (48, SHA256_WORK))
    words = [ctypes.addressof(held), len(message), ctypes.addressof(target)]
    if name == "sha256":
        run_sha256(*words, ctypes.addressof(work))
    else:
        run_md5(*words)
    assert held.raw[: len(message)] == message
    assert held.raw[-16:] == guard, "wrote behind the spare bytes"
    size = 32 if name == "sha256" else 16
    assert target.raw[size:] == bytes(48 - size)
    return target.raw[:size].hex()


@pytest.mark.parametrize(("message", "expected"), MD5.items(), ids=range(len(MD5)))
def test_md5_vectors(message: bytes, expected: str) -> None:
    assert digest("md5", message) == expected


@pytest.mark.parametrize(("message", "expected"), SHA256.items(), ids=range(len(SHA256)))
def test_sha256_vectors(message: bytes, expected: str) -> None:
    assert digest("sha256", message) == expected


def test_every_length_around_the_padding() -> None:
    for length in range(200):
        message = bytes((7 * n + length) & 0xFF for n in range(length))
        assert digest("md5", message) == hashlib.md5(message, usedforsecurity=False).hexdigest()
        assert digest("sha256", message) == hashlib.sha256(message).hexdigest()


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=3000))
def test_digests_equal_hashlib(message: bytes) -> None:
    assert digest("md5", message) == hashlib.md5(message, usedforsecurity=False).hexdigest()
    assert digest("sha256", message) == hashlib.sha256(message).hexdigest()


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=100))
def test_hexadecimal(data: bytes) -> None:
    source, target = ctypes.create_string_buffer(data, 100), ctypes.create_string_buffer(201)
    end = run_hex(ctypes.addressof(target), ctypes.addressof(source), len(data))
    assert end == ctypes.addressof(target) + 2 * len(data)
    assert target.value.decode() == data.hex()


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 0xFFFF), max_size=400))
def test_sort(numbers: list[int]) -> None:
    held = np.array([*numbers, 0xABCD], "<u2")
    run_sort(int(held.ctypes.data), len(numbers))
    assert held.tolist() == [*sorted(numbers), 0xABCD]


def test_sort_is_not_quadratic_on_any_order() -> None:
    for numbers in (np.arange(16000)[::-1], np.arange(16000), np.tile([5, 3, 60000, 1], 4000)):
        held = numbers.astype("<u2")
        run_sort(int(held.ctypes.data), held.size)
        assert (np.diff(held.astype(int)) >= 0).all()
