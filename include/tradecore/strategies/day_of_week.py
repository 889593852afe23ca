"""Day of the week: long over the chosen weekdays, by default every one but Monday.

French, "Stock Returns and the Weekend Effect", Journal of Financial Economics 8(1), 1980, pp. 55-69: from Friday's
close to Monday's close stocks lost. A score at a close trades at the next open: here a day is from its open to the
next session's, so that Friday holds the weekend. Later samples do not have the effect; this is a rule, not a promise.

Which session comes next is the calendar's to say (strategies/ahead.py). A name that did not trade has no opinion.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy
from tradecore.strategies.ahead import Exchange, next_bar_session

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@strategy(lookback_bars=1)
def day_of_week(
    window: Window,
    *,
    weekdays: tuple[Weekday, ...] = ("tue", "wed", "thu", "fri"),
    exchange: Exchange = "XNYS",
) -> Floats:
    """Score 1 where the next bar is on one of the weekdays, else 0."""
    hold = NAMES[next_bar_session(window, exchange).weekday()] in weekdays
    return np.where(np.isnan(window.close[-1]), np.nan, 1.0 if hold else 0.0)
