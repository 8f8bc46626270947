"""Sinks by path: `sink="x.jsonl"` of `@subscribe`, files that are closed and begun anew by size or time."""

from __future__ import annotations

import re
import threading
import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from retina_jit.datatypes.base import DataType
from retina_jit.delivery.sinks import prepare
from retina_jit.errors import ConfigError
from retina_jit.sinks import ADDRESSES, CAPTURES, FLOWS, FOLDERS, FORMATS, address, wanted_types
from retina_jit.sinks.base import Layout, Sink

_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "s": 1, "min": 60, "h": 3600, "d": 86400}
_TIMES = ("s", "min", "h", "d")


@dataclass(frozen=True)
class Rotation:
    """When a file is full: after so many bytes, or so many seconds; 0: never."""

    size: int = 0
    seconds: int = 0


def rotation(text: str) -> Rotation:
    """Read "100M" or "10min", or both with a comma between.

    Raises
    ------
    ConfigError
        It is neither.
    """
    size = seconds = 0
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)\s*(k|M|G|s|min|h|d)", part.strip())
        if not found or not int(found[1]):
            raise ConfigError(f"rotate {text!r}: a size (100k, 100M, 2G), a time (30s, 10min, 1h, 1d), or both with a comma between")
        amount = int(found[1]) * _UNITS[found[2]]
        size, seconds = (size, amount) if found[2] in _TIMES else (amount, seconds)
    return Rotation(size, seconds)


def _when(text: str) -> Rotation:
    return rotation(text) if text else Rotation()


