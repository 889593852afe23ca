"""Versions to validated bars: the suite over what is new, quarantine, selection, and the manifest of what was used."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psycopg

from tradecore import arbitration, market, operations, provenance
from tradecore.bars import Panel
from tradecore.context import Context, held_instruments
from tradecore.model import Instrument
from tradecore.provenance import hash_of
from tradecore.sessions import DAILY, Calendar
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.storage import rollups, selection
from tradecore.storage.bars import Action, Member, Quality, VersionRow
from tradecore.units import PRICE_SCALE, from_day
from tradecore.validation import (
    QUARANTINE,
    WARN,
    CheckRow,
    Finding,
    SessionCheck,
    SessionVerdict,
    check_rows,
    content_hash,
    suite_document,
    suite_version,
    validate,
)

Recorded = TypeVar("Recorded", VersionRow, Action)


def look_back(ctx: Context) -> list[date]:
    """Return the sessions whose restated bars this session looks at, oldest first, and itself."""
    sessions = [ctx.session_date]
    for _ in range(ctx.settings.trading.data.restate_sessions):
        sessions.append(ctx.calendar.previous_session(sessions[-1]))
    return sessions[::-1]


def validate_range(
    settings: Settings,
    conn: psycopg.Connection,
    calendar: Calendar,
    *,
    sessions: Sequence[date],
    now: datetime,
    held: Sequence[Instrument] = (),
    again: bool = False,
    docs: bool = False,
) -> dict[str, object]:
    """Validate each bar end whose newest content this suite has not judged (again: all); select what passed. Commits.

    held: what the book holds is checked like a member, and counts for nothing where it has left the universe. docs:
    write a page of Data Docs.
    """
    trading = settings.trading
    with conn.transaction():
        members = market.and_held(market.sync_members(conn, settings, calendar), held)
        checks, versions = _checks(settings, conn, calendar, members, sessions)
        fresh = [c for c in checks if again or not _judged(conn, settings, c)]
        failed = written = 0
        if fresh:
            page = _docs_page(settings, fresh[-1]) if docs else None
            title = f"{trading.data.feed} {trading.book.timeframe} {fresh[-1].session_date}"
            verdicts = validate(fresh, trading.validation, page=page, title=title)
            written, kept = _select(conn, settings, members, verdicts, versions, now)
            where = str(page.relative_to(settings.local_dir)) if page else ""
            _keep_suite(conn, settings, now)
            for verdict in verdicts:
                failed += _record(conn, settings, verdict, kept, now, where)
            _alert_kept(settings, conn, kept, now)
    conn.commit()
    rollups.catch_up_quietly(conn)
    return {"validated": len(fresh), "known": len(checks) - len(fresh), "rows_failed": failed, "bars": written}


def docs_page(ctx: Context) -> str:
    """Return where the Data Docs of this bar's newest verdict are, below the folder of what is local; '' for none."""
    known = stored.known_quality(
        ctx.conn,
        source=ctx.record.source,
        timeframe=ctx.record.timeframe,
        bar_end=ctx.bar_end_at,
        universe=ctx.record.universe,
        suite=suite_version(ctx.settings.trading.validation),
    )
    ctx.conn.rollback()
    return known.docs_path if known else ""


def _docs_page(settings: Settings, check: SessionCheck) -> Path:
    """Return the page of the validation that ends with this bar."""
    stamp = f"{check.session_date}"
    if settings.trading.book.timeframe != DAILY:
        stamp = f"{check.bar_end_at:%Y-%m-%dT%H%M}"
    return settings.local_dir / "data_docs" / settings.trading.data.feed / f"{stamp}.html"


def _keep_suite(conn: psycopg.Connection, settings: Settings, now: datetime) -> None:
    """Write the suite down once, in the words of Great Expectations."""
    version = suite_version(settings.trading.validation)
    if conn.execute(stored.SQL["suite_known"], (version,)).fetchone() is None:
        document = json.dumps(suite_document(settings.trading.validation), default=str)
        conn.execute(stored.SQL["add_suite"], (version, document, now))


def _judged(conn: psycopg.Connection, settings: Settings, check: SessionCheck) -> bool:
    """Tell whether this suite has judged exactly this content of the bar end."""
    known = stored.known_quality(
        conn,
        source=settings.trading.data.feed,
        timeframe=settings.trading.book.timeframe,
        bar_end=check.bar_end_at,
        universe=settings.trading.universe.name,
        suite=suite_version(settings.trading.validation),
    )
    return known is not None and known.content_hash == content_hash(check.rows, check.due)


