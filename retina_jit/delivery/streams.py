"""What streaming callbacks answer: False ends their calls for one connection, at once for them, soon for the worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Any

import numpy as np

from retina_jit.delivery.event import EVENT
from retina_jit.pipeline.layout import MAIL, MOST_MAIL

_ID = Struct("<q").unpack_from
_HEAD = EVENT.itemsize

Handler = Callable[[bytes, int], Any]


class Streams:
    """Remembers which streams are over, tells the worker, and forgets them when no event of theirs can come any more.

    Parameters
    ----------
    worker : numpy record
        The WORKER record; `mail` and `mail_tail` are read, `mail_head` is written.
    former : Streams, optional
        Those of the program before, whose streams go on, and whose events are delivered still.
    numbers : dict, optional
        Number of a subscription in the program before -> now, of those that go on.
    """

    def __init__(self, worker: Any, former: Streams | None = None, numbers: Mapping[int, int] | None = None) -> None:
        self._worker = worker
        self._numbers: Mapping[int, int] = {}
        self._next: Streams | None = None
        self._head = 0
        self._over: set[int] = set() if former is None else former._over
        self._unsent: deque[tuple[int, int]] = deque()
        self._sent: deque[tuple[int, int]] = deque() if former is None else former._sent
        """Position of the mail, stream."""
        self._read: deque[tuple[int, int]] = deque() if former is None else former._read
        """Head of the ring when the worker had read the mail, or had gone over to another program; stream."""
        if former is not None:
            former._numbers, former._next, former._head = numbers or {}, self, int(worker["head"])
            for stream, n in former._unsent:
                former._tell(n, stream)
            former._unsent.clear()

    def asking(self, n: int, handler: Handler) -> Handler:
        """Return a handler that takes the callback's answer to heart."""
        over = self._over

        def ask(buffer: bytes, at: int) -> Any:
            stream = _ID(buffer, at + _HEAD)[0]
            if stream not in over and handler(buffer, at) is False:
                self._end(n, stream)

        return ask

    def left(self, n: int, buffer: bytes, places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return those of the events whose streams are not over."""
        if not self._over:
            return places
        return places[[_ID(buffer, at + _HEAD)[0] not in self._over for at in places.tolist()]]

    def answered(self, n: int, buffer: bytes, places: np.ndarray[Any, Any], answer: Any) -> None:
        """Take the answer of a batch: False for all of it, or an array with a False for each event whose stream shall end."""
        if answer is False:
            answer = np.zeros(len(places), bool)
        if isinstance(answer, np.ndarray):
            for at in places[~answer.astype(bool)].tolist():
                self._end(n, _ID(buffer, at + _HEAD)[0])

    def _end(self, n: int, stream: int) -> None:
        if stream not in self._over:
            self._over.add(stream)
            self._tell(n, stream)

    def _tell(self, n: int, stream: int) -> None:
        if self._next is not None:
            if n in self._numbers:
                self._next._tell(self._numbers[n], stream)
            else:
                # Gone with its subscription: what there is of it was in the ring when the worker went over.
                self._read.append((self._head, stream))
            return
        self._unsent.append((stream, n))
        self._send()

    def _send(self) -> None:
        worker = self._worker
        while self._unsent and int(worker["mail_head"]) - int(worker["mail_tail"]) < MOST_MAIL:
            head = int(worker["mail_head"])
            stream, n = self._unsent.popleft()
            place = _words(int(worker["mail"]) + (head % MOST_MAIL) * MAIL.itemsize)
            place[0], place[1] = stream, n
            worker["mail_head"] = head + 1
            self._sent.append((head, stream))

    def settle(self, head: int, tail: int) -> None:
        """Forget streams of which nothing can come any more. head, tail: of the ring."""
        if not self._over or self._next is not None:
            return
        self._send()
        read = int(self._worker["mail_tail"])
        while self._sent and self._sent[0][0] < read:
            # The ring is looked at after the mail: what the worker had written before it read the mail lies before this.
            self._read.append((int(self._worker["head"]), self._sent.popleft()[1]))
        while self._read and self._read[0][0] <= tail:
            self._over.discard(self._read.popleft()[1])


def _words(address: int) -> Any:
    import ctypes

    return (ctypes.c_int64 * 2).from_address(address)
