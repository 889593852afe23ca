"""Rows *indicators*: a million points, against TA-Lib called through its own Python wrapper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import talib
from ratios import Row

from tradecore import indicators as ta

POINTS, SEED = 1_000_000, 5
AT_OR_BELOW, VARIANCE_FAMILY = 1.0, 1.5


def bars(points: int = POINTS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return highs, lows and closes of a random walk."""
    rng = np.random.default_rng(SEED)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.0005, points)))
    spread = rng.exponential(0.0004, (2, points))
    return close * (1.0 + spread[0]), close * (1.0 - spread[1]), close


def agree(results: dict[str, Any]) -> None:
    """Raise AssertionError where TA-Lib has a value that ours differs from; its running sums drift."""
    theirs, ours = (r if isinstance(r, tuple) else (r,) for r in results.values())
    for a, b in zip(theirs, ours, strict=True):
        known = ~np.isnan(a)
        assert known.sum() > len(a) - 100
        np.testing.assert_allclose(b[known], a[known], rtol=1e-6, atol=1e-6)


def row(name: str, goal: float, theirs: Callable[[], Any], ours: Callable[[], Any]) -> Row:
    """Return one indicator's row."""
    return Row(
        name=f"indicators {name}",
        unit="point",
        units=POINTS,
        contestants={"TA-Lib": theirs, "tradecore": ours},
        agree=agree,
        goals={"tradecore": goal},
        note=f"TA-Lib {talib.__version__}",
    )


def rows() -> list[Row]:
    """Return a row for each indicator that has a goal."""
    h, lo, c = bars()
    return [
        row("SMA", AT_OR_BELOW, lambda: talib.SMA(c, 30), lambda: ta.sma(c, 30)),
        row("EMA", AT_OR_BELOW, lambda: talib.EMA(c, 30), lambda: ta.ema(c, 30)),
        row("RSI", AT_OR_BELOW, lambda: talib.RSI(c, 14), lambda: ta.rsi(c, 14)),
        row("ATR", AT_OR_BELOW, lambda: talib.ATR(h, lo, c, 14), lambda: ta.atr(h, lo, c, 14)),
        row("MACD", AT_OR_BELOW, lambda: talib.MACD(c, 12, 26, 9), lambda: tuple(ta.macd(c, 12, 26, 9))),
        row("STDDEV", VARIANCE_FAMILY, lambda: talib.STDDEV(c, 20), lambda: ta.stddev(c, 20)),
        row("VAR", VARIANCE_FAMILY, lambda: talib.VAR(c, 20), lambda: ta.var(c, 20)),
        row("BBANDS", VARIANCE_FAMILY, lambda: talib.BBANDS(c, 20, 2.0, 2.0), lambda: tuple(ta.bbands(c, 20, 2.0))),
        row("CORREL", VARIANCE_FAMILY, lambda: talib.CORREL(h, lo, 30), lambda: ta.correl(h, lo, 30)),
    ]
