"""What the venue says of one order becomes ours: its own id, its state, or the proof that it never got there.

The only place that ends SUBMITTING and UNKNOWN. Rules: docs/EXECUTION.md, Sending 3 and 4. A look is one question and
one transaction and waits for nothing; the evidence of the first look is an event, so that it outlives the process.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal

from tradecore.context import Context
from tradecore.errors import BookError, Unavailable, Unknown
from tradecore.execution.broker import BrokerOrder, Desk
from tradecore.execution.lifecycle import AT_RISK, OF_VENUE, REACHED, may_follow
from tradecore.model import HALTED
from tradecore.storage import books, queries
from tradecore.storage.connection import book_lock
from tradecore.units import PRICE_SCALE, QTY_SCALE, from_quanta

SQL = queries.load("observation")
Outcome = Literal["found", "absent", "later"]
MISSED = ("not found 1/2", "not found 2/2")


def desk_of(ctx: Context) -> Desk:
    """Return the open venue of a run. Raises BookError where none was opened."""
    if ctx.desk is None:
        raise BookError(
            f"book {ctx.book!r} is {ctx.record.kind}, and no venue was opened for it.",
            next_step="run it through the CLI or its DAG: both open the venue of a book",
            book=ctx.book,
        )
    return ctx.desk


def resolve(ctx: Context, client_order_id: str) -> Outcome:
    """Ask the venue once for an order that may be there, and keep the answer.

    found: its state is in our events. absent: twice not found, `lookup_gap_s` apart, both looks later than the
    request's own time-out; nothing of it is at the venue. later: look again (`pause_s` says when it can help), also
    where the venue does not answer. An order that is not in doubt is answered without asking.
    """
    desk = desk_of(ctx)
    known = _intent(ctx, client_order_id)
    ctx.conn.rollback()
    if known is None or known["status"] not in AT_RISK:
        return "found" if known and known["status"] in (*REACHED, "REJECTED") else "absent"
    if known["detail"] == MISSED[1]:
        return "absent"
    asked_at = desk.clock()
    try:
        found = desk.broker.order(client_order_id)
    except (Unavailable, Unknown):
        return "later"
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        now_known = _intent(ctx, client_order_id)
        if found is not None:
            record(ctx, found)
            outcome: Outcome = "found"
        elif now_known is None or now_known["event_no"] != known["event_no"]:
            outcome = "later"  # somebody wrote meanwhile: what was asked is not about the newest try
        else:
            outcome = _missed(ctx, client_order_id, asked_at)
    ctx.conn.commit()
    return outcome


def _missed(ctx: Context, client_order_id: str, asked_at: Any) -> Outcome:
    """Keep that a look did not find the order, if it was late enough to say something."""
    rows = ctx.conn.execute(SQL["sent"], {"id": client_order_id}).fetchall()
    execution = ctx.settings.trading.execution
    if not rows or asked_at < rows[0][0] + timedelta(seconds=execution.http_timeout_s):
        return "later"
    first = next((at for _, at, detail in rows if detail == MISSED[0]), None)
    if first is None:
        _event(ctx, client_order_id, "UNKNOWN", MISSED[0], at=asked_at)
        return "later"
    if asked_at < first + timedelta(seconds=execution.lookup_gap_s):
        return "later"
    _event(ctx, client_order_id, "UNKNOWN", MISSED[1], at=asked_at)
    return "absent"


def absent(ctx: Context, client_order_id: str) -> bool:
    """Tell whether it is proven, since it was last sent, that the venue has not got the order; asks nobody."""
    known = _intent(ctx, client_order_id)
    return known is not None and (known["status"], known["detail"]) == ("UNKNOWN", MISSED[1])


def is_intent(ctx: Context, client_order_id: str) -> bool:
    """Tell whether a client order id is one of this book's intents."""
    return _intent(ctx, client_order_id) is not None


def protects(ctx: Context, order: BrokerOrder) -> bool:
    """Tell whether an order of ours at the venue protects a holding: a bracket's leg, or what stands in its place."""
    known = _intent(ctx, order.client_order_id)
    return bool(known["leg"]) if known else order.parent_id is not None


def status_of(ctx: Context, client_order_id: str) -> str:
    """Return the newest status of an order of ours, '' for no order of ours."""
    known = _intent(ctx, client_order_id)
    return str(known["status"]) if known else ""


