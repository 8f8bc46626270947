"""IPFIX: a plain collector, tshark and nfcapd find the flows in it that the views tell of."""

from __future__ import annotations

import errno
import io
import shutil
import signal
import socket
import struct
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from oracle.ipfix import Collector, messages
from support.running import SAMPLES, MemoryFile, config, runtime
from traffic import UdpExchange, pcap_bytes

import retina_jit as rj
from retina_jit.cli import main
from retina_jit.errors import ConfigError, SubscriptionError
from retina_jit.sinks import FLOWS, ipfix, wanted_types
from retina_jit.sinks.paths import format_of
from retina_jit.subscription import named, subscriptions_of

REVERSE = 29305
FEW = [SAMPLES / n for n in ("mixed.pcap", "tls.pcap", "ssh.pcap")]
REASONS = {"idle": 1, "closed": 3, "end of input": 4, "no room": 5}


def to_sink(sink):
    s = named(wanted_types("ipfix", ["ConnRecord"]), "", print, "sink")
    s.sink = sink
    return s


def export(sink, sources):
    """Export the connections of captures, and collect what the views say."""
    seen = []
    each = named(list(ipfix.TYPES), "", lambda *views: seen.append(views), "each")
    runtime([to_sink(sink), each], sources, config()).run()
    sink.close()
    return seen


def said(conn, ip, flags):
    """What a flow has to say of a connection."""
    t = conn.five_tuple
    wide = ":" in t.orig_addr
    return {
        27 if wide else 8: t.orig_addr, 28 if wide else 12: t.resp_addr, 7: t.orig_port, 11: t.resp_port, 4: t.protocol, 152: conn.first_seen_ts // 10**6,
        153: conn.last_seen_ts // 10**6, 136: REASONS[conn.end_reason], 239: 1, 6: flags.orig, 1: ip.orig, 2: conn.orig.nb_pkts,
        (REVERSE, 6): flags.resp, (REVERSE, 1): ip.resp, (REVERSE, 2): conn.resp.nb_pkts,
    }  # fmt: skip


def key(flow):
    return sorted(map(str, flow.items()))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("ipfix") / "x.ipfix"
    exchange = UdpExchange(("2001:db8::1", 5), ("2001:db8::2", 53), start_ns=2 * 10**18)  # after all others: the end of the input ends it, not silence
    exchange.to_server(b"q")
    exchange.to_client(b"answer")
    with path.open("wb") as out, MemoryFile(pcap_bytes(exchange.frames)) as wide:
        seen = export(ipfix.IpfixFile(out), [*FEW, wide])
    return path, seen


def test_flows_say_what_the_views_say(written):
    path, seen = written
    collector = Collector()
    for message in messages(path.read_bytes()):
        collector.take(message)
    assert sorted(collector.flows, key=key) == sorted((said(*views) for views in seen), key=key)
    assert {4, 6} == {6 if 27 in f else 4 for f in collector.flows} and {f[4] for f in collector.flows} == {6, 17}
    assert {f[136] for f in collector.flows} >= {3, 4} and collector.told == 1 and len(collector.templates) == 2


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_finds_the_same_flows(written):
    path, seen = written
    names = ("cflow.srcport", "cflow.dstport", "cflow.protocol", "cflow.flow_end_reason", "cflow.biflow_direction")
    command = ["tshark", "-r", str(path), "-T", "fields", "-E", "occurrence=a", *[w for n in names for w in ("-e", n)]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines() if line.strip()]
    columns = [[value for line in lines for value in line[n].split(",")] for n in range(len(names))]
    rows = sorted(tuple(map(int, row)) for row in zip(*columns, strict=True))
    assert rows == sorted((t.orig_port, t.resp_port, t.protocol, REASONS[c.end_reason], 1) for c, _, _ in seen for t in (c.five_tuple,))
    whole = subprocess.run(["tshark", "-r", str(path), "-V"], capture_output=True, text=True, check=True).stdout
    assert "Malformed" not in whole and "Expert Info (Warn" not in whole and "Expert Info (Error" not in whole


