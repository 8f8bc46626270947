"""QUIC connections of sealed packets that the tests make: versions, order, Retry, negotiation, damage."""

from __future__ import annotations

import random
import struct
from itertools import pairwise
from typing import Any

import pytest
from oracle import quic as oracle
from oracle import tls as plain
from support.sessions import Segment, Session, parser

from retina_jit.datatypes.quic_stream import QuicStream
from retina_jit.parsers.quic import feed
from retina_jit.status import Probe

DCID, CLIENT, SERVER = bytes.fromhex("8394c8f03e515708"), bytes.fromhex("c101"), bytes.fromhex("f067a5502a4262b5")


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">HH", kind, len(data)) + data


def client_hello(name: str = "www.example.com", more: bytes = b"", padding: int = 0) -> bytes:
    host = name.encode()
    block = extension(0, struct.pack(">HBH", len(host) + 3, 0, len(host)) + host) + extension(43, b"\x02\x03\x04") + more
    block += extension(16, b"\0\x06\x02h3\x02h2")
    if padding:
        block += extension(51, bytes(n & 0xFF for n in range(padding)))
    body = b"\x03\x03" + bytes(range(32)) + b"\0" + b"\0\x04\x13\x01\x13\x02" + b"\x01\0" + struct.pack(">H", len(block)) + block
    return plain.message(1, body)


def server_hello(retry: bool = False) -> bytes:
    special = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
    block = extension(43, b"\x03\x04")
    body = b"\x03\x03" + (special if retry else bytes(range(32, 64))) + b"\0\x13\x02\0" + struct.pack(">H", len(block)) + block
    return plain.message(2, body)


def from_client(frames: bytes, **more: Any) -> Segment:
    return 0, oracle.initial(frames, **{"dcid": DCID, "scid": CLIENT, **more})


def from_server(frames: bytes, **more: Any) -> Segment:
    return 1, oracle.initial(frames, **{"dcid": CLIENT, "scid": SERVER, "secret_id": DCID, "is_server": True, **more})


def whole(hello: bytes) -> bytes:
    return oracle.crypto_frame(0, hello)


def run(*segments: Segment) -> Session:
    return parser("quic").run(segments, transport=17)


def pieces(hello: bytes, *places: int) -> list[bytes]:
    """CRYPTO frames of a hello cut at some places."""
    edges = [0, *places, len(hello)]
    return [oracle.crypto_frame(a, hello[a:b]) for a, b in pairwise(edges)]


def test_rfc_9001_client_initial() -> None:
    """Appendix A.2: the sealed packet that the oracle makes is the RFC's; the parser opens it."""
    hello = bytes.fromhex(
        "010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578"
        "616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e000500050100000000003300260024001d00209370b2c9"
        "caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d000201"
        "01001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff"
    )
    packet = oracle.initial(whole(hello), dcid=DCID, number=2, number_len=4, size=1200)
    assert packet.hex().startswith("c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9bd8ba")
    assert packet.hex().endswith("e221af44860018ab0856972e194cd934")
    with run((0, packet)) as session:
        assert (session["sni"], session["alpn"], session["version"]) == (b"example.com", [b"alpn"], 1)
        assert session["max_idle_timeout"] == 30000
        assert session["initial_max_data"] == (1 << 62) - 1
        assert session["transport_parameters"] == [4, 5, 7, 8, 1, 9, 15, 6]


def test_rfc_9001_server_initial() -> None:
    """Appendix A.3: the server's answer to A.2."""
    answer = bytes.fromhex(
        "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec249"
        "3a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d"
        "20398c276456cbc42158407dd074ee"
    )
    first = oracle.initial(whole(client_hello()), dcid=DCID, number=2, number_len=4)
    with run((0, first), (1, answer)) as session:
        assert (session.delivered, session.stopped) == (1, True)
        assert (session["cipher"], session["server_scid"]) == (b"TLS_AES_128_GCM_SHA256", b"f067a5502a4262b5")
        assert session["server_extensions"] == [51, 43]


@pytest.mark.parametrize("version", oracle.SALTS, ids=hex)
def test_each_version(version: int) -> None:
    with run(
        from_client(whole(client_hello()), version=version), from_server(whole(server_hello()), version=version)
    ) as session:
        assert (session.delivered, session.stopped) == (1, True)
        assert (session["version"], session["sni"], session["cipher_suite"]) == (version, b"www.example.com", 0x1302)
        assert session["ja4"].startswith(b"q13d0203h3_")


