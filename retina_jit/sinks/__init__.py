"""Where events can be written to, without Python per event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, BinaryIO

from retina_jit.datatypes.base import DataType
from retina_jit.sinks import ipfix
from retina_jit.sinks.arrow import ArrowStream, Parquet
from retina_jit.sinks.frames import Pcap, PcapNg, frame_types
from retina_jit.sinks.kafka import Kafka
from retina_jit.sinks.lines import Csv, JsonLines
from retina_jit.sinks.zeek import OF_TYPE, TYPES, ZeekLogs

FORMATS: dict[str, Callable[[BinaryIO], Any]] = {"jsonl": JsonLines, "csv": Csv, "arrow": ArrowStream, "parquet": Parquet}
"""Format -> what writes it to an open file; the parts of several runs can be put together."""

CAPTURES: dict[str, Callable[[BinaryIO], Any]] = {"pcap": Pcap, "pcapng": PcapNg}
"""The same for packets, of one run."""

FLOWS: dict[str, Callable[[BinaryIO], Any]] = {"ipfix": ipfix.IpfixFile}
"""The same for connections, of one run."""

ADDRESSES: dict[str, Callable[[str], Any]] = {"ipfix": ipfix.IpfixCollector, "kafka": Kafka}
"""Scheme of an address (ipfix://...) -> what sends to it."""

FOLDERS: dict[str, Callable[..., Any]] = {"zeek": ZeekLogs, "zeek-json": partial(ZeekLogs, as_json=True)}
"""Format -> what writes it to several files of a folder, or one of them to an open file."""


def address(target: str) -> str:
    """Return the scheme of an address that is sent to, "ipfix" of ipfix://HOST:PORT; empty if it is none but a path."""
    scheme, colon, _ = target.partition("://")
    return scheme if colon and scheme in ADDRESSES else ""


def wanted_types(format_: str, types: Sequence[str]) -> list[type[DataType] | str]:
    """Return the data types that a format needs for those that are asked for: Zeek's logs have uid and endpoints, captures link types, flows bytes of IP."""
    names = list(types)
    if format_ in CAPTURES:
        return frame_types(names)
    if format_ in FLOWS and names == ["ConnRecord"]:
        return list(ipfix.TYPES)
    if format_ in FOLDERS and len(names) == 1:
        log = OF_TYPE.get(names[0]) or names[0]
        return list(TYPES.get(log, names))
    return list(names)
