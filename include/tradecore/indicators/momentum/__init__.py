"""Oscillators and rates of change. Data [T] or [T, n], periods in rows; ValueError as everywhere in indicators."""

from __future__ import annotations

from typing import NamedTuple

from tradecore.indicators.columns import Values, run, whole
from tradecore.indicators.momentum import _kernels
from tradecore.model import Floats


class Stochastic(NamedTuple):
    """The slow stochastic: %K and its average %D, 0..100."""

    slow_k: Floats
    slow_d: Floats


def rsi(x: Values, period: int = 14) -> Floats:
    """Compute Wilder's relative strength index, 0..100, seeded with the mean of the first `period` changes.

    A NaN row gives NaN and counts for nothing otherwise. NaN while nothing has moved (TA-Lib says 0).
    Source: Wilder, New Concepts in Technical Trading Systems, 1978, section VI; TA-Lib RSI.
    """
    whole("rsi", 1, period=period)
    return run("rsi", _kernels.rsi, {"x": x}, int(period))[0]


def roc(x: Values, period: int = 10) -> Floats:
    """Compute the change over `period` rows in percent; NaN where one of them is missing. Source: TA-Lib ROC."""
    whole("roc", 1, period=period)
    return run("roc", _kernels.roc, {"x": x}, int(period))[0]


def stoch(
    high: Values, low: Values, close: Values, fastk_period: int = 5, slowk_period: int = 3, slowd_period: int = 3
) -> Stochastic:
    """Compute Lane's slow stochastic with simple averages.

    NaN where a row that is needed is missing or a range is 0 (TA-Lib says 0 there); %K is given as soon as it is known,
    TA-Lib STOCH waits for %D. Source: Lane, "Lane's Stochastics", Stocks & Commodities 2(3), 1984; TA-Lib STOCH.
    """
    whole("stoch", 1, fastk_period=fastk_period, slowk_period=slowk_period, slowd_period=slowd_period)
    periods = int(fastk_period), int(slowk_period), int(slowd_period)
    return Stochastic(
        *run("stoch", _kernels.stochastic, {"high": high, "low": low, "close": close}, *periods, outputs=2)
    )


def cci(high: Values, low: Values, close: Values, period: int = 14) -> Floats:
    """Compute the commodity channel index; O(T log period). NaN where the window is not complete or does not vary.

    Source: Lambert, "Commodity Channel Index", Commodities (Futures) 9(10), 1980; TA-Lib CCI.
    """
    whole("cci", 2, period=period)
    return run("cci", _kernels.cci, {"high": high, "low": low, "close": close}, int(period))[0]
