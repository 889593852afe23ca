"""A day from the database, as known at a time, and what happened on it, in the records of day.py. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import psycopg

from tradecore import configurations, corrections, market, provenance
from tradecore.bars import Panel
from tradecore.config_models import Trading
from tradecore.context import Context
from tradecore.decision import past_scores
from tradecore.errors import BookError, ConfigError
from tradecore.model import STATE_NAMES, Instrument
from tradecore.research.replay.day import Day, Record, score_e9
from tradecore.risk.plan import throttle_bars
from tradecore.settings import Settings
from tradecore.settlement import bar_as_of
from tradecore.storage import bars as stored
from tradecore.storage import books
from tradecore.storage.bars import Member
from tradecore.storage.books import Axes
from tradecore.units import PRICE_SCALE, QTY_SCALE, to_ns, to_quanta

SQL = configurations.SQL


@dataclass(frozen=True, slots=True, kw_only=True)
class Then:
    """What is written down about a bar: the state it left, and the newest decision on it, if any."""

    state_hash: str
    session_date: date
    as_of: datetime | None  # as of when the decision read data; None: of before this was kept
    settled_as_of: datetime | None  # and settle
    version: int  # 0: no decision
    config_hash: str
    code_hash: str
    data_hash: str
    planned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A day to compute, with the settings for it; what happened; and the data hash as computed now, '' for none."""

    day: Day
    settings: Settings
    then: Then
    happened: Record
    data_hash: str
    config_kept: bool  # whether the configuration of then was kept


@contextmanager
def reading_only(conn: psycopg.Connection) -> Any:
    """Hold one snapshot in which nothing can be written, and end it."""
    conn.commit()
    conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        yield
    finally:
        conn.rollback()


def then_of(ctx: Context) -> Then:
    """Return what is written down about a bar. Raises BookError where the book has not settled it."""
    state = ctx.conn.execute(SQL["state"], ctx.key).fetchone()
    if state is None or ctx.bar_end_at <= ctx.record.inception_at:
        raise BookError(
            f"book {ctx.book!r} has not settled the bar of {ctx.bar_end_at:%Y-%m-%d %H:%M} UTC.",
            next_step="replay a session that it has run: python -m tradecore status names the last",
            book=ctx.book,
        )
    decision = ctx.conn.execute(SQL["decision"], ctx.key).fetchone()
    version, data, config, code, as_of, planned = decision or (0, "", state[2], "", state[1], False)
    return Then(
        state_hash=state[0],
        session_date=state[6],
        as_of=as_of or state[1],
        settled_as_of=state[1],
        version=version,
        config_hash=config,
        code_hash=code,
        data_hash=data,
        planned=bool(planned),
    )


def read(
    ctx: Context,
    *,
    as_of: datetime | None = None,
    as_now: bool = False,
    trading: Trading | None = None,
    happened_failures: bool = True,
) -> Found:
    """Read a bar of a book as it was known when it was decided on, or at as_of, or (as_now) as it is known now.

    trading: another configuration than that of then. happened_failures: a strategy that failed then counts as failed.
    Raises BookError for a bar without a state, ConfigError for a configured name that the database does not know.
    """
    then = then_of(ctx)
    kept = configurations.find(ctx.conn, then.config_hash)
    settings = ctx.settings.model_copy(update={"trading": trading or kept or ctx.settings.trading})
    ctx = replace(ctx, settings=settings)
    at = None if as_now else (as_of or then.as_of)
    rules = market.rules(settings)
    members = _members(ctx, then.session_date)
    axes = books.held_axes(
        ctx.conn,
        ctx.book,
        ctx.previous_bar_end,
        ctx.bar_end_at,
        instruments=[m.instrument.instrument_id for m in members],
        strategies=[r.name for r in rules],
    )
    instruments = _instruments(ctx.conn, axes, members)
    panel = market.read_panel(
        ctx.conn,
        timeframe=ctx.record.timeframe,
        source=ctx.record.source,
        instruments=instruments,
        ends=market.bar_ends_until(
            ctx.calendar, ctx.bar_end_at, ctx.record.timeframe, market.window_rows(settings, rules)
        ),
        as_of=at,
        series=market.series_of(rules),
    )
    bar = bar_as_of(ctx, instruments, members, at)
    met = bar
    if at == then.as_of != then.settled_as_of:
        met = bar_as_of(ctx, instruments, members, then.settled_as_of)
    as_then = trading is None and not as_now and as_of is None
    happened, failed = _happened(ctx, then, rules if as_then else (), panel)
    after = books.load(ctx.conn, ctx.book, ctx.bar_end_at, axes, with_planned=False, back_then=True)
    before = _before(ctx, axes)
    following, later = _following(ctx, instruments, members, as_now)
    if later is not None:
        happened["next"] = later
    if before is None:
        happened.pop("settle")
    day = Day(
        book=ctx.book,
        bar_end_at=ctx.bar_end_at,
        axes=axes,
        panel=panel,
        bar=bar,
        met=met,
        before=before,
        after=after.book,
        after_hash=then.state_hash,
        ended=_ended(ctx, after.order_ids),
        failed=tuple(failed) if happened_failures else (),
        decided=then.version > 0,
        past=past_scores(ctx, axes, throttle_bars(settings.trading)),
        following=following,
    )
    data = provenance.data_hash(panel, market.bar_row(bar, 1)) if then.version and trading is None else ""
    return Found(day=day, settings=settings, then=then, happened=happened, data_hash=data, config_kept=kept is not None)


