"""Opening a book. At a real venue, what the account holds at that moment becomes the book's first state.

Cash and positions are adopted with their cost, under the strategy 'manual'; all that the venue reports from before that
is kept as booked. An account that this book could not keep is refused, with what to do about it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from fractions import Fraction

import psycopg

from tradecore import context as context_of
from tradecore import observation, venue, venue_bar
from tradecore.config_values import BOOK_NAME
from tradecore.context import Context, book_calendar
from tradecore.errors import BookError
from tradecore.execution.broker import Account, Activity, BrokerFill, BrokerOrder, Desk, Position
from tradecore.model import CASH, EQUITY, PEAK, PREV_SESSION_EQUITY, new_book
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.storage import books
from tradecore.storage.books import Axes, BookRecord
from tradecore.storage.connection import book_lock
from tradecore.units import MONEY_SCALE, PRICE_SCALE, QTY_SCALE, from_quanta, to_ns, to_quanta, usd
from tradecore.unknowns import SQL, desk_of

STEADY_LOOKS = 3
HISTORY = timedelta(days=7)  # of ended orders, so that nobody is told of them later


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One look at an account during which nothing was executed."""

    account: Account
    positions: Sequence[Position]
    orders: Sequence[BrokerOrder]
    fills: tuple[Sequence[BrokerFill], str]
    activities: tuple[Sequence[Activity], str]


def open_book(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    book: str,
    before: date,
    now: datetime,
    desk: Callable[[BookRecord], Desk] | None = None,
) -> BookRecord:
    """Open a book at the session before `before`: the configured one at its venue, with what the account holds;
    any other with the configured cash. One that is open stays as it is. desk opens the venue, if not as configured.
    Raises BookError for one that is open at another venue."""
    known = books.find(conn, book)
    conn.rollback()
    if known is not None:
        context_of.require_venue(settings, known)
    if book != settings.trading.book.name or settings.trading.book.broker == "simulated":
        return context_of.open_book(settings, conn, book=book, before=before, now=now)

    def configured(record: BookRecord) -> Desk:
        return venue.open_desk(settings, conn, record, lambda: now, lambda seconds: None)

    return open_real_book(settings, conn, book=book, before=before, now=now, desk=desk or configured)


def open_real_book(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    book: str,
    before: date,
    now: datetime,
    desk: Callable[[BookRecord], Desk],
) -> BookRecord:
    """Open the configured book at its venue, at the session before `before`; one that is open stays as it is.

    desk opens the venue of a record. Raises BookError where the account cannot be adopted, Unavailable.
    """
    if not re.fullmatch(BOOK_NAME, book):
        raise BookError(
            f"{book!r} cannot be the name of a book.",
            next_step="start with a-z or 0-9; then also . _ : and -, up to 63 characters in all",
            book=book,
        )
    known = books.find(conn, book)
    conn.rollback()
    if known is not None:
        return known
    ctx = _context(settings, conn, book, before, now, desk)
    found = _steady(ctx)
    members = {m.instrument.symbol: m.instrument.instrument_id for m in stored.read_universe(conn, ctx.record.universe)}
    conn.rollback()
    _require_adoptable(ctx, found, members)
    with conn.transaction(), book_lock(conn, book):
        again = books.find(conn, book)
        if again is not None:
            return again
        _write(ctx, found, members)
    conn.commit()
    return ctx.record


def _context(
    settings: Settings,
    conn: psycopg.Connection,
    book: str,
    before: date,
    now: datetime,
    desk: Callable[[BookRecord], Desk],
) -> Context:
    """Return the context of the bar that a book is opened at."""
    trading, day = settings.trading, book_calendar(settings)
    inception = day.bar_ends(day.previous_session(before), trading.book.timeframe)[-1]
    record = BookRecord(
        book=book,
        kind=trading.book.broker,
        account=trading.book.account,
        calendar=trading.book.calendar,
        currency=trading.book.currency,
        timeframe=trading.book.timeframe,
        source=trading.data.feed,
        universe=trading.universe.name,
        inception_at=inception,
    )
    return Context(
        settings=settings,
        conn=conn,
        record=record,
        calendar=day,
        session_date=day.session_of(inception),
        bar_end_at=inception,
        now=now,
        desk=desk(record),
    )


