"""What the exchange's calendar says about the bar that follows a window: the one in which a score is traded.

Regular sessions and holidays are published years ahead. A closure that nobody announced (2001-09-11, 2012-10-29) is
in the table too: on the eve of one, a score here knows of it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal

from tradecore.bars import Window
from tradecore.sessions import calendar

Exchange = Literal["XNYS"]
NS = 1_000_000_000


def next_bar_session(window: Window, exchange: Exchange) -> date:
    """Return the session of the bar after the window's last: the same day's before the last bar of a session.

    Raises NotASession outside the table of sessions.
    """
    last_end_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(window.bar_end_ns[-1]) // NS)
    return calendar(exchange).session_after(last_end_at).session_date


def month_sessions(day: date, exchange: Exchange) -> tuple[date, ...]:
    """Return the sessions of the month in which a day lies."""
    first = day.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return calendar(exchange).sessions_in_range(first, following - timedelta(days=1))
