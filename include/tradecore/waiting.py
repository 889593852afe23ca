"""What a decided bar waits for, and until when: a person, the venue's window. It never outwaits the next bar.

Both end before the next bar does, less a margin: so the next session's run starts on time, whoever did not answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import psycopg

from tradecore.execution.window import Window, window_of
from tradecore.sessions import Calendar
from tradecore.settings import Settings
from tradecore.storage import queries

if TYPE_CHECKING:
    from tradecore.context import Context

SQL = queries.load("decisions")
SIMULATED = "simulated"


class Traded(Protocol):
    """What of a book says when it may trade: its record, or a line of `watch`, which loads no numpy for it."""

    @property
    def book(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def timeframe(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a bar waits for, in words, until when at most (aware UTC), and what ends it."""

    what: str
    until: datetime
    next_step: str

    def seconds(self, now: datetime) -> float:
        """Return how long that may still take, at least a second."""
        return max(1.0, (self.until - now).total_seconds())


def venue_window(settings: Settings, calendar: Calendar, record: Traded, bar_end_at: datetime) -> Window:
    """Return when the orders decided at a bar may be sent. A simulated book's window lasts until its next bar ends."""
    following = calendar.next_bar_end(bar_end_at, record.timeframe)
    execution = settings.trading.execution
    if record.kind == SIMULATED:
        margin = timedelta(seconds=execution.window_margin_s)
        return Window(opens_at=bar_end_at, closes_at=following - margin)
    return window_of(
        execution.order_style,
        decided_at=bar_end_at,
        until=following,
        session=calendar.session(calendar.session_of(following)),
        margin_s=execution.window_margin_s,
    )


def unsigned(settings: Settings, conn: psycopg.Connection, book: str, bar_end_at: datetime) -> bool:
    """Tell whether a bar's newest sheet is one that a person is asked to sign and has not answered."""
    if not settings.trading.execution.approval_required:
        return False
    row = conn.execute(SQL["unsigned"], {"book": book, "bar_end": bar_end_at}).fetchone()
    return bool(row and row[0])


def wait_of(
    settings: Settings,
    conn: psycopg.Connection,
    calendar: Calendar,
    record: Traded,
    bar_end_at: datetime,
    now: datetime,
) -> Wait | None:
    """Return what a decided bar waits for at a time; None when it waits for nothing, or has waited long enough."""
    window = venue_window(settings, calendar, record, bar_end_at)
    if window.passed(now):
        return None
    if unsigned(settings, conn, record.book, bar_end_at):
        session = calendar.session_of(bar_end_at)
        return Wait(
            what=f"a person's answer to the order sheet, until {window.closes_at:%Y-%m-%d %H:%M:%S} UTC",
            until=window.closes_at,
            next_step=f"answer in Airflow, or: python -m tradecore approve {session} --sheet HASH",
        )
    if record.kind != SIMULATED and now < window.opens_at:
        session = calendar.session_of(bar_end_at)
        return Wait(
            what=f"the venue's window, from {window.opens_at:%Y-%m-%d %H:%M:%S} to {window.closes_at:%H:%M:%S} UTC",
            until=window.opens_at,
            next_step=f"nothing, or within the window: python -m tradecore submit {session}",
        )
    return None


def may_rest_until(
    settings: Settings, conn: psycopg.Connection, calendar: Calendar, record: Traded, bar_end_at: datetime
) -> datetime | None:
    """Return until when a decided bar may stand still without being stuck; None: it has nothing to wait for."""
    if record.kind == SIMULATED and not unsigned(settings, conn, record.book, bar_end_at):
        return None
    return venue_window(settings, calendar, record, bar_end_at).closes_at


def wait(ctx: Context) -> Wait | None:
    """Return what this bar waits for now, or None."""
    return wait_of(ctx.settings, ctx.conn, ctx.calendar, ctx.record, ctx.bar_end_at, ctx.now)


def window(ctx: Context) -> Window:
    """Return this bar's window."""
    return venue_window(ctx.settings, ctx.calendar, ctx.record, ctx.bar_end_at)


def for_person(ctx: Context) -> Wait | None:
    """Return the wait for a signature under this bar's sheet; None where nobody is asked, or it is too late."""
    if ctx.status() == "closed" or not unsigned(ctx.settings, ctx.conn, *ctx.key):
        return None
    return wait(ctx)
