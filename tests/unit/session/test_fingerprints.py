"""JA3 and JA4 of hellos whose fingerprints their authors have published; scapy as a second reader of ClientHellos."""

from __future__ import annotations

import struct

import pytest
from oracle import ja
from oracle.tls import message, record
from support.sessions import parser
from support.tls_stacks import cases

GREASE = 0x3A3A


def client_hello(version: int, ciphers: list[int], extensions: list[tuple[int, bytes]]) -> bytes:
    block = b"".join(struct.pack(">HH", kind, len(data)) + data for kind, data in extensions)
    body = struct.pack(">H", version) + bytes(33) + struct.pack(f">H{len(ciphers)}H", 2 * len(ciphers), *ciphers) + b"\x01\x00"
    return record(22, message(1, body + struct.pack(">H", len(block)) + block))


def list16(*numbers: int) -> bytes:
    return struct.pack(f">H{len(numbers)}H", 2 * len(numbers), *numbers)


def test_ja3_of_its_readme() -> None:
    """The example in github.com/salesforce/ja3."""
    ciphers = [47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4]
    extensions = [(0, b""), (10, list16(23, 24, 25)), (11, b"\x01\x00")]
    with parser("tls").run([(0, client_hello(769, ciphers, extensions))]) as session:
        assert session["ja3_str"] == b"769,47-53-5-10-49161-49162-49171-49172-50-56-19-4,0-10-11,23-24-25,0"
        assert session["ja3_hash"] == b"ada70206e40642a3e4461f35503241d5"


def test_ja3_without_extensions_of_its_readme() -> None:
    with parser("tls").run([(0, client_hello(769, [4, 5, 10, 9, 100, 98, 3, 6, 19, 18, 99], []))]) as session:
        assert session["ja3_str"] == b"769,4-5-10-9-100-98-3-6-19-18-99,,,"
        assert session["ja3_hash"] == b"de350869b8c85de67a350c8d186f11e6"


JA4_CIPHERS = [int(n, 16) for n in "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035".split(",")]
JA4_TYPES = [int(n, 16) for n in "001b,0000,0033,0010,4469,0017,002d,000d,0005,0023,0012,002b,ff01,000b,000a,0015".split(",")]
JA4_ALGORITHMS = [int(n, 16) for n in "0403,0804,0401,0503,0805,0501,0806,0601".split(",")]


@pytest.mark.parametrize("grease", [False, True])
@pytest.mark.parametrize(("algorithms", "tail"), [(JA4_ALGORITHMS, "e5627efa2ab1"), ([], "6d807ffa2a79")])
def test_ja4_of_its_description(grease: bool, algorithms: list[int], tail: str) -> None:
    """The example in github.com/FoxIO-LLC/ja4, technical_details/JA4.md; GREASE anywhere changes nothing."""
    more = [GREASE] if grease else []
    content = {
        13: list16(*more, *algorithms),
        16: b"\x00\x0c\x02h2\x08http/1.1",
        43: bytes([2 * len(more) + 4]) + struct.pack(f">{len(more) + 2}H", *more, 0x0304, 0x0303),
        10: list16(*more, 29, 23),
    }
    extensions = [(kind, content.get(kind, b"")) for kind in [*more, *JA4_TYPES, *more]]
    with parser("tls").run([(0, client_hello(0x0303, [*more, *JA4_CIPHERS], extensions))]) as session:
        assert session["ja4"] == f"t13d1516h2_8daaf6152771_{tail}".encode()


@pytest.mark.parametrize(
    ("protocol", "letters"),
    [("", "00"), ("68", "hh"), ("6832", "h2"), ("ab", "ab"), ("abcd", "ad"), ("30ab", "3b"), ("3031abcd", "3d"), ("30abcd31", "01")],
)
def test_ja4_of_odd_protocol_names(protocol: str, letters: str) -> None:
    name = bytes.fromhex(protocol)
    data = struct.pack(">HB", len(name) + 1, len(name)) + name
    with parser("tls").run([(0, client_hello(0x0303, [0x1301], [(16, data)]))]) as session:
        assert session["ja4"][8:10] == letters.encode()
        assert session["ja4"].endswith(b"_000000000000"), "no extension but ALPN is left"


@pytest.mark.parametrize(("version", "letters"), ja.VERSION_LETTERS.items())
def test_ja4_of_each_version(version: int, letters: str) -> None:
    hello = client_hello(0x0303, [], [(43, b"\x04" + struct.pack(">HH", 0x0A0A, version))])
    with parser("tls").run([(0, hello)]) as session:
        assert session["ja4"].startswith(f"t{letters}i000100_000000000000_".encode())


def test_ja4_counts_no_further_than_99() -> None:
    hello = client_hello(0x0303, list(range(150)), [(0xFF00 + n, b"") for n in range(120)])
    with parser("tls").run([(0, hello)]) as session:
        assert session["ja4"][:10] == b"t12i999900"
        assert session["ja4"] == ja.ja4(0x0303, [], list(range(150)), [0xFF00 + n for n in range(120)], [], []).encode()


@pytest.mark.filterwarnings("ignore")
def test_scapy_reads_the_same_client_hellos() -> None:
    pytest.importorskip("scapy")
    from scapy.layers.tls.handshake import TLSClientHello

    for case in cases().values():
        stream = b"".join(data for side, data in case.segments if side == 0)
        hello = TLSClientHello(stream[5 : 9 + int.from_bytes(stream[6:9], "big")])
        with parser("tls").run(case.segments) as session:
            found = session.fields()
        assert found["client_version"] == hello.version
        assert found["client_ciphers"] == hello.ciphers
        assert found["client_compression_algs"] == bytes(hello.comp)
        assert (found["client_session_id"] or b"") == hello.sid.hex().encode()
        assert found["client_extensions"] == [e.type for e in hello.ext]
        by_type = {e.type: e for e in hello.ext}
        assert found["client_supported_groups"] == (by_type[10].groups if 10 in by_type else [])
        assert found["client_signature_algs"] == (by_type[13].sig_algs if 13 in by_type else [])
        assert found["client_alpn_protocols"] == ([p.protocol for p in by_type[16].protocols] if 16 in by_type else [])
        assert found["sni"] == (by_type[0].servernames[0].servername if 0 in by_type else None)