def _checks(
    settings: Settings,
    conn: psycopg.Connection,
    calendar: Calendar,
    members: Sequence[Member],
    sessions: Sequence[date],
) -> tuple[list[SessionCheck], list[VersionRow]]:
    """Gather the newest versions of the sessions' bars, and with what their checks need: one check per bar end."""
    trading, timeframe, source = settings.trading, settings.trading.book.timeframe, settings.trading.data.feed
    ends = [(d, e) for d in sessions for e in calendar.bar_ends(d, timeframe)]
    instruments = [m.instrument for m in members]
    ids = [i.instrument_id for i in instruments]
    versions = stored.latest_versions(
        conn, timeframe=timeframe, source=source, instruments=ids, bar_ends=[e for _, e in ends]
    )
    versions = arbitration.in_their_place(settings, conn, versions, ids, ends[0][1], ends[-1][1])
    repeats = trading.validation.stale_repeat_bars
    before = market.bar_ends_until(
        calendar, calendar.previous_bar_end(ends[0][1], timeframe), timeframe, max(1, repeats)
    )
    panel = market.read_panel(conn, timeframe=timeframe, source=source, instruments=instruments, ends=before)
    of_source: dict[str, Any] = {"source": source, "instruments": ids, "until": sessions[-1]}
    actions = stored.read_actions(conn, **of_source, after=before[0][0])
    ended = stored.read_actions(conn, **of_source, after=date.min, kind="delisting")
    ends_on = {a.instrument_id: a.ex_date for a in ended}
    last_day = {m.instrument.instrument_id: ends_on.get(m.instrument.instrument_id, date.max) for m in members}
    actions = [a for a in actions if a.kind != "delisting"] + ended
    rows: dict[datetime, list[CheckRow]] = defaultdict(list)
    mine, theirs = _by_instrument(versions), _by_instrument(actions)
    for column, instrument in enumerate(instruments):
        for row in check_rows(
            instrument.symbol,
            mine.get(instrument.instrument_id, ()),
            theirs.get(instrument.instrument_id, ()),
            _history(panel, column),
            float(trading.validation.max_jump_frac),
        ):
            rows[row.bar_end_at].append(row)
    checks = [
        SessionCheck(
            session_date=d,
            bar_end_at=e,
            is_session=calendar.is_session(d),
            rows=tuple(rows[e]),
            due=tuple(m.instrument.symbol for m in members if m.due(d) and d < last_day[m.instrument.instrument_id]),
        )
        for d, e in ends
    ]
    return checks, versions


def _by_instrument(records: Iterable[Recorded]) -> dict[int, list[Recorded]]:
    """Return versions or actions by instrument, in their order."""
    groups: dict[int, list[Recorded]] = defaultdict(list)
    for record in records:
        groups[record.instrument_id].append(record)
    return groups


def _history(panel: Panel, column: int) -> list[tuple[date, tuple[float, ...]]]:
    """Return the selected bars of one column before the checks, oldest first, as (session, OHLCV in USD)."""
    out = []
    for t in np.flatnonzero(panel.traded[:, column]):
        prices = [float(a[t, column]) / PRICE_SCALE for a in (panel.open, panel.high, panel.low, panel.close)]
        out.append((from_day(int(panel.day[t])), (*prices, float(panel.volume[t, column]))))
    return out


def _select(
    conn: psycopg.Connection,
    settings: Settings,
    members: Sequence[Member],
    verdicts: Sequence[SessionVerdict],
    versions: Sequence[VersionRow],
    now: datetime,
) -> tuple[int, list[CheckRow]]:
    """Make the rows that passed the current bars; where the newest statement failed, a bar of an earlier one stays.

    Returns how many passed, and the rows that failed while an earlier good bar stays.
    """
    trading = settings.trading
    ids = {m.instrument.symbol: m.instrument.instrument_id for m in members}
    known = {(v.instrument_id, v.bar_end_at, v.dup_no): v for v in versions}
    passed: list[VersionRow] = []
    failed: dict[tuple[int, datetime, int], CheckRow] = {}
    for verdict in verdicts:
        bad = verdict.failed_rows
        for row in verdict.check.rows:
            key = (ids[row.symbol], row.bar_end_at, row.dup_no)
            if not bad or row not in bad:  # a row is hashed only where some failed
                passed.append(known[key])
            else:
                failed[key] = row
    kept = selection.select_bars(
        conn,
        timeframe=trading.book.timeframe,
        source=trading.data.feed,
        passed=passed,
        failed=[known[key] for key in failed],
        now=now,
    )
    return len(passed), [failed[v.instrument_id, v.bar_end_at, v.dup_no] for v in kept]


def _alert_kept(settings: Settings, conn: psycopg.Connection, kept: Sequence[CheckRow], now: datetime) -> None:
    """Tell a person once which bars the vendor restated into something that cannot be."""
    if not kept:
        return
    bars = sorted({f"{row.symbol} {row.bar_end_at:%Y-%m-%d %H:%M}" for row in kept})
    operations.raise_alert(
        settings,
        conn,
        severity="warning",
        kind="bad_restatement",
        stage="validate",
        title=f"{len(bars)} restated bar(s) failed validation, the earlier ones stay",
        body=f"{settings.trading.data.feed}: {', '.join(bars[:20])}{', ...' if len(bars) > 20 else ''}.",
        next_step="see the quarantine in the report; ask the vendor which is right",
        now=now,
        dedup_key="bad_restatement:" + hash_of([repr(row) for row in kept]),
    )


