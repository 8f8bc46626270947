"""Zeek's logs of our sessions and connections: conn, ssl, http, dns, quic, ssh, a file each; beside ssl.log the certificates, x509.log.

What Zeek would write and is not known here is unset: local networks, files, whether a login
succeeded. Written a line per event from Python: some ten thousand lines per second.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from retina_jit.datatypes.base import DataType
from retina_jit.errors import ConfigError
from retina_jit.formats import zeek
from retina_jit.sinks import certificates
from retina_jit.sinks.base import Layout
from retina_jit.sinks.events import Events, put

TYPES = {
    "conn": ("ConnRecord", "ConnUid", "IpByteCount"), "ssl": ("TlsHandshake", "ConnUid", "FiveTuple"), "http": ("HttpTransaction", "ConnUid", "FiveTuple"),
    "dns": ("DnsTransaction", "ConnUid", "FiveTuple"), "quic": ("QuicStream", "ConnUid", "FiveTuple"), "ssh": ("SshHandshake", "ConnUid", "FiveTuple"),
}  # fmt: skip
"""Log -> data types of the subscription that fills it."""
OF_TYPE = {types[0]: log for log, types in TYPES.items()}

VERSIONS = {0x0002: "SSLv2", 0x0300: "SSLv3", 0x0301: "TLSv10", 0x0302: "TLSv11", 0x0303: "TLSv12", 0x0304: "TLSv13"}
CLASSES = {"IN": "C_INTERNET", "CS": "C_CSNET", "CH": "C_CHAOS", "HS": "C_HESIOD", "NONE": "C_NONE", "ANY": "C_ANY"}
SERVICES = {"tls": "ssl", "dtls": "ssl"}
QUIC_VERSIONS = {1: "1", 0x6B3343CF: "quicv2"} | {0xFF000000 + n: f"draft-{n}" for n in range(22, 35)}
_AA, _TC, _RD, _RA = 0x0400, 0x0200, 0x0100, 0x0080


def _conn(conn: Any, ip: Any) -> list[Any]:
    t, orig, resp, service = conn.five_tuple, conn.orig, conn.resp, conn.service
    sent, got, packets, answers = orig.nb_payload_bytes, resp.nb_payload_bytes, orig.nb_pkts, resp.nb_pkts
    # Zeek knows neither a duration nor sizes of a single packet without payload.
    alone = packets + answers == 1 and not (sent or got)
    return [
        t.proto, SERVICES.get(service, service) or None, None if alone else conn.last_seen_ts - conn.first_seen_ts,
        *((None, None) if alone else (sent, got)), conn.conn_state, None, None, orig.missed_bytes + resp.missed_bytes,
        conn.zeek_history or None, packets, ip.orig, answers, ip.resp, None, t.protocol,
    ]  # fmt: skip


def _fingerprints(chain: Sequence[bytes]) -> list[str] | None:
    return [hashlib.sha256(c).hexdigest() for c in chain] or None


def _sni_matches(tls: Any) -> bool | None:
    """Whether the server's certificate is for the name that was asked for; None if either is missing."""
    chain = tls.server_certificates
    found = certificates.facts(chain[0]) if chain and tls.sni and certificates.decoder_is_there() else None
    return certificates.matches(found.hosts, tls.sni) if found else None


def _ssl(tls: Any) -> list[Any]:
    share, alerts = tls.server_key_share, tls.alerts
    return [
        VERSIONS.get(tls.version, f"unknown-{tls.version}") if tls.has_server_hello else None, tls.cipher or None, share.group if share else None, tls.sni or None,
        tls.is_resumption, alerts[-1].description if alerts else None, tls.server_alpn_protocol or None, tls.established, None,
        _fingerprints(tls.server_certificates), _fingerprints(tls.client_certificates), _sni_matches(tls),
    ]  # fmt: skip