def test_the_server_may_answer_in_another_version() -> None:
    """RFC 9368: keys of both come from the same connection id."""
    v2 = {"version": oracle.V2}
    with run(from_client(whole(client_hello())), from_server(whole(server_hello()), **v2), from_client(b"\x02\0\0\0\0", number=1, dcid=SERVER, secret_id=DCID, **v2)) as session:
        assert (session["first_version"], session["version"], session["cipher_suite"]) == (1, oracle.V2, 0x1302)


@pytest.mark.parametrize("seed", range(30))
def test_any_order_of_frames_packets_and_datagrams(seed: int) -> None:
    """A hello of 1.8 kB in pieces, some of them twice or overlapping, over several datagrams."""
    rng = random.Random(seed)
    hello = client_hello("kyber.example.org", padding=1700)
    places = sorted(rng.sample(range(1, len(hello)), rng.randint(0, 25)))
    frames = pieces(hello, *places)
    for _ in range(rng.randint(0, 5)):
        at = rng.randrange(len(hello))
        frames.append(oracle.crypto_frame(at, hello[at : at + rng.randint(1, 400)]))
    rng.shuffle(frames)
    count = rng.randint(1, 4)
    datagrams = []
    for n in range(count):
        filler = rng.choice((b"", b"\x01", b"\0\0\0", b"\x02\x05\0\x01\x02\x01\0", b"\x03\x05\0\0\x02\x01\x01\x01"))
        datagrams.append(from_client(filler.join(frames[n::count]), number=n))
    rng.shuffle(datagrams)
    with run(*datagrams) as session:
        found = session.fields()
        assert (found["sni"], found["initial_packets"]) == (b"kyber.example.org", count)
        event = session.event()
    with run(from_client(whole(hello))) as session:
        assert session["ja4"] == found["ja4"]
        assert QuicStream(*session.event()).client_hello == QuicStream(*event).client_hello == hello[4:]


def test_the_first_copy_of_a_byte_counts() -> None:
    hello, other = client_hello("first.example.com"), client_hello("other.example.com")
    frames = oracle.crypto_frame(20, hello[20:90]) + oracle.crypto_frame(0, other[:80]) + oracle.crypto_frame(80, hello[80:])
    with run(from_client(frames)) as session:
        assert session["sni"] == b"first.example.com"
        assert session["client_random"] == bytes(range(32)).hex().encode()


@pytest.mark.parametrize("version", oracle.RETRIES, ids=hex)
def test_retry(version: int) -> None:
    v: dict[str, Any] = {"version": version}
    middle = b"the server's id"
    hello = client_hello(padding=900)
    half = pieces(hello, 500)
    with run(
        from_client(whole(client_hello("before.example.com")), **v),
        (1, oracle.retry(dcid=CLIENT, scid=middle, original=DCID, token=b"token", **v)),
        from_client(half[1], dcid=middle, token=b"token", number=1, **v),
        from_client(half[0], dcid=middle, token=b"token", number=2, **v),
        from_server(whole(server_hello()), secret_id=middle, **v),
    ) as session:
        assert session.stopped
        assert (session["retry"], session["token_len"], session["sni"]) == (True, 5, b"www.example.com")
        assert (session["dcid"], session["server_scid"]) == (DCID.hex().encode(), SERVER.hex().encode())
        packets = QuicStream(*session.event()).packets
        assert [p.packet_type for p in packets] == ["Initial", "Retry", "Initial", "Initial", "Initial"]
        assert [p.token_len for p in packets] == [0, 5, 5, 5, 0]
        assert [p.packet_number for p in packets] == [0, None, 1, 2, 0]


def test_a_retry_without_its_tag_means_nothing() -> None:
    forged = bytearray(oracle.retry(dcid=CLIENT, scid=SERVER, original=DCID, token=b"token"))
    forged[-1] ^= 1
    with run(from_client(whole(client_hello())), (1, bytes(forged)), from_server(whole(server_hello()))) as session:
        assert (session["retry"], session["cipher_suite"]) == (False, 0x1302)


