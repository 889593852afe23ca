"""Settle: load the book, let the bar happen to it in the kernel, store what came of it. One transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from tradecore import configurations, corrections, market, observation, provenance, venue_bar
from tradecore.backtest import step
from tradecore.context import SETTLED, Context, require_turn
from tradecore.model import (
    CASH,
    END_NAMES,
    EQUITY,
    EV_STATE,
    EVENT_NAMES,
    F_DECIDED_NS,
    F_FEE,
    F_INSTR,
    F_LINE,
    F_OPEN,
    F_PRICE,
    F_QTY,
    F_REM,
    HALTED,
    ORDERED_STATE,
    REDUCING,
    STATE,
    STATE_NAMES,
    Book,
    Instrument,
    Instruments,
    Journal,
    Market,
    StepParams,
)
from tradecore.storage import bars as stored
from tradecore.storage import books
from tradecore.storage.bars import Member
from tradecore.storage.books import Axes, LoadedBook
from tradecore.storage.connection import book_lock
from tradecore.units import from_day, shares, to_day, to_ns, usd


def settle_bar(ctx: Context) -> dict[str, object]:
    """Move the book over this bar, once; a bar that is settled already stays as it is.

    At a real venue what it did is read first, and takes the place of the fill kernel. Raises Unavailable, and then
    nothing has moved.
    """
    real = ctx.record.kind != "simulated"
    settled = ctx.status() in SETTLED
    ctx.conn.rollback()
    if real and not settled:
        observation.observe(ctx)
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        ctx.conn.execute(
            books.SQL["start_run"],
            {"book": ctx.book, "bar_end": ctx.bar_end_at, "session": ctx.session_date, "now": ctx.now},
        )
        if ctx.status() in SETTLED:
            return {"settled": str(ctx.session_date), "already": True}
        require_turn(ctx)
        _expire_unsent(ctx)
        params = step.step_params(ctx.settings.trading.risk, ctx.settings.trading.execution)
        moved = _at_venue(ctx, params) if real else _simulated(ctx, params)
        books.save(
            ctx.conn,
            name=ctx.book,
            bar_end=ctx.bar_end_at,
            session=ctx.session_date,
            book=moved.after,
            axes=moved.axes,
            order_ids=moved.loaded.order_ids,
            as_of=ctx.as_of(),
            config_hash=configurations.keep(ctx.conn, ctx.settings, ctx.now),
            manifest_hash=ctx.manifest_hash(),
        )
        moved.store()
        ctx.set_status("settled")
        _alert_state(ctx, moved.loaded.book, moved.after)
        _alert_stale(ctx, moved.after, moved.axes)
        if not params.shorts:
            _alert_short(ctx, moved.after, moved.axes)
    ctx.conn.commit()
    after, journal = moved.after, moved.journal
    ends = Counter(END_NAMES[int(e[3])] for e in journal.ends)
    return {
        "settled": str(ctx.session_date),
        "fills": int(journal.counts[1]),
        **{k.lower(): v for k, v in ends.items()},
        "cash_usd": str(usd(int(after.acct[CASH]))),
        "equity_usd": str(usd(int(after.acct[EQUITY]))),
        "state": STATE_NAMES[int(after.acct[STATE])],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moved:
    """A book before and after a bar, what happened, and how that is stored."""

    axes: Axes
    loaded: LoadedBook
    after: Book
    journal: Journal
    store: Callable[[], None]


def _simulated(ctx: Context, params: StepParams) -> _Moved:
    """Let the bar happen with the fill kernel's fills."""
    axes = _axes(ctx)
    loaded = books.load(ctx.conn, ctx.book, ctx.previous_bar_end, axes, with_planned=True)
    bar, instruments = load_bar(ctx, axes)
    book, late = corrections.put_right(ctx, loaded.book, axes, instruments)
    after, journal = step.settle(book, market.bar_row(bar, 0), instruments, params)

    def store() -> None:
        _store_fills(ctx, journal, axes, loaded)
        store_events(ctx, journal, axes)
        corrections.store(ctx, late, len(journal.events))

    return _Moved(axes=axes, loaded=loaded, after=step.canonical_book(after), journal=journal, store=store)


def _at_venue(ctx: Context, params: StepParams) -> _Moved:
    """Let the bar happen with what the venue did."""
    done = venue_bar.gather(ctx)
    axes = _axes(ctx, done.instruments, (venue_bar.MANUAL,) if done.by_hand else ())
    loaded = books.load(
        ctx.conn, ctx.book, ctx.previous_bar_end, axes, with_planned=False, at_venue=done.client_order_ids
    )
    venue_bar.book_transfers(ctx, done)
    bar, instruments = load_bar(ctx, axes)
    given = done.given(axes, loaded)
    after, journal = step.settle_given(loaded.book, market.bar_row(bar, 0), given, instruments, params)

    def store() -> None:
        store_events(ctx, journal, axes)
        venue_bar.store(ctx, done, journal, axes, market.bar_row(bar, 0))

    return _Moved(axes=axes, loaded=loaded, after=step.canonical_book(after), journal=journal, store=store)


