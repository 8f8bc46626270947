"""retina_jit: network traffic analysis by filter, data types and callback, compiled with Numba."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retina_jit.app import at_end
    from retina_jit.config import RuntimeConfig, load_config
    from retina_jit.datatypes import (
        BidirPktStream,
        BidirZcPktStream,
        ByteCount,
        CommunityId,
        ConnDuration,
        ConnHistory,
        ConnRecord,
        ConnUid,
        CoreId,
        DataType,
        DnsTransaction,
        DtlsHandshake,
        EthAddr,
        EtherTCI,
        FilterStr,
        FiveTuple,
        Flow,
        HttpTransaction,
        InterArrivals,
        IpByteCount,
        LlmnrTransaction,
        MdnsTransaction,
        OrigPktsReassembled,
        OrigPktStream,
        OrigZcPktsReassembled,
        OrigZcPktStream,
        Payload,
        PktCount,
        QuicStream,
        RespPktsReassembled,
        RespPktStream,
        RespZcPktsReassembled,
        RespZcPktStream,
        SessionList,
        SshHandshake,
        TcpFlags,
        TlsHandshake,
        Tunnel,
        ZcFrame,
    )
    from retina_jit.datatypes.own import data_type
    from retina_jit.errors import RetinaJitError
    from retina_jit.explanation import Explanation, explain
    from retina_jit.filters.predicates import ACCEPT, CONTINUE, DROP, predicate
    from retina_jit.parsers.user import load_protocol
    from retina_jit.runtime import Result, Runtime, run
    from retina_jit.strings import text
    from retina_jit.subscription import Subscription, load_subscriptions, subscribe
    from retina_jit.tables.background import Background
    from retina_jit.tables.frames import from_bytes
    from retina_jit.tables.read import Capture, read, sample_capture
    from retina_jit.tables.running import CaptureWarning
    from retina_jit.tables.table import Table

__version__ = "0.1.0"

_HOME = {
    "retina_jit.app": ("at_end",),
    "retina_jit.config": ("RuntimeConfig", "load_config"),
    "retina_jit.datatypes.own": ("data_type",),
    "retina_jit.errors": ("RetinaJitError",),
    "retina_jit.explanation": ("Explanation", "explain"),
    "retina_jit.filters.predicates": ("ACCEPT", "CONTINUE", "DROP", "predicate"),
    "retina_jit.parsers.user": ("load_protocol",),
    "retina_jit.runtime": ("Result", "Runtime", "run"),
    "retina_jit.strings": ("text",),
    "retina_jit.subscription": ("Subscription", "load_subscriptions", "subscribe"),
    "retina_jit.tables.frames": ("from_bytes",),
    "retina_jit.tables.read": ("Capture", "read", "sample_capture"),
    "retina_jit.tables.background": ("Background",),
    "retina_jit.tables.running": ("CaptureWarning",),
    "retina_jit.tables.table": ("Table",),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}
_DATA_TYPES = "retina_jit.datatypes"
"""Home of all other public names."""

__all__ = [
    "ACCEPT",
    "CONTINUE",
    "DROP",
    "Background",
    "BidirPktStream",
    "BidirZcPktStream",
    "ByteCount",
    "Capture",
    "CaptureWarning",
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
    "Explanation",
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
    "Result",
    "RetinaJitError",
    "Runtime",
    "RuntimeConfig",
    "SessionList",
    "SshHandshake",
    "Subscription",
    "Table",
    "TcpFlags",
    "TlsHandshake",
    "Tunnel",
    "ZcFrame",
    "at_end",
    "data_type",
    "explain",
    "from_bytes",
    "load_config",
    "load_protocol",
    "load_subscriptions",
    "predicate",
    "read",
    "run",
    "sample_capture",
    "subscribe",
    "text",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: `import retina_jit` alone costs nothing."""
    if name not in __all__:
        return _derived(name)
    value = getattr(importlib.import_module(_WHERE.get(name, _DATA_TYPES)), name)
    globals()[name] = value
    return value


def _derived(name: str) -> Any:
    """Return a data type that follows from the fields of a protocol, e.g. SmtpSession; protocols may be loaded later."""
    meant = ""
    if name[:1].isupper():
        types = importlib.import_module(_DATA_TYPES).data_types()
        if name in types:
            return types[name]
        meant = importlib.import_module("retina_jit.hints").near(name, [*__all__, *types])
    raise AttributeError(f"module 'retina_jit' has no attribute {name!r}" + (f"; did you mean {meant}?" if meant else ""))


def load_ipython_extension(shell: Any) -> None:
    """Let a notebook cell declare a session protocol: `%load_ext retina_jit`, then a cell that begins with `%%protocol`."""

    def protocol(line: str, cell: str) -> None:
        from retina_jit.parsers.user import load_protocol

        loaded = load_protocol(cell)
        print(f"{loaded.name}: {len(loaded.fields)} fields, data type {loaded.data_type}")  # noqa: T201 - a notebook shows it

    shell.register_magic_function(protocol, "cell", "protocol")