def test_version_negotiation() -> None:
    """The client begins anew: another version, another hello, the same or another connection id."""
    for dcid in (DCID, b"another id"):
        hello = client_hello("new.example.com", padding=200)
        half = pieces(hello, 50)
        with run(
            from_client(whole(client_hello("old.example.com")), version=oracle.V2),
            (1, oracle.negotiation(dcid=CLIENT, scid=DCID, versions=[1])),
            from_client(half[1], dcid=dcid),
            from_client(half[0], dcid=dcid, number=1),
            from_server(whole(server_hello()), secret_id=dcid),
        ) as session:
            assert session.stopped
            assert (session["sni"], session["version"], session["version_negotiation"]) == (b"new.example.com", 1, True)
            assert session["dcid"] == dcid.hex().encode()


def test_the_client_may_begin_anew() -> None:
    """Another connection of the same addresses, before anything was known of the first one."""
    with run(
        from_client(pieces(client_hello("old.example.com"), 40)[0]),
        from_client(whole(client_hello("new.example.com")), dcid=b"new id"),
        from_server(whole(server_hello()), secret_id=b"new id"),
    ) as session:
        assert (session["sni"], session["dcid"], session["cipher_suite"]) == (b"new.example.com", b"new id".hex().encode(), 0x1302)


def test_later_packets_of_the_client_go_to_the_servers_id() -> None:
    half = pieces(client_hello(padding=600), 300)
    with run(
        from_client(half[0]), from_server(b"\x02\0\0\0\0"), from_client(half[1], dcid=SERVER, secret_id=DCID, number=1), from_server(whole(server_hello()), number=1)
    ) as session:
        assert session.stopped
        assert (session["sni"], session["initial_packets"]) == (b"www.example.com", 4)


def test_the_client_may_be_the_second_to_be_heard() -> None:
    with run(from_server(whole(server_hello())), from_client(whole(client_hello())), from_server(whole(server_hello()), number=1)) as session:
        assert (session.stopped, session["cipher_suite"]) == (True, 0x1302)
    first = [(1 - side, data) for side, data in (from_client(whole(client_hello())), from_server(whole(server_hello())))]
    with run(*first) as session:
        assert (session.stopped, session["sni"], session["cipher_suite"]) == (True, b"www.example.com", 0x1302)


def test_packets_in_one_datagram() -> None:
    half = pieces(client_hello(), 60)
    zero_rtt = oracle.long_packet(1, dcid=DCID, scid=CLIENT)
    handshake = oracle.long_packet(2, dcid=CLIENT, scid=SERVER)
    client = from_client(half[1])[1] + zero_rtt + from_client(half[0], number=1)[1]
    with run((0, client), (1, from_server(whole(server_hello()))[1] + handshake + b"\x40" + bytes(40))) as session:
        assert session.stopped
        assert (session["zero_rtt"], session["sni"]) == (True, b"www.example.com")
        assert [p.packet_type for p in QuicStream(*session.event()).packets] == ["Initial", "ZeroRTT", "Initial", "Initial", "Handshake"]


@pytest.mark.parametrize("number_len", [1, 2, 3, 4])
def test_packet_numbers_are_expanded(number_len: int) -> None:
    """RFC 9000, A.3: what is sent are the low bytes; the nonce needs them all."""
    start = (1 << 8 * number_len) - 3
    hello = client_hello(padding=500)
    parts = pieces(hello, *range(100, len(hello), 100))
    numbers = [n + start for n in range(len(parts))]
    order = [0, 1, 3, 2, *range(4, len(parts))]
    first = from_client(b"\x01", number=start - 1, number_len=4)
    with run(first, *(from_client(parts[n], number=numbers[n], number_len=number_len) for n in order)) as session:
        assert session["sni"] == b"www.example.com"


def test_hello_retry_request() -> None:
    again = client_hello()
    with run(
        from_client(whole(client_hello())),
        from_server(whole(server_hello(retry=True))),
        from_client(oracle.crypto_frame(len(again), again), number=1),
        from_server(oracle.crypto_frame(len(server_hello(True)), server_hello()), number=1),
    ) as session:
        assert session.stopped
        assert (session["hello_retry_request"], session["cipher_suite"], session["server_random"]) == (True, 0x1302, bytes(range(32, 64)).hex().encode())


