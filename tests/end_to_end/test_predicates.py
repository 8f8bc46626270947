"""The user's predicates where programs run differently: several workers, TLS behind STARTTLS, cells of a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from support import starttls_stacks, tls_stacks
from support.running import SAMPLES, MemoryFile, collect, config, run_frames, runtime
from traffic import Frame, TcpConversation, pcap_bytes

from retina_jit.filters.predicates import ACCEPT, CONTINUE, DROP, forget_predicates, predicate
from retina_jit.runtime import Result
from retina_jit.subscription import take_collected

TRUE_NAMES = ("ends", "long_one", "answered", "at_end")
HELLO = tls_stacks.cases()["12 full"].segments
SMTP = [(1, b"220 mx ESMTP\r\n"), (0, b"EHLO client\r\n"), (1, b"250-mx\r\n250 STARTTLS\r\n"), (0, b"STARTTLS\r\n"), (1, b"220 go\r\n")]


def ends(sni, suffix):
    return sni.upper().endswith(suffix.upper())


def long_one(packet, least=100):
    return packet.length >= least


def at_end(packets, history):
    return packets > 3 and "D" in history


class answered:  # noqa: N801
    """The responder has sent `n` packets with payload before the originator has sent 100."""

    state = np.dtype([("from_here", "i8"), ("from_there", "i8")])

    def update(state, packet, n):  # noqa: N805
        if packet.direction == 0:
            state.from_here += 1
        elif packet.payload_len > 0:
            state.from_there += 1
        if state.from_here >= 100:
            return DROP
        return ACCEPT if state.from_there >= n else CONTINUE

    def clear(state):  # noqa: N805
        state.from_there = 0


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    predicate("tls")(ends), predicate(long_one), predicate("conn")(at_end), predicate(answered)
    yield
    forget_predicates(*TRUE_NAMES)


FILTERS = (
    ("TlsHandshake", "ends('.com') or ends('.net')"),
    ("TlsHandshake", "tls and answered(1)"),
    ("ConnRecord", "tls and long_one(500) and not long_one(3000)"),
    ("ConnRecord", "at_end and answered(2)"),
    ("FiveTuple", "answered(3) or ends('.org')"),
    ("ZcFrame", "ends('m') and long_one"),
    ("ZcFrame", "udp and long_one(60)"),
)


def run(content: bytes, workers: int = 1) -> tuple[list[list[str]], Result]:
    """What each filter gives, sorted."""
    made = [collect(types, text) for types, text in FILTERS]
    with MemoryFile(content) as path:
        result = runtime([s for s, _ in made], [path], msgspec.structs.replace(config(), workers=workers)).run()
    return [sorted(str(row.to_dict()) for row in rows) for _, rows in made], result


def conversation(port: int, segments: Any) -> list[Frame]:
    talk = TcpConversation(("192.0.2.1", port), ("198.51.100.1", 25))
    talk.open()
    for side, data in segments:
        talk.send(side, data)
    talk.close()
    return talk.frames


def test_several_workers_find_the_same():
    frames = [f for n in range(60) for f in conversation(20000 + n, HELLO[: 1 + n % len(HELLO)] if n % 3 else [*SMTP, *HELLO])]
    contents = [pcap_bytes(frames), *(SAMPLES.joinpath(name).read_bytes() for name in ("mixed.pcap", "tls.pcap"))]
    fired = np.zeros(len(FILTERS), int)
    for content in contents:
        (alone, one), (together, two) = run(content), run(content, workers=2)
        assert together == alone
        assert two.counters == one.counters
        fired += [len(rows) for rows in alone]
    assert (fired > 0).all(), fired


@pytest.mark.parametrize("case", starttls_stacks.cases()[:3], ids=lambda c: c.name)
def test_tls_behind_starttls_is_asked_like_any_other(case):
    frames = conversation(20000, case.segments)
    made = {
        text: collect(types, text)
        for types, text in (
            ("TlsHandshake", f"ends('{starttls_stacks.HOST.upper()}')"),
            ("TlsHandshake", "ends('.nowhere')"),
            ("ConnRecord", f"ends('{starttls_stacks.HOST}') and at_end and answered(3)"),
            ("ConnRecord", "tls and answered(4000)"),
            ("FiveTuple", f"answered(2) and ends('{starttls_stacks.HOST}')"),
            ("ZcFrame", f"ends('{starttls_stacks.HOST}') and long_one(300)"),
        )
    }
    with_ = {text: rows for text, (_, rows) in made.items()}
    run_frames([s for s, _ in made.values()], frames)
    counts = [len(rows) for rows in with_.values()]
    assert counts == [1, 0, 1, 0, 1, sum(len(f.data) >= 300 for f in frames)]


CELLS = (
    "import numpy as np\nimport retina_jit\nfrom retina_jit import ZcFrame, predicate, subscribe\nLEAST = {least}\n",
    "@predicate\ndef cell_long(packet, least=LEAST):\n    return packet.length >= least\n",
    "lengths = []\n@subscribe('cell_long')\ndef keep(frame: ZcFrame):\n    lengths.append(frame.length)\n",
    "retina_jit.run([keep], r'{path}')\n",
)


def test_predicates_of_notebook_cells_are_those_of_the_last_run_of_the_cell():
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    seen = []
    try:
        for least in (1, 200, 1):
            for cell in CELLS:
                shell.run_cell(cell.format(least=least, path=SAMPLES / "tls.pcap")).raise_error()
            seen.append(sorted(shell.user_ns["lengths"]))
    finally:
        forget_predicates("cell_long")
        take_collected()
    assert seen[0] == seen[2]
    assert seen[1] == [n for n in seen[0] if n >= 200]
    assert 0 < len(seen[1]) < len(seen[0])
