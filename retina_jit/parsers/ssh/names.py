"""KEXINIT and its name-lists, and what two of them agree on.

Nothing is kept: each reader walks to its list. A list that is not wholly there is absent. To read a list name by name,
by number, is linear all the same: the state remembers where the last one stood.

Sources: RFC 4251 §5 (name-list), RFC 4253 §7.1, RFC 8308 §2.1, OpenSSH's PROTOCOL §1.6 and §1.10.
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.memory import constant
from retina_jit.parsers.ssh.state import STATE_AT
from retina_jit.parsers.wire import has, part, u8, u32

KEX, HOST_KEY, CIPHER_CTOS, CIPHER_STOC, MAC_CTOS, MAC_STOC, COMPRESSION_CTOS, COMPRESSION_STOC, LANGUAGE_CTOS, LANGUAGE_STOC = range(10)
COOKIE_LEN = 16

MOST_NAMES, MOST_LIST = 64, 2048
"""So many names and bytes of a list are looked at to find what was agreed on: both lists of hostile KEXINITs may be long."""

_GCM, _GCM_UPPER, _POLY1305 = constant("ssh_gcm", b"gcm"), constant("ssh_gcm_upper", b"GCM"), constant("ssh_poly", b"poly1305")
_EXT_INFO = constant("ssh_ext_info", b"ext-info-")
_STRICT = constant("ssh_strict", b"kex-strict-?-v00@openssh.com")
_STRICT_LEN, _ROLE_AT = 28, 11


@leaf
def string(span, at):
    """The bytes of the string whose length stands in four bytes at `at`; (0, 0) if it is not wholly there."""
    if not has(span, at, 4) or not has(span, at + 4, u32(span, at)):
        return (0, 0)
    return part(span, at + 4, u32(span, at))


@kernel
def name_list(body, which):
    """One of the ten lists of a KEXINIT."""
    at = COOKIE_LEN + 0
    for _ in range(which):
        if not has(body, at, 4):
            return (0, 0)
        at += 4 + u32(body, at)
    return string(body, at)


@kernel
def follows(body):
    """first_kex_packet_follows of a KEXINIT."""
    at = COOKIE_LEN + 0
    for _ in range(10):
        if not has(body, at, 4):
            return False
        at += 4 + u32(body, at)
    return has(body, at, 1) and u8(body, at) != 0


@kernel
def is_whole(body):
    """Whether a KEXINIT is all there: ten lists and the five bytes behind them."""
    at = COOKIE_LEN + 0
    for _ in range(10):
        if not has(body, at, 4):
            return False
        at += 4 + u32(body, at)
    return has(body, at, 5)


@leaf
def cookie(body):
    """The 16 random bytes of a KEXINIT."""
    return part(body, 0, COOKIE_LEN) if has(body, 0, COOKIE_LEN) else (0, 0)


@kernel
def end_of_name(names, at):
    """Where the name at `at` ends: at a comma, or with the list."""
    while at < names[1] and u8(names, at) != 44:
        at += 1
    return at


@kernel
def count(names):
    """How many names a list holds; an empty list has none."""
    if names[1] == 0:
        return 0
    found = 1
    for at in range(names[1]):
        if u8(names, at) == 44:
            found += 1
    return found


@kernel
def name_at(session, names, n):
    """The `n`-th name of a list; for n = -1 (0, how many)."""
    if n < 0:
        return (0, count(names))
    if names[1] == 0:
        return (0, 0)
    row = STATE_AT(session)
    at = k = 0
    if row.walk_list == names[0] and row.walk_n <= n:
        at, k = row.walk_at + 0, row.walk_n + 0
    while k < n:
        at = end_of_name(names, at) + 1
        if at > names[1]:
            return (0, 0)
        k += 1
    row.walk_list, row.walk_n, row.walk_at = names[0], k, at
    return part(names, at, end_of_name(names, at) - at)


@kernel
def _equal(a, b):
    if a[1] != b[1]:
        return False
    for n in range(a[1]):
        if u8(a, n) != u8(b, n):
            return False
    return True


@kernel
def holds(names, name):
    """Whether a list has a name."""
    at = 0
    for _ in range(MOST_NAMES):
        if at >= names[1]:
            return False
        end = end_of_name(names, at)
        if _equal(part(names, at, end - at), name):
            return True
        at = end + 1
    return False


@kernel
def chosen(client, server):
    """The first name of the client's list that the server's list has as well (RFC 4253, 7.1); (0, 0) if there is none."""
    client, server = part(client, 0, MOST_LIST), part(server, 0, MOST_LIST)
    at = 0
    for _ in range(MOST_NAMES):
        if at >= client[1]:
            return (0, 0)
        end = end_of_name(client, at)
        name = part(client, at, end - at)
        if name[1] > 0 and holds(server, name):
            return name
        at = end + 1
    return (0, 0)


@kernel
def _contains(name, word):
    for at in range(name[1] - word[1] + 1):
        if _equal(part(name, at, word[1]), word):
            return True
    return False


@kernel
def is_aead(cipher):
    """Whether a cipher authenticates by itself, so that no MAC is used (RFC 5647, OpenSSH's PROTOCOL)."""
    return _contains(cipher, (_GCM(), 3)) or _contains(cipher, (_GCM_UPPER(), 3)) or _contains(cipher, (_POLY1305(), 8))


@kernel
def markers(names):
    """What pseudo-algorithms a list of key exchange methods holds: 1 only a client sends them, 2 only a server, 4 strict."""
    found = at = 0
    word, info = (_STRICT(), _STRICT_LEN), (_EXT_INFO(), 9)
    for _ in range(MOST_NAMES):
        if at >= names[1]:
            break
        end = end_of_name(names, at)
        name = part(names, at, end - at)
        role = 0
        if name[1] == 10 and _equal(part(name, 0, 9), info):
            role = u8(name, 9)
        elif name[1] == _STRICT_LEN and _equal(part(name, 0, _ROLE_AT), part(word, 0, _ROLE_AT)):
            if _equal(part(name, _ROLE_AT + 1, 16), part(word, _ROLE_AT + 1, 16)):
                role = u8(name, _ROLE_AT)
                found |= 4
        if role == 99:
            found |= 1
        elif role == 115:
            found |= 2
        at = end + 1
    return found
