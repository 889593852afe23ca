"""Bollinger reversion: buy below the lower band, leave at the average.

Bollinger, Bollinger on Bollinger Bands, 2001 (his "reversals", here without the indicators that confirm them): bands
of two population standard deviations about a 20-bar average.

A name with a hole in its window has no opinion.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy


@strategy(lookback_bars=lambda p: p.period)
def bollinger_reversion(
    window: Window,
    *,
    period: Annotated[int, Field(ge=2, le=1000)] = 20,
    n_std: Annotated[float, Field(gt=0.0, le=10.0)] = 2.0,
) -> Floats:
    """Score 1 below the lower band, 0 at or above the average, no opinion between them."""
    close = window.close[-1]
    middle = window.close[-period:].mean(axis=0)
    lower = middle - n_std * window.close[-period:].std(axis=0)
    return np.where(close < lower, 1.0, np.where(close >= middle, 0.0, np.nan))