def _http(http: Any) -> list[Any]:
    version = http.request_version or http.response_version
    return [
        http.trans_depth + 1, http.method or None, http.host or None, http.uri or None, http.referer or None, version.rpartition("/")[2] or None,
        http.user_agent or None, http.origin or None, http.request_body_len, http.response_body_len, http.status_code or None, http.status_msg or None,
        None, None, [], None, None, None, *[None] * 6,
    ]  # fmt: skip


def _answer(data: Any) -> str:
    if isinstance(data, dict):
        return " ".join(str(v) for v in data.values())
    return " ".join(map(str, data)) if isinstance(data, list | tuple) else str(data) if data is not None else ""


def _dns(dns: Any, proto: str) -> list[Any]:
    answer = dns.response
    flags, asked = answer.flags if answer else 0, dns.query
    listed = answer.answers if answer else ()
    wanted = flags & _RD if answer else asked.flags & _RD if asked else 0
    rejected = bool(answer) and not (answer.num_answers or answer.num_nameservers or answer.num_additional)
    known = dns.qtype is not None
    return [
        proto, dns.transaction_id, dns.response_ts - dns.query_ts if dns.has_query and dns.has_response else None, dns.query_domain or None,
        dns.qclass if known else None, CLASSES.get(dns.qclass_name, dns.qclass_name) if known else None, dns.qtype if known else None,
        dns.qtype_name if known else None, dns.response_code if answer else None, dns.response_code_name if answer else None, bool(flags & _AA),
        bool(flags & _TC), bool(wanted), bool(flags & _RA), (flags >> 4) & 7 if answer else 0,
        [_answer(a.data) for a in listed] or None, [a.ttl * 10**9 for a in listed] or None, rejected,
    ]  # fmt: skip


def _quic(quic: Any) -> list[Any]:
    offered = quic.client_alpn_protocols
    return [
        QUIC_VERSIONS.get(quic.version, f"unknown-{quic.version:x}"), quic.dcid or None, quic.scid or None, quic.server_scid or None, quic.sni or None,
        offered[0] if offered else None, None,
    ]  # fmt: skip


def _ssh(ssh: Any) -> list[Any]:
    def banner(side: str) -> str | None:
        version, software, comments = (getattr(ssh, f"{part}_{side}") for part in ("protocol_version", "software_version", "comments"))
        return f"SSH-{version}-{software}{' ' + comments if comments else ''}" if version else None

    major = (ssh.protocol_version_stoc or ssh.protocol_version_ctos or "").partition(".")[0]
    return [
        # 1.99 offers both; what is parsed is version 2.
        (2 if ssh.kex_alg or major == "2" else 1) if major else None, None, 0, None, banner("ctos"), banner("stoc"),
        *(getattr(ssh, f"{alg}_stoc") or None for alg in ("cipher_alg", "mac_alg", "compression_alg")), ssh.kex_alg or None, ssh.host_key_alg or None,
        str(ssh.host_key_fingerprint) if ssh.host_key_fingerprint else None,
    ]  # fmt: skip


WRITE: dict[str, Callable[..., list[Any]]] = {"ssl": _ssl, "http": _http, "quic": _quic, "ssh": _ssh}


def values(log: str, ts: int, views: Sequence[Any]) -> list[Any]:
    """Return the values of a line, in the order of the log's columns."""
    first, uid = views[0], views[1].uid
    if log == "conn":
        t, ts = first.five_tuple, first.first_seen_ts
    else:
        t = views[2]
        ts = {"http": lambda: first.request_ts or ts, "dns": lambda: first.query_ts or ts}.get(log, lambda: ts)()
    rest = _conn(first, views[2]) if log == "conn" else _dns(first, t.proto) if log == "dns" else WRITE[log](first)
    return [ts, uid, t.orig_addr, t.orig_port, t.resp_addr, t.resp_port, *rest]