class Rotating:
    """A sink whose files are numbered, x.00000.jsonl and so on, each whole in itself.

    Parameters
    ----------
    make : callable
        Makes the sink of an open file.
    path : Path
        x.jsonl
    """

    def __init__(self, make: Callable[[BinaryIO], Any], path: Path, when: Rotation) -> None:
        self._make, self._path, self._when = make, path, when
        self.names: dict[int, str] = {}
        self._before = 0
        self._mine: Mapping[int, Layout] | None = None
        self._begin(0)

    def _begin(self, number: int) -> None:
        file = _opened(self._path.with_name(f"{self._path.stem}.{number:05d}{self._path.suffix}"))
        self._sink, self._file, self._number = self._make(file), file, number
        self._begun = time.monotonic()

    @property
    def later(self) -> Path:
        """The folder in which further files will be made."""
        return self._path.parent

    @property
    def lines(self) -> int:
        """How many events were written, to all files."""
        return int(self._before + self._sink.lines)

    def units(self, types: Sequence[type[DataType]]) -> list[str]:
        """Return the entries that a subscription to `types` needs."""
        return list(self._sink.units(types))

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which subscriptions write here."""
        self._mine, self._count = mine, count
        self._open()

    def prepare(self, mine: Mapping[int, Layout]) -> None:
        """Refuse what the file of now cannot go on with."""
        prepare(self._sink, mine)

    def _open(self) -> None:
        if hasattr(self._sink, "names"):
            self._sink.names = self.names
        self._sink.open(self._mine, self._count)

    def take(self, address: int, length: int) -> int:
        """Write the whole events among the bytes from `address` on, to the file of now. Returns how many bytes they take."""
        if self._is_full():
            self._next()
        return int(self._sink.take(address, length))

    def _is_full(self) -> bool:
        if not self._sink.lines:
            return False
        if self._when.seconds and time.monotonic() - self._begun >= self._when.seconds:
            return True
        if self._when.size:
            self._sink.flush()
        return 0 < self._when.size <= self._file.tell()

    def _next(self) -> None:
        # The next file first: if it cannot be had, the one before is still the one that `close` ends. And each is ended once.
        sink, file = self._sink, self._file
        self._begin(self._number + 1)
        self._before += sink.lines
        try:
            self._open()
        finally:
            _end(sink, file)

    def flush(self) -> None:
        """Write what is gathered; begin another file when it is time for it."""
        self._sink.flush()
        if self._when.seconds and self._is_full():
            self._next()

    def close(self) -> None:
        """End the last file."""
        _end(self._sink, self._file)


def _end(sink: Any, file: BinaryIO) -> None:
    with file:
        sink.close()


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as fault:
        raise ConfigError(f"{path}: {fault.strerror}") from fault


_ENDINGS = {".jsonl": "jsonl", ".json": "jsonl", ".csv": "csv", ".arrow": "arrow", ".arrows": "arrow", ".parquet": "parquet", ".pcap": "pcap", ".pcapng": "pcapng", ".ipfix": "ipfix"}
_FILES = ChainMap(FORMATS, CAPTURES, FLOWS)


def format_of(target: str) -> tuple[str, str]:
    """Return format and path: "x.jsonl", or with the format before it, "zeek:folder"; of an address, "ipfix://host:port", scheme and all of it.

    Raises
    ------
    ConfigError
        A path whose format nobody knows.
    """
    if address(target):
        return address(target), target
    form, colon, rest = target.partition(":")
    if colon and (form in _FILES or form in FOLDERS):
        return form, rest
    known = _ENDINGS.get(Path(target).suffix)
    if known is None:
        raise ConfigError(f"sink {target!r}: the format does not follow from its ending; known: {', '.join(_ENDINGS)}, or write jsonl:PATH, zeek:FOLDER, ...")
    return known, target


class Paths:
    """The sinks that subscriptions of a run name by path, each opened once."""

    def __init__(self) -> None:
        self._sinks: dict[tuple[str, str], Any] = {}
        self._rotated: dict[tuple[str, str], str] = {}
        self.problems: list[str] = []
        """What sinks have to say when they are closed: what they could not deliver, one line each."""
        self._files: list[BinaryIO] = []
        self._lock = threading.Lock()
        self._is_over = False

    def get(self, target: str, rotate: str = "") -> Sink:
        """Return the sink of a path.

        Raises
        ------
        ConfigError
            The file cannot be opened, or another subscription begins it anew at other times, or all have been closed: a program
            that comes too late would empty what the run has written.
        """
        with self._lock:
            if self._is_over:
                raise ConfigError(f"{target}: the run is over")
            return self._get(target, rotate)

    def _get(self, target: str, rotate: str) -> Sink:
        form, name = format_of(target)
        path = Path(name)
        key = form, name if address(name) else str(path)
        if key not in self._sinks:
            if address(name):
                if rotate:
                    raise ConfigError(f"{name}: rotate {rotate!r} is for files")
                self._sinks[key] = ADDRESSES[form](name)
            elif form in FOLDERS:
                self._sinks[key] = FOLDERS[form](path)
            elif rotate:
                self._sinks[key] = Rotating(_FILES[form], path, rotation(rotate))
            else:
                self._files.append(_opened(path))
                self._sinks[key] = _FILES[form](self._files[-1])
            self._rotated[key] = rotate
        elif _when(rotate) != _when(self._rotated[key]):
            raise ConfigError(f"{path}: rotate {self._rotated[key]!r} and {rotate!r}: subscriptions that share a file begin it anew alike")
        found: Sink = self._sinks[key]
        return found

    def types(self, target: str, types: Sequence[type[DataType]]) -> list[type[DataType] | str]:
        """Return the data types that the format needs for those that are asked for."""
        form = format_of(target)[0]
        return wanted_types(form, [t.__name__ for t in types]) if form in FOLDERS | CAPTURES | FLOWS else list(types)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """End what is opened meanwhile, if an error comes."""
        before, files = set(self._sinks), len(self._files)
        try:
            yield
        except BaseException:
            for key in self._sinks.keys() - before:
                self._sinks.pop(key).close()
            for file in self._files[files:]:
                file.close()
            del self._files[files:]
            raise

    def close(self) -> None:
        """End all of them, also if one cannot be ended; the first error is raised then."""
        with self._lock:
            self._is_over = True
            sinks, files = list(self._sinks.values()), self._files
            self._sinks, self._files = {}, []
        ends = [*(sink.close for sink in sinks), *(file.close for file in files)]
        faults = []
        for end in ends:
            try:
                end()
            except Exception as fault:  # noqa: BLE001 - raised when the others have ended
                faults.append(fault)
        for sink in sinks:
            self.problems += getattr(sink, "problems", [])
        if faults:
            raise faults[0]
