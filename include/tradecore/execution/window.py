"""When an order of a decision may be sent: the venue's window by order style. Pure; rules: docs/EXECUTION.md.

Source: Alpaca's order documentation (OPG orders are refused from 09:28 to 19:00 New York time, CLS orders from 15:50 to
19:00); the cut-offs are taken relative to the session's own open and close, so that half-days are right.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from tradecore.sessions import Session

NEW_YORK = ZoneInfo("America/New_York")
EVENING = time(19)
BEFORE_OPEN, BEFORE_CLOSE = timedelta(minutes=2), timedelta(minutes=10)
AUCTIONS = ("market_on_open", "market_on_close")
TIME_IN_FORCE = {"market_on_open": "opg", "market_on_close": "cls", "market": "day", "limit": "day"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From opens_at (included) to closes_at (excluded), aware UTC."""

    opens_at: datetime
    closes_at: datetime

    def holds(self, at: datetime) -> bool:
        """Tell whether an order may be sent at a time."""
        return self.opens_at <= at < self.closes_at

    def passed(self, at: datetime) -> bool:
        """Tell whether it is too late."""
        return at >= self.closes_at


def window_of(style: str, *, decided_at: datetime, until: datetime, session: Session, margin_s: int) -> Window:
    """Return when orders decided at one bar's end may be sent for the next bar.

    Parameters: style, of execution.order_style; decided_at and until, the ends of the two bars; session, the hours of
    the session in which the next bar ends; margin_s, kept free before each cut-off.
    The window never reaches the next bar's end: what is decided there stands on what happened here.
    """
    margin = timedelta(seconds=margin_s)
    if style in AUCTIONS:
        evening = datetime.combine(decided_at.astimezone(NEW_YORK).date(), EVENING, NEW_YORK)
        opens = evening.astimezone(UTC)
        cut = session.open_at - BEFORE_OPEN if style == "market_on_open" else session.close_at - BEFORE_CLOSE
    else:
        opens, cut = max(session.open_at, decided_at), session.close_at
    return Window(opens_at=max(opens, decided_at), closes_at=min(cut, until) - margin)