def _steady(ctx: Context) -> _Found:
    """Look at the account; look again where something was executed meanwhile."""
    broker = desk_of(ctx).broker
    for _ in range(STEADY_LOOKS):
        fills, activities = broker.fills_since(""), broker.activities_since("")
        found = _Found(
            account=broker.account(),
            positions=broker.positions(),
            orders=broker.orders_since(ctx.bar_end_at - HISTORY),
            fills=fills,
            activities=activities,
        )
        later = {f.fill_id for f in broker.fills_since(fills[1])[0]} - {f.fill_id for f in fills[0]}
        if not later:
            return found
    raise BookError(
        f"account {ctx.record.account!r} is trading while book {ctx.book!r} is being opened.",
        next_step="let its orders end, then open the book",
        book=ctx.book,
    )


def _require_adoptable(ctx: Context, found: _Found, members: dict[str, int]) -> None:
    """Raise BookError for an account that this book could not keep."""
    account = found.account
    working = sorted({o.symbol for o in found.orders if not o.ended})
    shorts = sorted(p.symbol for p in found.positions if p.qty < 0)
    strange = sorted(p.symbol for p in found.positions if p.symbol not in members)
    following = ctx.calendar.next_bar_end(ctx.next_bar_end, ctx.record.timeframe)
    newest = ctx.calendar.session_at_or_before(ctx.now)
    reasons = [
        (  # what is held now would go through the splits since then once more
            bool(found.positions) and ctx.now >= following,
            f"holds shares now, and the book would begin with them at {ctx.session_date}",
            f"open it before session {newest}: python -m tradecore init, without --before",
        ),
        (account.currency != ctx.record.currency, f"is in {account.currency}", "open it with an account in USD"),
        (account.trading_blocked, "is blocked for trading", "ask the broker why, or take another account"),
        (bool(working), f"has working orders in {', '.join(working)}", "cancel them at the broker, then open the book"),
        (bool(shorts), f"is short {', '.join(shorts)}; books are long only", "cover them at the broker first"),
        (
            bool(strange),
            f"holds {', '.join(strange)}, which universe {ctx.record.universe!r} does not know",
            "sell them at the broker, or add them to universe.members in trading.yaml and load their history",
        ),
        (account.cash < 0, f"owes {-account.cash} USD", "pay the margin loan back first"),
    ]
    for wrong, what, next_step in reasons:
        if wrong:
            raise BookError(
                f"account {ctx.record.account!r} ({account.account_number}) {what}.",
                next_step=next_step,
                book=ctx.book,
            )


