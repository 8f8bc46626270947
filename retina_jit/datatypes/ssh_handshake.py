"""An SSH handshake: what both sides have said before encryption begins, and what they agree on."""

from __future__ import annotations

from typing import Any, NamedTuple

from retina_jit.datatypes.base import register
from retina_jit.datatypes.column import decoded
from retina_jit.datatypes.session import derived
from retina_jit.parsers.session import ssh

_Fields: Any = derived(ssh.PROTOCOL)


class VersionExchange(NamedTuple):
    """The identification of a side (RFC 4253, 4.2)."""

    protoversion: str
    softwareversion: str
    comments: str


class KeyExchange(NamedTuple):
    """A KEXINIT (RFC 4253, 7.1): all that one side offers, for both directions."""

    cookie: bytes
    kex_algs: tuple[str, ...]
    server_host_key_algs: tuple[str, ...]
    encryption_algs_ctos: tuple[str, ...]
    encryption_algs_stoc: tuple[str, ...]
    mac_algs_ctos: tuple[str, ...]
    mac_algs_stoc: tuple[str, ...]
    compression_algs_ctos: tuple[str, ...]
    compression_algs_stoc: tuple[str, ...]
    languages_ctos: tuple[str, ...]
    languages_stoc: tuple[str, ...]
    first_kex_packet_follows: bool


class DhInit(NamedTuple):
    """The client's part of the key exchange."""

    e: bytes


class DhReply(NamedTuple):
    """The server's part of the key exchange."""

    pubkey_and_certs: bytes
    f: bytes
    signature: bytes


def _key_exchange(body: bytes) -> KeyExchange | None:
    if not body:
        return None
    at, lists = 16, []
    for _ in range(10):
        end = at + 4 + int.from_bytes(body[at : at + 4], "big")
        names = body[at + 4 : end] if end <= len(body) else b""
        lists.append(tuple(decoded(name) for name in names.split(b",") if names))
        at = end
    return KeyExchange._make((body[:16], *lists, any(body[at : at + 1])))


@register
class SshHandshake(_Fields):
    """An SSH handshake.

    Every field of `ssh` is an attribute. Names that end in `_ctos` tell what the client says, or offers for what it
    sends; those in `_stoc` what the server does. Text is "" and lists are empty where nothing was seen; `to_dict` gives
    None for absent text.
    """

    __slots__ = ()

    @property
    def client_version_exchange(self) -> VersionExchange | None:
        """The client's identification."""
        found = VersionExchange(self.protocol_version_ctos, self.software_version_ctos, self.comments_ctos)
        return found if found.protoversion else None

    @property
    def server_version_exchange(self) -> VersionExchange | None:
        """The server's identification."""
        found = VersionExchange(self.protocol_version_stoc, self.software_version_stoc, self.comments_stoc)
        return found if found.protoversion else None

    @property
    def client_key_exchange(self) -> KeyExchange | None:
        """The client's KEXINIT."""
        return _key_exchange(self.kexinit_ctos)

    @property
    def server_key_exchange(self) -> KeyExchange | None:
        """The server's KEXINIT."""
        return _key_exchange(self.kexinit_stoc)

    @property
    def client_dh_key_exchange(self) -> DhInit | None:
        """The client's part of the key exchange, whatever its method."""
        return DhInit(self.kex_public_ctos) if self.kex_public_ctos else None

    @property
    def server_dh_key_exchange(self) -> DhReply | None:
        """The server's part of the key exchange, whatever its method."""
        return DhReply(self.host_key, self.kex_public_stoc, self.kex_signature) if self.host_key else None
