"""What `read` takes: paths, patterns, open files, bytes, interfaces."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from typing import Any

from retina_jit.errors import SourceError
from retina_jit.ingest.interface import PREFIX
from retina_jit.ingest.sources import LIVE, PORT, expand


class Source:
    """One or more captures that runs can read.

    Attributes
    ----------
    paths : tuple of str
        What a run opens.
    again : bool
        Whether it can be read more than once: not standard input, pipes, interfaces.
    label : str
        How the user calls it.
    """

    def __init__(self, given: Any) -> None:
        parts = list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes | bytearray | memoryview | os.PathLike) and not hasattr(given, "read") else [given]
        self._files: list[int] = []
        self._names: dict[str, str] = {}
        found: list[str] = []
        try:
            for part in parts:
                found += self._paths_of(part)
        except BaseException:
            self.close()
            raise
        if not found:
            raise SourceError("nothing to read: an empty list of captures")
        self.paths = tuple(found)
        self.again = all(_is_regular(p) for p in found)
        self.is_live = any(_is_interface(p) for p in found)
        names = [self._names.get(p, p) for p in found]
        self.label = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"

    def _paths_of(self, part: Any) -> list[str]:
        if isinstance(part, bytes | bytearray | memoryview):
            return [self._in_memory(bytes(part), f"<{len(part)} bytes>")]
        if hasattr(part, "read"):
            return [self._open_file(part)]
        if isinstance(part, str | os.PathLike):
            path = os.fspath(part)
            if isinstance(path, str):
                # What a shell does elsewhere; and at once, for a run looks only when it begins.
                if path.startswith((PORT, LIVE)) and not os.path.exists(path):  # noqa: PTH110
                    return [path]
                return list(expand([os.path.expanduser(path)]))  # noqa: PTH111 - "-" and "af_packet:x" are no paths
        raise SourceError(f"{part!r} cannot be read: give a path, a pattern, a list of them, an open binary file, bytes, '-' or '{PREFIX}IFACE'")

    def _in_memory(self, data: bytes, name: str) -> str:
        """Make a file without a name of bytes: runs read it as any other."""
        fd = os.memfd_create("capture", os.MFD_CLOEXEC)
        self._files.append(fd)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        return self._named(fd, name)

    def _named(self, fd: int, name: str) -> str:
        path = f"/proc/self/fd/{fd}"
        self._names[path] = name
        return path

    def _open_file(self, file: Any) -> str:
        name = f"<{getattr(file, 'name', type(file).__name__)}>"
        try:
            fd = file.fileno()
            plain = stat.S_ISREG(os.fstat(fd).st_mode) and file.tell() == os.lseek(fd, 0, os.SEEK_CUR) == 0
        except (OSError, AttributeError, ValueError):
            plain = False
        if plain:
            self._files.append(os.dup(fd))
            return self._named(self._files[-1], name)
        fd = os.memfd_create("capture", os.MFD_CLOEXEC)
        self._files.append(fd)
        with os.fdopen(os.dup(fd), "wb") as target:
            try:
                shutil.copyfileobj(file, target, 1 << 20)
            except TypeError as fault:
                raise SourceError(f"{name} is open as text: open it with mode 'rb'") from fault
        return self._named(fd, name)

    def told(self, text: str) -> str:
        """Return a message with the user's names in place of ours."""
        for path, name in self._names.items():
            text = text.replace(path, name)
        return text

    def close(self) -> None:
        """Give back what was opened."""
        while self._files:
            os.close(self._files.pop())

    def __del__(self) -> None:
        self.close()


def _is_interface(path: str) -> bool:
    return path.startswith((PREFIX, PORT, LIVE)) and not os.path.exists(path)  # noqa: PTH110


def _is_regular(path: str) -> bool:
    return path != "-" and not _is_interface(path) and stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
