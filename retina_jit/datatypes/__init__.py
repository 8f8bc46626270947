"""The data types that callbacks may ask for; importing this package registers the built-in ones."""

from __future__ import annotations

from retina_jit.datatypes.base import DataType, data_types
from retina_jit.datatypes.community_id import CommunityId
from retina_jit.datatypes.conn_record import ConnRecord, Flow
from retina_jit.datatypes.conn_uid import ConnUid
from retina_jit.datatypes.context import CoreId, FilterStr
from retina_jit.datatypes.counters import (
    ByteCount,
    ConnDuration,
    ConnHistory,
    IpByteCount,
    PktCount,
    TcpFlags,
)
from retina_jit.datatypes.dns_transaction import DnsTransaction, LlmnrTransaction, MdnsTransaction
from retina_jit.datatypes.dtls_handshake import DtlsHandshake
from retina_jit.datatypes.five_tuple import FiveTuple
from retina_jit.datatypes.http_transaction import HttpTransaction
from retina_jit.datatypes.inter_arrivals import InterArrivals
from retina_jit.datatypes.link import EthAddr, EtherTCI
from retina_jit.datatypes.packet_lists import (
    BidirPktStream,
    BidirZcPktStream,
    OrigPktsReassembled,
    OrigPktStream,
    OrigZcPktsReassembled,
    OrigZcPktStream,
    RespPktsReassembled,
    RespPktStream,
    RespZcPktsReassembled,
    RespZcPktStream,
)
from retina_jit.datatypes.packets import Payload, ZcFrame
from retina_jit.datatypes.quic_stream import QuicStream
from retina_jit.datatypes.sessions import SessionList
from retina_jit.datatypes.ssh_handshake import SshHandshake
from retina_jit.datatypes.tls_handshake import TlsHandshake
from retina_jit.datatypes.tunnel import Tunnel

__all__ = [
    "BidirPktStream",
    "BidirZcPktStream",
    "ByteCount",
    "CommunityId",
    "ConnDuration",
    "ConnHistory",
    "ConnRecord",
    "ConnUid",
    "CoreId",
    "DataType",
    "DnsTransaction",
    "DtlsHandshake",
    "EthAddr",
    "EtherTCI",
    "FilterStr",
    "FiveTuple",
    "Flow",
    "HttpTransaction",
    "InterArrivals",
    "IpByteCount",
    "LlmnrTransaction",
    "MdnsTransaction",
    "OrigPktStream",
    "OrigPktsReassembled",
    "OrigZcPktStream",
    "OrigZcPktsReassembled",
    "Payload",
    "PktCount",
    "QuicStream",
    "RespPktStream",
    "RespPktsReassembled",
    "RespZcPktStream",
    "RespZcPktsReassembled",
    "SessionList",
    "SshHandshake",
    "TcpFlags",
    "TlsHandshake",
    "Tunnel",
    "ZcFrame",
    "data_types",
]