def _axes(ctx: Context, instruments: Sequence[int] = (), owners: Sequence[str] = ()) -> Axes:
    """Return the axes of the book at this bar, with further instruments and owners of shares behind."""
    members = [m.instrument.instrument_id for m in stored.read_universe(ctx.conn, ctx.record.universe)]
    names = [r.name for r in market.rules(ctx.settings)]
    axes = books.held_axes(
        ctx.conn, ctx.book, ctx.previous_bar_end, instruments=[*members, *instruments], strategies=names
    )
    return replace(axes, strategies=tuple(dict.fromkeys((*axes.strategies, *owners))))


def load_bar(ctx: Context, axes: Axes) -> tuple[Market, Instruments]:
    """Return this bar and the next one's actions as a Market [2, n], and the instruments' ticks and steps."""
    by_id = stored.instruments_by_id(ctx.conn, axes.instruments)
    instruments = [by_id[i] for i in axes.instruments]
    members = stored.read_universe(ctx.conn, ctx.record.universe)
    return bar_as_of(ctx, instruments, members, ctx.as_of()), market.instrument_arrays(instruments)


def bar_as_of(
    ctx: Context, instruments: Sequence[Instrument], members: Sequence[Member], as_of: datetime | None
) -> Market:
    """Return this bar and the next one's actions as a Market [2, n], as known at as_of (None: now)."""
    ids = [i.instrument_id for i in instruments]
    panel = market.read_panel(
        ctx.conn,
        timeframe=ctx.record.timeframe,
        source=ctx.record.source,
        instruments=instruments,
        ends=[(ctx.session_date, ctx.bar_end_at)],
        as_of=as_of,
    )
    until: date = ctx.calendar.session_of(ctx.next_bar_end)
    previous = ctx.calendar.session_of(ctx.previous_bar_end)
    after = previous if previous != ctx.session_date else from_day(int(panel.day[0]))
    where: dict[str, Any] = {"source": ctx.record.source, "instruments": ids, "as_of": as_of}
    actions = stored.read_actions(ctx.conn, **where, after=after, until=until)
    # what was delisted earlier and is still held, because nobody knew, is paid now
    inception = ctx.calendar.session_of(ctx.record.inception_at)
    actions += stored.read_actions(ctx.conn, **where, after=inception, until=after, kind="delisting")
    ns = to_ns(ctx.bar_end_at)
    deposit = ctx.conn.execute(books.SQL["deposits"], ctx.key).fetchone()
    person = ctx.conn.execute(books.SQL["person_state"], ctx.key).fetchone()
    return market.to_market(
        panel,
        actions,
        calendar=ctx.calendar,
        timeframe=ctx.record.timeframe,
        deposits={ns: int(deposit[0])} if deposit else None,
        person_states={ns: int(person[0])} if person else None,
        left_days=dict.fromkeys(ids, to_day(date.min)) if _flattened(ctx) else market.left_days(members, ids),
    )


def _flattened(ctx: Context) -> bool:
    """Tell whether a person has ordered to sell everything, and nobody resumed since."""
    return ctx.conn.execute(books.SQL["flattened"], ctx.key).fetchone() is not None


def _expire_unsent(ctx: Context) -> None:
    """Close the orders for this bar that never reached the venue: their window has passed.

    A crash may leave SUBMITTING behind. The simulated venue has nothing that was not acknowledged; a real one is asked.
    """
    planned = ctx.conn.execute(books.SQL["planned"], (ctx.book, ctx.previous_bar_end)).fetchall()
    before = ("PLANNED", "APPROVED", *(("SUBMITTING",) if ctx.record.kind == "simulated" else ()))
    unsent = [p[0] for p in planned if p[11] in before]
    books.add_order_events(ctx.conn, unsent, "NOT_SENT", bar_end=ctx.bar_end_at, now=ctx.now, detail="window_passed")


