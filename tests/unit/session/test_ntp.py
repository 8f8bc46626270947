"""NTP: which request a response belongs to, and what is no NTP."""

from __future__ import annotations

import pytest
from scapy.layers.ntp import NTPHeader
from support.sessions import parser

from retina_jit.status import Probe

UDP = 17
UNIX = 2_208_988_800


def packet(mode: int, **fields: object) -> bytes:
    made = {"version": 4, "mode": mode, "stratum": 2, "precision": -23, "recv": 0, "sent": 0, "orig": 0, "ref": 0} | fields
    return bytes(NTPHeader(**made))


def talk(*segments: tuple[int, bytes]) -> list[tuple[bool, bool]]:
    with parser("ntp").session(UDP) as session:
        session.shown = []
        for direction, data in segments:
            session.feed(direction, data, ts=5)
        session.finish()
        return [(s["has_request"], s["has_response"]) for s in session.shown]


def test_values_are_what_scapy_has_written() -> None:
    data = packet(4, stratum=1, ref_id=b"PPS\0", poll=10, delay=0.5, dispersion=0.25, ref=UNIX + 100, orig=UNIX + 200, recv=UNIX + 300)
    with parser("ntp").session(UDP) as session:
        session.shown = []
        session.feed(1, data)
        (seen,) = session.shown
    assert (seen["stratum"], seen["poll"], seen["precision"], seen["version"]) == (1, 10, -23, 4)
    assert (seen["root_delay"], seen["root_dispersion"]) == (5 * 10**8, 25 * 10**7)
    assert [seen[f"{n}_ts"] for n in ("reference", "origin", "receive")] == [100 * 10**9, 200 * 10**9, 300 * 10**9]


def test_a_response_belongs_to_the_request_whose_time_it_repeats() -> None:
    asked, said = packet(3, sent=UNIX + 7), packet(4, orig=UNIX + 7)
    assert talk((0, asked), (1, said)) == [(True, True)]
    assert talk((0, asked), (0, said)) == [(False, True), (True, False)]
    assert talk((0, asked), (1, packet(4, orig=UNIX + 8)), (1, said)) == [(False, True), (True, True)]
    assert talk((0, asked), (0, packet(3, sent=UNIX + 9)), (1, said)) == [(True, False), (False, True), (True, False)]


@pytest.mark.parametrize(
    "data", [packet(3)[:47], packet(3) + b"x", packet(6), packet(0), packet(3, version=5), packet(3, stratum=17), b"\xff" * 48, bytes(48)]
)
def test_it_is_not_ntp(data: bytes) -> None:
    assert parser("ntp").probe(data, 0, UDP) == Probe.NOT_OURS