def pause_s(ctx: Context) -> float:
    """Return the seconds after which another look may say more than the one before."""
    execution = ctx.settings.trading.execution
    return float(max(execution.lookup_gap_s, execution.http_timeout_s)) + 0.1


def resolve_all(ctx: Context, client_order_ids: Iterable[str], looks: int = 3) -> dict[str, Outcome]:
    """Look for orders in rounds until each is found or proven absent, at most so often; the pauses are for all."""
    found: dict[str, Outcome] = dict.fromkeys(client_order_ids, "later")
    for look in range(looks):
        open_ones = [order_id for order_id, outcome in found.items() if outcome == "later"]
        if not open_ones:
            break
        if look:
            desk_of(ctx).sleep(pause_s(ctx))
        found |= {order_id: resolve(ctx, order_id) for order_id in open_ones}
    return found


def ours(ctx: Context, orders: Iterable[BrokerOrder]) -> list[BrokerOrder]:
    """Return those of the venue's orders that are this book's own, or legs of its brackets.

    A leg is known by its parent, or by what was kept of it: in a list of open orders a venue does not say whose it is.
    """
    given = list(orders)
    own = {o.broker_order_id for o in given if is_intent(ctx, o.client_order_id)}
    return [o for o in given if o.broker_order_id in own or o.parent_id in own or _kept_as_ours(ctx, o)]


def _kept_as_ours(ctx: Context, order: BrokerOrder) -> bool:
    for broker_order_id in (order.broker_order_id, order.parent_id):
        row = ctx.conn.execute(SQL["seen"], (ctx.record.account, broker_order_id)).fetchone()
        if row is not None and not row[0]:
            return True
    return False


def with_parents(ctx: Context, orders: Iterable[BrokerOrder]) -> tuple[BrokerOrder, ...]:
    """Return the venue's orders, legs with the parent known from when they were placed: later it is not said."""
    given = tuple(orders)
    ids = [o.broker_order_id for o in given if o.parent_id is None]
    rows = ctx.conn.execute(SQL["parents"], (ctx.record.account, ids)).fetchall()
    known: dict[str, str] = {str(r[0]): str(r[1]) for r in rows}
    return tuple(replace(o, parent_id=known.get(o.broker_order_id, o.parent_id)) for o in given)


def know(ctx: Context, found: BrokerOrder, *, adopted: bool) -> None:
    """Keep an order as the venue has it, by the venue's id; in the caller's transaction. Unchanged, no row changes."""
    ctx.conn.execute(
        SQL["know_order"],
        {
            "account": ctx.record.account,
            "broker_id": found.broker_order_id,
            "client_id": found.client_order_id,
            "book": ctx.book,
            "symbol": found.symbol,
            "qty": found.qty,
            "type": found.order_type,
            "tif": found.time_in_force,
            "adopted": adopted,
            "parent": found.parent_id,
            "status": found.status,
            "filled": found.filled_qty,
            "now": desk_of(ctx).clock(),
        },
    )


def record(ctx: Context, found: BrokerOrder) -> bool:
    """Keep an order of ours as the venue has it, and append the event that it is news of, if it is; tell if it was.

    In the caller's transaction, under the book's lock. An order that is not as intended, or that we believe was never
    sent, halts the book: somebody else sends for it, or the venue has changed what was sent.
    """
    seen = ctx.conn.execute(SQL["seen"], (ctx.record.account, found.broker_order_id)).fetchone()
    know(ctx, found, adopted=False)
    known = _intent(ctx, found.client_order_id)
    if known is None:
        raise BookError(
            f"order {found.client_order_id} is not one of book {ctx.book!r}.",
            next_step="look at the account's orders: two books must not share an account",
            book=ctx.book,
        )
    if seen is None:  # later a split may change it there
        hold_to_intent(ctx, found)
    status = OF_VENUE[found.status]
    detail = _detail(found)
    if (status, detail) == (known["status"], known["detail"]) or not _news(known, status, found):
        return False
    if not may_follow(known["status"], status):
        halt(ctx, f"order {found.client_order_id} is at the venue, and ours says {known['status']}")
        return False
    _event(ctx, found.client_order_id, status, detail)
    return True