@pytest.mark.skipif(shutil.which("nfcapd") is None, reason="nfdump is not installed")
def test_nfcapd_collects_the_same_flows(tmp_path):
    flows = tmp_path / "flows"
    flows.mkdir()
    daemon, port = started(flows, tmp_path / "out")
    try:
        seen = export(ipfix.IpfixCollector(f"ipfix://127.0.0.1:{port}"), FEW)
        # What lies in its socket it has not read yet; when it has read an empty message, it has done what was before.
        until(lambda: waiting(port) == 0, daemon)
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as last:
            last.sendto(struct.pack(">HHIII", 10, 16, 0, 0, 99), ("127.0.0.1", port))
        until(lambda: waiting(port) == 0, daemon)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
    fields = "%pr,%sa,%sp,%da,%dp,%flg,%ipkt,%ibyt,%opkt,%obyt"
    done = subprocess.run(["nfdump", "-R", str(flows), "-N", "-q", "-o", f"fmt:{fields}"], capture_output=True, text=True, check=True)
    rows = sorted(tuple(cell.strip() for cell in line.split(",")) for line in done.stdout.splitlines() if line.strip())
    assert len(rows) == len(seen) > 20
    assert rows == sorted(
        (str(t.protocol), t.orig_addr, str(t.orig_port), t.resp_addr, str(t.resp_port), letters(flags.orig), *map(str, (c.orig.nb_pkts, ip.orig, c.resp.nb_pkts, ip.resp)))
        for c, ip, flags in seen for t in (c.five_tuple,)
    )  # fmt: skip


def started(flows, out):
    """A collector, and its port."""
    for _ in range(5):
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with out.open("wb") as file:
            daemon = subprocess.Popen(["nfcapd", "-w", str(flows), "-p", str(port), "-b", "127.0.0.1", "-t", "3600", "-B", "4000000"], stdout=file, stderr=file)
        end = time.monotonic() + 60
        while daemon.poll() is None and time.monotonic() < end:
            if "Startup nfcapd" in out.read_text():
                return daemon, port
            time.sleep(0.02)
        daemon.kill()
        daemon.wait()  # somebody else has taken the port in the meantime
    raise AssertionError(out.read_text())


def letters(flags):
    """TCP flags as nfdump shows them."""
    return "".join(letter if flags >> bit & 1 else "." for bit, letter in zip(range(7, -1, -1), "CEUAPRSF", strict=True))


def until(holds, daemon):
    end = time.monotonic() + 60
    while not holds():
        assert daemon.poll() is None and time.monotonic() < end
        time.sleep(0.02)


def waiting(port):
    """Bytes that wait in the socket of a port of 127.0.0.1."""
    lines = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()]
    return sum(int(cells[4].split(":")[1], 16) for cells in lines[1:] if cells[1] == f"0100007F:{port:04X}")


@pytest.fixture
def collecting():
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taking:
        taking.bind(("127.0.0.1", 0))
        taking.settimeout(60)
        yield taking, f"ipfix://127.0.0.1:{taking.getsockname()[1]}"


def test_datagrams_are_small_and_templates_come_again(collecting, monkeypatch):
    taking, url = collecting
    monkeypatch.setattr(ipfix, "_AGAIN_MESSAGES", 2)
    sink = ipfix.IpfixCollector(url)
    seen = export(sink, FEW)
    collector = Collector()
    while len(collector.flows) < len(seen):
        message = taking.recv(65536)
        assert len(message) <= 1400
        collector.take(message)
    assert sorted(collector.flows, key=key) == sorted((said(*views) for views in seen), key=key)
    assert collector.told > 2 and (sink.lost, sink.problems, sink.lines) == (0, [], len(seen))


def test_an_app_sends_to_a_collector(collecting):
    taking, url = collecting

    @rj.subscribe("tls", sink=url)
    def flows(conn: rj.ConnRecord) -> None: ...

    result = runtime(subscriptions_of(flows), [SAMPLES / "tls.pcap"], config()).run()
    collector = Collector()
    while len(collector.flows) < result.counters["events"]:
        collector.take(taking.recv(65536))
    assert {f[4] for f in collector.flows} == {6} and len(collector.flows) > 10 and result.problems == []


