"""retina_jit: network traffic analysis by filter, data types and callback, compiled with Numba."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retina_jit.config import RuntimeConfig, load_config
    from retina_jit.datatypes import (
        ConnRecord,
        CoreId,
        DataType,
        DnsTransaction,
        FilterStr,
        FiveTuple,
        Flow,
        HttpTransaction,
        Payload,
        SessionList,
        SshHandshake,
        TlsHandshake,
        ZcFrame,
    )
    from retina_jit.errors import RetinaJitError
    from retina_jit.runtime import Result, Runtime, run
    from retina_jit.subscription import Subscription, load_subscriptions, subscribe

__version__ = "0.1.0"

_HOME = {
    "retina_jit.config": ("RuntimeConfig", "load_config"),
    "retina_jit.datatypes": (
        "ConnRecord",
        "CoreId",
        "DataType",
        "DnsTransaction",
        "FilterStr",
        "FiveTuple",
        "Flow",
        "HttpTransaction",
        "Payload",
        "SessionList",
        "SshHandshake",
        "TlsHandshake",
        "ZcFrame",
    ),
    "retina_jit.errors": ("RetinaJitError",),
    "retina_jit.runtime": ("Result", "Runtime", "run"),
    "retina_jit.subscription": ("Subscription", "load_subscriptions", "subscribe"),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}

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
    "Result",
    "RetinaJitError",
    "Runtime",
    "RuntimeConfig",
    "SessionList",
    "SshHandshake",
    "Subscription",
    "TlsHandshake",
    "ZcFrame",
    "load_config",
    "load_subscriptions",
    "run",
    "subscribe",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: `import retina_jit` alone costs nothing."""
    if name not in _WHERE:
        raise AttributeError(f"module 'retina_jit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value