def hold_to_intent(ctx: Context, found: BrokerOrder) -> None:
    """Halt the book where the venue has an order of ours otherwise than intended; in the caller's transaction."""
    known = _intent(ctx, found.client_order_id)
    wrong = _differences(known, found) if known else []
    if wrong:
        halt(ctx, f"order {found.client_order_id} is at the venue with other parameters: {', '.join(wrong)}")


def _news(known: dict[str, Any], status: str, found: BrokerOrder) -> bool:
    """Tell whether the venue's state says more than ours; a late answer says less and is passed over."""
    ours_now = str(known["status"])
    if ours_now == "FILLED":
        return False
    if ours_now == "REJECTED":
        return status != "REJECTED"  # it works after all: may_follow says no, and that halts
    if ours_now in ("CANCELED", "EXPIRED"):
        return status == "FILLED"
    if ours_now == "PARTIAL":
        return status != "ACKED" and not (status == "PARTIAL" and known["detail"] == _detail(found))
    return ours_now != status


def _detail(found: BrokerOrder) -> str:
    """Return what an event says beside its status; the same for the same state of the order."""
    if found.status == "rejected":
        return found.reason or "by the venue"
    if found.filled_qty and found.status != "filled":
        return f"{found.filled_qty.normalize():f} of {found.qty.normalize():f} filled"
    return f"replaced by {found.replaced_by}" if found.replaced_by else found.broker_order_id


def _differences(known: dict[str, Any], found: BrokerOrder) -> list[str]:
    """Return in words what an order at the venue has otherwise than its intent."""

    def price(value_e4: int) -> Decimal | None:
        return from_quanta(value_e4, PRICE_SCALE) if value_e4 else None

    pairs = {
        "symbol": (known["symbol"], found.symbol),
        "quantity": (from_quanta(known["qty"], QTY_SCALE), found.qty),
        "type": (known["type"], found.order_type),
        "time in force": (known["tif"], found.time_in_force),
        "limit": (price(known["limit"]), found.limit_price),
        "stop": (price(known["stop"]), found.stop_price),
    }
    return [f"{name} {there} instead of {here}" for name, (here, there) in pairs.items() if here != there]


def _intent(ctx: Context, client_order_id: str) -> dict[str, Any] | None:
    row = ctx.conn.execute(SQL["intent"], (client_order_id, ctx.book)).fetchone()
    names = ("symbol", "qty", "type", "tif", "limit", "stop", "status", "detail", "event_no", "bar_end", "leg")
    return dict(zip(names, row, strict=True)) if row else None


def _event(ctx: Context, client_order_id: str, status: str, detail: str, at: Any = None) -> None:
    books.add_order_events(
        ctx.conn,
        [client_order_id],
        status,
        bar_end=ctx.bar_end_at,
        now=at or desk_of(ctx).clock(),
        detail=detail,
    )


def halt(ctx: Context, reason: str) -> None:
    """Halt the book until a person lifts it, with a critical alert, once a reason; in the caller's transaction.

    In force for sending at once, and in the book from the next bar that settles. Not as the breakers' halts: those a
    count of sessions may lift.
    """
    last = ctx.conn.execute(books.SQL["last_state"], (ctx.book,)).fetchone()
    if last is None:
        return
    effective = ctx.calendar.next_bar_end(last[0], ctx.record.timeframe)
    said = ctx.conn.execute(
        "SELECT 1 FROM state_events WHERE book = %s AND actor = 'execution' AND reason = %s", (ctx.book, reason)
    ).fetchone()
    if said is not None:
        return
    before = ctx.conn.execute(books.SQL["state"], (ctx.book, last[0])).fetchone()
    ctx.conn.execute(
        books.SQL["add_person_state"],
        {
            "book": ctx.book,
            "bar_end": effective,
            "old": before[7] if before else 0,
            "new": HALTED,
            "actor": "execution",
            "reason": reason,
        },
    )
    ctx.alert(
        kind="halted",
        severity="critical",
        stage="execution",
        key=reason,
        title="HALTED: the venue and the book do not agree on an order",
        body=f"{reason}. Nothing more is sent for this book.",
        next_step="look at the orders at the broker, then: python -m tradecore resume --reason ...",
    )
