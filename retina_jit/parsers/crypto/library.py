"""libcrypto (OpenSSL), found at run time: the addresses of its functions as a record that kernels can use.

It is optional. Without it, or if it gives wrong answers, the record's words are 0 and the project's own code does the
work, some times slower. A record belongs to one worker: its contexts are not made for two threads at a time.

Sources: the manual pages EVP_EncryptInit(3), SHA256_Init(3); FIPS 180-4, B.1; RFC 9001, A.2.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import weakref
from functools import cache
from typing import Any

import numpy as np

from retina_jit import memory

CRYPTO = np.dtype(
    [
        ("transform", "i8"),  # SHA256_Transform(state, block)
        ("decrypt_init", "i8"),
        ("decrypt_update", "i8"),
        ("decrypt_final", "i8"),
        ("control", "i8"),
        ("encrypt_init", "i8"),
        ("encrypt_update", "i8"),
        ("gcm", "i8"),  # contexts, with their cipher set; 0: no AES from the library
        ("ecb", "i8"),
        ("written", "i8"),  # where the library says how much it wrote
    ]
)
CRYPTO_AT = memory.at(CRYPTO)

_NAMES = ("libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.3.dylib")
_SET_TAG = 0x11  # EVP_CTRL_AEAD_SET_TAG
_FUNCTIONS = {
    "decrypt_init": "EVP_DecryptInit_ex",
    "decrypt_update": "EVP_DecryptUpdate",
    "decrypt_final": "EVP_DecryptFinal_ex",
    "control": "EVP_CIPHER_CTX_ctrl",
    "encrypt_init": "EVP_EncryptInit_ex",
    "encrypt_update": "EVP_EncryptUpdate",
}


@cache
def _library() -> Any:
    """Return the loaded library, or None."""
    found = ctypes.util.find_library("crypto")
    for name in (*_NAMES, *([found] if found else [])):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        if all(hasattr(library, f) for f in (*_FUNCTIONS.values(), "EVP_CIPHER_CTX_new", "EVP_CIPHER_CTX_free", "EVP_aes_128_gcm", "EVP_aes_128_ecb")):
            return library
    return None


def _address(library: Any, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0


def _hashes_right(library: Any) -> bool:
    """Whether SHA256_Transform takes a block into eight bare words: the digest of "abc"."""
    state = np.array([0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], "<u4")
    room = np.zeros(32, np.uint32)  # the structure goes on behind the words
    room[:8] = state
    block = np.frombuffer(b"abc\x80" + bytes(59) + b"\x18", np.uint8)
    library.SHA256_Transform(ctypes.c_void_p(room.ctypes.data), ctypes.c_void_p(block.ctypes.data))
    return room[:8].astype(">u4").tobytes().hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def _masks_right(library: Any, context: int) -> bool:
    """Whether a context gives the header protection mask of RFC 9001, A.2."""
    key, sample = bytes.fromhex("9f50449e04a0e810283a1e9933adedd2"), bytes.fromhex("d1b1c98dd7689fb8ec11d242b123dc9b")
    out, written = ctypes.create_string_buffer(32), ctypes.c_int(0)
    pointer = ctypes.c_void_p(context)
    done = library.EVP_EncryptInit_ex(pointer, None, None, key, None) == 1
    done = done and library.EVP_EncryptUpdate(pointer, out, ctypes.byref(written), sample, 16) == 1
    return done and out.raw[:5].hex() == "437b9aec36"


class Crypto:
    """A worker's record of the library.

    Attributes
    ----------
    address : int
        Of the CRYPTO record, for kernels.
    found : bool
        Whether AES comes from the library.
    """

    def __init__(self, use_library: bool = True) -> None:
        self.record = np.zeros(1, CRYPTO)
        self._written = np.zeros(1, np.int64)
        self.address = int(self.record.ctypes.data)
        library = _library() if use_library else None
        self.found = library is not None and self._fill(library)

    def _fill(self, library: Any) -> bool:
        r = self.record
        r["written"] = self._written.ctypes.data
        if hasattr(library, "SHA256_Transform") and _hashes_right(library):
            r["transform"] = _address(library, "SHA256_Transform")
        new, free = library.EVP_CIPHER_CTX_new, library.EVP_CIPHER_CTX_free
        new.restype = library.EVP_aes_128_gcm.restype = library.EVP_aes_128_ecb.restype = ctypes.c_void_p
        gcm, ecb = new(), new()
        for context in (gcm, ecb):
            if context:
                weakref.finalize(self, free, ctypes.c_void_p(context))
        done = (
            gcm
            and ecb
            and library.EVP_DecryptInit_ex(ctypes.c_void_p(gcm), ctypes.c_void_p(library.EVP_aes_128_gcm()), None, None, None) == 1
            and library.EVP_EncryptInit_ex(ctypes.c_void_p(ecb), ctypes.c_void_p(library.EVP_aes_128_ecb()), None, None, None) == 1
            and _masks_right(library, ecb)
        )
        if not done:
            return False
        for field, name in _FUNCTIONS.items():
            r[field] = _address(library, name)
        r["gcm"], r["ecb"] = gcm, ecb
        return True
