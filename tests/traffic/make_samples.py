"""Make the captures that ship with the package, and `expected.json` beside this file.

    python tests/traffic/make_samples.py [DIRECTORY [NAME ...]]

Real stacks (OpenSSL, h11, dnspython, asyncssh) talk; `synth` wraps their bytes into packets. Keys, randoms and
certificates are new at each run, so a new run gives new files and a new `expected.json`: commit them together.

`expected.json` maps the file's name to {"frames": …, "connections": […]}, in order of first frames. A connection has
proto, client and server [address, port], vlans, first_ns and last_ns (exact; a µs capture cuts them), packets, bytes
and payload of orig and resp as captured (a repeated segment counts twice), and under `tls`, `http` or `dns` what the
stacks reported (`stacks.py` and `tls_cases.py` say which keys). ARP and ping are frames but no connections.
"""

from __future__ import annotations

import json
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # run as a script, `traffic` is not on the path

import dns.message
import dns.zone

from traffic import packets, stacks
from traffic.packets import Frame, Link
from traffic.sample import Sample
from traffic.stacks import Request
from traffic.synth import DEFAULT_START_NS, TcpConversation, UdpExchange
from traffic.tls_cases import WEB, WEB6, TlsCases, tls_sample

SECOND = 10**9
NAMESERVER, NAMESERVER6 = "203.0.113.53", "2001:db8:53::53"

ZONE = """
$ORIGIN example.com.
$TTL 300
@       IN SOA ns.example.com. hostmaster.example.com. 2026010100 7200 900 1209600 300
@       IN NS  ns
ns      IN A   203.0.113.53
@       IN MX  10 mail
mail    IN A   198.51.100.25
www     IN A   198.51.100.20
www     IN AAAA 2001:db8:100::20
shop    IN CNAME www
big     IN TXT "{long}" "{long}" "{long}" "{long}" "{long}" "{long}" "{long}" "{long}"
""".format(long="a text record that does not fit a datagram of the classic 512 bytes. " * 3)


def mixed_sample(directory: Path) -> Sample:
    """TLS, HTTP and DNS over IPv4 and IPv6, and some packets that are no conversation."""
    sample = Sample(DEFAULT_START_NS + 3600 * SECOND)
    _neighbours(sample)
    _dns(sample)
    _http(sample)
    make = TlsCases(sample, directory)
    web = ("h2", "http/1.1")
    client, server = make.client(*web), make.server(*web)
    make.run(41001, client, server, server_name="www.example.com", alpn=web)
    make.run(41002, client, server, server_name="shop.example.com", alpn=web, to=WEB6, timestamps=True)
    v12 = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    make.run(
        41003,
        make.client(versions=v12),
        server,
        server_name="api.example.net",
        port=8443,
        link=Link(vlans=(42,)),
    )
    return sample


def _neighbours(sample: Sample) -> None:
    """ARP and ping."""
    link = Link()
    a, b = link.macs
    at = sample.next_start()
    ping = packets.icmp(8, 0, 0x00010001, b"are you there?")
    pong = packets.icmp(0, 0, 0x00010001, b"are you there?")
    reply = packets.arp(b, "192.0.2.1", "192.0.2.10", reply_to=a)
    whole = [
        link.wrap(packets.ETH_ARP, packets.arp(a, "192.0.2.10", "192.0.2.1")),
        link.wrap(packets.ETH_ARP, reply, from_server=True),
        link.wrap(packets.ETH_IPV4, packets.ipv4("192.0.2.10", WEB, packets.PROTO_ICMP, ping)),
        link.wrap(
            packets.ETH_IPV4, packets.ipv4(WEB, "192.0.2.10", packets.PROTO_ICMP, pong), from_server=True
        ),
    ]
    sample.parts.append([Frame(at + 200_000 * count, data) for count, data in enumerate(whole)])


