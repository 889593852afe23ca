"""Feed to versions to validated bars: one session in production, a range when history is loaded. The same code."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TypeVar

import numpy as np
import psycopg

from tradecore import market, operations
from tradecore.bars import Panel
from tradecore.context import Context, feed_of
from tradecore.errors import ConfigError, FeedError
from tradecore.feeds.base import BarBatch, CorporateAction, SymbolFailure, make_rows
from tradecore.model import Instrument
from tradecore.provenance import hash_of
from tradecore.sessions import Calendar
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.storage import selection
from tradecore.storage.bars import Action, Member, Quality, VersionRow
from tradecore.units import PRICE_SCALE, from_day, to_ns
from tradecore.validation import (
    CheckRow,
    SessionCheck,
    SessionVerdict,
    check_rows,
    content_hash,
    suite_version,
    validate,
)

VERSION_DTYPE = np.dtype(
    [
        ("instrument_id", "i4"),
        ("bar_end_ns", "i8"),
        ("dup_no", "i2"),
        ("known_ns", "i8"),
        ("assumed", "?"),
        ("session_day", "i4"),
        ("open", "f8"),
        ("high", "f8"),
        ("low", "f8"),
        ("close", "f8"),
        ("volume", "f8"),
    ]
)
SESSIONS_A_BLOCK = 260
Progress = Callable[[str], None]
Recorded = TypeVar("Recorded", VersionRow, Action)


def ingest_range(
    settings: Settings,
    conn: psycopg.Connection,
    calendar: Calendar,
    *,
    first: date,
    last: date,
    actions_until: date,
    now: datetime,
    symbols: Sequence[str] | None = None,
    held: Sequence[Instrument] = (),
    assumed: bool = False,
) -> dict[str, object]:
    """Fetch bars first..last and the actions up to actions_until; append what is new. Commits.

    held: what the book holds, asked for also where it has left the universe. assumed (a bulk load): known_at is the
    bar's end + publication lag, or an action's ex-date, not the clock.
    """
    trading, names = settings.trading, _due(settings, calendar, first, last, symbols)
    left = [i.symbol for i in held if i.symbol not in names]
    if not names and not left:
        return {"versions": 0, "actions": 0, "symbols": 0}
    # all is fetched before anything is written: a feed that fails leaves no trace
    batch, fetched = _fetch(settings, calendar, names, left, first, last, actions_until)
    actions = _one_a_day(fetched)
    lag_ns = trading.data.publication_lag_minutes * 60 * 1_000_000_000
    with conn.transaction():
        members = _and_held(market.sync_members(conn, settings, calendar), held)
        ids = {m.instrument.symbol: m.instrument.instrument_id for m in members}
        _quarantine_rejects(conn, settings, batch, now)
        changed = stored.append_versions(
            conn,
            timeframe=trading.book.timeframe,
            source=trading.data.feed,
            rows=_versions(batch, ids, to_ns(now), lag_ns if assumed else None),
            now=now,
        )
        new = stored.append_actions(
            conn,
            source=trading.data.feed,
            assumed=assumed,
            now=now,
            actions=[
                Action(
                    instrument_id=ids[a.symbol],
                    ex_date=a.ex_date,
                    kind=a.kind,
                    ratio_num=a.ratio_num,
                    ratio_den=a.ratio_den,
                    dividend_e6=a.dividend_e6,
                    pay_date=a.pay_date,
                    known_at=_action_known_at(calendar, a.ex_date) if assumed else now,
                )
                for a in actions
            ],
        )
        _refresh_after(conn, settings, new)
    conn.commit()
    return {
        "versions": len(changed),
        "sessions": [str(d) for d in changed[-3:]],
        "actions": len(new),
        "symbols": len(names) + len(left),
        "rejects": len(batch.rejects),
        "failures": [f"{f.symbol}: {f.error.message}" for f in batch.failures],
    }


def _due(settings: Settings, calendar: Calendar, first: date, last: date, symbols: Sequence[str] | None) -> list[str]:
    """Return the members due at any time in a range. Raises ConfigError for a symbol that is no member."""
    members = settings.trading.universe.members
    unknown = sorted(set(symbols or ()) - set(members))
    if unknown:
        close = difflib.get_close_matches(unknown[0], list(members), n=1, cutoff=0.4)
        raise ConfigError(
            f"{', '.join(unknown)} is not in the universe: {', '.join(sorted(members))}.",
            next_step=(f"did you mean {close[0]}? " if close else "")
            + f"To add it: universe.members in {settings.config_path.name}",
            symbols=unknown,
        )
    return [
        symbol
        for symbol, m in members.items()
        if (m.due_from or calendar.first_session) <= last
        and (m.member_to is None or first < m.member_to)
        and (symbols is None or symbol in symbols)
    ]


def _fetch(
    settings: Settings,
    calendar: Calendar,
    names: Sequence[str],
    left: Sequence[str],
    first: date,
    last: date,
    actions_until: date,
) -> tuple[BarBatch, list[CorporateAction]]:
    """Return bars and actions from the feed. A name that left is asked for alone: it may be served no more."""
    feed, timeframe = feed_of(settings), settings.trading.book.timeframe
    batches, actions, failures = list[BarBatch](), list[CorporateAction](), list[SymbolFailure]()
    if names:
        batches.append(feed.bars(names, timeframe, first, last, calendar))
        actions += feed.actions(names, first, actions_until)
    for symbol in left:
        try:
            batch = feed.bars([symbol], timeframe, first, last, calendar)
            mine = feed.actions([symbol], first, actions_until)
        except FeedError as error:
            failures.append(SymbolFailure(symbol=symbol, error=error))
        else:
            batches.append(batch)
            actions += mine
    whole = BarBatch(
        rows=np.concatenate([b.rows for b in batches]) if batches else make_rows(()),
        rejects=tuple(r for b in batches for r in b.rejects),
        failures=tuple(f for b in batches for f in b.failures) + tuple(failures),
    )
    return whole, actions


def _and_held(members: Sequence[Member], held: Sequence[Instrument]) -> tuple[Member, ...]:
    """Return the universe, and behind it what the book holds of names that were taken out: due on no day."""
    known = {m.instrument.instrument_id for m in members}
    gone = [Member(instrument=i, member_from=date.max, member_to=None) for i in held if i.instrument_id not in known]
    return (*members, *gone)


def _one_a_day(actions: Iterable[CorporateAction]) -> list[CorporateAction]:
    """Return one action per symbol, ex-date and kind: copies count once, dividends add up, splits multiply.

    Dividends of one ex-date with different pay dates are paid on the latest: never early.
    """
    out: dict[tuple[str, date, str], CorporateAction] = {}
    for a in dict.fromkeys(actions):
        key = (a.symbol, a.ex_date, a.kind)
        if (b := out.get(key)) is None:
            out[key] = a
            continue
        pay_dates = [d for d in (a.pay_date, b.pay_date) if d is not None]
        out[key] = replace(
            a,
            ratio_num=a.ratio_num * b.ratio_num,
            ratio_den=a.ratio_den * b.ratio_den,
            dividend_e6=a.dividend_e6 + b.dividend_e6,
            pay_date=max(pay_dates, default=None),
        )
    return list(out.values())


def _action_known_at(calendar: Calendar, ex_date: date) -> datetime:
    """A bulk-loaded action counts as known at the close before its ex-date."""
    return (
        calendar.session(calendar.previous_session(ex_date)).close_at
        if calendar.is_session(ex_date)
        else datetime.combine(
            ex_date, datetime.min.time(), tzinfo=calendar.session(calendar.last_session).close_at.tzinfo
        )
    )


def _refresh_after(conn: psycopg.Connection, settings: Settings, new: Sequence[Action]) -> None:
    """Actions learned after their bars were selected change the factors behind them."""
    since: dict[int, datetime] = {}
    for action in new:
        at = datetime.combine(action.ex_date, datetime.min.time(), tzinfo=UTC)
        since[action.instrument_id] = min(at, since.get(action.instrument_id, at))
    if since:
        selection.refresh_factors(
            conn, timeframe=settings.trading.book.timeframe, source=settings.trading.data.feed, since=since
        )


def _versions(batch: BarBatch, ids: dict[str, int], now_ns: int, lag_ns: int | None) -> np.ndarray:
    """Return the batch's rows as version rows; a repeated key counts up dup_no."""
    rows = batch.rows
    out = np.zeros(rows.size, VERSION_DTYPE)
    names, index = np.unique(rows["symbol"], return_inverse=True)
    out["instrument_id"] = np.array([ids[str(s)] for s in names], np.int32)[index] if rows.size else 0
    out["bar_end_ns"], out["session_day"] = rows["bar_end_ns"], rows["session_date"].astype("M8[D]").astype(np.int64)
    out["assumed"] = lag_ns is not None
    out["known_ns"] = rows["bar_end_ns"] + lag_ns if lag_ns is not None else now_ns
    for name in ("open", "high", "low", "close", "volume"):
        out[name] = rows[name]
    seen: dict[tuple[int, int], int] = defaultdict(int)
    keys = out[["instrument_id", "bar_end_ns"]]
    if np.unique(keys).size != keys.size:
        for k, (instrument, ns) in enumerate(keys.tolist()):
            out["dup_no"][k] = seen[instrument, ns]
            seen[instrument, ns] += 1
    return out


