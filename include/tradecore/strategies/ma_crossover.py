"""Moving-average crossover with a confidence.

Long while the fast average is above the slow one, flat when it is not (Brock, Lakonishok & LeBaron, "Simple Technical
Trading Rules and the Stochastic Properties of Stock Returns", Journal of Finance 47(5), 1992). An entry needs a
confidence of at least the threshold; below it the strategy has no opinion, so what is held stays held.

    confidence = 0.4 separation + 0.2 breadth + 0.2 slope + 0.2 position        each factor in 0..1
    separation   min(1, (fast / slow - 1) / 2 %)
    breadth      share of the last short_period bars that closed higher
    slope        1 if the slow average is above its value 5 bars ago
    position     1 if the close is at or above the fast average

The EMA is computed over a window of 4 long_period bars, seeded with the first: what lies before weighs exp(-8).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy
from tradecore.strategies._kernels import ma_crossover_panel

SLOPE_BARS = 5


def lookback_bars(p: Any) -> int:
    """Return the rows that one score needs."""
    if p.short_period >= p.long_period:
        raise ValueError(f"short_period {p.short_period} must be below long_period {p.long_period}")
    return int((p.long_period if p.average == "sma" else 4 * p.long_period) + SLOPE_BARS)


def panel_score(
    window: Window,
    out: Floats,
    lookback: int,
    *,
    short_period: int,
    long_period: int,
    average: str,
    confidence_threshold: float,
) -> Floats:
    """Write the score of each whole window into out [T, n]."""
    ma_crossover_panel(
        np.ascontiguousarray(window.close),
        lookback - 1,
        lookback,
        short_period,
        long_period,
        SLOPE_BARS,
        average == "ema",
        confidence_threshold,
        out,
    )
    return out


@strategy(lookback_bars=lookback_bars, panel=panel_score)
def ma_crossover(
    window: Window,
    *,
    short_period: Annotated[int, Field(ge=2, le=500)] = 20,
    long_period: Annotated[int, Field(ge=3, le=1000)] = 50,
    average: Literal["sma", "ema"] = "sma",
    confidence_threshold: Annotated[float, Field(ge=0.0, le=1.0)] = 0.75,
) -> Floats:
    """Score the last row of the window: 0 flat, confidence when long and sure enough, else NaN."""
    out = np.full(window.close.shape, np.nan)
    panel_score(
        window,
        out,
        window.close.shape[0],
        short_period=short_period,
        long_period=long_period,
        average=average,
        confidence_threshold=confidence_threshold,
    )
    return np.asarray(out[-1])