def _record(
    conn: psycopg.Connection,
    settings: Settings,
    verdict: SessionVerdict,
    kept: Sequence[CheckRow],
    now: datetime,
    docs_path: str,
) -> int:
    """Store a verdict, its warnings and its quarantine; return how many rows failed."""
    trading, check = settings.trading, verdict.check
    for finding in verdict.findings:
        r = finding.row
        if finding.severity != QUARANTINE:
            _add_finding(conn, settings, finding, now)
        if finding.severity == WARN:
            continue
        conn.execute(
            stored.SQL["add_quarantine"],
            {
                "source": trading.data.feed,
                "timeframe": trading.book.timeframe,
                "symbol": r.symbol,
                "session": r.session_date,
                "expectation": finding.expectation,
                "message": finding.message + (" The earlier good bar stays selected." if r in kept else ""),
                "now": now,
                "record": f"{r.bar_end_at.isoformat()} o={r.open} h={r.high} l={r.low} c={r.close} v={r.volume} "
                f"dup={r.dup_no}",
            },
        )
    failed = len(verdict.failed_rows)
    stored.add_quality(
        conn,
        Quality(
            content_hash=verdict.content_hash,
            gate_open=verdict.gate_open,
            gate_reason=verdict.gate_reason,
            coverage_frac=verdict.coverage_frac,
            rows_checked=len(check.rows),
            rows_failed=failed,
            members_due=verdict.members_due,
            members_seen=verdict.members_seen,
            rows_warned=len(verdict.warned_rows),
            docs_path=docs_path,
        ),
        source=trading.data.feed,
        timeframe=trading.book.timeframe,
        bar_end=check.bar_end_at,
        universe=trading.universe.name,
        suite=suite_version(trading.validation),
        session=check.session_date,
        now=now,
    )
    return failed


def _add_finding(conn: psycopg.Connection, settings: Settings, finding: Finding, now: datetime) -> None:
    row = finding.row
    conn.execute(
        stored.SQL["add_finding"],
        {
            "source": settings.trading.data.feed,
            "timeframe": settings.trading.book.timeframe,
            "bar_end": row.bar_end_at,
            "symbol": row.symbol,
            "dup_no": row.dup_no,
            "expectation": finding.expectation,
            "suite": suite_version(settings.trading.validation),
            "session": row.session_date,
            "severity": finding.severity,
            "message": finding.message,
            "now": now,
        },
    )


def write_manifest(ctx: Context) -> None:
    """Record what the data of this bar are, as of which time its stages read them. Commits.

    While what they may read stays the same, so does that time. Another one is later than every change so far.
    """
    with ctx.conn.transaction():
        stamp = selection.next_stamp(ctx.conn, ctx.record.source, ctx.now)
        found = _manifest(ctx)
        before = ctx.conn.execute(stored.SQL["manifest"], ctx.key).fetchone()
        if before is None or before[1:] != (found["hash"], found["window_hash"], found["manifest"]):
            where = {"book": ctx.book, "bar_end": ctx.bar_end_at, "session": ctx.session_date, "as_of": stamp.at}
            ctx.conn.execute(stored.SQL["add_manifest"], {**where, **found})
            selection.set_clock(ctx.conn, ctx.record.source, stamp.at)
    ctx.conn.commit()


def _manifest(ctx: Context) -> dict[str, object]:
    """Return hashes and counts of what this bar's stages may read: bars as far as they look back, actions up to the
    next session."""
    record, conn = ctx.record, ctx.conn
    members = market.and_held(stored.read_universe(conn, record.universe), held_instruments(ctx))
    rules = market.rules(ctx.settings)
    instruments, rows = [m.instrument for m in members], market.window_rows(ctx.settings, rules)
    panel = market.read_panel(
        conn,
        timeframe=record.timeframe,
        source=record.source,
        instruments=instruments,
        ends=market.bar_ends_until(ctx.calendar, ctx.bar_end_at, record.timeframe, rows),
        series=market.series_of(rules),
    )
    actions = stored.read_actions(
        conn,
        source=record.source,
        instruments=[i.instrument_id for i in instruments],
        after=ctx.calendar.previous_session(ctx.session_date),
        until=ctx.calendar.next_session(ctx.session_date),
    )
    bar = panel.rows(rows - 1, rows)
    found: dict[str, object] = {
        "source": record.source,
        "hash": hash_of(
            [a.tolist() for a in (bar.open, bar.high, bar.low, bar.close, bar.volume)],
            [(a.instrument_id, str(a.ex_date), a.kind, a.ratio_num, a.ratio_den, a.dividend_e6) for a in actions],
        ),
        "bars": int(bar.traded.sum()),
        "actions": len(actions),
        "window_hash": provenance.data_hash(panel),
        "window_bars": int(panel.traded.sum()),
    }
    sources = stored.bars_by_source(conn, timeframe=record.timeframe, panel=panel, source=record.source)
    return {**found, "sources": json.dumps(sources), "manifest": hash_of(found, sources)}
