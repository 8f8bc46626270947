"""The cryptography of the parsers as Python functions, with the library and without it."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np

from retina_jit import objects
from retina_jit.parsers.crypto import hkdf
from retina_jit.parsers.crypto.library import Crypto

KERNELS = Path(__file__).with_name("crypto_kernels.py")
_work = np.zeros(hkdf.WORK + hkdf.KEYED, np.uint8)


@cache
def provider(library: bool) -> Crypto:
    return Crypto(use_library=library)


def _call(name: str, *words: int) -> int:
    held = np.array(words, np.int64)
    return objects.function(f"{KERNELS}:{name}")(int(held.ctypes.data))


def _hold(data: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(data, len(data) or 1)


def open_message(library: bool, key: bytes, nonce: bytes, associated: bytes, sealed: bytes) -> bytes | None:
    """The plaintext of a sealed message, or None if its tag is wrong."""
    held = [_hold(x) for x in (key, nonce, associated, sealed)]
    k, n, a, d = (ctypes.addressof(h) for h in held)
    length = len(sealed) - 16
    good = _call("open_message", provider(library).address, k, n, a, len(associated), d, length, int(_work.ctypes.data))
    return held[3].raw[:length] if good else None


def encrypt_block(library: bool, key: bytes, block: bytes) -> bytes:
    out, k, b = _hold(bytes(32)), _hold(key), _hold(block)
    entry = objects.function(f"{KERNELS}:encrypt_block")
    entry(provider(library).address, ctypes.addressof(k), ctypes.addressof(b), ctypes.addressof(out), int(_work.ctypes.data))
    return out.raw[:16]


def hmac(library: bool, key: bytes, message: bytes) -> bytes:
    out, k, m = _hold(bytes(32)), _hold(key), _hold(message)
    words = (ctypes.addressof(k), len(key), ctypes.addressof(m), len(message), ctypes.addressof(out), int(_work.ctypes.data))
    _call("hmac", provider(library).address, *words)
    return out.raw[:32]
