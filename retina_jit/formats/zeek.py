"""Zeek's logs: which columns they have, and how values are written. Of the log framework's ASCII and JSON writers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from json.encoder import encode_basestring
from typing import Any

ID = (("ts", "time"), ("uid", "string"), ("id.orig_h", "addr"), ("id.orig_p", "port"), ("id.resp_h", "addr"), ("id.resp_p", "port"))
_FILES = ("fuids", "filenames", "mime_types")

LOGS: dict[str, tuple[tuple[str, str], ...]] = {
    "conn": (
        *ID, ("proto", "enum"), ("service", "string"), ("duration", "interval"), ("orig_bytes", "count"), ("resp_bytes", "count"), ("conn_state", "string"),
        ("local_orig", "bool"), ("local_resp", "bool"), ("missed_bytes", "count"), ("history", "string"), ("orig_pkts", "count"), ("orig_ip_bytes", "count"),
        ("resp_pkts", "count"), ("resp_ip_bytes", "count"), ("tunnel_parents", "set[string]"), ("ip_proto", "count"),
    ),
    "ssl": (
        *ID, ("version", "string"), ("cipher", "string"), ("curve", "string"), ("server_name", "string"), ("resumed", "bool"), ("last_alert", "string"),
        ("next_protocol", "string"), ("established", "bool"), ("ssl_history", "string"), ("cert_chain_fps", "vector[string]"),
        ("client_cert_chain_fps", "vector[string]"), ("sni_matches_cert", "bool"),
    ),
    "http": (
        *ID, ("trans_depth", "count"), ("method", "string"), ("host", "string"), ("uri", "string"), ("referrer", "string"), ("version", "string"),
        ("user_agent", "string"), ("origin", "string"), ("request_body_len", "count"), ("response_body_len", "count"), ("status_code", "count"),
        ("status_msg", "string"), ("info_code", "count"), ("info_msg", "string"), ("tags", "set[enum]"), ("username", "string"), ("password", "string"),
        ("proxied", "set[string]"), *((f"{side}_{what}", "vector[string]") for side in ("orig", "resp") for what in _FILES),
    ),
    "dns": (
        *ID, ("proto", "enum"), ("trans_id", "count"), ("rtt", "interval"), ("query", "string"), ("qclass", "count"), ("qclass_name", "string"), ("qtype", "count"),
        ("qtype_name", "string"), ("rcode", "count"), ("rcode_name", "string"), ("AA", "bool"), ("TC", "bool"), ("RD", "bool"), ("RA", "bool"), ("Z", "count"),
        ("answers", "vector[string]"), ("TTLs", "vector[interval]"), ("rejected", "bool"),
    ),
    "quic": (
        *ID, ("version", "string"), ("client_initial_dcid", "string"), ("client_scid", "string"), ("server_scid", "string"), ("server_name", "string"),
        ("client_protocol", "string"), ("history", "string"),
    ),
    "ssh": (
        *ID, ("version", "count"), ("auth_success", "bool"), ("auth_attempts", "count"), ("direction", "enum"), ("client", "string"), ("server", "string"),
        ("cipher_alg", "string"), ("mac_alg", "string"), ("compression_alg", "string"), ("kex_alg", "string"), ("host_key_alg", "string"),
        ("host_key_fingerprint", "string"),
    ),
    "x509": (
        ("ts", "time"), ("fingerprint", "string"), ("certificate.version", "count"), ("certificate.serial", "string"), ("certificate.subject", "string"),
        ("certificate.issuer", "string"), ("certificate.not_valid_before", "time"), ("certificate.not_valid_after", "time"), ("certificate.key_alg", "string"),
        ("certificate.sig_alg", "string"), ("certificate.key_type", "string"), ("certificate.key_length", "count"), ("certificate.exponent", "string"),
        ("certificate.curve", "string"), ("san.dns", "vector[string]"), ("san.uri", "vector[string]"), ("san.email", "vector[string]"),
        ("san.ip", "vector[addr]"), ("basic_constraints.ca", "bool"), ("basic_constraints.path_len", "count"), ("host_cert", "bool"), ("client_cert", "bool"),
    ),
}  # fmt: skip
"""Log -> names and types of its columns, in the order of Zeek 8.0 (8.1 and later: `opcode` and `opcode_name` in dns as well)."""

UNSET, EMPTY = "-", "(empty)"


def head(log: str, opened: str) -> bytes:
    """Return the header lines of a log; `opened`: 2026-01-31-23-59-59."""
    names, kinds = zip(*LOGS[log], strict=True)
    lines = ["#separator \\x09", "#set_separator\t,", f"#empty_field\t{EMPTY}", f"#unset_field\t{UNSET}", f"#path\t{log}", f"#open\t{opened}"]
    return "\n".join([*lines, "\t".join(("#fields", *names)), "\t".join(("#types", *kinds)), ""]).encode()


def _text(value: str, *, inner: bool = False) -> str:
    """Escape what would end the column, the line or, with `inner`, the element."""
    if not value:
        return EMPTY
    if value in (UNSET, EMPTY):
        return f"\\x{ord(value[0]):02x}{value[1:]}"
    if value.isprintable() and "\\" not in value and not (inner and "," in value):
        return value
    return value.translate(_WITHIN if inner else _ESCAPED)


_ESCAPED = {n: f"\\x{n:02x}" for n in (*range(32), 127)} | {ord("\\"): "\\\\"}
_WITHIN = _ESCAPED | {ord(","): f"\\x{ord(','):02x}"}


def seconds(ns: int) -> str:
    """Return nanoseconds as seconds with six digits, as Zeek writes times and intervals; cut, not rounded."""
    sign = "-" if ns < 0 else ""
    whole, rest = divmod(abs(ns), 10**9)
    return f"{sign}{whole}.{rest // 1000:06d}"


def _truth(value: bool) -> str:
    return "T" if value else "F"


def _list(of: Callable[[Any], str], value: Sequence[Any]) -> str:
    return ",".join(map(of, value)) if value else EMPTY


_PLAIN: dict[str, Callable[[Any], str]] = {"time": seconds, "interval": seconds, "bool": _truth, "count": str, "port": str, "addr": str}


def _form(kind: str) -> Callable[[Any], str]:
    """What writes a value of a type."""
    outer, bracket, inner = kind.partition("[")
    if bracket:
        return partial(_list, _PLAIN.get(inner[:-1], partial(_text, inner=True)))
    return _PLAIN.get(outer, _text)


_FORMS = {log: [_form(kind) for _, kind in columns] for log, columns in LOGS.items()}


def tsv_line(log: str, values: Sequence[Any]) -> bytes:
    """Return a line; times and intervals are given in nanoseconds, None is unset."""
    cells = [UNSET if v is None else form(v) for v, form in zip(values, _FORMS[log], strict=True)]
    return ("\t".join(cells) + "\n").encode("utf-8", "replace")


def _json_list(of: Callable[[Any], str], value: Sequence[Any]) -> str:
    return f"[{','.join(map(of, value))}]"


_JSON: dict[str, Callable[[Any], str]] = {
    "time": seconds, "interval": seconds, "bool": lambda value: "true" if value else "false", "count": str, "port": str,
}  # fmt: skip


def _json_form(kind: str) -> Callable[[Any], str]:
    outer, bracket, inner = kind.partition("[")
    if bracket:
        return partial(_json_list, _json_form(inner[:-1]))
    return _JSON.get(outer, encode_basestring)


_JSON_FORMS = {log: [(f'"{name}":', _json_form(kind)) for name, kind in columns] for log, columns in LOGS.items()}


def json_line(log: str, values: Sequence[Any]) -> bytes:
    """Return a JSON object in a line: what is unset is left out, as Zeek does."""
    parts = [name + form(v) for v, (name, form) in zip(values, _JSON_FORMS[log], strict=True) if v is not None]
    return ("{" + ",".join(parts) + "}\n").encode("utf-8", "replace")
