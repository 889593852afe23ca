"""Indicators: arrays of bars in, arrays of the same shape out.

    from tradecore import indicators as ta
    ta.rsi(close, 14)                 # close [T], or [T, n] for a panel: a column each
    ta.adx(high, low, close).plus_di

Names, warm-up and seeds are TA-Lib's where it has the indicator; docs/indicators.md lists them all. There are two NaN
rules, and each docstring says which one holds. A windowed indicator is NaN where its window is not complete or holds a
NaN. A recursive one (ema, rsi, atr, macd, adx, obv, ...) is computed over the rows that have values, as though the NaN
rows did not exist, and is NaN at those. Row t never depends on a later row.

Kernels are in `_kernels.py` beside each wrapper; indicators/_kernels.py holds the window forms that production decides
with.
"""

from tradecore.indicators.averages import ema, session_vwap, sma, vwap, wma
from tradecore.indicators.momentum import Stochastic, cci, roc, rsi, stoch
from tradecore.indicators.rolling import beta, correl, rolling_max, rolling_median, rolling_min, stddev, var, zscore
from tradecore.indicators.trend import Bands, Directional, Macd, adx, bbands, donchian, keltner, macd
from tradecore.indicators.volatility import atr, ewma_volatility, garman_klass, parkinson, trange
from tradecore.indicators.volume import mfi, obv

__all__ = [
    "Bands",
    "Directional",
    "Macd",
    "Stochastic",
    "adx",
    "atr",
    "bbands",
    "beta",
    "cci",
    "correl",
    "donchian",
    "ema",
    "ewma_volatility",
    "garman_klass",
    "keltner",
    "macd",
    "mfi",
    "obv",
    "parkinson",
    "roc",
    "rolling_max",
    "rolling_median",
    "rolling_min",
    "rsi",
    "session_vwap",
    "sma",
    "stddev",
    "stoch",
    "trange",
    "var",
    "vwap",
    "wma",
    "zscore",
]