def test_flows_that_nobody_takes_are_counted_and_told():
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as held:
        # Nobody else can take the port, and what does not come from its peer is refused.
        held.bind(("127.0.0.1", 0))
        held.connect(("127.0.0.1", 9))
        url = f"ipfix://127.0.0.1:{held.getsockname()[1]}"
        done = CliRunner().invoke(main, ["log", "ConnRecord", "-r", str(SAMPLES / "mixed.pcap"), "-o", url])
    assert done.exit_code == 3 and "flows have not arrived" in done.output and "refused" in done.output


def test_the_command_line_writes_a_file(tmp_path):
    for n, options in enumerate((["-T", "ipfix"], ["-T", "ipfix", "--rotate", "1k"])):
        done = CliRunner().invoke(main, ["log", "ConnRecord", *options, "-o", str(tmp_path / f"{n}.ipfix"), *[w for p in FEW for w in ("-r", str(p))]])
        assert done.exit_code == 0, done.output
    counts = []
    for pattern in ("0.ipfix", "1.*.ipfix"):
        counts.append(0)
        for path in tmp_path.glob(pattern):
            collector = Collector()  # each file stands alone
            for message in messages(path.read_bytes()):
                collector.take(message)
            counts[-1] += len(collector.flows)
    assert counts[0] == counts[1] > 20


def test_a_cut_file_is_whole_up_to_its_last_message():
    out = io.BytesIO()
    export(FLOWS["ipfix"](out), FEW)
    sizes = [len(m) for m in messages(out.getvalue())]
    assert len(sizes) > 2 and sum(sizes) == len(out.getvalue())


def test_what_it_cannot_do_is_refused():
    for kinds in (["TlsHandshake"], ["ConnRecord", "FiveTuple"]):
        s = named(wanted_types("ipfix", kinds), "", print, "sink")
        s.sink = FLOWS["ipfix"](io.BytesIO())
        with pytest.raises(ConfigError, match="IPFIX exports connections"):
            runtime([s], [SAMPLES / "mixed.pcap"], config()).run()
    for url in ("ipfix://", "ipfix://a:b", "ipfix://127.0.0.1:70000", "ipfix://127.0.0.1/x", "ipfix://no.such.host.invalid"):
        with pytest.raises(ConfigError, match="ipfix://"):
            ipfix.IpfixCollector(url)
    assert format_of("ipfix://a:1") == ("ipfix", "ipfix://a:1") and format_of("x.ipfix") == ("ipfix", "x.ipfix") == format_of("ipfix:x.ipfix")

    @rj.subscribe("", sink="ipfix://127.0.0.1:1", rotate="1M")
    def flows(conn: rj.ConnRecord) -> None: ...

    with pytest.raises(ConfigError, match="is for files"):
        runtime(subscriptions_of(flows), [SAMPLES / "tls.pcap"], config())


def test_only_connections_that_are_over_are_exported(tmp_path):
    for target in (f"{tmp_path}/x.ipfix", "ipfix://127.0.0.1:1"):

        @rj.subscribe("", sink=target, every_packets=3)
        def flows(conn: rj.ConnRecord) -> None: ...

        with pytest.raises(SubscriptionError, match=r"flows: sink=.* takes connections that are over: without every_"):
            runtime(subscriptions_of(flows), [SAMPLES / "tls.pcap"], config())


class Sending:
    """A socket whose calls end as given: None, or an error."""

    def __init__(self, *answers, last=0):
        self.answers, self.last, self.closed = list(answers), last, False

    def send(self, message):
        if (answer := self.answers.pop(0)) is not None:
            raise OSError(answer, "told")

    def getsockopt(self, level, option):
        return self.last

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True


def test_a_flow_is_lost_once_and_the_last_datagram_is_asked_about():
    sink = ipfix.IpfixCollector("ipfix://127.0.0.1:1")
    sink._socket.close()
    sink._socket = made = Sending(errno.ENETUNREACH, errno.ECONNREFUSED, None, errno.ECONNREFUSED, errno.ENETUNREACH, None, last=errno.ECONNREFUSED)
    lost = []
    for flows in (1, 10, 100, 1000):
        sink._put_out(b"", flows)
        lost.append(sink.lost)
    assert lost == [1, 1, 111, 111]
    sink.close()
    assert sink.lost == 1111 and made.closed and not made.answers
