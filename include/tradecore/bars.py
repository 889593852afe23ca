"""Bars of several instruments as contiguous arrays, and the forward adjustment factor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tradecore.errors import StrategyError
from tradecore.model import Bools, Floats, Instrument, Ints
from tradecore.units import PRICE_SCALE


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Raw bars of n instruments at T bar ends. Prices int64 1e-4 USD; rows that did not trade hold 0, factor NaN."""

    instruments: tuple[Instrument, ...]
    bar_end_ns: Ints  # [T]
    day: Ints  # [T] session label, days since 1970
    open: Ints  # [T, n]
    high: Ints
    low: Ints
    close: Ints
    volume: Ints  # [T, n] shares
    traded: Bools  # [T, n]
    adj_factor: Floats  # [T, n] forward factor, 1 at the instrument's first bar; NaN where it did not trade
    series: Mapping[str, Floats] = field(
        default_factory=dict
    )  # {name: [T, n]} alternative values, as known at each end

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(i.symbol for i in self.instruments)

    def rows(self, start: int, stop: int) -> Panel:
        """Return bar ends start..stop as a panel of views."""
        cut = {name: getattr(self, name)[start:stop] for name in _ROW_FIELDS}
        series = {name: values[start:stop] for name, values in self.series.items()}
        return Panel(instruments=self.instruments, series=series, **cut)

    def columns(self, index: list[int]) -> Panel:
        """Return the instruments at `index` as a panel (copies)."""
        cut = {name: np.ascontiguousarray(getattr(self, name)[:, index]) for name in _CELL_FIELDS}
        return Panel(
            instruments=tuple(self.instruments[i] for i in index),
            bar_end_ns=self.bar_end_ns,
            day=self.day,
            series={name: np.ascontiguousarray(values[:, index]) for name, values in self.series.items()},
            **cut,
        )

    def with_series(self, names: Iterable[str]) -> Panel:
        """Return the panel with these of its alternative series alone."""
        kept = {name: self.series[name] for name in names if name in self.series}
        return self if kept.keys() == self.series.keys() else replace(self, series=kept)


_CELL_FIELDS = ("open", "high", "low", "close", "volume", "traded", "adj_factor")
_ROW_FIELDS = ("bar_end_ns", "day", *_CELL_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a strategy sees: the last lookback_bars rows [L, n], forward-adjusted USD floats; NaN where nothing traded.

    Row -1 is the bar whose close is being decided on. Volume is in shares as traded.
    """

    symbols: tuple[str, ...]
    bar_end_ns: Ints  # [L]
    day: Ints  # [L] session label, days since 1970
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    known: Mapping[str, Floats] = field(default_factory=dict)

    def series(self, name: str) -> Floats:
        """Return an alternative series [L, n]: at each row the newest value that was known by that bar's end.

        A name without a value of its own has the market's; NaN where nothing was known yet. What is published later, or
        restated, changes no row before. Raises StrategyError for a series that the strategy does not declare
        (`@strategy(..., series=("name",))`) or of which the database has no value at all.
        """
        if name not in self.known:
            raise StrategyError(
                f"there is no series {name!r} here; there is: {', '.join(sorted(self.known)) or 'none'}.",
                next_step="declare it, @strategy(..., series=(...)), and load it: tradecore data series load FILE",
                series=name,
            )
        return self.known[name]

    def rows(self, start: int, stop: int) -> Window:
        """Return rows start..stop as a window of views."""
        cut = {name: getattr(self, name)[start:stop] for name in _WINDOW_ROWS}
        known = {name: values[start:stop] for name, values in self.known.items()}
        return Window(symbols=self.symbols, known=known, **cut)


_WINDOW_ROWS = ("bar_end_ns", "day", "open", "high", "low", "close", "volume")


def adjusted(prices_e4: Ints, panel: Panel) -> Floats:
    """Return raw prices [T, n] as forward-adjusted USD floats, NaN where nothing traded: price / 1e4 * factor."""
    return np.asarray(np.where(panel.traded, prices_e4 / PRICE_SCALE * panel.adj_factor, np.nan), np.float64)


def window(panel: Panel) -> Window:
    """Return a panel as a strategy sees it."""
    return Window(
        symbols=panel.symbols,
        bar_end_ns=panel.bar_end_ns,
        day=panel.day,
        open=adjusted(panel.open, panel),
        high=adjusted(panel.high, panel),
        low=adjusted(panel.low, panel),
        close=adjusted(panel.close, panel),
        volume=np.where(panel.traded, panel.volume, np.nan).astype(np.float64),
        known=panel.series,
    )


def next_factor(previous: float, close_e4: int, ratio_num: int, ratio_den: int, dividend_e6: int) -> float:
    """Return the forward factor of a bar from the one before it and the actions that go ex at it.

    A split num:den multiplies by num / den, a dividend by 1 + dividend / close of the ex-date bar, in this order
    (the sample's vendor and Yahoo use the same dividend factor; CRSP uses the previous close).
    """
    factor = previous
    if ratio_num != ratio_den:
        factor = factor * (ratio_num / ratio_den)
    if dividend_e6:
        factor = factor * (1.0 + (dividend_e6 / 1e6) / (close_e4 / PRICE_SCALE))
    return factor