def _before(ctx: Context, axes: Axes) -> Any:
    """Return the book before the bar with the orders that met it; None at a real venue, whose fills are facts."""
    if ctx.record.kind != "simulated":
        return None
    book = books.load(ctx.conn, ctx.book, ctx.previous_bar_end, axes, with_planned=True, back_then=True).book
    return corrections.apply_stored(ctx.conn, ctx.book, ctx.bar_end_at, book, axes)


def _ended(ctx: Context, known: dict[tuple[int, int], str]) -> tuple[tuple[int, int], ...]:
    """Return the keys of orders that the bar left working and that had ended before the decision."""
    left = ctx.conn.execute(SQL["carried_keys"], ctx.key).fetchall()
    keys = [(to_ns(r[0]), int(r[1])) for r in left]
    return tuple(key for key in keys if key not in known)


def _members(ctx: Context, day: date) -> list[Member]:
    """Return the configured universe with the database's ids, as `sync_members` would."""
    configured = ctx.settings.trading.universe.members
    rows = ctx.conn.execute(SQL["symbols"], {"symbols": list(configured), "day": day}).fetchall()
    ids = {str(symbol): int(instrument) for symbol, instrument in rows}
    unknown = sorted(set(configured) - set(ids))
    if unknown:
        raise ConfigError(
            f"the database has never heard of {', '.join(unknown)}.",
            next_step="load its bars first: python -m tradecore load-history, with that configuration",
            symbols=unknown,
        )
    found = [
        Member(
            instrument=Instrument(
                instrument_id=ids[symbol],
                symbol=symbol,
                tick_e4=to_quanta(m.tick_usd, PRICE_SCALE),
                qty_step_e6=to_quanta(m.qty_step_shares, QTY_SCALE),
            ),
            member_from=m.due_from or ctx.calendar.first_session,
            member_to=m.member_to,
        )
        for symbol, m in configured.items()
    ]
    return sorted(found, key=lambda m: m.instrument.instrument_id)


def _instruments(conn: psycopg.Connection, axes: Axes, members: Sequence[Member]) -> list[Instrument]:
    mine = {m.instrument.instrument_id: m.instrument for m in members}
    known = {**stored.instruments_by_id(conn, [i for i in axes.instruments if i not in mine]), **mine}
    return [known[i] for i in axes.instruments]


def _following(ctx: Context, instruments: list[Instrument], members: list[Member], as_now: bool) -> tuple[Any, Any]:
    """Return the next bar as it was settled, and what it left; (None, None) where the book has not come to it."""
    state = ctx.conn.execute(SQL["state"], (ctx.book, ctx.next_bar_end)).fetchone()
    if state is None:
        return None, None
    end = ctx.next_bar_end
    after = replace(ctx, bar_end_at=end, session_date=ctx.calendar.session_of(end))
    return bar_as_of(after, instruments, members, None if as_now else state[1]), _account(state)


def _account(state: Sequence[Any]) -> Record:
    return {"cash_e4": state[3], "equity_e4": state[4], "state": STATE_NAMES[state[5]]}


def _happened(ctx: Context, then: Then, rules: Sequence[market.Rule], panel: Panel) -> tuple[Record, list[str]]:
    """Return what is written down about the bar as records, and the strategies that counted as failed.

    rules: those of then, with the panel of then, where they are known: risk counts more than a raised error as failed.
    """
    conn, key = ctx.conn, ctx.key
    state = conn.execute(SQL["state"], key).fetchone()
    assert state is not None  # then_of has read it
    fills = [[str(r[0]), *r[1:]] for r in conn.execute(SQL["fills"], key).fetchall()]
    out: Record = {"settle": {"state_hash": state[0], **_account(state), "fills": fills}}
    if not then.version:
        return out, []
    out["data"] = then.data_hash
    out["signal"], failed = _signal(ctx, rules, panel)
    out["risk"] = _risk(ctx, then.version)
    if then.planned:
        lines = conn.execute(SQL["lines"], (*key, then.version)).fetchall()
        cancels = conn.execute(SQL["cancels"], (*key, then.version)).fetchall()
        out["plan"] = {
            "orders": {str(r[0]): list(r[1:]) for r in lines},
            "cancels": sorted([to_ns(r[0]), r[1]] for r in cancels),
        }
    return out, failed


def _signal(ctx: Context, rules: Sequence[market.Rule], panel: Panel) -> tuple[Record, list[str]]:
    """Return the scores of then. A strategy failed that raised, left no record, or one of other bars (risk's rule)."""
    from tradecore.decision import SQL as DECISIONS

    runs = {r[0]: r for r in ctx.conn.execute(DECISIONS["strategy_runs"], ctx.key).fetchall()}
    found: Record = {}
    for strategy, instrument, score in ctx.conn.execute(DECISIONS["signals"], ctx.key).fetchall():
        found.setdefault(strategy, {})[str(instrument)] = score_e9(score)
    failed = [name for name, run in runs.items() if not run[1]]
    for rule in rules:
        run = runs.get(rule.name)
        if run is None or (run[1] and run[4] != provenance.data_hash(market.window_of(rule, panel))):
            failed.append(rule.name)
    out = {name: None if name in failed else found.get(name, {}) for name in sorted({*runs, *failed})}
    return out, failed


def _risk(ctx: Context, version: int) -> Record:
    from tradecore.decision import SQL as DECISIONS

    rows = ctx.conn.execute(DECISIONS["targets"], (*ctx.key, version)).fetchall()
    shares = ctx.conn.execute(books.SQL["contributions"], (*ctx.key, version)).fetchall()
    return {
        "targets": {str(r[0]): [r[1], r[2], r[3]] for r in rows},
        "contributions": {f"{r[0]} {r[1]}": r[2] for r in shares},
    }
