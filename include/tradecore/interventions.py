"""What a person does by hand: halt, flatten, cancel an order, allow or forbid live trading. Kept with a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg

from tradecore import cancelling, context, decision, venue
from tradecore.context import Context
from tradecore.errors import BookError, ConfigError, Rejected, Unavailable
from tradecore.execution.lifecycle import AT_RISK, AT_VENUE, WAITING
from tradecore.execution_views import unknown_order
from tradecore.model import STATE_NAMES
from tradecore.settings import Settings
from tradecore.storage import books, queries
from tradecore.storage.books import BookRecord
from tradecore.storage.connection import book_lock

SQL = queries.load("views")
SIMULATED = "simulated"


def at_venue(ctx: Context, clock: Callable[[], datetime], sleep: Callable[[float], None]) -> Context:
    """Return the context with its venue open. A simulated book needs none: its venue is in the database.

    Raises BookError for a book whose account another one was opened on later: each fill is booked once.
    """
    if ctx.record.kind == SIMULATED or ctx.desk is not None:
        return ctx
    _require_own_account(ctx.conn, ctx.record)
    return replace(ctx, desk=venue.open_desk(ctx.settings, ctx.conn, ctx.record, clock, sleep))


def _require_own_account(conn: psycopg.Connection, record: BookRecord) -> None:
    row = conn.execute(SQL["successor"], {"account": record.account, "book": record.book}).fetchone()
    conn.rollback()
    if row is not None:
        raise BookError(
            f"account {record.account!r} belongs to book {row[0]!r} since that was opened; {record.book!r} has ended.",
            next_step=f"go on with --book {row[0]}, or open a book on another account",
            book=record.book,
        )


def newest_bar(settings: Settings, conn: psycopg.Connection, book: str, now: datetime) -> Context:
    """Return the context of the newest bar that a book has settled."""
    record = books.get(conn, book)
    row = conn.execute(books.SQL["last_state"], (book,)).fetchone()
    conn.rollback()
    assert row is not None  # opening a book writes its first state
    return Context(
        settings=settings,
        conn=conn,
        record=record,
        calendar=context.book_calendar(settings),
        session_date=row[1],
        bar_end_at=row[0],
        now=now,
    )


def change_state(
    settings: Settings, conn: psycopg.Connection, *, book: str, state: str, actor: str, reason: str, now: datetime
) -> dict[str, object]:
    """Record a person's HALTED, REDUCING or ACTIVE, in force from the next bar that settles; a halt stops sending.

    Under the book's lock: a bar that settles meanwhile would pass by a halt that was written for it.
    """
    with conn.transaction(), book_lock(conn, book):
        record = books.get(conn, book)
        last = conn.execute(books.SQL["last_state"], (book,)).fetchone()
        assert last is not None  # opening a book writes its first state
        effective = context.book_calendar(settings).next_bar_end(last[0], record.timeframe)
        before = conn.execute(books.SQL["state"], (book, last[0])).fetchone()
        conn.execute(
            books.SQL["add_person_state"],
            {
                "book": book,
                "bar_end": effective,
                "old": before[7] if before else 0,
                "new": STATE_NAMES.index(state),
                "actor": actor,
                "reason": f"{now:%Y-%m-%d %H:%M}Z {reason}",
            },
        )
    conn.commit()
    return {"book": book, "state": state, "effective": str(effective), "actor": actor, "reason": reason}


def order_flat(
    settings: Settings, conn: psycopg.Connection, *, book: str, actor: str, reason: str, now: datetime
) -> tuple[Context, bool, dict[str, object]]:
    """Write down that a person wants a book to sell all; return its newest bar, whether that decides anew, and what
    was ordered."""
    change_state(settings, conn, book=book, state="REDUCING", actor=actor, reason=f"flatten: {reason}", now=now)
    ctx = newest_bar(settings, conn, book, now)
    with conn.transaction(), book_lock(conn, book):
        again = ctx.status() in ("settled", "decided") and decision.may_change(ctx)
        effective = ctx.bar_end_at if again else ctx.next_bar_end
        conn.execute(books.SQL["add_flatten"], {"book": book, "bar_end": effective, "actor": actor, "reason": reason})
    conn.commit()
    said = {"book": book, "state": "REDUCING", "closes_with": str(effective), "session": str(ctx.session_date)}
    return ctx, again, dict(said)


def order_context(settings: Settings, conn: psycopg.Connection, client_order_id: str, now: datetime) -> Context:
    """Return the context of the bar at which an order was decided. Raises BookError for an order that is not ours."""
    row = conn.execute(SQL["order_bar"], (client_order_id,)).fetchone()
    conn.rollback()
    if row is None:
        raise unknown_order(client_order_id)
    bars = context.contexts(settings, conn, book=str(row[0]), session_date=row[1], now=now)
    return next(bar for bar in bars if bar.bar_end_at == row[2])


def cancel(ctx: Context, client_order_id: str, actor: str) -> dict[str, Any]:
    """Cancel an order: one that was not sent is never sent, one that works is cancelled at its venue.

    At a real venue its end is what the venue says of it, which is looked at for some seconds: it may have filled
    meanwhile, or be CANCEL_PENDING until a later look. Raises BookError for an
    order that has ended, or that is in doubt: first it must be known what it is.
    """
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        row = ctx.conn.execute(SQL["order_state"], (client_order_id,)).fetchone()
        status, broker_id = (str(row[0]), row[1]) if row else ("", None)
        if status in WAITING:
            _event(ctx, client_order_id, "NOT_SENT", f"canceled by {actor}")
    ctx.conn.commit()
    if status in WAITING:
        return {"order": client_order_id, "was": status, "now": "NOT_SENT"}
    if status not in AT_VENUE or (broker_id is None and ctx.record.kind != SIMULATED):
        doubt = status in AT_RISK or status in AT_VENUE
        raise BookError(
            f"order {client_order_id} is {status}: " + ("it is in doubt" if doubt else "it has ended") + ".",
            next_step=f"python -m tradecore submit {ctx.session_date} asks the venue for it" if doubt else "nothing",
            client_order_id=client_order_id,
        )
    if ctx.record.kind == SIMULATED:
        with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
            desk = venue.open_desk(ctx.settings, ctx.conn, ctx.record, lambda: ctx.now, lambda seconds: None)
            desk.broker.cancel(client_order_id)
            _event(ctx, client_order_id, "CANCELED", f"by {actor}")
        ctx.conn.commit()
        return {"order": client_order_id, "was": status, "now": "CANCELED"}
    assert ctx.desk is not None and broker_id is not None  # noqa: PT018 - the shell opened it; checked above
    try:
        ctx.desk.broker.cancel(str(broker_id))
    except Rejected as error:
        raise Rejected(
            error.message,
            next_step="it has ended there, or ends already: the next settle books what the venue says of it",
            **error.details,
        ) from error
    try:
        now = cancelling.look_after(ctx, client_order_id)
    except Unavailable as error:
        now = f"asked for, and the venue does not answer yet: {error.message}"
    return {"order": client_order_id, "was": status, "now": now}


def set_live(
    settings: Settings,
    conn: psycopg.Connection,
    *,
    enabled: bool,
    account_number: str,
    actor: str,
    reason: str,
    now: datetime,
) -> dict[str, Any]:
    """Turn the database's key of live trading, for the configured account. It is one of three: see `status`.

    Raises ConfigError for a book that is not alpaca-live, or another number than the account has.
    """
    book = settings.trading.book
    if enabled and book.broker != "alpaca-live":
        raise ConfigError(
            f"book {book.name!r} is {book.broker}; live trading is for a book of alpaca-live.",
            next_step="give trading.yaml a book with broker: alpaca-live, and open it: python -m tradecore init",
        )
    with conn.transaction():
        row = conn.execute(SQL["broker_account"], {"account": book.account}).fetchone()
        if enabled and row is not None and row[0] != account_number:
            raise ConfigError(
                f"account {book.account!r} is {row[0]} at the broker, not {account_number}.",
                next_step="look at the account number on the broker's dashboard",
            )
        conn.execute(
            SQL["set_live"],
            {
                "account": book.account,
                "number": account_number or (row[0] if row else ""),
                "enabled": enabled,
                "by": actor,
                "reason": reason,
                "now": now,
            },
        )
    conn.commit()
    return {"account": book.account, "live_enabled": enabled, "by": actor, "reason": reason}


def _event(ctx: Context, client_order_id: str, status: str, detail: str) -> None:
    now = ctx.desk.clock() if ctx.desk else ctx.now
    books.add_order_events(ctx.conn, [client_order_id], status, bar_end=ctx.bar_end_at, now=now, detail=detail)
