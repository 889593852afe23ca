"""Feed to versions, as the vendor gave them: one session in production, a range when history is loaded."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from tradecore import arbitration, market, validating
from tradecore.errors import ConfigError, FeedError, MalformedData, SessionError
from tradecore.feeding import feed_of
from tradecore.feeds.base import BarBatch, CorporateAction, SymbolFailure, make_rows
from tradecore.model import Instrument
from tradecore.sessions import Calendar
from tradecore.settings import Settings
from tradecore.storage import arbitrations, rollups, selection
from tradecore.storage import bars as stored
from tradecore.storage.bars import Action
from tradecore.storage.selection import Stamp
from tradecore.symbols import SQL as NAMES
from tradecore.symbols import DatedName, apply_changes, current, dated_names, renamed
from tradecore.units import to_ns

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
    dated = dated_names(conn, names, first, last)
    conn.rollback()
    # all is fetched before anything is written: a feed that fails leaves no trace
    when: dict[str, Any] = {"first": first, "last": last, "now": now, "assumed": assumed}
    failed: FeedError | None = None
    try:
        batch, fetched = _fetch(settings, conn, calendar, dated, left, first, last, actions_until)
    except FeedError as error:
        batch, fetched = arbitration.instead(
            settings, conn, calendar, error, [*names, *left], actions_until=actions_until, **when
        )
        failed = error
    fetched += _asked_again(settings, conn, dated, batch, fetched, first, last, actions_until)
    try:
        opinion = arbitration.consult(settings, conn, calendar, batch, fetched, names, **when)
    except FeedError as error:  # the second's, where the first gave nothing
        raise failed or error from error
    conn.rollback()
    lag = trading.data.publication_lag_minutes * 60 * 1_000_000_000 if assumed else None
    with conn.transaction():
        members = market.and_held(market.sync_members(conn, settings, calendar), held)
        ids = {m.instrument.symbol: m.instrument.instrument_id for m in members}
        ids |= {d.name: ids[d.current] for d in dated if d.current in ids}
        _quarantine_rejects(conn, settings, batch, now)
        changed = stored.append_versions(
            conn,
            timeframe=trading.book.timeframe,
            source=trading.data.feed,
            rows=_versions(batch, ids, to_ns(now), lag),
            now=now,
        )
        second = _versions(BarBatch(rows=opinion.rows if opinion else make_rows(())), ids, to_ns(now), lag)
        judged = arbitration.keep(settings, conn, calendar, opinion, ids, second, first=first, last=last, now=now)
        stamp = selection.next_stamp(conn, trading.data.feed, now)
        actions = [
            Action(
                instrument_id=ids[a.symbol],
                ex_date=a.ex_date,
                kind=a.kind,
                ratio_num=a.ratio_num,
                ratio_den=a.ratio_den,
                dividend_e6=a.dividend_e6,
                pay_date=a.pay_date,
                known_at=_action_known_at(calendar, a.ex_date, stamp) if assumed else stamp.at,
                new_symbol=a.new_symbol,
            )
            for a in _one_a_day(fetched)
        ]
        new = stored.append_actions(conn, source=trading.data.feed, assumed=assumed, now=stamp.at, actions=actions)
        gone = stored.withdraw_actions(
            conn,
            source=trading.data.feed,
            instruments=[ids[s] for s in _served(batch)],
            first=first,
            last=actions_until,
            kept=actions,
            now=stamp.at,
        )
        if failed:
            arbitration.tell_of_failure(settings, conn, failed, last, now)
        if failed and new:
            _name_the_giver(settings, conn, new, min(a.known_at for a in new))
        apply_changes(settings, conn, new, gone, now)
        _refresh_after(conn, settings, [*new, *gone], stamp.at)
    conn.commit()
    rollups.catch_up_quietly(conn)
    return {
        "versions": len(changed),
        "rows": int(batch.rows.size),
        "sessions": [str(d) for d in changed[-3:]],
        "actions": len(new),
        "withdrawn": len(gone),
        "symbols": len(names) + len(left),
        "rejects": len(batch.rejects),
        "failures": [f"{f.symbol}: {f.error.message}" for f in batch.failures],
        **({"arbitration": judged} if judged else {}),
    }


def _name_the_giver(settings: Settings, conn: psycopg.Connection, new: Sequence[Action], since: datetime) -> None:
    """Write down that the second vendor told of new actions, in the place of the first."""
    second = settings.trading.data.second
    lists = {"instruments": [a.instrument_id for a in new], "ex_dates": [a.ex_date for a in new]}
    where = {"source": settings.trading.data.feed, "second": second.feed if second else "", "since": since}
    conn.execute(arbitrations.SQL["given_by"], {**where, **lists, "kinds": [a.kind for a in new]})


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
    conn: psycopg.Connection,
    calendar: Calendar,
    dated: Sequence[DatedName],
    left: Sequence[str],
    first: date,
    last: date,
    actions_until: date,
) -> tuple[BarBatch, list[CorporateAction]]:
    """Return bars, under the names of now, and actions from the feed. A name that left is asked for alone: it may be
    served no more; so is one that an instrument had in a part of the range, where the vendor may know its last alone.
    """
    feed, timeframe = feed_of(settings, conn), settings.trading.book.timeframe
    batches, actions, failures = list[BarBatch](), list[CorporateAction](), list[SymbolFailure]()
    names = {d.name: d.current for d in dated if d.until is None or d.until > last}
    if names:
        batches.append(_renamed(feed.bars(list(names), timeframe, first, last, calendar), names))
        actions += feed.actions(list(names), first, actions_until)
    former = [(d.name, d.current, d.until) for d in dated if d.until is not None and d.until <= last]
    for symbol, now_called, until in [*((s, s, None) for s in left), *former]:
        end = last if until is None else calendar.previous_session(until)
        try:
            batch = feed.bars([symbol], timeframe, first, end, calendar)
            mine = feed.actions([symbol], first, actions_until if until is None else until)
        except FeedError as error:
            if until is None or not _has(batches, now_called, end):
                failures.append(SymbolFailure(symbol=symbol, error=error))
        else:
            batches.append(_only_new(_renamed(batch, {symbol: now_called}), batches))
            actions += mine
    whole = BarBatch(
        rows=np.concatenate([b.rows for b in batches]) if batches else make_rows(()),
        rejects=tuple(r for b in batches for r in b.rejects),
        failures=tuple(f for b in batches for f in b.failures) + tuple(failures),
    )
    return whole, actions


def _renamed(batch: BarBatch, names: Mapping[str, str]) -> BarBatch:
    """Return a batch under the names of now."""
    if all(old == new for old, new in names.items()):
        return batch
    rows = batch.rows.copy()
    rows["symbol"] = [names.get(s, s) for s in rows["symbol"].tolist()]
    return replace(
        batch, rows=rows, rejects=tuple(replace(r, symbol=names.get(r.symbol, r.symbol)) for r in batch.rejects)
    )


def _has(batches: Sequence[BarBatch], symbol: str, last: date) -> bool:
    """Tell whether there are bars of a symbol up to a day."""
    return any(((b.rows["symbol"] == symbol) & (b.rows["session_date"] <= np.datetime64(last))).any() for b in batches)


def _only_new(batch: BarBatch, batches: Sequence[BarBatch]) -> BarBatch:
    """Return a batch without the bars that others have: a vendor may serve the same ones under both names."""
    known = {key for b in batches for key in b.rows[["symbol", "bar_end_ns"]].tolist()}
    keep = [key not in known for key in batch.rows[["symbol", "bar_end_ns"]].tolist()]
    return replace(batch, rows=batch.rows[np.array(keep, np.bool_)])


def _asked_again(
    settings: Settings,
    conn: psycopg.Connection,
    dated: Sequence[DatedName],
    batch: BarBatch,
    fetched: Iterable[CorporateAction],
    first: date,
    last: date,
    until: date,
) -> list[CorporateAction]:
    """Return what the feed tells, asked once more, of actions that it did not tell any more: an answer may be
    incomplete, and what is not in this one either counts as withdrawn.
    """
    ids: dict[str, int] = dict(conn.execute(NAMES["instruments_of"], {"symbols": _served(batch)}).fetchall())
    called = {d.name: d.current for d in dated}
    told = {(ids.get(called.get(a.symbol, a.symbol)), a.ex_date, a.kind) for a in fetched}
    known = stored.read_actions(
        conn,
        source=settings.trading.data.feed,
        instruments=list(ids.values()),
        after=first - timedelta(days=1),
        until=until,
    )
    silent = {a.instrument_id for a in known if (a.instrument_id, a.ex_date, a.kind) not in told}
    names = [d.name for d in dated if ids.get(d.current, 0) in silent and (d.until is None or d.until > last)]
    return list(feed_of(settings, conn).actions(names, first, until)) if names else []


def _served(batch: BarBatch) -> list[str]:
    """Return the symbols whose actions an answer tells in full: those that it has bars of, and no failure."""
    failed = {f.symbol for f in batch.failures}
    return [str(s) for s in np.unique(batch.rows["symbol"]) if str(s) not in failed]


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
        if a.kind in ("delisting", "symbol_change"):
            raise MalformedData(
                f"{a.symbol} {a.ex_date}: two different {a.kind} actions; nobody knows which is right.",
                next_step="Correct the source: a name ends, or changes, once a day.",
                symbol=a.symbol,
                ex_date=a.ex_date,
            )
        pay_dates = [d for d in (a.pay_date, b.pay_date) if d is not None]
        out[key] = replace(
            a,
            ratio_num=a.ratio_num * b.ratio_num,
            ratio_den=a.ratio_den * b.ratio_den,
            dividend_e6=a.dividend_e6 + b.dividend_e6,
            pay_date=max(pay_dates, default=None),
        )
    return list(out.values())


def _action_known_at(calendar: Calendar, ex_date: date, stamp: Stamp) -> datetime:
    """A bulk-loaded action counts as known at the close before its ex-date; one that decisions looked for, from now."""
    decided = stamp.decided_until
    if decided is not None and ex_date <= calendar.next_session(calendar.session_of(decided)):
        return stamp.at
    if calendar.is_session(ex_date):
        return min(stamp.at, calendar.session(calendar.previous_session(ex_date)).close_at)
    return min(stamp.at, datetime.combine(ex_date, datetime.min.time(), tzinfo=UTC))


def _refresh_after(conn: psycopg.Connection, settings: Settings, new: Sequence[Action], at: datetime) -> None:
    """Actions learned after their bars were selected change the factors behind them."""
    since: dict[int, datetime] = {}
    for action in new:
        start = datetime.combine(action.ex_date, datetime.min.time(), tzinfo=UTC)
        since[action.instrument_id] = min(start, since.get(action.instrument_id, start))
    if since:
        timeframe, source = settings.trading.book.timeframe, settings.trading.data.feed
        selection.refresh_factors(conn, timeframe=timeframe, source=source, since=since, at=at)
        selection.set_clock(conn, source, at)


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


def load_history(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    first: date,
    last: date,
    now: datetime,
    symbols: Sequence[str] | None = None,
    progress: Progress = lambda text: None,
    actions_until: date | None = None,
) -> dict[str, object]:
    """Load a range and validate it in blocks of a year; what was loaded and judged before costs a look.

    actions_until: the last ex-date of corporate actions; default: the session after the range.

    Raises SessionError for a range without a session, and what the feed raises.
    """
    from tradecore.context import book_calendar

    settings, calendar = current(settings, conn), book_calendar(settings)
    if symbols is not None:
        names = renamed(conn, symbols)
        symbols = [names.get(s, s) for s in symbols]
    conn.rollback()
    sessions = calendar.sessions_in_range(first, last)
    if not sessions:
        raise SessionError(
            f"there is no session of {calendar.name} from {first} to {last}.",
            next_step="give the earlier session first, and a range that has a trading day in it",
        )
    progress(f"fetching {len(sessions)} sessions")
    result = ingest_range(
        settings,
        conn,
        calendar,
        first=sessions[0],
        last=sessions[-1],
        actions_until=max(calendar.next_session(sessions[-1]), actions_until or sessions[-1]),
        now=now,
        symbols=symbols,
        assumed=True,
    )
    totals = {"validated": 0, "known": 0, "rows_failed": 0, "bars": 0}
    for start in range(0, len(sessions), SESSIONS_A_BLOCK):
        block = sessions[start : start + SESSIONS_A_BLOCK]
        progress(f"validating {block[0]} to {block[-1]}")
        for key, value in validating.validate_range(settings, conn, calendar, sessions=block, now=now).items():
            totals[key] += int(str(value))
    return {**result, **totals}
