"""What the venue says, kept as it said it: executions, activities and orders. Rules: docs/EXECUTION.md, Observing.

Each answer is one transaction, inserted once by the venue's own ids, with its cursor. Read again, nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from tradecore import unknowns
from tradecore.context import Context
from tradecore.execution.broker import Activity, BrokerFill, BrokerOrder
from tradecore.execution.lifecycle import AT_RISK
from tradecore.storage import books
from tradecore.storage.connection import book_lock
from tradecore.unknowns import SQL, desk_of

Result = dict[str, object]
MISSED_FOR = timedelta(days=10)  # of an order that has filled more than its executions say: they are read again
LOOK_BACK = timedelta(days=1)  # clocks differ, and lists lag; what is read twice is kept once


def observe(ctx: Context) -> Result:
    """Keep what is new at the venue, and end every order of an earlier bar that is in doubt.

    Executions are read before orders: an order that an execution belongs to is then in the list. Returns how many
    were new; `missing`, the client ids of orders that worked and that the venue does not know any more; `unsure`, those
    that it could not be asked about. Raises Unavailable; what was read before that is kept.
    """
    fills, activities = _observe_fills(ctx), _observe_activities(ctx)
    orders, missing = _observe_orders(ctx)
    unsure = _end_doubts(ctx)
    return {"fills": fills, "activities": activities, "orders": orders, "missing": missing, "unsure": unsure}


def _observe_fills(ctx: Context) -> int:
    since = ctx.previous_bar_end - MISSED_FOR
    row = ctx.conn.execute(SQL["missed_since"], (ctx.record.account, ctx.book, since)).fetchone()
    found, cursor = desk_of(ctx).broker.fills_since(_cursor(ctx, "fills"), row[0] if row else None)
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        new = keep_fills(ctx, found, cursor)
    ctx.conn.commit()
    return new


def _observe_activities(ctx: Context) -> int:
    found, cursor = desk_of(ctx).broker.activities_since(_cursor(ctx, "activities"))
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        new = keep_activities(ctx, found, cursor)
    ctx.conn.commit()
    return new


def keep_fills(ctx: Context, found: Iterable[BrokerFill], cursor: str, *, booked: datetime | None = None) -> int:
    """Keep new executions and the cursor, in the caller's transaction; return how many were new.

    booked: they are in the book already, as at its opening.
    """
    new = sum(_add_fill(ctx, fill, booked) for fill in found)
    _set_cursor(ctx, "fills", cursor)
    return new


def keep_activities(ctx: Context, found: Iterable[Activity], cursor: str, *, booked: datetime | None = None) -> int:
    """Keep new activities and the cursor, in the caller's transaction; return how many were new."""
    new = sum(_add_activity(ctx, activity, booked) for activity in found)
    _set_cursor(ctx, "activities", cursor)
    return new


def _cursor(ctx: Context, kind: str) -> str:
    row = ctx.conn.execute(SQL["cursor"], (ctx.record.account, kind)).fetchone()
    ctx.conn.rollback()
    return str(row[0]) if row else ""


def _set_cursor(ctx: Context, kind: str, cursor: str) -> None:
    ctx.conn.execute(
        SQL["set_cursor"],
        {"account": ctx.record.account, "kind": kind, "cursor": cursor, "now": desk_of(ctx).clock()},
    )


def _add_fill(ctx: Context, fill: BrokerFill, booked: datetime | None) -> int:
    return ctx.conn.execute(
        SQL["add_fill"],
        {
            "account": ctx.record.account,
            "id": fill.fill_id,
            "order": fill.broker_order_id,
            "book": ctx.book,
            "symbol": fill.symbol,
            "qty": fill.qty,
            "price": fill.price,
            "fee": fill.fee,
            "at": fill.filled_at,
            "now": desk_of(ctx).clock(),
            "booked": booked,
        },
    ).rowcount


def _add_activity(ctx: Context, activity: Activity, booked: datetime | None) -> int:
    return ctx.conn.execute(
        SQL["add_activity"],
        {
            "account": ctx.record.account,
            "id": activity.activity_id,
            "book": ctx.book,
            "kind": activity.kind,
            "symbol": activity.symbol,
            "qty": activity.qty,
            "amount": activity.amount,
            "on": activity.effective_on,
            "note": activity.note,
            "now": desk_of(ctx).clock(),
            "booked": booked,
        },
    ).rowcount


