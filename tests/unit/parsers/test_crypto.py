"""AES-128-GCM, AES blocks and HMAC: the library, the own code, `cryptography` and published vectors give the same."""

from __future__ import annotations

import hashlib
import hmac
import random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from support import crypto

from retina_jit.parsers.crypto import hkdf

both = pytest.mark.parametrize("library", [False, True], ids=["own", "library"])
LENGTHS = [0, 1, 15, 16, 17, 31, 32, 33, 100, 255, 256, 1162, 1350, 1500]


def test_the_library_is_found_here() -> None:
    assert crypto.provider(True).found
    assert int(crypto.provider(True).record["transform"][0]) != 0
    assert not crypto.provider(False).found


@both
@pytest.mark.parametrize("length", LENGTHS)
def test_sealed_messages_open(library: bool, length: int) -> None:
    rng = random.Random(length)
    key, nonce, associated, plain = rng.randbytes(16), rng.randbytes(12), rng.randbytes(rng.randint(0, 60)), rng.randbytes(length)
    sealed = AESGCM(key).encrypt(nonce, plain, associated)
    assert crypto.open_message(library, key, nonce, associated, sealed) == plain


@both
def test_a_wrong_bit_anywhere_is_noticed(library: bool) -> None:
    rng = random.Random(7)
    key, nonce, associated, plain = rng.randbytes(16), rng.randbytes(12), rng.randbytes(20), rng.randbytes(50)
    sealed = AESGCM(key).encrypt(nonce, plain, associated)
    for place in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        assert crypto.open_message(library, key, nonce, associated, bytes(changed)) is None
    for place in range(len(associated) * 8):
        other = bytearray(associated)
        other[place // 8] ^= 1 << place % 8
        assert crypto.open_message(library, key, nonce, bytes(other), sealed) is None


@both
def test_gcm_vectors(library: bool) -> None:
    """Test cases 1 to 4 of McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B."""
    zero = bytes(16)
    assert crypto.open_message(library, zero, bytes(12), b"", bytes.fromhex("58e2fccefa7e3061367f1d57a4e7455a")) == b""
    sealed = bytes.fromhex("0388dace60b6a392f328c2b971b2fe78 ab6e47d42cec13bdf53a67b21257bddf")
    assert crypto.open_message(library, zero, bytes(12), b"", sealed) == zero
    key, nonce = bytes.fromhex("feffe9928665731c6d6a8f9467308308"), bytes.fromhex("cafebabefacedbaddecaf888")
    plain = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
    )
    cipher = bytes.fromhex(
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
    )
    assert crypto.open_message(library, key, nonce, b"", cipher + bytes.fromhex("4d5c2af327cd64a62cf35abd2ba6fab4")) == plain
    associated = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    assert crypto.open_message(library, key, nonce, associated, cipher[:60] + bytes.fromhex("5bc94fbc3221a5db94fae95ae7121a47")) == plain[:60]


@both
def test_blocks(library: bool) -> None:
    """FIPS 197, appendix B and C.1; then random ones."""
    known = [
        ("2b7e151628aed2a6abf7158809cf4f3c", "3243f6a8885a308d313198a2e0370734", "3925841d02dc09fbdc118597196a0b32"),
        ("000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff", "69c4e0d86a7b0430d8cdb78070b4c55a"),
    ]
    for key, plain, expected in known:
        assert crypto.encrypt_block(library, bytes.fromhex(key), bytes.fromhex(plain)).hex() == expected
    rng = random.Random(1)
    for _ in range(50):
        key, plain = rng.randbytes(16), rng.randbytes(16)
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        assert crypto.encrypt_block(library, key, plain) == encryptor.update(plain)


@both
@pytest.mark.parametrize("length", range(hkdf.LONGEST + 1))
def test_hmac(library: bool, length: int) -> None:
    rng = random.Random(length)
    key, message = rng.randbytes(rng.randint(0, 64)), rng.randbytes(length)
    assert crypto.hmac(library, key, message) == hmac.digest(key, message, "sha256")


def test_label_bytes() -> None:
    """RFC 9001, A.1: the client's secret from the initial secret."""
    initial = hmac.digest(bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"), bytes.fromhex("8394c8f03e515708"), hashlib.sha256)
    message = hkdf.label_bytes(b"client in", 32)
    assert message[:-1].hex() == "00200f746c73313320636c69656e7420696e00"
    assert hmac.digest(initial, message, "sha256").hex() == "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea"