def _dns(sample: Sample) -> None:
    answer = stacks.responder(dns.zone.from_text(ZONE, relativize=False))

    def ask(name: str, kind: str, ident: int, **settings: Any) -> dns.message.Message:
        return dns.message.make_query(name, kind, id=ident, **settings)

    def udp(client: str, port: int, server: str, server_port: int = 53) -> UdpExchange:
        return UdpExchange(
            (client, port), (server, server_port), start_ns=sample.next_start(), step_ns=450_000
        )

    talk = udp("192.0.2.10", 52001, NAMESERVER)
    questions = [ask("www.example.com", "A", 0x1001), ask("www.example.com", "AAAA", 0x1002)]
    sample.add(talk, dns=stacks.dns_udp(talk, answer, questions))
    talk = udp("2001:db8:a::10", 52002, NAMESERVER6)
    sample.add(talk, dns=stacks.dns_udp(talk, answer, [ask("shop.example.com", "A", 0x1003, use_edns=0)]))
    talk = udp("192.0.2.10", 52003, NAMESERVER)
    questions = [ask("missing.example.com", "A", 0x1004), ask("www.example.org", "A", 0x1005)]
    sample.add(talk, dns=stacks.dns_udp(talk, answer, questions))
    talk = udp("192.0.2.10", 52004, NAMESERVER, 5300)
    sample.add(talk, dns=stacks.dns_udp(talk, answer, [ask("example.com", "MX", 0x1006)]))
    talk = udp("192.0.2.10", 52005, "203.0.113.99")
    sample.add(
        talk, dns=stacks.dns_udp(talk, answer, [ask("silent.example.com", "A", 0x1007)], answered=False)
    )
    # does not fit a datagram: truncated, asked again over TCP together with another question
    talk = udp("192.0.2.10", 52006, NAMESERVER)
    sample.add(talk, dns=stacks.dns_udp(talk, answer, [ask("big.example.com", "TXT", 0x1008)]))
    over_tcp = TcpConversation(("192.0.2.10", 52007), (NAMESERVER, 53), start_ns=sample.next_start())
    questions = [ask("big.example.com", "TXT", 0x1009), ask("ns.example.com", "A", 0x100A)]
    sample.add(over_tcp, dns=stacks.dns_tcp(over_tcp, answer, questions))


def _http(sample: Sample) -> None:
    browser = (
        ("Host", "www.example.com"),
        ("User-Agent", "SampleBrowser/1.0 (test traffic)"),
        ("Accept", "*/*"),
    )
    tool = (("Host", "api.example.net:8080"), ("User-Agent", "sample-tool/0.1"))
    page = b"<!doctype html><title>Sample</title>" + b"<p>Nothing to see here.</p>" * 120

    def open_to(client: str, port: int, server: str, server_port: int) -> TcpConversation:
        talk = TcpConversation(
            (client, port), (server, server_port), start_ns=sample.next_start(), step_ns=520_000
        )
        talk.open()
        return talk

    talk = open_to("192.0.2.10", 42001, WEB, 80)
    requests = [
        Request("GET", "/", browser, answer=page, answer_type="text/html"),
        Request("GET", "/missing?q=1", browser, status=404, reason="Not Found", answer=b"no such page\n"),
        Request("HEAD", "/", browser, answer=page, answer_type="text/html"),
    ]
    sample.add(talk, http=stacks.http(talk, requests))
    talk = open_to("2001:db8:a::10", 42002, WEB6, 8080)
    requests = [
        Request(
            "POST", "/v1/items", tool, body=b'{"name": "' + b"x" * 1800 + b'"}', status=201, reason="Created"
        ),
        Request(
            "GET",
            "/v1/items",
            tool,
            answer=b"[1, 2, 3]\n" * 200,
            answer_type="application/json",
            chunked=True,
        ),
    ]
    sample.add(talk, http=stacks.http(talk, requests))
    talk = open_to("192.0.2.10", 42003, WEB, 80)
    requests = [Request("GET", f"/image/{count}.png", browser, answer=b"\x89PNG" * 50) for count in range(3)]
    sample.add(talk, http=stacks.http(talk, requests, pipelined=True))


def ssh_sample(directory: Path) -> Sample:
    """SSH with four sets of algorithms, and one on a port that is not its own."""
    from traffic.ssh_stacks import cases

    sample = Sample(DEFAULT_START_NS + 7200 * SECOND)
    for n, case in enumerate(cases().values()):
        start = sample.next_start()
        talk = TcpConversation(("192.0.2.10", 43001 + n), ("198.51.100.22", 2222 if n == 1 else 22), start_ns=start)
        talk.open()
        for side, data in case.segments:
            (talk.to_client if side else talk.to_server)(data)
        talk.close(by=0)
        sample.add(talk, ssh=case.report)
    return sample


MAKERS = {"tls.pcap": (tls_sample, False), "mixed.pcap": (mixed_sample, True), "ssh.pcap": (ssh_sample, True)}
"""How each capture is made, and whether with nanoseconds."""


def main(directory: Path, names: list[str]) -> None:
    """Write captures, and their entries of expected.json."""
    table = Path(__file__).with_name("expected.json")
    expected: dict[str, Any] = json.loads(table.read_text()) if table.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in names or MAKERS:
            make, nanoseconds = MAKERS[name]
            expected[name] = make(Path(scratch)).write(directory / name, nanoseconds=nanoseconds)
    table.write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    for name in expected:
        print(
            f"{directory / name}: {expected[name]['frames']} frames, {(directory / name).stat().st_size} bytes"
        )


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[2]
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here / "retina_jit" / "samples", sys.argv[2:])
