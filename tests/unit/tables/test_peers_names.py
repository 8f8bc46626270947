"""Columns by the names that Wireshark and Zeek have for them: what stands in them is what tshark says."""

from __future__ import annotations

import subprocess

import pytest
from oracle import wireshark
from support.running import SAMPLES

import retina_jit as rj
from retina_jit.errors import SubscriptionError
from retina_jit.tables.choose import PEERS, SIDES

MIXED = SAMPLES / "mixed.pcap"
FIELDS = ("frame.number", "frame.len", "frame.cap_len", "ip.src", "ip.dst", "udp.srcport", "udp.dstport", "eth.src", "eth.dst", "communityid")


@pytest.mark.skipif(not wireshark.installed(), reason="tshark is not installed (Debian: apt-get install tshark)")
def test_packets_are_those_of_tshark() -> None:
    asked = [argument for name in FIELDS for argument in ("-e", name)]
    command = ["tshark", "-n", "-r", str(MIXED), "--enable-protocol", "communityid", "-Y", "ip and udp and not icmp", "-T", "fields", *asked]
    said = [line.split("\t") for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()]
    rows = rj.read(MIXED).select("ipv4 and udp", *FIELDS).to_dicts()
    assert said
    ours = [[v.hex() if isinstance(v, bytes) else str(v) for v in row.values()] for row in rows]
    assert ours == said


def test_all_names_lead_to_a_column() -> None:
    for name in PEERS:
        assert rj.read(MIXED).select("udp", name).columns == [name]


def test_of_sessions_and_connections_the_originator_is_the_source() -> None:
    rows = rj.read(MIXED).select("tls", "ip.src", "tcp.dstport", "id.orig_h", "tls.handshake.extensions_server_name").to_dicts()
    assert {(r["tcp.dstport"], r["ip.src"] == r["id.orig_h"]) for r in rows} == {(443, True), (8443, True)}


@pytest.mark.parametrize("name", SIDES)
def test_a_side_of_packets_that_are_told_of_by_their_connection_is_refused(name: str) -> None:
    with pytest.raises(SubscriptionError, match=f"write five_tuple.{SIDES[name]}"):
        rj.read(MIXED).select("tls.sni ~ 'x'", "frame.number", name)
