"""Expressions of libpcap: what is compiled, what is refused and how it is told; programs that are no good."""

from __future__ import annotations

import ctypes

import pytest
from oracle import bpf as oracle

from retina_jit.errors import FilterError, SourceError
from retina_jit.ingest import bpf
from retina_jit.ingest.bpf import Instruction, check, compile_expression, compile_for_all
from retina_jit.parsers.packet.link import EN10MB, IPV4, RAW, SLL, SUPPORTED

needs_libpcap = pytest.mark.skipif(oracle.library() is None, reason="libpcap is not installed (Debian: apt-get install libpcap0.8)")
RETURN = Instruction(0x06, 0, 0, 1)


@needs_libpcap
def test_a_program_for_every_link_type_that_is_decoded():
    made = compile_for_all("tcp port 443")
    assert set(made.programs) | set(made.refused) == set(SUPPORTED)
    assert {EN10MB, RAW, SLL, IPV4} <= set(made.programs)
    assert made.programs[EN10MB] != made.programs[RAW]


@needs_libpcap
def test_what_means_nothing_on_a_link_is_told_of_that_link_only():
    made = compile_for_all("ether host 00:00:5e:00:53:01")
    assert EN10MB in made.programs
    assert "libpcap" in made.refused[RAW]


@needs_libpcap
@pytest.mark.parametrize("text", ["tcp prt 443", "tls.sni ~ 'x'", "(", "tcp port 443 and", "udp\0", "tcp port 70000", "\udcff"])
def test_a_wrong_expression_is_named_with_the_reason(text):
    with pytest.raises(FilterError, match="-F") as error:
        compile_for_all(text)
    assert "\0" in text or (f"'{text}'" in str(error.value) and "-f" in str(error.value))


@needs_libpcap
def test_a_loop_is_refused():
    with pytest.raises(FilterError, match="protochain"):
        compile_expression("ip6 protochain 6")


def test_without_libpcap_the_message_says_how_to_get_it(monkeypatch):
    def nothing(name: str | None) -> None:
        raise OSError

    bpf.library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", nothing)
    monkeypatch.setattr(bpf.ctypes.util, "find_library", lambda _: None)
    try:
        with pytest.raises(SourceError, match=r"apt install libpcap0\.8"):
            bpf.compile_for_all("tcp")
    finally:
        bpf.library.cache_clear()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ([], "0 instructions"),
        ([Instruction(0x15, 1, 0, 0), RETURN], "leads out"),
        ([Instruction(0x00, 0, 0, 5)], "leads out"),
        ([Instruction(0x05, 0, 0, 1), RETURN], "leads out"),
        ([Instruction(0x05, 0, 0, 0xFFFFFFFF), RETURN], "loop"),
        ([Instruction(0x02, 0, 0, 16), RETURN], "memory cell 16"),
        ([Instruction(0xFF, 0, 0, 0), RETURN], "0xff"),
    ],
)
def test_a_program_that_is_no_good_is_refused(program, reason):
    with pytest.raises(FilterError, match=reason):
        check(program)
