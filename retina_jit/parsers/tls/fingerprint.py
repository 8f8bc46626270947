"""JA3, JA3S and JA4 of a hello, as text in own memory.

JA3 is the MD5 of decimal numbers as sent; JA4 (the TLS client's only, BSD licence) the SHA-256 of sorted hexadecimal
ones. Both leave GREASE out. The writers take where to write and return where the text ends; how much room they may
need follows from the length of the hello.

Sources: github.com/salesforce/ja3, github.com/FoxIO-LLC/ja4 (technical_details/JA4.md).
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.memory import load16, store8, store16
from retina_jit.parsers.digest import SHA256_WORK, SPARE, sha256, write_hex
from retina_jit.parsers.tls import hello
from retina_jit.parsers.wire import has, u8, u16

JA4_LENGTH = 36


@leaf
def ja3_room(length):
    """Bytes that `write_ja3` or `write_ja3s` may need for a hello of `length` bytes, with room for its digest."""
    return 4 * length + 64 + SPARE  # at worst "255-" for one byte (point formats)


@leaf
def ja4_room(length):
    """Bytes that `write_ja4` may need beside its result."""
    return 5 * length + 64 + SPARE + SHA256_WORK + 32  # "1301," and the number itself for two bytes


@kernel
def write_decimal(target, value):
    """Write a number below 65536. Returns where it ends."""
    digits = 1
    power = 10
    while value >= power:
        power *= 10
        digits += 1
    for n in range(digits):
        store8(target + digits - 1 - n, 48 + value % 10)
        value //= 10
    return target + digits


@kernel
def _join(target, numbers):
    """Write two-byte numbers, GREASE left out, with '-' between. Returns where they end."""
    start = target
    for n in range(numbers[1] >> 1):
        value = u16(numbers, 2 * n)
        if not hello.is_grease(value):
            if target != start:
                store8(target, 45)
                target += 1
            target = write_decimal(target, value)
    return target


@kernel
def _join_types(target, block):
    """Write the types of a block of extensions in the same way."""
    start = target
    at = 0
    for _ in range(hello.MAX_EXTENSIONS):
        if not has(block, at, 4):
            break
        value = u16(block, at)
        if not hello.is_grease(value):
            if target != start:
                store8(target, 45)
                target += 1
            target = write_decimal(target, value)
        at += 4 + u16(block, at + 2)
    return target


@leaf
def _comma(target):
    store8(target, 44)
    return target + 1


@kernel
def write_ja3(target, body):
    """Version, ciphers, extensions, groups, point formats. Returns where the text ends."""
    block = hello.client_extensions(body)
    target = _comma(write_decimal(target, hello.legacy_version(body)))
    target = _comma(_join(target, hello.cipher_suites(body)))
    target = _comma(_join_types(target, block))
    target = _comma(_join(target, hello.vector16(hello.find(block, hello.SUPPORTED_GROUPS), 0)))
    formats = hello.vector8(hello.find(block, hello.EC_POINT_FORMATS), 0)
    for n in range(formats[1]):
        if n:
            store8(target, 45)
            target += 1
        target = write_decimal(target, u8(formats, n))
    return target


@kernel
def write_ja3s(target, body):
    """Version, cipher, extensions of a ServerHello. Returns where the text ends."""
    target = _comma(write_decimal(target, hello.legacy_version(body)))
    target = _comma(write_decimal(target, hello.chosen_cipher(body)))
    return _join_types(target, hello.server_extensions(body))


# --------------------------------------------------------------------------------------------------------------- JA4


@kernel
def sort16(address, count):
    """Sort two-byte numbers of own memory. Shellsort: no recursion, and no input makes it quadratic."""
    gap = 1
    while 3 * gap + 1 < count:
        gap = 3 * gap + 1
    while gap > 0:
        for n in range(gap, count):
            value = load16(address + 2 * n)
            at = n
            while at >= gap and load16(address + 2 * (at - gap)) > value:
                store16(address + 2 * at, load16(address + 2 * (at - gap)))
                at -= gap
            store16(address + 2 * at, value)
        gap //= 3


@kernel
def _write_hex16(target, value):
    for n in range(4):
        digit = (value >> (12 - 4 * n)) & 15
        store8(target + n, digit + (48 if digit < 10 else 87))
    return target + 4


@leaf
def _rank(version):
    """A number that grows with the version: those of DTLS are counted downwards."""
    return version ^ 0xFF if version >> 8 == 0xFE else version


@kernel
def _highest_version(body, block):
    """The version that the two letters of JA4 stand for."""
    versions = hello.vector8(hello.find(block, hello.SUPPORTED_VERSIONS), 0)
    highest = 0
    for n in range(versions[1] >> 1):
        value = u16(versions, 2 * n)
        if not hello.is_grease(value) and _rank(value) > _rank(highest):
            highest = value
    return highest if highest else hello.legacy_version(body)


@kernel
def _version_letters(version):
    """Two characters as one number, the first one low."""
    if version == 0x0304:
        return 0x3331
    if version == 0x0303:
        return 0x3231
    if version == 0x0302:
        return 0x3131
    if version == 0x0301:
        return 0x3031
    if version == 0x0300:
        return 0x3373
    if version == 0x0002:
        return 0x3273
    if version == 0xFEFF:
        return 0x3164
    if version == 0xFEFD:
        return 0x3264
    if version == 0xFEFC:
        return 0x3364
    return 0x3030


@leaf
def _is_alphanumeric(byte):
    return (48 <= byte <= 57) or (65 <= byte <= 90) or (97 <= byte <= 122)


@leaf
def _hex_digit(value):
    return value + (48 if value < 10 else 87)


@kernel
def _alpn_letters(block):
    """First and last character of the first protocol that is offered, or of its hexadecimal form; "00" without."""
    first = hello.name_at(hello.vector16(hello.find(block, hello.ALPN), 0), 0)
    if first[1] == 0:
        return 0x3030
    head, tail = u8(first, 0), u8(first, first[1] - 1)
    if _is_alphanumeric(head) and _is_alphanumeric(tail):
        return head | (tail << 8)
    return _hex_digit(head >> 4) | (_hex_digit(tail & 15) << 8)


@leaf
def _two_digits(target, value):
    value = min(value, 99)
    store8(target, 48 + value // 10)
    store8(target + 1, 48 + value % 10)
    return target + 2


@kernel
def _twelve(target, text, end, work):
    """Write the first twelve digits of the SHA-256 of a text that ends at `end`; zeros if it is empty."""
    if end == text:
        for n in range(12):
            store8(target + n, 48)
    else:
        digest = work + SHA256_WORK
        sha256(text, end - text, digest, work)
        write_hex(target, digest, 6)
    return target + 12


@kernel
def _write_list(target, numbers, count):
    for n in range(count):
        if n:
            target = _comma(target)
        target = _write_hex16(target, load16(numbers + 2 * n))
    return target


@kernel
def write_ja4(target, body, transport, work):
    """Write the JA4 of a ClientHello, JA4_LENGTH characters, to `target`.

    `transport` is the letter of what carries it, 't' for TCP, 'd' for DTLS, 'q' for QUIC; `work` has `ja4_room` bytes.
    """
    block = hello.client_extensions(body)
    suites = hello.cipher_suites(body)
    numbers = work + SHA256_WORK + 32
    count = 0
    for n in range(suites[1] >> 1):
        value = u16(suites, 2 * n)
        if not hello.is_grease(value):
            store16(numbers + 2 * count, value)
            count += 1
    sort16(numbers, count)
    text = numbers + 2 * count
    cipher_count = count
    _twelve(target + 11, text, _write_list(text, numbers, count), work)
    store8(target + 10, 95)
    store8(target + 23, 95)

    at = count = extensions = 0
    named = 105  # 'i': to an address
    for _ in range(hello.MAX_EXTENSIONS):
        if not has(block, at, 4):
            break
        value = u16(block, at)
        at += 4 + u16(block, at + 2)
        if hello.is_grease(value):
            continue
        extensions += 1
        if value == hello.SERVER_NAME:
            named = 100  # 'd': to a domain
        elif value != hello.ALPN:
            store16(numbers + 2 * count, value)
            count += 1
    sort16(numbers, count)
    text = numbers + 2 * count
    end = _write_list(text, numbers, count)
    algorithms = hello.vector16(hello.find(block, hello.SIGNATURE_ALGORITHMS), 0)
    separator = 95
    for n in range(algorithms[1] >> 1):
        value = u16(algorithms, 2 * n)
        if count and not hello.is_grease(value):
            store8(end, separator)
            end = _write_hex16(end + 1, value)
            separator = 44
    _twelve(target + 24, text, end, work)

    store8(target, transport)
    store16(target + 1, _version_letters(_highest_version(body, block)))
    store8(target + 3, named)
    _two_digits(target + 4, cipher_count)
    _two_digits(target + 6, extensions)
    store16(target + 8, _alpn_letters(block))
    return target + JA4_LENGTH
