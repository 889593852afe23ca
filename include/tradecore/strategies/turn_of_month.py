"""Turn of the month: long over the last session of a month and the first three of the next, flat otherwise.

Lakonishok & Smidt, "Are Seasonal Anomalies Real? A Ninety-Year Perspective", Review of Financial Studies 1(4), 1988,
pp. 403-425; McConnell & Xu, "Equity Returns at the Turn of the Month", Financial Analysts Journal 64(2), 2008, pp.
49-64. They measure from close to close; a score at a close trades at the next open, so that here it is from open to
open.

Which session comes next is the calendar's to say (strategies/ahead.py). A name that did not trade has no opinion.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from tradecore.bars import Window
from tradecore.model import Floats
from tradecore.strategies import strategy
from tradecore.strategies.ahead import Exchange, month_sessions, next_bar_session


@strategy(lookback_bars=1)
def turn_of_month(
    window: Window,
    *,
    last_sessions: Annotated[int, Field(ge=0, le=10)] = 1,
    first_sessions: Annotated[int, Field(ge=0, le=10)] = 3,
    exchange: Exchange = "XNYS",
) -> Floats:
    """Score 1 where the next bar is in one of the last or first sessions of a month, else 0."""
    ahead = next_bar_session(window, exchange)
    sessions = month_sessions(ahead, exchange)
    place = sessions.index(ahead)
    hold = place < first_sessions or place >= len(sessions) - last_sessions
    return np.where(np.isnan(window.close[-1]), np.nan, 1.0 if hold else 0.0)
