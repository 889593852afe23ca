"""Faber's ten-month average: long while the last month ended above the average of the last ten month ends.

Faber, "A Quantitative Approach to Tactical Asset Allocation", Journal of Wealth Management 9(4), 2007, pp. 69-79
(monthly closes with dividends, decided at the month's end only). Between month ends the score stays what it was;
whether today ends a month is the calendar's to say (strategies/ahead.py).

The window reaches over months + 1 months of 23 sessions, more than any has. A name whose closes are not all known at
the month ends has no opinion.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy
from tradecore.strategies.ahead import Exchange, next_bar_session
from tradecore.units import to_day

SESSIONS_PER_MONTH = 23


@strategy(lookback_bars=lambda p: (p.months + 1) * SESSIONS_PER_MONTH * p.bars_per_session)
def faber_average(
    window: Window,
    *,
    months: Annotated[int, Field(ge=2, le=60)] = 10,
    bars_per_session: Annotated[int, Field(ge=1, le=100)] = 1,
    exchange: Exchange = "XNYS",
) -> Floats:
    """Score 1 where the last month end is above the mean of the last `months`, else 0; no opinion without that many."""
    days = np.append(window.day, to_day(next_bar_session(window, exchange)))
    month = days.astype("datetime64[D]").astype("datetime64[M]").astype(int)
    ends = window.close[np.flatnonzero(month[1:] != month[:-1])][-months:]
    if ends.shape[0] < months:
        return np.full(window.close.shape[1], np.nan)
    average = ends.mean(axis=0)
    return np.where(np.isnan(average), np.nan, np.where(ends[-1] > average, 1.0, 0.0))