class ZeekLogs(Events):
    """Writes conn.log, ssl.log, ... into a folder, or one log into an open file.

    Into a folder, x509.log goes with ssl.log (needs `retina-jit[x509]`).

    Parameters
    ----------
    target : path of a folder, or binary file
    as_json : bool
        Zeek's JSON lines instead of tab-separated values.
    """

    def __init__(self, target: str | Path | BinaryIO, *, as_json: bool = False) -> None:
        super().__init__()
        self._target = target
        self._line = zeek.json_line if as_json else zeek.tsv_line
        self._json = as_json
        self._out: dict[str, BinaryIO] = {}
        self._known = certificates.Known()

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which subscriptions write here, and begin their files.

        Raises
        ------
        ConfigError
            A data type that Zeek has no log of, several logs for one file, or a file that cannot be written.
        """
        self._logs = self._logs_of(mine)
        super().open(mine, count)

    def prepare(self, mine: Mapping[int, Layout]) -> None:
        """Begin further logs; refuse what `open` refuses."""
        self._logs_of(mine)

    def _logs_of(self, mine: Mapping[int, Layout]) -> dict[int, tuple[str, Sequence[type[DataType]], Sequence[int]]]:
        logs: dict[int, tuple[str, Sequence[type[DataType]], Sequence[int]]] = {}
        for n, (types, offsets) in mine.items():
            log = OF_TYPE.get(types[0].__name__)
            if log is None or tuple(t.__name__ for t in types) != TYPES[log]:
                raise ConfigError(f"{', '.join(t.__name__ for t in types)}: no log of Zeek's; there are {', '.join(OF_TYPE)}, each on its own")
            logs[n] = log, types, offsets
        if len(logs) > 1 and not isinstance(self._target, str | Path):
            raise ConfigError("several logs do not go into one file: name a folder with -o")
        for log, _, _ in logs.values():
            if log not in self._out:
                self._begin(log)
        if "ssl" in self._out and "x509" not in self._out and isinstance(self._target, str | Path):
            if certificates.decoder_is_there():
                self._begin("x509")
            else:
                logging.getLogger(__name__).warning("x509.log is not written, for cryptography is not installed: pip install 'retina-jit[x509]'")
        return logs

    def _begin(self, log: str) -> None:
        if isinstance(self._target, str | Path):
            try:
                Path(self._target).mkdir(parents=True, exist_ok=True)
                self._out[log] = (Path(self._target) / f"{log}.log").open("wb")
            except OSError as fault:
                raise ConfigError(f"-o {self._target}: {fault.strerror}") from fault
        else:
            self._out[log] = self._target
        if not self._json:
            self._out[log].write(zeek.head(log, _now()))

    def write(self, buffer: bytes, events: Iterator[tuple[int, int]]) -> None:
        """Write a line per event."""
        parts: dict[str, list[bytes]] = {log: [] for log in list(self._out)}  # a list: another thread may begin one
        for number, at in events:
            log, types, offsets = self._logs[number]
            views = [t(buffer, at, at + o) for t, o in zip(types, offsets, strict=True)]
            ts = int.from_bytes(buffer[at + 8 : at + 16], "little")
            parts[log].append(self._line(log, values(log, ts, views)))
            if log == "ssl" and "x509" in parts:
                parts["x509"] += [self._line("x509", line) for line in self._certificates(ts, views[0])]
        for log, lines in parts.items():
            put(self._out[log], b"".join(lines))

    def _certificates(self, ts: int, tls: Any) -> list[list[Any]]:
        return [*self._known.lines(ts, tls.server_certificates, client=False), *self._known.lines(ts, tls.client_certificates, client=True)]

    def close(self) -> None:
        """End the logs; an open file that was given stays open."""
        for out in self._out.values():
            if not self._json:
                out.write(f"#close\t{_now()}\n".encode())
            out.flush()
            if out is not self._target:
                out.close()
        self._out = {}


def _now() -> str:
    return time.strftime("%Y-%m-%d-%H-%M-%S")
