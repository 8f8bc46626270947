"""Entries around the kernels of `retina_jit.parsers.crypto`, for tests."""

from __future__ import annotations

from retina_jit.jit import entry
from retina_jit.memory import load64
from retina_jit.parsers.crypto import hkdf, provider


@entry
def open_message(job):
    """Words: crypto, key, nonce, associated, its length, data, its length, work."""
    good = provider.open_message(
        load64(job), load64(job + 8), load64(job + 16), load64(job + 24), load64(job + 32), load64(job + 40), load64(job + 48), load64(job + 56)
    )  # fmt: skip
    return 1 if good else 0


@entry
def encrypt_block(crypto, key, source, target, work):
    """One block."""
    provider.encrypt_block(crypto, key, source, target, work)
    return 0


@entry
def hmac(job):
    """Words: crypto, key, its length, message, its length, target, work."""
    work = load64(job + 48)
    hkdf.prepare(load64(job), load64(job + 8), load64(job + 16), work, work + hkdf.KEYED)
    hkdf.hmac(load64(job), work, load64(job + 24), load64(job + 32), load64(job + 40), work + hkdf.KEYED)
    return 0
