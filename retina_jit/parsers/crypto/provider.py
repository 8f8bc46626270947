"""The cryptography that parsers call: by the library where the CRYPTO record has its functions, else by own code.

`crypto` is the address of a CRYPTO record, or 0 for own code throughout. Everything else is own memory: what comes from
a packet is copied first. `work` has WORK bytes.
"""

from __future__ import annotations

from retina_jit.jit import kernel
from retina_jit.memory import c_call2, c_call3, c_call4, c_call5
from retina_jit.parsers import digest
from retina_jit.parsers.crypto import aes, gcm
from retina_jit.parsers.crypto.library import CRYPTO_AT

WORK = max(digest.SHA256_WORK, gcm.WORK)
_SET_TAG, _INT = 0x11, 0xFFFFFFFF


@kernel
def compress(crypto, state, block, work):
    """Take a block of 64 bytes into the state of a SHA-256, eight words in host order."""
    transform = CRYPTO_AT(crypto).transform if crypto else 0
    if transform:
        c_call2(transform, state, block)
    else:
        digest.sha256_block(state, block, work)


@kernel
def open_message(crypto, key, nonce, associated, associated_length, data, length, work):
    """Decrypt `length` bytes in place (AES-128-GCM, 12 bytes of nonce). Returns whether the 16 bytes behind them are their tag.

    If they are not, the bytes may have been overwritten.
    """
    if crypto == 0 or CRYPTO_AT(crypto).gcm == 0:
        return gcm.open_message(key, nonce, associated, associated_length, data, length, work)
    c = CRYPTO_AT(crypto)
    context, written = c.gcm, c.written
    c_call5(c.decrypt_init, context, 0, 0, key, nonce)
    c_call5(c.decrypt_update, context, 0, written, associated, associated_length)
    if length > 0:
        c_call5(c.decrypt_update, context, data, written, data, length)
    c_call4(c.control, context, _SET_TAG, gcm.TAG, data + length)
    return c_call3(c.decrypt_final, context, data + length, written) & _INT == 1


@kernel
def encrypt_block(crypto, key, source, target, work):
    """Encrypt one block of 16 bytes (AES-128)."""
    if crypto == 0 or CRYPTO_AT(crypto).ecb == 0:
        aes.expand_key(key, work)
        aes.encrypt_block(work, source, target)
        return
    c = CRYPTO_AT(crypto)
    c_call5(c.encrypt_init, c.ecb, 0, 0, key, 0)
    c_call5(c.encrypt_update, c.ecb, target, c.written, source, 16)
