"""What a run of submit has sent, refused and waits for: its events and answers in the database, and its alerts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from tradecore import stop_watch, unknowns, waiting
from tradecore.context import Context
from tradecore.execution.broker import BrokerOrder, Desk
from tradecore.execution.lifecycle import AT_RISK, WAITING
from tradecore.guard import Order, Ruling
from tradecore.storage import books, queries
from tradecore.storage.connection import book_lock

SQL = queries.load("execution")
REFUSED_AGAIN_S = 120  # what may change while the window lasts: a break that a person accepts, a clock, funds


class Record:
    """The record of one run at a real venue, kept as it goes."""

    def __init__(self, ctx: Context, desk: Desk) -> None:
        self.ctx, self.desk = ctx, desk
        self.window = waiting.window(ctx)
        self.margin = timedelta(seconds=ctx.settings.trading.execution.window_margin_s)
        self.sent = self.refused = 0
        self.waiting = ""
        self.again_at: datetime | None = None
        self.unended = ""  # why orders that must end may work on
        self.unrestored = ""  # why it is not known whether lifted stops were replaced

    def _at_risk(self) -> list[str]:
        """Return the orders of the book that may be at the venue without our knowing."""
        return [str(r[0]) for r in self.ctx.conn.execute(SQL["at_risk"], (self.ctx.book,)).fetchall()]

    def _store_checks(self, order: Order, ruling: Ruling) -> None:
        with self.ctx.conn.cursor() as cur:
            cur.executemany(
                SQL["add_check"],
                [
                    {
                        "id": order.client_order_id,
                        "number": v.number,
                        "name": v.name,
                        "passed": v.passed,
                        "detail": v.detail,
                        "now": self.desk.clock(),
                    }
                    for v in ruling.verdicts
                ],
            )

    def _refuse(self, order: Order, ruling: Ruling) -> None:
        if not ruling.final:
            self._wait(ruling.refusal, REFUSED_AGAIN_S)
            return
        self.refused += 1
        self._event(order.client_order_id, "NOT_SENT", ruling.refusal)
        self._tell_refused(order, ruling.refusal)

    def _tell_refused(self, order: Order, why: str) -> None:
        look = f"python -m tradecore checks {order.client_order_id}"
        if order.protects:
            stop_watch.tell(self.ctx, order.symbol, -order.qty, why, look)
            return
        self.ctx.alert(
            kind="not_sent",
            severity="warning",
            stage="submit",
            key=order.client_order_id,
            title=f"{order.qty} {order.symbol} was not accepted",
            body=why,
            next_step=look,
        )

    def _answer(self, order: Order, status: str, detail: str, found: BrokerOrder | None = None) -> None:
        """Commit what came back."""
        with self.ctx.conn.transaction(), book_lock(self.ctx.conn, self.ctx.book):
            row = self.ctx.conn.execute(SQL["status"], (order.client_order_id,)).fetchone()
            if row and row[0] in AT_RISK:  # an observer may have been quicker
                self._event(order.client_order_id, status, detail)
                if status == "REJECTED" or (status == "NOT_SENT" and order.protects):
                    self._tell_refused(order, detail)
            if found is not None:
                unknowns.know(self.ctx, found, adopted=False)
                unknowns.hold_to_intent(self.ctx, found)
        self.ctx.conn.commit()

    def _event(self, order_id: str, status: str, detail: str = "") -> None:
        books.add_order_events(
            self.ctx.conn, [order_id], status, bar_end=self.ctx.bar_end_at, now=self.desk.clock(), detail=detail
        )

    def _wait(self, why: str, seconds: float) -> None:
        self._wait_until(self.desk.clock() + timedelta(seconds=seconds), why)

    def _wait_until(self, at: datetime, why: str) -> None:
        if self.again_at is None or at < self.again_at:
            self.again_at, self.waiting = at, why

    def _tell_unended(self) -> None:
        self.ctx.alert(
            kind="not_ended",
            severity="critical",
            stage="submit",
            title="Orders that must end may still work at the venue",
            body=self.unended,
            next_step="cancel them at the broker",
        )

    def _expire(self, orders: Sequence[Order]) -> None:
        """End what the window left behind: it is never sent late."""
        late = [
            o.client_order_id for o in orders if o.status in WAITING or unknowns.absent(self.ctx, o.client_order_id)
        ]
        why = "window_passed" + (f": {self.waiting}" if self.waiting else "")
        for order_id in late:
            self._event(order_id, "NOT_SENT", why)
        if late:
            self.refused += len(late)
            self.ctx.alert(
                kind="not_sent",
                severity="error",
                stage="submit",
                title=f"{len(late)} orders were not sent: their window has passed",
                body=why,
                next_step="the next session plans anew; nothing is sent late",
            )
