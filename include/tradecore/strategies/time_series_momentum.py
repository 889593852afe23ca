"""Time-series momentum: long while an instrument is above where it was `period` bars ago.

Moskowitz, Ooi & Pedersen, "Time Series Momentum", Journal of Financial Economics 104(2), 2012, pp. 228-250: the sign
of the past twelve months' return in excess of cash, positions scaled by volatility. Here: every bar instead of once a
month, raw returns against `threshold_frac`, short only with `long_short` (and `risk.allow_short`); the scaling is the
sizing `volatility_adjusted`.

A name whose two closes are not both known has no opinion.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy


@strategy(lookback_bars=lambda p: p.period + 1)
def time_series_momentum(
    window: Window,
    *,
    period: Annotated[int, Field(ge=1, le=2000)] = 252,
    threshold_frac: Annotated[float, Field(ge=-1.0, le=10.0)] = 0.0,
    long_short: bool = False,
) -> Floats:
    """Score 1 where the simple return over `period` bars is above the threshold, else 0, or -1 with long_short."""
    past_return = window.close[-1] / window.close[-1 - period] - 1.0
    below = -1.0 if long_short else 0.0
    return np.where(np.isnan(past_return), np.nan, np.where(past_return > threshold_frac, 1.0, below))