def _observe_orders(ctx: Context) -> tuple[int, list[str]]:
    """Keep the venue's orders; return how many were news, and the client ids of those that it does not know any more.

    The list holds what is recent or works. One that worked when it was last seen and is not in it has ended, and one
    with a new execution may have ended differently than it was told: they are asked for by their ids.
    """
    broker = desk_of(ctx).broker
    found = list(broker.orders_since(ctx.previous_bar_end - LOOK_BACK))
    listed = {order.broker_order_id for order in found}
    values = {"book": ctx.book, "account": ctx.record.account}
    ended = ctx.conn.execute(SQL["working_at_venue"], values).fetchall()
    ctx.conn.rollback()
    missing = []
    for broker_order_id, client_order_id in ended:
        if broker_order_id not in listed:
            order = broker.order(client_order_id)
            if order is None:
                missing.append(str(client_order_id))
            else:
                found.append(order)
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        news = keep_orders(ctx, found)
    ctx.conn.commit()
    return news, missing


def keep_orders(ctx: Context, found: Sequence[BrokerOrder], *, quietly: bool = False) -> int:
    """Keep orders in the caller's transaction: ours with their events, others as adopted, told once.

    quietly: the account's history at the book's opening tells nobody anything. Returns how many were news.
    """
    news = 0
    known = {order.broker_order_id: _seen(ctx, order) for order in found}
    own = {order.broker_order_id for order in unknowns.ours(ctx, found)}
    for order in _parents_first(found):
        adopted_before = known[order.broker_order_id]
        if unknowns.is_intent(ctx, order.client_order_id):
            news += unknowns.record(ctx, order)
            continue
        adopted = order.broker_order_id not in own if adopted_before is None else adopted_before
        unknowns.know(ctx, order, adopted=adopted)
        if adopted_before is None and adopted and not quietly:
            news += 1
            _tell_adopted(ctx, order)
    return news


def _parents_first(found: Iterable[BrokerOrder]) -> list[BrokerOrder]:
    return sorted(found, key=lambda order: order.parent_id is not None)


def _seen(ctx: Context, order: BrokerOrder) -> bool | None:
    """Return whether a known order is adopted; None: it is new."""
    row = ctx.conn.execute(SQL["seen"], (ctx.record.account, order.broker_order_id)).fetchone()
    return bool(row[0]) if row else None


def _tell_adopted(ctx: Context, order: BrokerOrder) -> None:
    side = "buys" if order.qty > 0 else "sells"
    ctx.alert(
        kind="adopted",
        severity="warning",
        stage="observe",
        key=order.broker_order_id,
        title=f"An order that is not ours {side} {abs(order.qty).normalize():f} {order.symbol}",
        body=f"It is {order.status} at the venue ({order.client_order_id}). Its fills move the book under the strategy "
        "'manual'; while it works, its symbol gets no order of ours.",
        next_step="none, if it was placed by hand; otherwise look who else trades this account",
    )


def _end_doubts(ctx: Context) -> list[str]:
    """End the orders of earlier bars that may be at the venue: found, or never received and now too late to send."""
    ids = [str(r[0]) for r in ctx.conn.execute(SQL["at_risk_before"], ctx.key).fetchall()]
    ctx.conn.rollback()
    outcomes = unknowns.resolve_all(ctx, ids)
    unsure = [order_id for order_id, outcome in outcomes.items() if outcome == "later"]
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        for order_id, outcome in outcomes.items():
            if outcome == "absent" and unknowns.status_of(ctx, order_id) in AT_RISK:
                books.add_order_events(
                    ctx.conn,
                    [order_id],
                    "NOT_SENT",
                    bar_end=ctx.bar_end_at,
                    now=desk_of(ctx).clock(),
                    detail="window_passed: the venue never got it",
                )
        for order_id in unsure:
            unknowns.halt(ctx, f"order {order_id} is unknown after its session: the venue cannot be asked about it")
    ctx.conn.commit()
    return unsure
