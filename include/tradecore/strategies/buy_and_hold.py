"""Buy and hold: bought once, never sold, never set right again. What every other strategy is measured against.

A score knows nothing of the book, so the days of buying are named: up to `buy_until` the score is 1, afterwards there
is no opinion and what is held stays. Without a date it is 1 for ever: then the book is brought back to its targets
whenever it has left the rebalancing band, which is equal weight and not buy and hold.
"""

from __future__ import annotations

from datetime import date

import numpy as np

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy
from tradecore.units import to_day


@strategy(lookback_bars=1)
def buy_and_hold(window: Window, *, buy_until: date | None = None) -> Floats:
    """Score 1 on sessions up to buy_until (included), no opinion afterwards."""
    over = buy_until is not None and window.day[-1] > to_day(buy_until)
    return np.where(np.isnan(window.close[-1]) | over, np.nan, 1.0)
