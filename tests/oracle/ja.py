"""JA3, JA3S and JA4 the obvious way, with `hashlib`, from lists of numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

SERVER_NAME, ALPN = 0, 16
VERSION_LETTERS = {
    0x0304: "13", 0x0303: "12", 0x0302: "11", 0x0301: "10", 0x0300: "s3", 0x0002: "s2",
    0xFEFF: "d1", 0xFEFD: "d2", 0xFEFC: "d3",
}
AGES = {0xFEFF: 0, 0xFEFD: 1, 0xFEFC: 2}


def without_grease(numbers: Iterable[int]) -> list[int]:
    grease = {0x0A0A + 0x1010 * n for n in range(16)}
    return [n for n in numbers if n not in grease]


def ja3(version: int, ciphers: Sequence[int], extensions: Sequence[int], groups: Sequence[int], formats: Sequence[int]) -> str:
    lists = [without_grease(ciphers), without_grease(extensions), without_grease(groups), formats]
    return ",".join([str(version), *("-".join(map(str, numbers)) for numbers in lists)])


def ja3s(version: int, cipher: int, extensions: Sequence[int]) -> str:
    return f"{version},{cipher},{'-'.join(map(str, without_grease(extensions)))}"


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _twelve(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12


def _alpn_letters(protocols: Sequence[bytes]) -> str:
    if not protocols or not protocols[0]:
        return "00"
    first = protocols[0]
    ends = bytes([first[0], first[-1]])
    if all(chr(b).isascii() and chr(b).isalnum() for b in ends):
        return ends.decode()
    return first.hex()[0] + first.hex()[-1]


def ja4(
    version: int,
    supported_versions: Sequence[int],
    ciphers: Sequence[int],
    extensions: Sequence[int],
    protocols: Sequence[bytes],
    algorithms: Sequence[int],
    transport: str = "t",
) -> str:
    ciphers, extensions = without_grease(ciphers), without_grease(extensions)
    highest = max(without_grease(supported_versions), default=version, key=AGES.get if transport == "d" else None)
    head = (
        f"{transport}{VERSION_LETTERS.get(highest, '00')}{'d' if SERVER_NAME in extensions else 'i'}"
        f"{min(len(ciphers), 99):02}{min(len(extensions), 99):02}{_alpn_letters(protocols)}"
    )
    kept = sorted(e for e in extensions if e not in (SERVER_NAME, ALPN))
    tail = ",".join(f"{e:04x}" for e in kept)
    if kept and without_grease(algorithms):
        tail += "_" + ",".join(f"{a:04x}" for a in without_grease(algorithms))
    return f"{head}_{_twelve(','.join(f'{c:04x}' for c in sorted(ciphers)))}_{_twelve(tail)}"
