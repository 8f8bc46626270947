"""Whether the ports' links are up: what a silent port does not tell."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from retina_jit.errors import SourceError
from retina_jit.ingest.dpdk import eal

LOOK = 1.0
"""How often they are looked at [s]."""
COMING_UP = 5
"""So many looks a link has to come up after the start: a card agrees with its neighbour first."""


class Linked(Protocol):
    """A port, as far as its link goes."""

    name: str

    @property
    def link(self) -> tuple[bool, int]:
        """Whether it is up, and its speed [Mbit/s]."""


class Links:
    """Tells, in the log, when a port's link goes down and when it is back.

    Parameters
    ----------
    ports : sequence of Port
    asking : Lock
        Held while they are asked; whoever closes them holds it, too.

    Attributes
    ----------
    outages : dict
        Port -> how often its link was down.
    """

    def __init__(self, ports: Sequence[Linked], asking: threading.Lock) -> None:
        self._ports, self._asking = ports, asking
        self.outages = {p.name: 0 for p in ports}
        self._looks = dict.fromkeys(self.outages, -COMING_UP)
        """Below 0: not yet up; else how many looks it is down."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._main, name="retina-jit links", daemon=True)

    def start(self) -> None:
        """Look at them from now on, in a thread."""
        self._thread.start()

    def end(self) -> None:
        """Stop, and wait until it has."""
        self._ended.set()
        # By the thread itself if that is where a receiver that nobody closed is collected.
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _main(self) -> None:
        while not self._ended.wait(LOOK):
            with self._asking:
                self.look()

    def look(self) -> None:
        """Look at them once."""
        for port in self._ports:
            try:
                up, speed = port.link
            except SourceError:  # the device is gone
                up, speed = False, 0
            looks = self._looks[port.name]
            if up:
                if looks > 0:
                    eal.log.warning("%s: the link is up again, %d Mbit/s", port.name, speed)
                self._looks[port.name] = 0
                continue
            self._looks[port.name] = looks + 1
            # Down for the first time, or never up.
            if looks in (0, -1):
                self._looks[port.name] = 1
                self.outages[port.name] += 1
                eal.log.warning("%s: the link is down; waiting until it is up", port.name)
