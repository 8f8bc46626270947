"""What dnspython says of records, in the words of the data type."""

from __future__ import annotations

from base64 import b32hexencode, b64encode
from typing import Any

import dns.message
import dns.name
import dns.rdata
import dns.rdatatype
from dns.rdtypes.svcbbase import ParamKey

SOA = ("primary_ns", "mailbox", "serial", "refresh", "retry", "expire", "minimum_ttl")


def name(value: dns.name.Name) -> str:
    """A name without the dot at its end."""
    return value.to_text(omit_final_dot=True) if value.labels != (b"",) else "."


def base64(data: bytes) -> str:
    return b64encode(data).decode()


def types(windows: Any) -> list[str]:
    """The record types of a bitmap."""
    return [
        kind(window * 256 + 8 * n + bit) for window, bits in windows for n, byte in enumerate(bits) for bit in range(8) if byte & (0x80 >> bit)
    ]


def kind(number: int) -> str:
    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(number))


def _params(params: dict[Any, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for key in sorted(params):
        value = params[key]
        match key:
            case ParamKey.MANDATORY:
                shown["mandatory"] = [ParamKey(k).name.lower().replace("_", "-") for k in value.keys]
            case ParamKey.ALPN:
                shown["alpn"] = [i.decode() for i in value.ids]
            case ParamKey.NO_DEFAULT_ALPN:
                shown["no-default-alpn"] = True
            case ParamKey.PORT:
                shown["port"] = value.port
            case ParamKey.IPV4HINT:
                shown["ipv4hint"] = list(value.addresses)
            case ParamKey.IPV6HINT:
                shown["ipv6hint"] = list(value.addresses)
            case ParamKey.ECH:
                shown["ech"] = base64(value.ech)
            case _:
                shown[f"key{key}"] = value.value.hex()
    return shown


def text(s: bytes) -> str:
    """A string as UTF-8, or else with each byte beyond ASCII by itself."""
    try:
        return s.decode()
    except UnicodeDecodeError:
        return s.decode("ascii", "backslashreplace")


def data(r: Any) -> Any:
    """The data of a record."""
    match kind(r.rdtype):
        case "A" | "AAAA":
            return r.address
        case "NS" | "CNAME" | "PTR" | "DNAME":
            return name(r.target)
        case "MX":
            return {"preference": r.preference, "exchange": name(r.exchange)}
        case "SOA":
            return dict(zip(SOA, (name(r.mname), name(r.rname), r.serial, r.refresh, r.retry, r.expire, r.minimum), strict=True))
        case "SRV":
            return {"priority": r.priority, "weight": r.weight, "port": r.port, "target": name(r.target)}
        case "TXT" | "SPF":
            return [text(s) for s in r.strings]
        case "HINFO":
            return {"cpu": r.cpu.decode(), "os": r.os.decode()}
        case "CAA":
            return {"flags": r.flags, "tag": r.tag.decode(), "value": r.value.decode()}
        case "DS" | "CDS":
            return {"key_tag": r.key_tag, "algorithm": r.algorithm, "digest_type": r.digest_type, "digest": r.digest.hex()}
        case "DNSKEY" | "CDNSKEY":
            return {"flags": r.flags, "protocol": r.protocol, "algorithm": r.algorithm, "public_key": base64(r.key)}
        case "RRSIG":
            return {
                "type_covered": kind(r.type_covered), "algorithm": r.algorithm, "labels": r.labels, "original_ttl": r.original_ttl,
                "expiration": r.expiration, "inception": r.inception, "key_tag": r.key_tag, "signer": name(r.signer),
                "signature": base64(r.signature),
            }  # fmt: skip
        case "NSEC":
            return {"next_domain": name(r.next), "types": types(r.windows)}
        case "NSEC3":
            return {
                "hash_algorithm": r.algorithm, "flags": r.flags, "iterations": r.iterations, "salt": r.salt.hex(),
                "next_hashed_owner": b32hexencode(r.next).decode().lower().rstrip("="), "types": types(r.windows),
            }  # fmt: skip
        case "SVCB" | "HTTPS":
            return {"priority": r.priority, "target": name(r.target), "params": _params(r.params)}
        case "TLSA":
            return {"usage": r.usage, "selector": r.selector, "matching_type": r.mtype, "data": r.cert.hex()}
        case "SSHFP":
            return {"algorithm": r.algorithm, "fp_type": r.fp_type, "fingerprint": r.fingerprint.hex()}
        case "NAPTR":
            texts = {k: getattr(r, k if k != "services" else "service").decode() for k in ("flags", "services", "regexp")}
            return {"order": r.order, "preference": r.preference} | texts | {"replacement": name(r.replacement)}
        case "URI":
            return {"priority": r.priority, "weight": r.weight, "target": r.target.decode()}
        case "EUI48":
            return r.eui.hex("-")
        case _:
            wire = r.to_wire()
            return f"\\# {len(wire)} {wire.hex()}"
