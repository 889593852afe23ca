"""Bars of trades, made batch by batch: by time, by number of trades, by volume, by value traded.

Source: M. Lopez de Prado, Advances in Financial Machine Learning (2018), chapter 2.3.1; agrees with mlfinpy 0.1.2
(get_time_bars, get_tick_bars, get_volume_bars, get_dollar_bars), which sums money as floats.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from tradecore.model import Ints
from tradecore.ticks import _kernels
from tradecore.ticks.growing import Growing
from tradecore.units import MONEY_SCALE, QTY_SCALE, to_quanta

COLUMNS = ("begin_ns", "end_ns", "open_e4", "high_e4", "low_e4", "close_e4", "qty_e6", "value_e4", "trades")
MEASURES = {"tick": _kernels.TRADES, "volume": _kernels.QTY, "dollar": _kernels.VALUE}
SECOND_NS = 1_000_000_000
LONG_AGO = np.iinfo(np.int64).min


class BarMaker:
    """Turns trades into bars; the bar in progress is carried over, so that any split into batches gives the same.

    `bars` is a Growing of COLUMNS: times in ns since 1970 UTC (begin_ns the first trade's; end_ns the last trade's, of
    time bars the interval's end), prices in 1e-4 USD, qty_e6 in 1e-6 shares, value_e4 the money traded in 1e-4 USD.
    `state` [10] is the bar in progress, to be stored and given to a later BarMaker of the same kind and threshold.
    """

    def __init__(self, kind: str, threshold: int, *, offset_ns: int = 0, state: Ints | None = None) -> None:
        """Prefer time_bars, tick_bars, volume_bars and dollar_bars, whose arguments have units.

        Raises ValueError for an unknown kind, a threshold below 1 or a state of another shape.
        """
        if kind not in ("time", *MEASURES) or threshold < 1:
            raise ValueError(
                f"kind {kind!r} with threshold {threshold}: needs time, tick, volume or dollar and 1 or more"
            )
        self.kind, self.threshold = kind, threshold
        self.bars = Growing(COLUMNS)
        self._rule = (offset_ns, threshold) if kind == "time" else (MEASURES[kind], threshold)
        self._state: Ints = np.zeros(_kernels.STATE_ROWS, np.int64)
        self._state[_kernels.NEWEST] = LONG_AGO
        if state is not None:
            if state.shape != self._state.shape or state.dtype != np.int64:
                raise ValueError(f"a state is int64 [{_kernels.STATE_ROWS}], not {state.dtype} {state.shape}")
            self._state[:] = state

    @property
    def state(self) -> Ints:
        """The bar in progress [10], a copy: COLUMNS and the newest time seen; 0 trades: none is in progress."""
        return self._state.copy()

    def add(self, at_ns: Ints, price_e4: Ints, qty_e6: Ints) -> int:
        """Take trades [n], in order of time, and return how many bars they ended.

        at_ns never falls, also not from batch to batch; prices and quantities are above 0. Raises ValueError that names
        the first trade that breaks this; then nothing of the batch is taken.
        """
        columns = tuple(_column(values) for values in (at_ns, price_e4, qty_e6))
        if len({values.size for values in columns}) != 1:
            raise ValueError(f"columns of different lengths: {[values.size for values in columns]}")
        wrong = _kernels.first_wrong(*columns, self._state[_kernels.NEWEST])
        if wrong >= 0:
            at, price, qty = (int(values[wrong]) for values in columns)
            raise ValueError(
                f"trade {wrong} of the batch (at_ns {at}, price_e4 {price}, qty_e6 {qty}): times must not fall, the "
                f"newest before the batch is {self._state[_kernels.NEWEST]}; price and quantity must be above 0"
            )
        run = _kernels.time_bars if self.kind == "time" else _kernels.event_bars
        before, row, filled = len(self.bars), 0, len(self.bars)
        while row < columns[0].size:
            room = self.bars.room(1)
            row, filled = run(*columns, row, self._rule, self._state, room, filled)
            self.bars.commit(filled)
        return filled - before

    def end_until(self, now_ns: int) -> int:
        """End the time bar in progress if its interval is over by now_ns, and return how many that were (0 or 1).

        For a clock in the place of the next trade. Later trades of that interval are refused as too old.
        """
        if self.kind != "time" or self._state[_kernels.TRADES] == 0 or self._state[_kernels.END] > now_ns:
            return 0
        self.bars.append(self._state[: len(COLUMNS), None])
        self._state[_kernels.NEWEST] = self._state[_kernels.END]
        self._state[_kernels.TRADES] = 0
        return 1


def time_bars(step_s: int, *, offset_s: int = 0, state: Ints | None = None) -> BarMaker:
    """Make bars of step_s seconds; intervals begin at offset_s after 1970 UTC and every step_s from there."""
    return BarMaker("time", step_s * SECOND_NS, offset_ns=offset_s * SECOND_NS, state=state)


def tick_bars(trades: int, *, state: Ints | None = None) -> BarMaker:
    """Make bars of that many trades."""
    return BarMaker("tick", trades, state=state)


def volume_bars(shares: Decimal | int | str, *, state: Ints | None = None) -> BarMaker:
    """Make bars of at least that many shares; the last trade is not cut."""
    return BarMaker("volume", to_quanta(shares, QTY_SCALE), state=state)


def dollar_bars(value_usd: Decimal | int | str, *, state: Ints | None = None) -> BarMaker:
    """Make bars in which at least that much money has changed hands; the last trade is not cut."""
    return BarMaker("dollar", to_quanta(value_usd, MONEY_SCALE), state=state)


def _column(values: Ints) -> Ints:
    """Return a column as the kernels are compiled for: contiguous and read-only, a view where it is that already."""
    if values.dtype != np.int64 or values.ndim != 1:
        raise ValueError(f"trades are int64 [n], not {values.dtype} {values.shape}")
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view
