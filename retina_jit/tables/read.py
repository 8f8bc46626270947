"""`read`: a capture, or many, as tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from retina_jit.config import RuntimeConfig
from retina_jit.datatypes.base import DataType, data_types
from retina_jit.delivery.vectors import ADDRESSES
from retina_jit.errors import ConfigError, SourceError, SubscriptionError
from retina_jit.sinks.gather import Choice
from retina_jit.subscription import Subscription, subscriptions_of, take_collected
from retina_jit.tables.background import Background
from retina_jit.tables.choose import choose
from retina_jit.tables.running import Selection
from retina_jit.tables.source import Source
from retina_jit.tables.table import Table

Readable = str | os.PathLike[str] | bytes | BinaryIO


class Capture:
    """Something to read packets from: what `read` returns.

    Examples
    --------
    >>> import retina_jit as rj
    >>> rj.read("x.pcap").select("tls", rj.TlsHandshake).to_polars()
    """

    def __init__(self, source: Source, config: RuntimeConfig) -> None:
        self._source, self._config = source, config

    def select(self, filter: str = "", *what: type[DataType] | str, addresses: str = "str") -> Table:  # noqa: A002
        """Return a table of what a filter lets through: a row per event, as a callback would be called.

        Parameters
        ----------
        filter : str
            Which traffic; empty: all of it.
        *what : data types, their names, or names of columns
            Columns of all of a data type's accessors, or single ones: "sni", "tls.sni", "five_tuple.orig_addr". Left
            out: FiveTuple.
        addresses : {"str", "int", "bytes"}
            How addresses are kept: as text, as the number of an IPv4 address, or as 4 or 16 bytes in network order.

        Raises
        ------
        FilterError, SubscriptionError
            A filter or columns that cannot work.
        """
        if callable(filter):
            name = getattr(filter, "__name__", filter)
            raise SubscriptionError(f"select({name}): the filter comes first: select(\"\", {name}) for all traffic")
        if addresses not in ADDRESSES:
            raise ConfigError(f"addresses={addresses!r}: one of {', '.join(ADDRESSES)}")
        return self._table(filter, *choose(what, addresses, filter))

    def _table(self, text: str, types: tuple[type[DataType], ...], choices: tuple[Choice, ...]) -> Table:
        made = Selection(self._source, self._config, text, types, choices)
        label = f"{text} in {self._source.label}" if text else self._source.label
        return Table([c.field for c in choices], stream=made.stream, collect=made.collect, label=label)

    def run(self, *functions: Callable[..., Any] | Subscription) -> Background:
        """Run functions that are decorated with `subscribe`, in the background.

        A function of the same name that runs already is stopped first: a cell can be run again.

        Parameters
        ----------
        *functions : callables
            With all of their subscriptions. Left out: all that were decorated since the last run; of the same name the
            last one.

        Raises
        ------
        RetinaJitError
            A filter or data types that cannot work. What happens later: see `Background.error`.
        """
        found = take_collected()
        if functions:
            found = list({id(s): s for f in functions for s in subscriptions_of(f)}.values())
        else:
            last = {s.name: s.callback for s in found}
            found = [s for s in found if s.callback is last[s.name]]
        return Background(self._source, found, self._config)

    @property
    def packets(self) -> Table:
        """Every packet: capture time, lengths, number, and its bytes."""
        types, choices = choose([f"zc_frame.{name}" for name in ("ts", "number", "length", "caplen", "data")], "str")
        return self._table("", types, tuple(replace(c, name=c.path[-1].name) for c in choices))

    @property
    def connections(self) -> Table:
        """Every connection, as ConnRecord says it."""
        return self.select("", "ConnRecord")

    @property
    def sessions(self) -> Sessions:
        """Every session of every protocol, a table each: `read(x).sessions["tls"]`."""
        return Sessions(self)

    def __repr__(self) -> str:
        return f"<Capture {self._source.label}; .select(filter, ...), .packets, .connections, .sessions>"


class Sessions(Mapping[str, Table]):
    """Tables of sessions by protocol."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._types: dict[str, str] = {}
        for t in data_types().values():
            if t.LEVEL == "session":
                self._types.setdefault(t.SERVICE, t.__name__)

    def __getitem__(self, protocol: str) -> Table:
        if protocol not in self._types:
            raise KeyError(f"no session protocol {protocol!r}; there are: {', '.join(self._types)}")
        return self._capture.select("", self._types[protocol], "FiveTuple")

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def __repr__(self) -> str:
        return f"<Sessions of {', '.join(self._types)}>"


def sample_capture(name: str = "mixed") -> Path:
    """Return the path of a capture that comes with the package.

    Raises
    ------
    SourceError
        There is none of that name.
    """
    folder = Path(__file__).resolve().parents[1] / "samples"
    path = folder / f"{name}.pcap"
    if not path.is_file():
        raise SourceError(f"no sample {name!r}; there are: {', '.join(sorted(p.stem for p in folder.glob('*.pcap')))}")
    return path


def read(
    source: Readable | Iterable[Readable],
    *,
    config: RuntimeConfig | None = None,
    workers: int | None = None,
    midstream: bool | None = None,
    decap: str | Iterable[str] | None = None,
    bpf: str | None = None,
) -> Capture:
    """Open a capture for tables. Nothing is read before rows are asked for.

    Parameters
    ----------
    source : path, pattern, open binary file, bytes, "-", "af_packet:IFACE", or a list of those
        pcap and pcapng, also compressed with gzip, zstd, xz or bzip2.
    config : RuntimeConfig, optional
    workers, midstream, decap, bpf : optional
        What the command line calls -j, --midstream, --decap and -F.

    Raises
    ------
    SourceError
        No such file, no match of a pattern, something that cannot be read.
    """
    found = config or RuntimeConfig()
    changes: dict[str, Any] = {}
    if workers is not None:
        changes["workers"] = workers
    if bpf is not None:
        changes["bpf"] = bpf
    if decap is not None:
        changes["decap"] = (decap,) if isinstance(decap, str) else tuple(decap)
    if midstream is not None:
        changes["conntrack"] = msgspec.structs.replace(found.conntrack, midstream=midstream)
    return Capture(Source(source), msgspec.structs.replace(found, **changes).check())
