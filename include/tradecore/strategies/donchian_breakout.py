"""Donchian breakout: long above the highest high of the last weeks, flat below the lowest low of fewer.

Donchian, "High Finance in Copper", Financial Analysts Journal 16(6), 1960, pp. 133-142 (the four-week rule); with the
nearer exit of the Turtles' first system: Faith, Way of the Turtle, 2007 (20 days in, 10 days out). Here: judged at
the close, long side only, without their pyramiding and stops.

A name with a hole in the rows that a channel needs has no opinion.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy


@strategy(lookback_bars=lambda p: max(p.entry_period, p.exit_period) + 1)
def donchian_breakout(
    window: Window,
    *,
    entry_period: Annotated[int, Field(ge=1, le=1000)] = 20,
    exit_period: Annotated[int, Field(ge=1, le=1000)] = 10,
) -> Floats:
    """Score 1 where the close is above the earlier highs, 0 where it is below the earlier lows, else no opinion."""
    close = window.close[-1]
    top = window.high[-1 - entry_period : -1].max(axis=0)
    bottom = window.low[-1 - exit_period : -1].min(axis=0)
    return np.where(close > top, 1.0, np.where(close < bottom, 0.0, np.nan))