def _quarantine_rejects(conn: psycopg.Connection, settings: Settings, batch: BarBatch, now: datetime) -> None:
    """Keep every line that is no bar, with the reason."""
    for reject in batch.rejects:
        conn.execute(
            stored.SQL["add_quarantine"],
            {
                "source": settings.trading.data.feed,
                "timeframe": settings.trading.book.timeframe,
                "symbol": reject.symbol,
                "session": reject.session_date,
                "record": f"line {reject.line_no}: {reject.raw}"[:2000],
                "expectation": "readable_record",
                "message": reject.reason,
                "now": now,
            },
        )


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
) -> dict[str, object]:
    """Validate each bar end whose newest content this suite has not judged; select what passed. Commits.

    held: what the book holds is checked like a member, and counts for nothing where it has left the universe.
    """
    trading = settings.trading
    with conn.transaction():
        members = _and_held(market.sync_members(conn, settings, calendar), held)
        checks, versions = _checks(settings, conn, calendar, members, sessions)
        fresh = [c for c in checks if not _judged(conn, settings, c)]
        failed = written = 0
        if fresh:
            verdicts = validate(fresh, trading.validation)
            written, kept = _select(conn, settings, members, verdicts, versions)
            for verdict in verdicts:
                failed += _record(conn, settings, verdict, kept, now)
            _alert_kept(settings, conn, kept, now)
    conn.commit()
    return {"validated": len(fresh), "known": len(checks) - len(fresh), "rows_failed": failed, "bars": written}


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
    repeats = trading.validation.stale_repeat_bars
    before = market.bar_ends_until(
        calendar, calendar.previous_bar_end(ends[0][1], timeframe), timeframe, max(1, repeats)
    )
    panel = market.read_panel(conn, timeframe=timeframe, source=source, instruments=instruments, ends=before)
    actions = stored.read_actions(conn, source=source, instruments=ids, after=before[0][0], until=sessions[-1])
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
            due=tuple(m.instrument.symbol for m in members if m.due(d)),
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
    conn: psycopg.Connection, settings: Settings, verdict: SessionVerdict, kept: Sequence[CheckRow], now: datetime
) -> int:
    """Store a verdict and its quarantine; return how many rows failed."""
    trading, check = settings.trading, verdict.check
    for finding in verdict.findings:
        r = finding.row
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


