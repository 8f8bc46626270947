"""Made-up sets of many filters, of the shapes that people have: seeded, so the same everywhere."""

from __future__ import annotations

import random

WORDS = (
    "login admin cgi-bin update gate panel config index shell cmd mm bot ping load check stat img upload search news"
).split()
ENDINGS = (".php", ".jpg", ".exe", ".asp", ".cgi", ".dll", ".gif", ".bin", ".txt", "")
SNORT = 1575


def packet_filters(count: int, seed: int = 1) -> list[str]:
    """Return filters on header fields."""
    rng = random.Random(seed)
    shapes = (
        lambda: f"tcp.port = {rng.randint(1, 65535)}",
        lambda: f"ipv4.addr = 10.{rng.randint(0, 255)}.{rng.randint(0, 255)}.0/24 and tcp.dst_port = {rng.choice((22, 80, 443))}",
        lambda: f"udp.dst_port = {rng.randint(1, 65535)} and udp.length > {rng.randint(50, 1000)}",
        lambda: f"ipv4.src_addr in {{{rng.randint(1, 220)}.1.2.0/24, 10.2.3.{rng.randint(0, 255)}}}",
    )
    return ["tcp.port = 443", *(rng.choice(shapes)() for _ in range(count - 1))]


def signatures(count: int = SNORT, seed: int = 5) -> list[tuple[str, str]]:
    """Return (filter, level) pairs like an intrusion detector's: nearly all on HTTP, some on packets, TLS, addresses."""
    rng = random.Random(seed)
    made = []
    for n in range(count):
        place = n * SNORT // count
        if place < 1552:
            path = "/" + "/".join(rng.choice(WORDS) + str(rng.randint(0, 99)) for _ in range(rng.randint(1, 3))) + rng.choice(ENDINGS)
            field = rng.choice(("uri",) * 6 + ("user_agent",) * 2 + ("host", "method", "cookie"))
            text = f"http.{field} {rng.choice(('=', 'contains', 'contains', 'contains'))} '{path}'"
            if rng.random() < 0.3:
                text += f" and http.{rng.choice(('uri', 'user_agent', 'host'))} contains '{rng.choice(WORDS)}{n}'"
            if rng.random() < 0.05:
                text = f"({text}) or http.uri ~ '{rng.choice(WORDS)}[0-9]+{rng.choice(WORDS)}{n}'"
            ports = rng.choice(
                ("", "tcp.port = 80", "tcp.dst_port = 80 or tcp.dst_port = 8080", "tcp.port = 443", f"tcp.dst_port = {rng.randint(1, 65535)}",
                 "tcp.port in 8000..8100")
            )  # fmt: skip
            made.append((f"({text}) and ({ports})" if ports else text, "session"))
        elif place < 1567:
            shapes = (
                "tcp.dst_port in 135..139 and tcp.urg = 1", f"tcp.syn = 1 and tcp.seq_no = {rng.getrandbits(32)}",
                f"udp and udp.dst_port = {rng.randint(1, 65535)} and udp.length > 100", "ipv4.protocol = 1 and ipv4.src_addr = 3.3.3.3/32",
            )  # fmt: skip
            made.append((rng.choice(shapes), "packet"))
        elif place < 1571:
            names = f"tls.sni ~ '.*f2tee{n}.*' or tls.sni ~ '.*rvgvtfdf{n}.*'"
            made.append((f"(tcp.port = 447 or tcp.port = 449) and ({names})", "session"))
        else:
            made.append((f"ipv4.dst_addr = 255.255.255.{n % 256} and (udp.dst_port = 161 or udp.dst_port = 162)", "static"))
    return made


def name_patterns(count: int, seed: int = 2) -> list[str]:
    """Return patterns on server names."""
    rng = random.Random(seed)
    return [rf"(^|\.){rng.choice(('cdn', 'www', 'mail', 'api'))}{n}[a-z]*\.example\.(com|net)$" for n in range(count)]


def names(count: int, seed: int = 3) -> list[bytes]:
    """Return server names, some of which those patterns match."""
    rng = random.Random(seed)
    return [f"{rng.choice(('a.', 'edge.', ''))}{rng.choice(('cdn', 'www', 'img'))}{rng.randint(0, 999)}.example.{rng.choice(('com', 'org'))}".encode() for _ in range(count)]
