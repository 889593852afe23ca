"""When research stands aside: the hours in which the trading day needs the machine. Pure, from the table of sessions.

After each bar's end: until its run is due and one stage's time-out has passed. At a real broker also from the opening
of the venue's window, for as long, and until the last slice of a `twap` is due. A piece of work does not begin if it
would run into such an hour; what waits for a person or for the rest of a long window disturbs nobody, and is
not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from tradecore.errors import NotASession
from tradecore.execution.window import window_of
from tradecore.sessions import Calendar
from tradecore.sessions import calendar as open_calendar
from tradecore.settings import Settings

BEFORE, AFTER = 3, 3  # bar ends looked at: a window opens in the evening of a bar, or at the open after a weekend


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """From opens_at (included) to closes_at (excluded), aware UTC; `why` in words."""

    opens_at: datetime
    closes_at: datetime
    why: str


def next_quiet(settings: Settings, now: datetime) -> Quiet | None:
    """Return the quiet hours that hold now, or else the next ones; None when the table or the feed ends before."""
    merged: list[Quiet] = []
    for hours in sorted(_around(settings, now), key=lambda q: (q.opens_at, q.closes_at)):
        if merged and hours.opens_at <= merged[-1].closes_at:
            last = merged[-1]
            merged[-1] = Quiet(opens_at=last.opens_at, closes_at=max(last.closes_at, hours.closes_at), why=last.why)
        else:
            merged.append(hours)
    return next((q for q in merged if q.closes_at > now), None)


def wait_s(settings: Settings, now: datetime, work_s: float) -> float:
    """Return the seconds until a piece of work of work_s seconds may begin: 0 when it ends before the quiet hours."""
    quiet = next_quiet(settings, now)
    if quiet is None or now + timedelta(seconds=work_s) <= quiet.opens_at:
        return 0.0
    return max(1.0, (quiet.closes_at - now).total_seconds())


def _around(settings: Settings, now: datetime) -> Iterator[Quiet]:
    calendar, trading = open_calendar(settings.trading.book.calendar), settings.trading
    patience = timedelta(seconds=trading.book.decision_timeout_s)
    twap = trading.execution.twap_minutes if trading.execution.algorithm == "twap" else 0
    ends = _bar_ends(calendar, trading.book.timeframe, now)
    for end, following in pairwise(ends):
        if trading.data.last_session and calendar.session_of(end) > trading.data.last_session:
            continue
        due = end + timedelta(minutes=trading.book.run_delay_minutes)
        yield Quiet(opens_at=end, closes_at=due + patience, why=f"the run after the bar of {end:%Y-%m-%d %H:%M} UTC")
        if trading.book.broker != "simulated":
            window = window_of(
                trading.execution.order_style,
                decided_at=end,
                until=following,
                session=calendar.session(calendar.session_of(following)),
                margin_s=trading.execution.window_margin_s,
            )
            until = min(window.closes_at, window.opens_at + timedelta(minutes=twap)) + patience
            yield Quiet(
                opens_at=window.opens_at, closes_at=until, why=f"the venue's window of {window.opens_at:%H:%M} UTC"
            )


def _bar_ends(calendar: Calendar, timeframe: str, now: datetime) -> list[datetime]:
    """Return some bar ends before now and after it, as far as the table goes."""
    ends: list[datetime] = []
    try:
        at = now
        for _ in range(BEFORE):
            at = calendar.previous_bar_end(at, timeframe)
            ends.insert(0, at)
    except NotASession:
        pass
    try:
        at = ends[-1] if ends else now
        for _ in range(AFTER):
            at = calendar.next_bar_end(at, timeframe)
            ends.append(at)
    except NotASession:
        pass
    return ends