def write_manifest(ctx: Context) -> None:
    """Record what this bar's data are, as known now. Commits."""
    members = stored.read_universe(ctx.conn, ctx.record.universe)
    panel = market.read_panel(
        ctx.conn,
        timeframe=ctx.record.timeframe,
        source=ctx.record.source,
        instruments=[m.instrument for m in members],
        ends=[(ctx.session_date, ctx.bar_end_at)],
    )
    actions = stored.read_actions(
        ctx.conn,
        source=ctx.record.source,
        instruments=[m.instrument.instrument_id for m in members],
        after=ctx.calendar.previous_session(ctx.session_date),
        until=ctx.calendar.next_session(ctx.session_date),
    )
    digest = hash_of(
        [a.tolist() for a in (panel.open, panel.high, panel.low, panel.close, panel.volume)],
        [(a.instrument_id, str(a.ex_date), a.kind, a.ratio_num, a.ratio_den, a.dividend_e6) for a in actions],
    )
    ctx.conn.execute(
        stored.SQL["add_manifest"],
        {
            "book": ctx.book,
            "bar_end": ctx.bar_end_at,
            "session": ctx.session_date,
            "as_of": ctx.now,
            "hash": digest,
            "bars": int(panel.traded.sum()),
            "actions": len(actions),
            "source": ctx.record.source,
        },
    )
    ctx.conn.commit()


def load_history(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    first: date,
    last: date,
    now: datetime,
    symbols: Sequence[str] | None = None,
    progress: Progress = lambda text: None,
) -> dict[str, object]:
    """Load a range and validate it in blocks of a year; what was loaded and judged before costs a look."""
    from tradecore.context import book_calendar

    calendar = book_calendar(settings)
    sessions = calendar.sessions_in_range(first, last)
    progress(f"fetching {len(sessions)} sessions")
    result = ingest_range(
        settings,
        conn,
        calendar,
        first=sessions[0],
        last=sessions[-1],
        actions_until=calendar.next_session(sessions[-1]),
        now=now,
        symbols=symbols,
        assumed=True,
    )
    totals = {"validated": 0, "known": 0, "rows_failed": 0, "bars": 0}
    for start in range(0, len(sessions), SESSIONS_A_BLOCK):
        block = sessions[start : start + SESSIONS_A_BLOCK]
        progress(f"validating {block[0]} to {block[-1]}")
        for key, value in validate_range(settings, conn, calendar, sessions=block, now=now).items():
            totals[key] += int(str(value))
    return {**result, **totals}
