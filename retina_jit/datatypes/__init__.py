"""The data types that callbacks may ask for; importing this package registers the built-in ones."""

from __future__ import annotations

from retina_jit.datatypes.base import DataType, data_types
from retina_jit.datatypes.conn_record import ConnRecord, Flow
from retina_jit.datatypes.context import CoreId, FilterStr
from retina_jit.datatypes.dns_transaction import DnsTransaction
from retina_jit.datatypes.five_tuple import FiveTuple
from retina_jit.datatypes.http_transaction import HttpTransaction
from retina_jit.datatypes.packets import Payload, ZcFrame
from retina_jit.datatypes.quic_stream import QuicStream
from retina_jit.datatypes.sessions import SessionList
from retina_jit.datatypes.ssh_handshake import SshHandshake
from retina_jit.datatypes.tls_handshake import TlsHandshake

__all__ = [
    "ConnRecord",
    "CoreId",
    "DataType",
    "DnsTransaction",
    "FilterStr",
    "FiveTuple",
    "Flow",
    "HttpTransaction",
    "Payload",
    "QuicStream",
    "SessionList",
    "SshHandshake",
    "TlsHandshake",
    "ZcFrame",
    "data_types",
]
