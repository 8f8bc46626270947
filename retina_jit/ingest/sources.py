"""What a run reads from: names and patterns become sources, one after the other."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from retina_jit.errors import SourceError
from retina_jit.ingest.bpf import Instruction
from retina_jit.ingest.interface import PREFIX, InterfaceSource
from retina_jit.ingest.packet_socket import RingSettings
from retina_jit.ingest.readahead import Readers
from retina_jit.ingest.source import CaptureSource, open_source
from retina_jit.status import Status

PORT = "dpdk:"
"""What a source's name begins with to be a port of DPDK, see `retina_jit.ingest.dpdk`."""
LIVE = "live:"
"""... to be an interface of the system or a port, whatever has that name, see `retina_jit.opening`."""


class Source(Protocol):
    """What a worker reads from: a capture, an interface, queues of a card."""

    name: str
    address: int
    walk_unit: str
    core: int | None

    @property
    def polls(self) -> int | None:
        """Times that the kernel asked for more, where these are counted."""

    @property
    def idle_polls(self) -> int:
        """Times that nothing was there, beside those that `refill` was called for."""

    def refuse_early(self, program: Sequence[Instruction]) -> None:
        """Learn what frames will be refused by."""

    def give_to(self, worker: int, workers: int) -> int:
        """Say which of how many workers reads. Returns among how many it has to share the packets."""

    def leave_out(self, which: int) -> None:
        """Where several workers read it: whether frames of others are passed over."""

    def refill(self, timeout: float | None = None) -> bool:
        """Go on after NEED_INPUT or SHRUNK. False if there is nothing more."""

    @property
    def is_live(self) -> bool:
        """Whether time goes on while nothing comes."""

    @property
    def record(self) -> Any:
        """The `SOURCE` record."""

    @property
    def status(self) -> Status:
        """Why the last walk gave no frame."""

    @property
    def frames(self) -> int:
        """Frames given out."""

    @property
    def number(self) -> int:
        """Number of the last frame."""

    @property
    def dropped(self) -> int:
        """Frames lost for want of room."""

    def port_stats(self) -> dict[str, dict[str, int]]:
        """Return device -> counters since the beginning by DPDK's names (xstats, mempool_avail_cnt); any thread may ask, at any time."""

    @property
    def problem(self) -> str:
        """What is wrong with the input."""

    @property
    def unsupported(self) -> int:
        """Frames of link types that are not decoded."""

    @property
    def unsupported_link(self) -> str:
        """The last such link type."""

    @property
    def size(self) -> int:
        """Of the input [byte]; 0 if not known."""

    @property
    def position(self) -> int:
        """How much of it is done [byte]."""


def open_sources(
    paths: Iterable[str | os.PathLike[str]],
    *,
    ahead: bool = True,
    readers: Readers | None = None,
    reader: int = 0,
    ring: RingSettings | None = None,
    ends: Mapping[str, int] | None = None,
) -> Iterator[CaptureSource | InterfaceSource]:
    """Open captures one after the other, in the order given; a pattern stands for its files in the order of their names,
    `af_packet:NAME` for an interface.

    A source is closed when the next one is asked for, and frames are numbered through.

    Parameters
    ----------
    paths : iterable of path
    ahead : bool
        As in `CaptureSource`.
    readers : Readers, optional
        Who reads the same captures; large ones are read once for all.
    reader : int
        Which of them this one is.
    ring : RingSettings, optional
        Of interfaces.
    ends : dict, optional
        Path -> where its file is taken to end [byte], though it may have grown since.

    Raises
    ------
    SourceError
        At once: a pattern that no file matches, a file that does not exist. Later: what opening a file finds.
    """

    def opened(path: str, first: int, place: int) -> CaptureSource | InterfaceSource:
        if path.startswith(PREFIX) and not Path(path).exists():
            return InterfaceSource(path[len(PREFIX) :], first=first, settings=ring)
        end = ends.get(path) if ends else None
        return open_source(path, first=first, ahead=ahead, shared=(readers, place, reader) if readers else None, end=end)

    return _open_each(list(expand(paths)), opened, readers, reader)


def expand(paths: Iterable[str | os.PathLike[str]]) -> Iterator[str]:
    """Return the files that names and patterns stand for. A name that exists is never taken for a pattern."""
    for path in (os.fspath(p) for p in paths):
        if path == "-" or Path(path).exists() or path.startswith(PREFIX):
            yield path
        elif glob.has_magic(path):
            found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
            if not found:
                raise SourceError(f"{path}: no file matches")
            yield from found
        else:
            raise SourceError(f"{path}: no such file")


def _open_each(
    paths: list[str], opened: Callable[[str, int, int], CaptureSource | InterfaceSource], readers: Readers | None, reader: int
) -> Iterator[CaptureSource | InterfaceSource]:
    first = 0
    try:
        for place, path in enumerate(paths):
            with opened(path, first, place) as source:
                yield source
                first = source.number
    finally:
        if readers is not None:
            readers.leave(reader)