def _write(ctx: Context, found: _Found, members: dict[str, int]) -> None:
    """Write record, account, first state, and what is booked by it, in the caller's transaction."""
    conn, record, now = ctx.conn, ctx.record, ctx.now
    conn.execute(
        books.SQL["add_book"],
        {**{name: getattr(record, name) for name in BookRecord.__dataclass_fields__}, "now": now},
    )
    _know_account(ctx, found.account.account_number)
    cash_e4 = to_quanta(found.account.cash, MONEY_SCALE)
    conn.execute(books.SQL["add_cash"], (*ctx.key, "opening", cash_e4, "cash at the broker"))
    conn.execute(
        books.SQL["start_run"], {"book": ctx.book, "bar_end": ctx.bar_end_at, "session": ctx.session_date, "now": now}
    )
    ctx.set_status("closed", "opened")
    held = sorted((p for p in found.positions if p.qty), key=lambda p: members[p.symbol])
    axes = Axes(instruments=tuple(members[p.symbol] for p in held), strategies=(venue_bar.MANUAL,))
    first = new_book(cash_e4=cash_e4, n_instruments=len(held), n_strategies=1, n_lots=1, n_orders=0)
    ratios = _splits_since(ctx, axes.instruments)
    for i, position in enumerate(held):
        now_held, ratio = int((position.qty * QTY_SCALE).to_integral_value(ROUND_DOWN)), ratios[axes.instruments[i]]
        qty = math.ceil(now_held / ratio)  # in the units of the opening: settle splits it to what is held now
        first.qty[i] = first.alloc[0, i] = first.lot_qty[i, 0] = qty
        first.lot_cost[i, 0] = to_quanta(position.qty * position.average_cost, MONEY_SCALE)
        first.lot_opened[i, 0], first.lot_count[i] = to_ns(ctx.bar_end_at), int(qty != 0)
        first.mark[i] = _mark(ctx, axes.instruments[i], position, ratio)
        worth = to_quanta(from_quanta(qty, QTY_SCALE) * usd(int(first.mark[i])), MONEY_SCALE)
        first.acct[[EQUITY, PEAK, PREV_SESSION_EQUITY]] += worth
        _explain(ctx, "position", position.symbol, position.qty - from_quanta(now_held, QTY_SCALE))
    _explain(ctx, "rounding", "USD", found.account.cash - usd(int(first.acct[CASH])))
    books.save(
        conn, name=ctx.book, bar_end=ctx.bar_end_at, session=ctx.session_date, book=first, axes=axes, order_ids={}
    )
    observation.keep_fills(ctx, *found.fills, booked=ctx.bar_end_at)
    observation.keep_activities(ctx, *found.activities, booked=ctx.bar_end_at)
    observation.keep_orders(ctx, found.orders, quietly=True)


def _know_account(ctx: Context, number: str) -> None:
    """Keep the number that the broker reports; live trading stays off until a person turns it on."""
    conn, account = ctx.conn, ctx.record.account
    other = conn.execute(SQL["account_of_number"], (number, account)).fetchone()
    if other is not None:
        raise BookError(
            f"the broker reports account {number}, which is known here as {other[0]!r}: two names would book each "
            "fill twice.",
            next_step=f"set book.account: {other[0]} in trading.yaml, or use the keys of another account",
            book=ctx.book,
        )
    row = conn.execute(SQL["account_number"], (account,)).fetchone()
    if row is None:
        conn.execute(SQL["add_account"], (account, number, "init", f"book {ctx.book} opened", ctx.now))
    elif row[0] != number:
        raise BookError(
            f"account {account!r} is known as {row[0]}, and the broker reports {number}.",
            next_step="use the keys of that account, or another name under book.account in trading.yaml",
            book=ctx.book,
        )


def _splits_since(ctx: Context, instruments: Sequence[int]) -> dict[int, Fraction]:
    """Return by how much each instrument has split since the opening's session, as the venue holds it now.

    A book begins at a session that has closed, with what the account holds later: a split in between is in it already,
    and the book will go through it once more.
    """
    today = max(ctx.session_date, ctx.calendar.session_after(ctx.now).session_date)
    actions = stored.read_actions(
        ctx.conn, source=ctx.record.source, instruments=instruments, after=ctx.session_date, until=today
    )
    found = dict.fromkeys(instruments, Fraction(1))
    for action in actions:
        if action.kind in ("split", "stock_dividend") and ctx.calendar.session(action.ex_date).open_at <= ctx.now:
            found[action.instrument_id] *= Fraction(action.ratio_num, action.ratio_den)
    return found


def _mark(ctx: Context, instrument: int, position: Position, ratio: Fraction) -> int:
    """Return what a share is worth at the opening: the last close that we have, else the broker's value, else cost.

    ratio: the splits since then, which the broker's figures have been through.
    """
    row = ctx.conn.execute(
        SQL["last_close"], (instrument, ctx.record.timeframe, ctx.record.source, ctx.bar_end_at)
    ).fetchone()
    if row is not None:
        return int(row[0])
    value = position.market_value
    price: Decimal = value / position.qty if value else position.average_cost
    return max(1, to_quanta(price * ratio.numerator / ratio.denominator, PRICE_SCALE))


def _explain(ctx: Context, kind: str, subject: str, amount: Decimal) -> None:
    if amount:
        venue_bar.explain(ctx, kind, subject, amount, "finer than the book counts")
