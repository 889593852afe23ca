"""Indicators of price and volume together. Data [T] or [T, n]; ValueError as everywhere in indicators."""

from __future__ import annotations

from tradecore.indicators.columns import Values, run, whole
from tradecore.indicators.volume import _kernels
from tradecore.model import Floats


def obv(close: Values, volume: Values) -> Floats:
    """Add up volume, signed by the change of the close; the first row counts as a rise.

    A NaN row gives NaN and counts for nothing otherwise. Source: Granville, New Key to Stock Market Profits, 1963;
    TA-Lib OBV.
    """
    return run("obv", _kernels.obv, {"close": close, "volume": volume})[0]


def mfi(high: Values, low: Values, close: Values, volume: Values, period: int = 14) -> Floats:
    """Compute the money flow index, 0..100, over `period` changes of the typical price.

    NaN where one of the period + 1 rows is missing, or nothing flowed (TA-Lib says 0 where less than 1 USD did).
    Source: Quong & Soudack, "Volume-Weighted RSI: Money Flow", Stocks & Commodities 7(3), 1989; TA-Lib MFI.
    """
    whole("mfi", 1, period=period)
    data = {"high": high, "low": low, "close": close, "volume": volume}
    return run("mfi", _kernels.mfi, data, int(period))[0]
