"""The session report, put together: what storage reads, with the limits that are configured, as a page."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import psycopg

from tradecore import decision, sessions, waiting
from tradecore.context import Context
from tradecore.errors import SessionError
from tradecore.provenance import hash_of
from tradecore.report_model import AnomalyLine, Limits, SessionReport
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.storage import books, report_data

AUDITED_SESSIONS = 60
AUDIT_LINES = 40


def session_report(
    settings: Settings, conn: psycopg.Connection, book: str, bar_end_at: datetime, *, submitted: bool = False
) -> SessionReport:
    """Read the report of a settled bar. Raises BookError when the book has no state of it."""
    risk = settings.trading.risk
    limits = Limits(
        max_position_frac=_exact(risk.max_position_size),
        max_exposure_frac=_exact(risk.max_exposure),
        max_daily_loss_frac=_exact(risk.max_daily_loss),
        max_drawdown_frac=_exact(risk.max_drawdown),
        max_turnover_frac=_exact(risk.max_turnover),
        stale_after_sessions=settings.trading.alerts.stale_after_sessions,
    )
    thresholds = {
        name: float(strategy.params["confidence_threshold"])
        for name, strategy in settings.trading.strategies.items()
        if "confidence_threshold" in strategy.params
    }
    found = report_data.load_session_report(
        conn,
        book,
        bar_end_at,
        limits=limits,
        thresholds=thresholds,
        approval_required=settings.trading.execution.approval_required,
        window=_window(settings, conn, book, bar_end_at),
        submitted=submitted,
    )
    return _audited(settings, conn, found)


def _audited(settings: Settings, conn: psycopg.Connection, report: SessionReport) -> SessionReport:
    """Add what is odd about the sessions up to this one, as known when it was decided on; a page stays the same."""
    from tradecore.anomalies import audit

    record = books.find(conn, report.book)
    manifest = conn.execute(stored.SQL["manifest"], (report.book, report.bar_end_at)).fetchone()
    if record is None or manifest is None:
        return report
    calendar = sessions.calendar(record.calendar)
    first = report.session_date
    members = [m for m in stored.read_universe(conn, record.universe) if m.due(report.session_date)]
    try:
        for _ in range(AUDITED_SESSIONS - 1):
            first = calendar.previous_session(first)
        found = audit(settings, conn, members, first=first, last=report.session_date, as_of=manifest[0], kept_out=False)
    except SessionError:  # nothing is loaded yet: the data section says so
        return report
    lines = [AnomalyLine(kind=a.kind, symbol=a.symbol, session=a.session, last=a.last, detail=a.detail) for a in found]
    return replace(report, anomalies=tuple(lines[:AUDIT_LINES]), audit_first=first)


def _window(
    settings: Settings, conn: psycopg.Connection, book: str, bar_end_at: datetime
) -> tuple[datetime, datetime] | None:
    """Return when the sheet may be sent; None for a simulated book that nobody signs for: at once."""
    record = books.find(conn, book)
    if record is None:
        return None
    if record.kind == waiting.SIMULATED and not settings.trading.execution.approval_required:
        return None
    found = waiting.venue_window(settings, sessions.calendar(record.calendar), record, bar_end_at)
    return found.opens_at, found.closes_at


def session_html(
    settings: Settings, conn: psycopg.Connection, book: str, bar_end_at: datetime, *, submitted: bool = False
) -> str:
    """Return the report as one self-contained page; the same data give the same text.

    `submitted` adds the addendum: what became of the sheet, its approval and the bar's outcome.
    """
    from tradecore.reports.session_report import render  # matplotlib: 60 MB that only this task needs

    return render(session_report(settings, conn, book, bar_end_at, submitted=submitted))


def keep(ctx: Context) -> Path:
    """Write the bar's page and note where it is; with the addendum once the bar is closed. Commits."""
    html = session_html(ctx.settings, ctx.conn, ctx.book, ctx.bar_end_at, submitted=ctx.status() == "closed")
    folder = ctx.settings.local_dir / "reports" / ctx.book.replace(":", "_")
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # positions are nobody else's business
    folder.mkdir(exist_ok=True)
    alone = len(ctx.calendar.bar_ends(ctx.session_date, ctx.record.timeframe)) == 1
    path = folder / (f"{ctx.session_date}.html" if alone else f"{ctx.bar_end_at:%Y-%m-%dT%H%M}.html")
    fresh = path.with_suffix(".new")
    fresh.write_text(html, encoding="utf-8")
    fresh.replace(path)  # whole or not at all, also when two write it
    where = str(path.relative_to(ctx.settings.local_dir))
    ctx.conn.execute(
        decision.SQL["add_report"], (*ctx.key, ctx.session_date, where, hash_of(html), ctx.manifest_hash())
    )
    ctx.conn.commit()
    return path


def _exact(frac: float) -> Decimal:
    """Return a configured fraction as it was written: 0.15, not the binary number next to it."""
    return Decimal(str(frac))
