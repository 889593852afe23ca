"""Bars of several instruments as contiguous arrays, and the forward adjustment factor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(i.symbol for i in self.instruments)

    def rows(self, start: int, stop: int) -> Panel:
        """Return bar ends start..stop as a panel of views."""
        cut = {name: getattr(self, name)[start:stop] for name in _ROW_FIELDS}
        return Panel(instruments=self.instruments, **cut)

    def columns(self, index: list[int]) -> Panel:
        """Return the instruments at `index` as a panel (copies)."""
        cut = {name: np.ascontiguousarray(getattr(self, name)[:, index]) for name in _CELL_FIELDS}
        return Panel(
            instruments=tuple(self.instruments[i] for i in index), bar_end_ns=self.bar_end_ns, day=self.day, **cut
        )


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
