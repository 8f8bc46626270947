"""Names of DNS numbers in nopython mode."""

from __future__ import annotations

from typing import Any

import numpy as np

from retina_jit.jit import kernel
from retina_jit.memory import constant, load16
from retina_jit.parsers.iana.dns import CLASSES, EDNS_OPTIONS, RCODES, SVC_PARAMS, TYPES


def _finder(label: str, names: dict[int, str]) -> Any:
    """Return the kernel `find(number)`: the name as a span that stays valid while the program runs, (0, 0) without one."""
    ordered = sorted(names)
    count = len(ordered)
    numbers = constant(f"dns_{label}_numbers", np.array(ordered, "<u2").tobytes())
    ends = constant(f"dns_{label}_ends", np.cumsum([0, *(len(names[n]) for n in ordered)]).astype("<u2").tobytes())
    text = constant(f"dns_{label}_text", "".join(names[n] for n in ordered).encode())

    @kernel
    def find(number):
        low, high = 0, count
        while low < high:
            middle = (low + high) >> 1
            if load16(numbers() + 2 * middle) < number:
                low = middle + 1
            else:
                high = middle
        if low == count or load16(numbers() + 2 * low) != number:
            return (0, 0)
        start = load16(ends() + 2 * low)
        return (text() + start, load16(ends() + 2 * low + 2) - start)

    return find


find_type = _finder("type", TYPES)
find_class = _finder("class", CLASSES)
find_rcode = _finder("rcode", RCODES)
find_param = _finder("param", SVC_PARAMS)
find_option = _finder("option", EDNS_OPTIONS)
