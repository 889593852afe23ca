"""Averages of prices. Data [T] or [T, n], period in rows; ValueError for shapes that differ and periods below 1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tradecore.indicators.averages import _kernels
from tradecore.indicators.columns import Values, run, whole
from tradecore.model import Floats


def sma(x: Values, period: int = 30) -> Floats:
    """Compute the simple moving average; NaN where the window is not complete or holds a NaN. Source: TA-Lib SMA."""
    whole("sma", 1, period=period)
    return run("sma", _kernels.sma, {"x": x}, int(period))[0]


def ema(x: Values, period: int = 30) -> Floats:
    """Compute the exponential average, alpha = 2 / (period + 1), seeded with the mean of the first `period` values.

    A NaN row gives NaN and counts for nothing otherwise. Source: TA-Lib EMA.
    """
    whole("ema", 1, period=period)
    return run("ema", _kernels.ema, {"x": x}, int(period))[0]


def wma(x: Values, period: int = 30) -> Floats:
    """Compute the average with weights 1 (oldest) to period (newest); NaN as sma. Source: TA-Lib WMA."""
    whole("wma", 1, period=period)
    return run("wma", _kernels.wma, {"x": x}, int(period))[0]


def vwap(high: Values, low: Values, close: Values, volume: Values, period: int = 20) -> Floats:
    """Compute the typical price (high + low + close) / 3 weighted by volume over the last `period` rows.

    NaN where the window is not complete, holds a NaN, or traded nothing. Source: Berkowitz, Logue & Noser, "The Total
    Cost of Transactions on the NYSE", Journal of Finance 43(1), 1988; over bars instead of trades.
    """
    whole("vwap", 1, period=period)
    data = {"high": high, "low": low, "close": close, "volume": volume}
    return run("vwap", _kernels.vwap, data, int(period))[0]


def session_vwap(high: Values, low: Values, close: Values, volume: Values, day: npt.ArrayLike) -> Floats:
    """Compute the same from the first row of each session on; day [T] holds the session labels (integers).

    A NaN row gives NaN and counts for nothing otherwise.
    """
    labels = np.array(day, np.int64)
    if labels.shape != np.shape(close)[:1]:
        raise ValueError(f"session_vwap: day has shape {labels.shape}, close {np.shape(close)}; one label a row")
    data = {"high": high, "low": low, "close": close, "volume": volume}
    return run("session_vwap", _kernels.session_vwap, data, labels)[0]
