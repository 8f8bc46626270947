"""SSH: what asyncssh's client and server say of their conversations, and what happens to damaged ones."""

from __future__ import annotations

import base64
import hashlib
import random

import pytest
from support.sessions import parser
from traffic.ssh_stacks import CASES, cases

from retina_jit.datatypes import SshHandshake
from retina_jit.parsers.ssh.examples import EXAMPLES
from retina_jit.status import Probe

each_case = pytest.mark.parametrize("name", CASES)
CURVE = EXAMPLES[0].segments


def handshake(segments) -> SshHandshake:
    with parser("ssh").run(segments) as session:
        assert session.delivered == 1
        return SshHandshake(*session.event())


@each_case
def test_the_stacks_word_is_found(name: str) -> None:
    case = cases()[name]
    ssh, report = handshake(case.segments), case.report
    assert f"SSH-{ssh.protocol_version_ctos}-{ssh.software_version_ctos}" == report["client_version"]
    assert f"SSH-{ssh.protocol_version_stoc}-{ssh.software_version_stoc} {ssh.comments_stoc}" == report["server_version"]
    assert ssh.comments_stoc == "of a test"
    assert (ssh.cipher_alg_ctos, ssh.cipher_alg_stoc) == (report["send_cipher"], report["recv_cipher"])
    for agreed, said in ((ssh.mac_alg_ctos, report["send_mac"]), (ssh.mac_alg_stoc, report["recv_mac"])):
        assert agreed == ("" if "gcm" in ssh.cipher_alg_ctos or "chacha" in ssh.cipher_alg_ctos else said)
    # A delayed compression is told as none until the user is known.
    assert report["send_compression"] in (ssh.compression_alg_ctos, "none")
    assert ssh.host_key_fingerprint == report["fingerprint"]
    assert ssh.host_key_type == report["host_key_type"]
    assert (ssh.client_new_keys, ssh.server_new_keys, ssh.incomplete) == (True, True, False)
    for key, agreed in (("kex_algs", ssh.kex_alg), ("encryption_algs", ssh.cipher_alg_ctos), ("compression_algs", ssh.compression_alg_ctos)):
        if key in case.options:
            assert case.options[key] == [agreed]
    assert ssh.kex_public_ctos
    assert ssh.server_dh_key_exchange.f == ssh.kex_public_stoc
    assert (ssh.group_prime != b"") == ("group-exchange" in ssh.kex_alg)


@each_case
def test_fingerprints_are_made_of_the_lists(name: str) -> None:
    ssh = handshake(cases()[name].segments)
    client, server = ssh.client_key_exchange, ssh.server_key_exchange
    lists = (client.kex_algs, client.encryption_algs_ctos, client.mac_algs_ctos, client.compression_algs_ctos)
    text = ";".join(",".join(names) for names in lists)
    assert (ssh.hassh_algorithms, ssh.hassh) == (text, hashlib.md5(text.encode()).hexdigest())
    lists = (server.kex_algs, server.encryption_algs_stoc, server.mac_algs_stoc, server.compression_algs_stoc)
    text = ";".join(",".join(names) for names in lists)
    assert (ssh.hassh_server_algorithms, ssh.hassh_server) == (text, hashlib.md5(text.encode()).hexdigest())
    digest = base64.b64encode(hashlib.sha256(ssh.host_key).digest()).decode().rstrip("=")
    assert ssh.host_key_fingerprint == f"SHA256:{digest}"
    assert (ssh.kex_algs_ctos, ssh.kex_algs_stoc) == (client.kex_algs, server.kex_algs)


@each_case
def test_one_direction_alone_gives_what_it_says(name: str) -> None:
    case = cases()[name]
    both = handshake(case.segments)
    client = handshake([s for s in case.segments if s[0] == 0])
    server = handshake([s for s in case.segments if s[0] == 1])
    assert (client.hassh, client.hassh_server, client.software_version_ctos) == (both.hassh, "", "Client-2")
    assert (server.hassh, server.hassh_server, server.host_key) == ("", both.hassh_server, both.host_key)


