"""Many damaged QUIC datagrams and plaintexts in one call, for fuzzing in checked mode."""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import entry, kernel
from retina_jit.memory import copy, fill, load64, shift_right, store8
from retina_jit.parsers.quic import feed, frames
from retina_jit.parsers.quic.state import SIDE_AT, STATE, STATE_AT, client_side, server_side
from retina_jit.state.layout import INPUT

INPUT_AT = memory.at(INPUT)
_STATE, _INPUT = STATE.itemsize, INPUT.itemsize


@kernel
def _next(seed):
    """The next pseudo-random word (xorshift)."""
    seed ^= seed << 13
    seed ^= shift_right(seed, 7)
    return seed ^ (seed << 17)


@kernel
def _damage(address, length, seed):
    """Change up to four bytes, some of them to values that lengths like, and perhaps cut the end. Returns the length."""
    for n in range(seed & 3 if seed & 64 else 1):
        seed = _next(seed + n)
        at = (shift_right(seed, 8) & 0xFFFF) % length
        kind = seed & 7
        store8(address + at, 0 if kind == 0 else 0xFF if kind == 1 else 0x40 if kind == 2 else 0x3F if kind == 3 else shift_right(seed, 32) & 0xFF)
    seed = _next(seed)
    return 1 + (shift_right(seed, 16) & 0xFFFF) % length if seed & 7 == 0 else length


@entry
def damage_frames(job, times, seed):
    """Words: state, arena, scratch, address and length of plaintext of the client and of the server. Returns how often
    there was a ClientHello."""
    state, arena, scratch = load64(job), load64(job + 8), load64(job + 16)
    found = 0
    for _ in range(times):
        fill(state, 0, _STATE)
        row = STATE_AT(state)
        row.arena, row.keyed, row.opened, row.first_version, row.version = arena, 1, 1, 1, 1
        for n in range(4):
            seed = _next(seed)
            side = n & 1
            address, length = load64(job + 24 + 16 * side), load64(job + 32 + 16 * side)
            copy(scratch, address, length)
            length = _damage(scratch, length, seed)
            frames.take(state, server_side(state) if side else client_side(state), scratch, length, seed & 1)
        feed.conclude(state)
        found += 1 if SIDE_AT(client_side(state)).hello_len else 0
        feed.free(state, arena)
    return found


@entry
def damage_datagrams(job, times, seed):
    """Words: state, arena, scratch, INPUT, crypto, number of datagrams; then direction, address and length of each."""
    state, arena, scratch, given, crypto = load64(job), load64(job + 8), load64(job + 16), load64(job + 24), load64(job + 32)
    count = load64(job + 40)
    found = 0
    for _ in range(times):
        fill(state, 0, _STATE)
        fill(given, 0, _INPUT)
        i = INPUT_AT(given)
        for n in range(count):
            place = job + 48 + 24 * n
            length = load64(place + 16)
            copy(scratch, load64(place + 8), length)
            seed = _next(seed)
            i.length = _damage(scratch, length, seed) if seed & 0x300 else length
            i.address, i.direction, i.at, i.arena, i.crypto, i.transport = scratch, load64(place), 0, arena, crypto, 17
            answer = feed.feed(state, given)
            found += answer & 1
            if answer & 6:
                break
        feed.conclude(state)
        feed.free(state, arena)
    return found
