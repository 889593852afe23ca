"""Trends and channels. Data [T] or [T, n] in prices, periods in rows; ValueError as everywhere in indicators."""

from __future__ import annotations

from typing import NamedTuple

from tradecore.indicators.averages import ema
from tradecore.indicators.columns import Values, positive, run, whole
from tradecore.indicators.rolling import _kernels as rolling_kernels
from tradecore.indicators.rolling import rolling_max, rolling_min
from tradecore.indicators.trend import _kernels
from tradecore.indicators.volatility import atr
from tradecore.model import Floats


class Macd(NamedTuple):
    """The line, its average, and line less average."""

    line: Floats
    signal: Floats
    histogram: Floats


class Bands(NamedTuple):
    """A channel around a middle."""

    upper: Floats
    middle: Floats
    lower: Floats


class Directional(NamedTuple):
    """Wilder's index and indicators, 0..100."""

    adx: Floats
    plus_di: Floats
    minus_di: Floats


def macd(x: Values, fast_period: int = 12, slow_period: int = 26, signal_period: int = 9) -> Macd:
    """Compute moving-average convergence / divergence: fast EMA less slow EMA, and the EMA of that.

    A NaN row gives NaN and counts for nothing otherwise; NaN until all three are known. Source: Appel, The Moving
    Average Convergence-Divergence Trading Method, 1979; TA-Lib MACD, whose seeds it takes.
    """
    whole("macd", 1, fast_period=fast_period, slow_period=slow_period, signal_period=signal_period)
    if fast_period >= slow_period:
        raise ValueError(f"macd: fast_period is {fast_period}, slow_period {slow_period}; fast must be below slow")
    periods = int(fast_period), int(slow_period), int(signal_period)
    return Macd(*run("macd", _kernels.macd, {"x": x}, *periods, outputs=3))


def bbands(x: Values, period: int = 20, n_std: float = 2.0) -> Bands:
    """Compute the simple average plus and minus n_std population standard deviations of the window.

    NaN where the window is not complete or holds a NaN. Source: Bollinger, Bollinger on Bollinger Bands, 2001; TA-Lib
    BBANDS (whose default period is 5).
    """
    whole("bbands", 1, period=period)
    positive("bbands", n_std=n_std)
    middle, std = run("bbands", rolling_kernels.rolling_std, {"x": x}, int(period), 0, outputs=2)
    return Bands(middle + n_std * std, middle, middle - n_std * std)


def donchian(high: Values, low: Values, period: int = 20) -> Bands:
    """Find the highest high and the lowest low of the last `period` rows, this one included, and their middle.

    NaN where the window is not complete or holds a NaN. Source: Donchian, "High Finance in Copper", Financial Analysts
    Journal 16(6), 1960.
    """
    upper, lower = rolling_max(high, period), rolling_min(low, period)
    if upper.shape != lower.shape:
        raise ValueError(f"donchian: high has shape {upper.shape}, low {lower.shape}")
    return Bands(upper, (upper + lower) / 2.0, lower)


def keltner(
    high: Values, low: Values, close: Values, period: int = 20, atr_period: int = 10, n_atr: float = 2.0
) -> Bands:
    """Compute the exponential average of the close plus and minus n_atr average true ranges.

    A NaN row gives NaN and counts for nothing otherwise. Source: Keltner, How to Make Money in Commodities, 1960, in
    Raschke's form of the 1980s (EMA and ATR in the place of simple averages).
    """
    positive("keltner", n_atr=n_atr)
    middle, width = ema(close, period), n_atr * atr(high, low, close, atr_period)
    return Bands(middle + width, middle, middle - width)


def adx(high: Values, low: Values, close: Values, period: int = 14) -> Directional:
    """Compute the average directional index with the directional indicators +DI and -DI.

    A NaN row gives NaN and counts for nothing otherwise. Source: Wilder, New Concepts in Technical Trading Systems,
    1978, section IV; TA-Lib ADX, PLUS_DI, MINUS_DI.
    """
    whole("adx", 2, period=period)
    data = {"high": high, "low": low, "close": close}
    return Directional(*run("adx", _kernels.directional, data, int(period), outputs=3))
