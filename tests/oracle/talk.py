"""Which of two protocols speaks, in plain Python: the slow twin of `retina_jit.pipeline.probing` and `sessions`.

The protocols are those of `support.talkers`, told in words there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Datagram = tuple[int, bytes]
NAMES = ("zz_a", "zz_b")


def probe(name: str, data: bytes) -> str:
    mine, other = (b"A", b"B") if name == "zz_a" else (b"B", b"A")
    if not data:
        return "unsure"
    first = data[:1]
    return "sure" if first == mine else "unsure" if first in (other, b"U") else "no"


@dataclass
class Talk:
    """One UDP flow."""

    wanted: tuple[str, ...] = NAMES
    most: int = 4
    most_bytes: int = 4096
    state: str = "probing"
    kept: list[Datagram] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)
    log: list[Datagram] = field(default_factory=list)
    sessions: list[tuple[str, list[Datagram]]] = field(default_factory=list)
    delivered: bool = False
    given_up: int = 0
    wrong: int = 0

    def datagram(self, side: int, data: bytes) -> None:
        waiting = [(side, data)]
        if self.state in self.wanted:
            if self.parse(side, data):
                return
            self.kept = []
        elif self.state == "probing":
            waiting = [*self.kept, (side, data)]
        else:
            return
        asked = waiting[-1:]
        while True:
            name = self.ask(asked)
            if not name:
                break
            self.state, self.log = name, []
            if all(self.parse(*d) for d in waiting if self.state == name):
                return
            asked = waiting
        if self.rejected >= set(self.wanted):
            self.state = "unknown"
        elif len(waiting) > self.most or sum(len(d) for _, d in waiting) > self.most_bytes:
            self.state = "unknown"
            self.given_up += 1
        else:
            self.state, self.kept = "probing", waiting

    def ask(self, datagrams: list[Datagram]) -> str:
        """The first that is sure; those that say no are not asked again."""
        for _, data in datagrams:
            no = set()
            for name in NAMES:
                if name in self.wanted and name not in self.rejected:
                    answer = probe(name, data)
                    if answer == "sure":
                        return name
                    if answer == "no":
                        no.add(name)
            self.rejected |= no
        return ""

    def parse(self, side: int, data: bytes) -> bool:
        """False: not mine."""
        self.log.append((side, data))
        what = data[1:2]
        if what == (b"!" if self.state == "zz_a" else b"?"):
            if self.delivered:
                self.state = "over"
                return True
            self.wrong += 1
            self.rejected.add(self.state)
            return False
        if what in (b"R", b"S"):
            self.delivered = True
            self.sessions.append((self.state, list(self.log)))
            if what == b"S":
                self.state = "over"
        return True

    def end(self) -> None:
        if self.state in self.wanted and self.log:
            self.sessions.append((self.state, list(self.log)))
