"""Submit for a simulated book: the whole sheet in one go, with the venue's tables and the ledger in one commit."""

from __future__ import annotations

from collections.abc import Sequence

from tradecore import decision, guard, venue
from tradecore.context import Context
from tradecore.execution.broker import Permit
from tradecore.execution.lifecycle import WAITING
from tradecore.guard import Order
from tradecore.storage import books
from tradecore.storage.connection import book_lock

Result = dict[str, object]


def send(ctx: Context) -> Result:
    """Send a simulated book's sheet: SUBMITTING committed, then the venue's tables and the answer in one commit.

    The simulated venue acknowledges until the next bar has settled; a window that passed sends nothing. The book's lock
    keeps settle, a halt and another submit out; between the two commits they may come, so all is looked at again.
    """
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        if ctx.status() == "closed":
            return {"already": True}
        why, orders = guard.refusal(ctx), _unanswered(ctx)
        if not why:
            fresh = [o.client_order_id for o in orders if o.status != "SUBMITTING"]
            books.add_order_events(ctx.conn, fresh, "SUBMITTING", bar_end=ctx.bar_end_at, now=ctx.now)
    ctx.conn.commit()
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        if ctx.status() == "closed":
            return {"already": True}
        why = why or guard.refusal(ctx)
        orders = _unanswered(ctx)
        ids = [o.client_order_id for o in orders]
        if not why:
            decision.cancel_replaced(ctx)
            _take(ctx, orders)
        status, detail = ("NOT_SENT", why) if why else ("ACKED", "simulated")
        books.add_order_events(ctx.conn, ids, status, bar_end=ctx.bar_end_at, now=ctx.now, detail=detail)
        total = len(guard.sheet(ctx))
        ctx.set_status("closed", f"not sent: {why}" if why else f"{total} orders")
        if why and ids:
            ctx.alert(
                kind="not_sent",
                severity="warning",
                stage="submit",
                title=f"{len(ids)} orders were not sent",
                body=why,
                next_step="see the report",
            )
    return {"sent": 0, "reason": why} if why else {"sent": len(ids)}


def _take(ctx: Context, orders: Sequence[Order]) -> None:
    """Let the simulated venue take the orders. Its time is the bar's end, whatever the clock says."""
    broker = venue.open_desk(ctx.settings, ctx.conn, ctx.record, lambda: ctx.bar_end_at, lambda seconds: None).broker
    number = broker.account().account_number
    for order in orders:
        permit = Permit(
            client_order_id=order.client_order_id,
            account_number=number,
            live=False,
            not_before=ctx.bar_end_at,
            not_after=ctx.next_bar_end,
        )
        broker.submit(order.request(), permit)


def _unanswered(ctx: Context) -> list[Order]:
    """Return the newest sheet's orders that the venue has not answered."""
    return [o for o in guard.sheet(ctx) if o.status in (*WAITING, "SUBMITTING")]