def _store_fills(ctx: Context, journal: Journal, axes: Axes, loaded: LoadedBook) -> None:
    """Write the fill kernel's fills and ends."""
    seen: Counter[str] = Counter()
    for number, f in enumerate(journal.fills.tolist(), start=1):
        order_id = loaded.order_ids.get((f[F_DECIDED_NS], f[F_LINE]))  # None: a bracket's
        name = order_id or f"{ctx.book}:{axes.instruments[f[F_INSTR]]}"
        seen[name] += 1
        fill_id = provenance.hash_of(name, ctx.bar_end_at.isoformat(), seen[name])[:32]
        ctx.conn.execute(
            books.SQL["add_fill"],
            (
                fill_id,
                order_id,
                *ctx.key,
                number,
                axes.instruments[f[F_INSTR]],
                f[F_QTY],
                f[F_PRICE],
                f[F_OPEN],
                f[F_FEE],
            ),
        )
        if order_id is not None and f[F_REM] != 0:
            books.add_order_events(ctx.conn, [order_id], "PARTIAL", bar_end=ctx.bar_end_at, now=ctx.now)
    for end in journal.ends.tolist():
        books.add_order_events(
            ctx.conn, [loaded.order_ids[end[0], end[2]]], END_NAMES[end[3]], bar_end=ctx.bar_end_at, now=ctx.now
        )


def store_events(ctx: Context, journal: Journal, axes: Axes) -> None:
    """Write what happened to the book, and the breakers' state events, of a settled bar."""
    with ctx.conn.cursor() as cur:
        for number, (kind, i, old, new, _ns) in enumerate(journal.events.tolist(), start=1):
            instrument = axes.instruments[i] if i >= 0 else None
            cur.execute(books.SQL["add_event"], (*ctx.key, number, EVENT_NAMES[kind], instrument, new, f"before {old}"))
            if kind == EV_STATE:
                cur.execute(
                    books.SQL["add_state_event"],
                    (
                        *ctx.key,
                        1000 + number,
                        old,
                        new,
                        "breaker",
                        f"{STATE_NAMES[old]} -> {STATE_NAMES[new]} at settle",
                    ),
                )


def _alert_state(ctx: Context, before: Book, after: Book) -> None:
    """Tell a person when the book stops trading freely, and when it may again."""
    old, new = int(before.acct[STATE]), int(after.acct[STATE])
    if old == new:
        return
    risk = ctx.settings.trading.risk
    sessions = risk.reduce_lifts_after_sessions if new == REDUCING else risk.halt_lifts_after_sessions
    lifts = "by a person: python -m tradecore resume --reason ..."
    if sessions and new != after.acct[ORDERED_STATE]:
        lifts = f"after {sessions} session(s)"
    ctx.alert(
        kind="state",
        severity="critical" if new == 2 else "warning" if new == 1 else "info",
        stage="settle",
        title=f"{STATE_NAMES[old]} -> {STATE_NAMES[new]}",
        body=f"equity {usd(int(after.acct[EQUITY]))} USD; limits: {Decimal(str(risk.max_daily_loss)):.1%} a day, "
        f"{Decimal(str(risk.max_drawdown)):.1%} from the peak",
        next_step=f"it is lifted {lifts}" if new else "none",
    )


def _alert_stale(ctx: Context, after: Book, axes: Axes) -> None:
    """Tell a person which held names have had no bar for N sessions."""
    limit = ctx.settings.trading.alerts.stale_after_sessions
    bars = len(ctx.calendar.bar_ends(ctx.session_date, ctx.record.timeframe))
    late = np.flatnonzero((after.qty != 0) & (after.stale == limit * bars))
    names = stored.instruments_by_id(ctx.conn, [axes.instruments[i] for i in late])
    if names:
        symbols = ", ".join(sorted(i.symbol for i in names.values()))
        ctx.alert(
            kind="stale",
            severity="warning",
            stage="settle",
            title=f"No bar for {limit} sessions: {symbols}",
            body="They are marked at their last close and not traded.",
            next_step="check the feed, or book a delisting",
        )


def _alert_short(ctx: Context, after: Book, axes: Axes) -> None:
    """Tell a person, at every bar that ends so, that a book which is long only is short."""
    short = {axes.instruments[i]: int(after.qty[i]) for i in np.flatnonzero(after.qty < 0)}
    if not short:
        return
    names = stored.instruments_by_id(ctx.conn, list(short))
    held = ", ".join(sorted(f"{i.symbol} {shares(short[i.instrument_id])}" for i in names.values()))
    halted = int(after.acct[STATE]) == HALTED
    ctx.alert(
        kind="short",
        severity="critical",
        stage="settle",
        title=f"The book is short: {held}",
        body="More was sold than it held: by hand, or by an order that filled after it had ended. It is long only.",
        next_step="it is HALTED and sends nothing: buy it back at the broker, or resume"
        if halted
        else "the next sheet buys it back; look at it before it is signed or sent",
    )
