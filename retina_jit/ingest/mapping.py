"""Whether a file is better mapped or read."""

from __future__ import annotations

import mmap
import time

PROBE, PROBED_FROM = 2 << 20, 8 << 20
MAPPING_LIMIT = 20e-6
"""Mapping costs more than reading where the page cache holds a file in small pieces (it was written or first read so):
up to 5 times as long per packet. So of a file of at least PROBED_FROM bytes twice PROBE bytes are mapped in, and if that
takes longer than this [s/MiB], the file is read. Both ways give the same frames."""

_MADV_POPULATE_READ = 22  # Linux 5.14


def maps_fast(mapped: mmap.mmap, size: int) -> bool:
    """Whether the page cache holds the file in pieces large enough for mapping to be cheap."""
    if size < PROBED_FROM:
        return True
    best = 1.0
    for at in (0, PROBE):
        begin = time.perf_counter()
        try:
            mapped.madvise(_MADV_POPULATE_READ, at, PROBE)
        except OSError:
            return True  # an old system, nothing is known
        best = min(best, time.perf_counter() - begin)
    return best <= MAPPING_LIMIT * PROBE / (1 << 20)
