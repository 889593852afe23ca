"""The report of real sessions, read from the database that the stages wrote: AAPL's split of 2005-02-28 among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from tradecore import pipeline, reporting
from tradecore.errors import BookError
from tradecore.report_model import SessionReport
from tradecore.reports.changes import contributions
from tradecore.reports.session_report import render
from tradecore.sessions import calendar
from tradecore.settings import Settings, load

pytestmark = pytest.mark.db
FIRST, LAST = date(2005, 2, 16), date(2005, 3, 1)
SPLIT = date(2005, 2, 28)

Read = Callable[[date], SessionReport]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load({"ALERT_CONSOLE": "false"}, "sample").model_copy(update={"local_dir": tmp_path})


def _run(settings: Settings, conn: psycopg.Connection, first: date, last: date) -> None:
    for day in calendar("XNYS").sessions_in_range(first, last):
        now = datetime.combine(day, time(22, 30), UTC)
        pipeline.run_session(settings, conn, book="sim", session_date=day, now=now)


@pytest.fixture
def read(settings: Settings, conn: psycopg.Connection) -> Read:
    """Trade the sample from FIRST to LAST; return a reader of its reports."""
    now = datetime.combine(LAST, time(22, 30), UTC)
    pipeline.load_history(settings, conn, first=date(2004, 11, 15), last=LAST, now=now)
    pipeline.open_book(settings, conn, book="sim", before=FIRST, now=now)
    _run(settings, conn, FIRST, LAST)

    def report(day: date) -> SessionReport:
        end = calendar("XNYS").session(day).close_at
        found = reporting.session_report(settings, conn, "sim", end)
        conn.rollback()
        return found

    return report


def test_reports_of_real_sessions(read: Read, settings: Settings, conn: psycopg.Connection) -> None:
    days = calendar("XNYS").sessions_in_range(FIRST, LAST)
    reports = {day: read(day) for day in days}

    # What must have happened for the rest to mean something.
    assert sum(len(r.fills) for r in reports.values()) >= 3
    assert sum(len(r.sheet) for r in reports.values()) >= 3
    split = reports[SPLIT]
    assert [e.symbol for e in split.events if e.kind == "split"] == ["AAPL"]
    held = {line.symbol: line for line in split.positions}["AAPL"]
    assert held.qty_shares == 2 * held.previous_qty_shares > 0

    for day, report in reports.items():
        # The lines of 'where the change came from' add up to the cent that the book says.
        assert report.previous_account is not None
        change = report.account.equity_usd - report.previous_account.equity_usd
        assert sum((line.amount_usd for line in contributions(report)), Decimal(0)) == change
        assert not [line for line in contributions(report) if line.label == "Cash in lieu"]
        value = sum((line.value_usd for line in report.positions), Decimal(0))
        assert report.account.cash_usd + report.account.receivables_usd + value == report.account.equity_usd
        # Slippage is the configured 2 bps, up to the tick.
        for fill in report.fills:
            assert (
                0
                <= fill.slippage_usd
                <= abs(fill.qty_shares) * (fill.open_price_usd * Decimal("0.0002") + Decimal("0.01"))
            )
            assert fill.shortfall_bps is not None
            assert abs(fill.shortfall_bps) < 2000
        assert report.quality is not None
        assert report.quality.gate_open
        assert report.equity[0].equity_usd == 100_000
        assert report.equity[-1].equity_usd == report.account.equity_usd
        assert {order.status for order in report.worked} <= {"FILLED"}
        assert {order.status for order in report.sheet} <= {""}
        assert {chart.candles[-1].session_date for chart in report.charts} <= {day}
        assert render(report) == render(read(day))

    # A fill of one session is an entry on the charts of the sessions after it.
    day, fill = next((day, r.fills[0]) for day, r in reports.items() if r.fills)
    chart = next(c for c in reports[LAST].charts if c.symbol == fill.symbol)
    assert any(e.bar_end_at.date() == day and e.price_usd == fill.price_usd for e in chart.entries)

    _check_addendum(settings, conn, reports)


def _check_addendum(settings: Settings, conn: psycopg.Connection, reports: dict[date, SessionReport]) -> None:
    day = next(day for day, report in reports.items() if report.sheet)
    end = calendar("XNYS").session(day).close_at
    addendum = reporting.session_report(settings, conn, "sim", end, submitted=True)
    conn.rollback()
    assert {order.status for order in addendum.sheet} == {"ACKED"}
    assert addendum.verdict == "not_required"
    assert addendum.outcome
    without = replace(addendum, sheet=reports[day].sheet, verdict="", outcome="")
    assert without == reports[day]


def test_what_happens_later_changes_no_earlier_report(settings: Settings, conn: psycopg.Connection) -> None:
    now = datetime.combine(LAST, time(22, 30), UTC)
    pipeline.load_history(settings, conn, first=date(2004, 11, 15), last=LAST, now=now)
    pipeline.open_book(settings, conn, book="sim", before=FIRST, now=now)
    middle = date(2005, 2, 17)
    _run(settings, conn, FIRST, middle)
    end = calendar("XNYS").session(middle).close_at
    then = reporting.session_html(settings, conn, "sim", end, submitted=True)
    conn.rollback()
    _run(settings, conn, date(2005, 2, 18), date(2005, 2, 18))
    assert reporting.session_html(settings, conn, "sim", end, submitted=True) == then


def test_a_bar_that_is_not_settled_has_no_report(settings: Settings, conn: psycopg.Connection) -> None:
    with pytest.raises(BookError, match="has not settled") as error:
        reporting.session_report(settings, conn, "sim", datetime(2005, 3, 1, 21, tzinfo=UTC))
    assert "run-session" in error.value.next_step
