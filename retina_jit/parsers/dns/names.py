"""Names of DNS numbers in nopython mode: one table for all kinds of numbers."""

from __future__ import annotations

import numpy as np

from retina_jit.formats import number as decimal
from retina_jit.jit import kernel
from retina_jit.memory import constant, copy, load16, load32
from retina_jit.parsers.iana.dns import CLASSES, EDNS_OPTIONS, RCODES, SVC_PARAMS, TYPES

TYPE, CLASS, RCODE, PARAM, OPTION = (n << 16 for n in range(5))
"""Kind of a number; what `write_named` is given is kind | number."""

LONGEST = 24
"""Bytes that a name, or what stands for it, takes at most."""

_NAMES = {
    kind | n: name for kind, names in ((TYPE, TYPES), (CLASS, CLASSES), (RCODE, RCODES), (PARAM, SVC_PARAMS), (OPTION, EDNS_OPTIONS))
    for n, name in names.items()
}  # fmt: skip
_ORDERED = sorted(_NAMES)
_PREFIXES = ("TYPE", "CLASS", "RCODE", "key", "OPT")
_TEXTS = [*(_NAMES[n] for n in _ORDERED), *_PREFIXES]
assert max(map(len, _TEXTS)) <= LONGEST

_COUNT = len(_ORDERED)
_numbers = constant("dns_numbers", np.array(_ORDERED, "<u4").tobytes())
_ends = constant("dns_ends", np.cumsum([0, *map(len, _TEXTS)]).astype("<u2").tobytes())
_text = constant("dns_text", "".join(_TEXTS).encode())


@kernel
def write_named(out, key):
    """Write the name of a number, or what RFCs write for one without name: TYPE123. Returns where it ends."""
    low, high = 0, _COUNT
    while low < high:
        middle = (low + high) >> 1
        if load32(_numbers() + 4 * middle) < key:
            low = middle + 1
        else:
            high = middle
    known = low < _COUNT and load32(_numbers() + 4 * low) == key
    if not known:
        low = _COUNT + (key >> 16)
    start = load16(_ends() + 2 * low)
    length = load16(_ends() + 2 * low + 2) - start
    copy(out, _text() + start, length)
    return out + length if known else decimal.unsigned(out + length, key & 0xFFFF)
