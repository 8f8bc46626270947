"""Names of cipher suites in nopython mode: a sorted table of numbers, searched by halving."""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel
from retina_jit.memory import constant, load16
from retina_jit.parsers.iana.tls import CIPHER_SUITES, UNKNOWN_CIPHER

_NAMES = [*CIPHER_SUITES.values(), UNKNOWN_CIPHER]
_ENDS = np.cumsum([0, *map(len, _NAMES)])
assert _ENDS[-1] < 1 << 16

_COUNT = len(CIPHER_SUITES)
_numbers = constant("tls_cipher_numbers", np.array(list(CIPHER_SUITES), "<u2").tobytes())
_ends = constant("tls_cipher_ends", _ENDS.astype("<u2").tobytes())
_text = constant("tls_cipher_text", "".join(_NAMES).encode())


@kernel
def cipher_name(number):
    """IANA's name of a cipher suite, or UNKNOWN_CIPHER. The span stays valid while the program runs."""
    low, high = 0, _COUNT
    while low < high:
        middle = (low + high) >> 1
        if load16(_numbers() + 2 * middle) < number:
            low = middle + 1
        else:
            high = middle
    if low == _COUNT or load16(_numbers() + 2 * low) != number:
        low = _COUNT
    start = load16(_ends() + 2 * low)
    return (_text() + start, load16(_ends() + 2 * low + 2) - start)
