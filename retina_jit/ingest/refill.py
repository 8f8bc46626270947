"""More input within the kernel: reading a plain file or pipe; live sources have an entry of their own for it.

A worker that comes back to Python for each chunk waits for the interpreter's lock, up to 5 ms beside a busy thread. So the
kernel calls read(2) itself, into a small buffer that stays in the second-level cache.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.ingest.layout import CHUNK, SOURCE
from retina_jit.ingest.readahead import take_chunk
from retina_jit.jit import external, kernel
from retina_jit.memory import call1

SOURCE_AT = memory.at(SOURCE)
POLL = int(SOURCE.fields["poll"][1])  # type: ignore[index]
POLLIN = 1
WAIT_MS = 100
"""How long a pipe may be silent before Python is asked whether to go on."""

poll = external("poll", "int32", "int64", "int64", "int32")
read = external("read", "int64", "int32", "int64", "int64")


@kernel
def read_more(source):
    """Read what is there, behind the rest that is not walked. Returns 1; 0 if Python has to look: see `CaptureSource.refill`.

    The frames of earlier walks are gone after this.
    """
    s = SOURCE_AT(source)
    if s.more:
        return call1(s.more, source)
    if s.readahead:
        return 0 if s.final else take_chunk(source)
    if s.fd < 0 or s.final:
        return 0
    s.poll = s.fd | POLLIN << 32
    if poll(source + POLL, 1, WAIT_MS) <= 0:
        return 0
    left = s.end - s.at
    if s.at > s.base and (left <= CHUNK or s.limit - s.end < CHUNK):
        memory.move(s.base, s.at, left)
        s.passed += s.at - s.base
        s.at = s.base
        s.end = s.base + left
    n = read(s.fd, s.end, min(CHUNK, s.limit - s.end))
    if n < 0:
        return 0
    if n == 0:
        s.final = 1
    s.end += n
    return 1
