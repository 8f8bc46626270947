"""Pictures of tables (extra `[plot]`): each function draws with matplotlib, and returns the Axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from retina_jit.delivery.vectors import DURATION, LIST, STRUCT, TEXT, TIME, Vector
from retina_jit.extras import library
from retina_jit.tables import sequence

if TYPE_CHECKING:
    from retina_jit.tables.table import Table

BINS = 100
MOST_BARS = 10


class Plots:
    """What `table.plot` offers; `table.plot()` alone is `table.plot.traffic()`.

    Parameters of all: `ax`, the Axes to draw into; a new figure if it is left out.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def __call__(self, **options: Any) -> Any:
        """Draw `traffic`."""
        return self.traffic(**options)

    def traffic(self, weight: str | None = None, *, time: str | None = None, bins: int = BINS, ax: Any = None) -> Any:
        """Draw rows per second over time, or the sum of a column of numbers per second.

        Parameters
        ----------
        weight : str, optional
            Column that is summed up, e.g. "length"; a null counts as 0.
        time : str, optional
            Column of times; the first of the table if it is left out.
        """
        times = self._table.vector(time or self._first(TIME))
        nulls = times.nulls()
        there = np.ones(len(times), bool) if nulls is None else ~nulls
        at = times.data[0][there]
        if not len(at):
            return _nothing(_axes(ax))
        weights = None if weight is None else self._weights(weight)[there]
        ax = _axes(ax)
        ends = np.linspace(at.min(), max(at.max(), at.min() + 1), bins + 1)
        sums, _ = np.histogram(at, ends, weights=weights)
        width = (ends[1] - ends[0]) / 1e9
        ax.stairs(sums / width, ends.astype("M8[ns]").astype("M8[us]").astype(object), fill=True)
        ax.set_xlabel("time (UTC)")
        ax.set_ylabel(f"{weight or 'rows'} per second")
        dates = library("matplotlib.dates", "plot", "plot")
        ax.xaxis.set_major_locator(locator := dates.AutoDateLocator())
        ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        return ax

    def talkers(self, column: str | None = None, weight: str | None = None, *, most: int = MOST_BARS, ax: Any = None) -> Any:
        """Draw the most frequent values of a column, or those with the largest sum of another one.

        Parameters
        ----------
        column : str, optional
            The first column of text if it is left out.
        weight : str, optional
            Column of numbers that is summed up; a null counts as 0.
        """
        name = column or self._first(TEXT)
        values = ["(null)" if v is None else str(v) for v in self._table.vector(name).to_list()]
        if not values:
            return _nothing(_axes(ax))
        found = sorted(set(values))
        numbers = {v: n for n, v in enumerate(found)}
        sums = np.bincount([numbers[v] for v in values], None if weight is None else self._weights(weight))
        first = np.argsort(-sums, kind="stable")[:most][::-1]
        ax = _axes(ax)
        ax.barh([found[n] for n in first], sums[first])
        ax.set_xlabel(weight or "rows")
        ax.set_ylabel(name)
        return ax

    def cdf(self, *columns: str, ax: Any = None) -> Any:
        """Draw which share of the rows has at most a value, on a logarithmic axis; durations in seconds, zeros left out.

        Parameters
        ----------
        *columns : str
            Columns of numbers or durations; the first column of durations if they are left out.
        """
        wanted = {name: np.sort(self._numbers(name)) for name in columns or (self._first(DURATION),)}
        ax = _axes(ax)
        ends: list[float] = []
        for name, values in wanted.items():
            values = values[~np.isnan(values)]
            positive = values[values > 0]
            share = (np.arange(len(positive)) + 1 + len(values) - len(positive)) / max(1, len(values))
            unit = " [s]" if self._table.vector(name).field.format == DURATION else ""
            ax.step(positive, share, where="post", label=name + unit)
            ends += positive[[0, -1]].tolist() if len(positive) else []
        ax.set_xscale("log")
        if ends:  # whole decades: there are labels at both ends
            ax.set_xlim(10.0 ** np.floor(np.log10(min(ends))), 10.0 ** (np.floor(np.log10(max(ends))) + 1))
        ax.xaxis.set_minor_formatter(library("matplotlib.ticker", "plot", "plot").NullFormatter())
        ax.set_ylim(0, 1.02)
        ax.set_ylabel("share of rows")
        ax.legend()
        return ax

    def sequence(self, row: int = 0, *, link: int = 1, ax: Any = None) -> Any:
        """Draw the packets of a connection, bytes over time: segments, what was sent again, acknowledgements (as steps), SYN, FIN, RST.

        The table needs the connections' packets: `select(filter, rj.BidirPktStream, rj.FiveTuple)`.

        Parameters
        ----------
        row : int
            Which connection.
        link : int
            LINKTYPE_ number of the capture: 1 is Ethernet.
        """
        if "packets" not in self._table.columns:
            raise KeyError("a connection's packets are drawn: select(filter, rj.BidirPktStream, rj.FiveTuple)")
        n = range(len(self._table))[row]
        one = self._table[n : n + 1].to_dicts()[0]
        ax = _axes(ax)
        found = sequence.segments(one["packets"], link)
        if not found:
            return _nothing(ax)
        sequence.draw(found, ax)
        if {"orig_addr", "orig_port", "resp_addr", "resp_port"} <= one.keys():
            ax.set_title("{orig_addr}:{orig_port} → {resp_addr}:{resp_port}".format(**one), fontsize="medium")
        return ax

    def _first(self, code: str) -> str:
        for field in self._table._fields:
            if field.format == code:
                return field.name
        raise KeyError(f"the table has no column for this picture; name one of {', '.join(self._table.columns)}")

    def _weights(self, name: str) -> Any:
        return np.nan_to_num(self._numbers(name), nan=0, posinf=np.inf, neginf=-np.inf)

    def _numbers(self, name: str) -> Any:
        v: Vector = self._table.vector(name)
        if v.field.format in (TEXT, LIST, STRUCT):
            raise KeyError(f"column {name!r} holds {v.field.readable}, no numbers")
        values = np.ma.getdata(v.to_numpy()) if v.field.format != DURATION else v.data[0] / 1e9
        values = values.astype(float)
        nulls = v.nulls()
        if nulls is not None:
            values[nulls] = np.nan
        return values


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    return library("matplotlib.pyplot", "plot", "plot").subplots()[1]


def _nothing(ax: Any) -> Any:
    ax.text(0.5, 0.5, "no rows", ha="center", va="center", transform=ax.transAxes)
    return ax