@each_case
def test_who_is_the_client_follows_from_what_is_said(name: str) -> None:
    segments = [(1 - side, data) for side, data in cases()[name].segments]
    assert handshake(segments).to_dict() == handshake(cases()[name].segments).to_dict()


def test_it_does_not_wait_for_the_end() -> None:
    with parser("ssh").session() as session:
        for n, segment in enumerate(CURVE):
            session.feed(*segment)
            assert session.stopped == (n == len(CURVE) - 1)
        assert session.delivered == 1


def test_a_silent_side_is_not_waited_for_for_ever() -> None:
    with parser("ssh").session() as session:
        for side, data in CURVE:
            if side == 1:
                session.feed(1, data)
        assert not session.stopped
        for _ in range(40):
            session.feed(1, bytes(1000))
        assert (session.stopped, session.delivered) == (True, 1)


def test_a_hole_in_what_is_kept_hides_only_that() -> None:
    data = CURVE[1][1]
    cut = data.index(b"\r\n") + 60
    segments = [CURVE[0], (0, data[:cut]), (0, b"\0" * 8, 1000), *CURVE[2:]]
    with parser("ssh").run(segments) as session:
        assert session.delivered == 1
        assert (session["software_version_ctos"], session["hassh"], session["incomplete"]) == (b"Client-2", None, True)
        assert session["hassh_server"] is not None


def test_a_greeting_is_waited_through_but_not_for_ever() -> None:
    greeting = b"no entry\r\n" * 3000
    with parser("ssh").run([(0, b"SSH-2.0-x\r\n"), (1, greeting[:10000] + b"SSH-2.0-y\r\n")]) as session:
        assert session["software_version_stoc"] == b"y"
    with parser("ssh").run([(0, b"SSH-2.0-x\r\n"), (1, greeting + b"SSH-2.0-y\r\n")]) as session:
        assert session["software_version_stoc"] is None
        assert parser("ssh").used <= 4096


@pytest.mark.parametrize(
    ("data", "direction", "answer"),
    [
        (b"SSH-", 0, Probe.CERTAIN), (b"SS", 0, Probe.UNSURE), (b"SST", 0, Probe.NOT_OURS), (b"hello\r\nSSH-2", 1, Probe.CERTAIN),
        (b"hello\r\n", 1, Probe.UNSURE), (b"hello\r\n", 0, Probe.NOT_OURS), (b"hello\0", 1, Probe.NOT_OURS),
        (b"x" * 255, 1, Probe.NOT_OURS), (b"\0\0", 0, Probe.UNSURE), (b"\0\1", 0, Probe.NOT_OURS), (b"\0\0\0\x0c\x0a\x15", 0, Probe.NOT_OURS),
    ],
)  # fmt: skip
def test_probe(data: bytes, direction: int, answer: Probe) -> None:
    assert parser("ssh").probe(data, direction) == answer


def test_memory_is_bounded_whatever_is_sent() -> None:
    """Retina keeps nothing; here a KEXINIT is kept, but no longer one than 32 KiB, and few messages of the exchange."""
    rng = random.Random(3)
    many = b"".join(b"\0\0\x20\x04\x04\x1e" + rng.randbytes(8194) for _ in range(50))
    with parser("ssh").run([(0, b"SSH-2.0-x\r\n" + many), (1, b"SSH-2.0-y\r\n\0\3\xff\xfc\x04\x14" + rng.randbytes(200_000))]) as session:
        assert parser("ssh").used <= 1 << 18
        assert session["software_version_stoc"] == b"y"
    assert parser("ssh").used == 0


def test_text_that_is_not_utf8_is_shown() -> None:
    """6.5, a remote panic: three places took bytes for UTF-8."""
    ssh = handshake([(0, b"SSH-2.0-\xff\xfe \xc3\r\n"), (1, b"SSH-2.0-y\r\n")])
    assert (ssh.software_version_ctos, ssh.comments_ctos) == ("\\xff\\xfe", "\\xc3")
    assert ssh.client_version_exchange == ("2.0", "\\xff\\xfe", "\\xc3")
