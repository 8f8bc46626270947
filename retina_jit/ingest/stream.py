"""Bytes of a capture that cannot be mapped: standard input, pipes, compressed files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import select
import stat
import sys
import zlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from retina_jit.errors import SourceError

WAIT_MS = 100

asked_to_stop: ContextVar[Callable[[], bool]] = ContextVar("asked_to_stop", default=lambda: False)
"""Asked some times per second while a pipe is silent; of the thread that reads."""


class ReadingStopped(Exception):  # noqa: N818 - not an error
    """The run was stopped while a pipe was waited for."""


class _Raw(io.RawIOBase):
    """A file descriptor whose first bytes were looked at already; with `limit`, it ends after so many."""

    def __init__(self, fd: int, limit: int | None = None) -> None:
        self._fd = fd
        self.limit = limit
        self._waits = not stat.S_ISREG(os.fstat(fd).st_mode)
        self.position = 0
        self.head = b""
        # A pipe may give less than asked for.
        while len(self.head) < 8:
            self._wait()
            more = os.read(fd, 8 - len(self.head))
            if not more:
                break
            self.head += more
        self._ahead = self.head

    def _wait(self) -> None:
        """Wait until a pipe has bytes or ends; a read would not notice that the run shall stop."""
        if not self._waits:
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while not poll.poll(WAIT_MS):
            if asked_to_stop.get()():
                raise ReadingStopped

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any, /) -> int:
        if self._ahead:
            n = min(len(target), len(self._ahead))
            target[:n], self._ahead = self._ahead[:n], self._ahead[n:]
        else:
            self._wait()
            if self.limit is not None:
                target = target[: max(self.limit - self.position, 0)]
            n = os.readv(self._fd, [target])
        self.position += n
        return n

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


def _zstd(raw: _Raw) -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        try:
            from backports import zstd
        except ImportError as error:
            raise SourceError("reading zstd needs backports.zstd. Fix: pip install backports.zstd") from error
    return zstd.ZstdFile(io.BufferedReader(raw, 1 << 17))


_COMPRESSED: dict[bytes, tuple[str, Callable[[_Raw], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda raw: gzip.GzipFile(fileobj=io.BufferedReader(raw, 1 << 17))),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
    b"\xfd7zXZ\x00": ("xz", lambda raw: lzma.LZMAFile(io.BufferedReader(raw, 1 << 17))),
    b"BZh": ("bzip2", lambda raw: bz2.BZ2File(io.BufferedReader(raw, 1 << 17))),
}


class Stream:
    """Bytes in the order of the capture, decompressed.

    Attributes
    ----------
    size : int [byte]
        Of the file as it lies on disk; 0 for a pipe.
    damaged : str
        Why compressed data ended early; empty if it did not.
    """

    def __init__(self, raw: _Raw, name: str) -> None:
        self._raw = raw
        self.damaged = ""
        found = os.fstat(raw._fd)
        self.size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        self._read1: Callable[[int], bytes] | None = None
        self._packed: Any = None
        self._kind = ""
        for magic, (kind, wrap) in _COMPRESSED.items():
            if raw.head.startswith(magic):
                self._kind, self._packed = kind, wrap(raw)
                self._read1 = self._packed.read1

    @property
    def position(self) -> int:
        """How much of the file on disk was read [byte]."""
        return self._raw.position

    @property
    def plain_fd(self) -> int:
        """The descriptor, if what is read from it needs no decompression and no limit; else -1."""
        return self._raw._fd if self._read1 is None and self._raw.limit is None else -1

    def wait(self, timeout: float) -> bool:
        """Wait until there is something to read, at most `timeout` seconds."""
        poll = select.poll()
        poll.register(self._raw._fd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def readinto(self, target: memoryview) -> int:
        """Read what is there, at least one byte unless the stream is at its end. Returns how many bytes.

        Of a compressed file as much is read as `target` holds; a pipe is not waited for.
        """
        if self._read1 is None:
            try:
                return self._raw.readinto(target)
            except OSError as error:
                self.damaged = f"reading failed ({error.strerror or error})"
                return 0
        done = 0
        while done < len(target):
            n = self._unpack(target[done:])
            done += n
            if n == 0 or not self.size:
                break
        return done

    def _unpack(self, target: memoryview) -> int:
        assert self._read1 is not None
        try:
            got = self._read1(len(target))
        except EOFError:
            self.damaged = f"the {self._kind} data is cut"
            return 0
        except (OSError, zlib.error, lzma.LZMAError, ValueError) as error:
            self.damaged = f"the {self._kind} data is damaged ({error})"
            return 0
        except Exception as error:
            if type(error).__name__ != "ZstdError":
                raise
            self.damaged = f"the zstd data is damaged ({error})"
            return 0
        target[: len(got)] = got
        return len(got)

    def close(self) -> None:
        """Close the file."""
        if self._packed is not None:
            self._packed.close()
        self._raw.close()


def open_stream(fd: int, name: str, limit: int | None = None) -> Stream:
    """Take over a file descriptor, of whose file only `limit` bytes are wanted."""
    try:
        return Stream(_Raw(fd, limit), name)
    except OSError as error:
        raise SourceError(f"{name}: {error.strerror or error}") from error
