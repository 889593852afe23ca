"""Cancelling at a real venue: what a sheet replaces, what a halt forbids, what stands in an order's way.

A cancel asks; the end is what the venue says afterwards, and a fill may have been quicker (observation.py). Cancels
pass in every state and need no permit.
"""

from __future__ import annotations

from collections.abc import Iterable

from tradecore import decision, guard, observation, unknowns
from tradecore.context import Context
from tradecore.errors import Rejected, Unavailable, Unknown
from tradecore.execution.broker import BrokerOrder, Desk
from tradecore.storage import queries
from tradecore.storage.connection import book_lock

SQL = queries.load("execution")
LOOKS = 5  # one a second, after a cancel by hand
POLLS = 20  # one a second: how long an order has to end before its successor is tried again


def unwanted(ctx: Context, *, replaced: bool = True) -> list[str]:
    """Return the venue's ids of our orders that must end: replaced by the newest sheet, or not for this trading state.

    HALTED ends every order that is not a bracket's leg (those protect what is held), REDUCING those that do more than
    reduce. replaced: whether the sheet may still be sent; one that may not leaves what it would have replaced.
    """
    last = decision.newest(ctx) if replaced else None
    version = last[0] if last and guard.approval(ctx) in ("approved", "not_required") else 0
    rows = ctx.conn.execute(
        SQL["unwanted"],
        {"book": ctx.book, "bar_end": ctx.bar_end_at, "version": version, "state": guard.state(ctx)},
    ).fetchall()
    ctx.conn.rollback()
    return [str(r[0]) for r in rows]


def cancel(desk: Desk, broker_order_ids: Iterable[str]) -> None:
    """Ask for the end of orders; one that has ended meanwhile is no error. Raises Unavailable, Unknown."""
    for order_id in broker_order_ids:
        try:
            desk.broker.cancel(order_id)
        except Rejected as error:
            if error.details.get("code") not in ("not_open", "no_such_order"):
                raise


def cancel_and_wait(desk: Desk, broker_order_ids: Iterable[str]) -> tuple[BrokerOrder, ...] | None:
    """Cancel orders and wait a little until the venue lists none of them; return what works then, None: not yet.

    Raises Unavailable, Unknown.
    """
    ids = set(broker_order_ids)
    cancel(desk, sorted(ids))
    for poll in range(POLLS):
        if poll:
            desk.sleep(1.0)
        working = tuple(o for o in desk.broker.orders_since(desk.clock()) if not o.ended)
        if not ids & {o.broker_order_id for o in working}:
            return working
    return None


def end(ctx: Context, broker_order_ids: Iterable[str]) -> tuple[BrokerOrder, ...] | None:
    """Cancel orders of this book, wait a little, and keep how each ended: what filled meanwhile is known at once.

    Returns what works then, None: not yet. Raises Rejected, Unavailable, Unknown.
    """
    desk, ids = unknowns.desk_of(ctx), sorted(set(broker_order_ids))
    working = cancel_and_wait(desk, ids)
    if working is None:
        return None
    clients = [str(r[0]) for r in ctx.conn.execute(SQL["client_ids"], (ctx.record.account, ids)).fetchall()]
    ctx.conn.rollback()
    found = [order for client_id in clients if (order := desk.broker.order(client_id)) is not None]
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        observation.keep_orders(ctx, list(unknowns.with_parents(ctx, found)))
        working = unknowns.with_parents(ctx, working)
    ctx.conn.commit()
    return working


def look_after(ctx: Context, client_order_id: str) -> str:
    """Keep what the venue says of an order whose end was asked for, once it has ended or a few seconds have passed.

    Returns its status, CANCEL_PENDING while it has not ended. Raises Unavailable.
    """
    desk = unknowns.desk_of(ctx)
    for poll in range(LOOKS):
        if poll:
            desk.sleep(1.0)
        found = desk.broker.order(client_order_id)
        if found is None or found.ended:
            break
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        if found is not None:
            observation.keep_orders(ctx, unknowns.with_parents(ctx, [found]))
        row = ctx.conn.execute(SQL["shown"], (client_order_id,)).fetchone()
    ctx.conn.commit()
    return str(row[0]) if row else ""


def end_forbidden(ctx: Context) -> dict[str, object]:
    """End at once what a halt forbids, also where the sheet was sent long ago. A simulated book has nothing to ask.

    Never raises for a venue that is down: `venue` says what may still work there.
    """
    if ctx.record.kind == "simulated":
        return {}
    try:
        ids = unwanted(ctx, replaced=False)
        ended = end(ctx, ids) if ids else ()
    except (Rejected, Unavailable, Unknown) as error:
        return {"venue": f"not cancelled: {error.message}", "next": "say halt again, or cancel at the broker"}
    if ended is None:
        return {"venue": f"{len(ids)} orders were asked to end and still work", "next": "look at the broker"}
    return {"venue": f"{len(ids)} working orders ended"}