def test_a_closed_connection_is_complete() -> None:
    close = b"\x1c" + oracle.varint(0x178) + b"\x06\x03why"
    with run(from_client(whole(client_hello())), from_server(close)) as session:
        assert (session.stopped, session["closed"], session["error_code"]) == (True, True, 0x178)


def test_a_silent_server_is_given_up() -> None:
    later = [(0, b"\x40" + bytes(50))] * feed.PATIENCE
    with run(from_client(whole(client_hello())), *later[1:]) as session:
        assert not session.stopped
    with run(from_client(whole(client_hello())), *later) as session:
        assert (session.delivered, session.stopped, session["sni"]) == (1, True, b"www.example.com")


def test_a_hello_whose_end_is_missing() -> None:
    with run(from_client(pieces(client_hello(padding=900), 400)[0])) as session:
        found = session.fields()
        assert (found["sni"], found["ja4"], found["ja3_str"]) == (b"www.example.com", None, None)
        assert QuicStream(*session.event()).incomplete


def test_what_does_not_open_is_not_quic() -> None:
    noise = [(0, bytearray(from_client(whole(client_hello()), number=n)[1])) for n in range(feed.MOST_FAILURES)]
    for _, data in noise:
        data[-1] ^= 1
    with run(*((side, bytes(data)) for side, data in noise)) as session:
        assert (session.not_ours, session.delivered) == (True, 0)


def test_damage_between_does_no_harm() -> None:
    wrong = bytearray(from_client(whole(client_hello("wrong.example.com")))[1])
    wrong[40] ^= 0x10
    half = pieces(client_hello(), 50)
    with run(from_client(half[0]), (0, bytes(wrong)), (1, bytes(wrong)), from_client(half[1], number=1), from_server(whole(server_hello()))) as session:
        assert (session["sni"], session.stopped) == (b"www.example.com", True)


def test_a_stream_has_an_end() -> None:
    """Frames far away cost a bounded amount of memory and change nothing."""
    far = b"".join(oracle.crypto_frame(1 << n, b"x" * 20) for n in (15, 16, 20, 30, 61))
    with run(from_client(far + whole(client_hello()))) as session:
        assert session["sni"] == b"www.example.com"
        assert parser("quic").used <= 64 << 10
    assert parser("quic").used == 0


def test_without_memory_nothing_breaks() -> None:
    quic = parser("quic")
    for size in (0, 256, 2048, 4096, 8192, 16384):
        quic.reset_arena(size)
        with run(from_client(whole(client_hello(padding=1500))), from_server(whole(server_hello()))) as session:
            session.fields()
        assert quic.used == 0
    quic.reset_arena(32 << 20)


def test_the_library_is_not_needed() -> None:
    quic = parser("quic")
    address, quic.crypto.address = quic.crypto.address, 0
    try:
        with run(from_client(whole(client_hello(padding=1500))), from_server(whole(server_hello()))) as session:
            assert (session["sni"], session["cipher_suite"]) == (b"www.example.com", 0x1302)
    finally:
        quic.crypto.address = address


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (from_client(whole(client_hello()))[1], Probe.CERTAIN),
        (from_client(whole(client_hello()), version=oracle.V2)[1], Probe.CERTAIN),
        (oracle.long_packet(2, dcid=DCID), Probe.CERTAIN),
        (oracle.negotiation(dcid=CLIENT, scid=DCID, versions=[1, 2]), Probe.UNSURE),
        (oracle.long_packet(0, dcid=DCID, version=0x1A2A3A4A, payload=bytes(40)).replace(b"\0\0\x28", b"\0\x40\x28"), Probe.NOT_OURS),
        (b"\x40" + bytes(100), Probe.NOT_OURS),
        (b"\x80" + bytes(100), Probe.NOT_OURS),
        (from_client(whole(client_hello()))[1][:100], Probe.NOT_OURS),
        (b"\xc0\0\0\0\x02" + bytes(100), Probe.NOT_OURS),
        (b"\xc0\0\0\0\x01\x15" + bytes(100), Probe.NOT_OURS),
        (b"", Probe.NOT_OURS),
    ],
    ids=str,
)
def test_probe(data: bytes, answer: Probe) -> None:
    assert parser("quic").probe(data, transport=17) == answer
    assert parser("quic").probe(data, transport=6) == Probe.NOT_OURS
