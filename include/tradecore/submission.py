"""Submit: send the approved sheet to the venue, each order at most once. The rules: docs/EXECUTION.md, Sending.

Simulated books send the whole sheet in one go; at a real venue an order has two commits of its own, SUBMITTING before
the request and the answer after it, and nothing is ever sent that may be there already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import partial

from tradecore import (
    cancelling,
    decision,
    guard,
    observation,
    protection,
    reconciliation,
    stop_watch,
    submission_simulated,
    unknowns,
)
from tradecore.context import Context, deliver_quietly
from tradecore.errors import Rejected, Unavailable, Unknown
from tradecore.execution.broker import BrokerOrder
from tradecore.execution.checks import selling_groups
from tradecore.execution.lifecycle import OF_VENUE, WAITING
from tradecore.guard import Order, Ruling, Scene
from tradecore.storage import queries, throttle
from tradecore.storage.connection import book_lock
from tradecore.submission_record import REFUSED_AGAIN_S, Record

SQL = queries.load("execution")
Result = dict[str, object]
UNKNOWN_LOOKS = 3

BY_HAND = "place a stop at the broker; the next session that decides restores what is missing by then"


def submit(ctx: Context) -> Result:
    """Send what of the newest sheet may be sent now; the bar is closed once nothing of it waits any more.

    Returns sent and refused counts; `waiting` says for what, and `again_s` when to call again. Never raises for a
    venue that is down: that is waiting, until the window has passed.
    """
    if ctx.status() == "closed":
        ctx.conn.rollback()
        return {"already": True}
    if decision.newest(ctx) is None:
        ctx.conn.rollback()
        return {"sent": 0, "reason": "no decision"}
    result = submission_simulated.send(ctx) if ctx.record.kind == "simulated" else _send_one_by_one(ctx)
    deliver_quietly(ctx)
    return result


def keep_stops(ctx: Context) -> None:
    """Put stops in the place of lifted ones while the sheet still waits for a person: they need no signature."""
    if ctx.desk is None or ctx.record.kind == "simulated":
        return
    with _only_sender(ctx) as mine:
        if mine:
            _Sending(ctx, ctx.desk).keep_stops()
    deliver_quietly(ctx)


def tell_lacking(ctx: Context) -> None:
    """Tell of holdings without a stop in a bar that ends without a decision: `submit` may never have been called."""
    if ctx.desk is not None and ctx.record.kind != "simulated":
        _Sending(ctx, ctx.desk).tell_lacking()


def _send_one_by_one(ctx: Context) -> Result:
    desk = unknowns.desk_of(ctx)
    with _only_sender(ctx) as mine:
        if not mine:
            return {"sent": 0, "waiting": "another process sends for this account", "again_s": 5}
        return _Sending(ctx, desk).run()


@contextmanager
def _only_sender(ctx: Context) -> Iterator[bool]:
    """Hold the account's session lock if nobody else does. Two that send at once are still safe: an id is sent once."""
    name = f"tradecore:send:{ctx.record.account}"
    row = ctx.conn.execute(SQL["try_sender"], (name,)).fetchone()
    ctx.conn.commit()
    mine = bool(row and row[0])
    try:
        yield mine
    finally:
        if mine and not ctx.conn.closed:
            ctx.conn.rollback()
            ctx.conn.execute(SQL["release_sender"], (name,))
            ctx.conn.commit()


class _Sending(Record):
    """One run of submit at a real venue."""

    def run(self) -> Result:
        """Resolve what somebody left behind, send what is due, wait for what is not, close when nothing is left."""
        self._give_up_refused()
        for look in range(UNKNOWN_LOOKS):
            unsure = self._resolve()
            self._cancel_unwanted()
            self._restore_stops()
            self._send_due()
            self._restore_stops()  # also of what a sell that was refused has left
            unsure = unsure or self._at_risk()
            self.ctx.conn.rollback()
            if not unsure:
                break
            if look + 1 < UNKNOWN_LOOKS and self.desk.clock() < self.ctx.next_bar_end - self.margin:
                self.desk.sleep(unknowns.pause_s(self.ctx))
        self._cancel_unwanted()  # what was on its way while a person halted
        return self._end()

    def keep_stops(self) -> None:
        """Do of a run what protects, and nothing else."""
        self._resolve()
        self._restore_stops()

    def tell_lacking(self) -> None:
        """Tell of holdings without a stop in a bar that has no decision: without one no order is planned."""
        known, now = protection.lifts(self.ctx), self.desk.clock()
        self.ctx.conn.rollback()
        if not known or not self.ctx.bar_end_at <= now < self.ctx.next_bar_end - self.margin:
            return
        try:
            at_venue = self._working()  # before the positions: see plan_stops
            held = {p.symbol: p.qty for p in self.desk.broker.positions()}
        except Unavailable as error:
            with self.ctx.conn.transaction(), book_lock(self.ctx.conn, self.ctx.book):
                stop_watch.tell_unseen(self.ctx, f"nothing was decided at this bar, and {error.message}")
            self.ctx.conn.commit()
            return
        with self.ctx.conn.transaction(), book_lock(self.ctx.conn, self.ctx.book):
            protection.give_up_earlier(self.ctx)
            for one, qty in protection.lacking(self.ctx, known, held, at_venue, ()):
                stop_watch.tell(self.ctx, one.symbol, qty, "nothing was decided at this bar", BY_HAND)
            stop_watch.look(self.ctx, held)
        self.ctx.conn.commit()

    def _give_up_refused(self) -> None:
        """End a sheet that a person rejected, or nobody signed in time: it needs no window and no broker for that."""
        with self.ctx.conn.transaction(), book_lock(self.ctx.conn, self.ctx.book):
            verdict = guard.approval(self.ctx)
            if verdict in ("rejected", "expired"):
                ids = [o.client_order_id for o in guard.sheet(self.ctx) if o.status in WAITING]
                for order_id in ids:
                    self._event(order_id, "NOT_SENT", f"the sheet is {verdict}")
                self.refused += len(ids)
        self.ctx.conn.commit()

    def _resolve(self) -> list[str]:
        """Ask the venue for each of them; return those that it could not be asked about, or only once so far."""
        found, ids = [], self._at_risk()
        self.ctx.conn.rollback()
        for order_id in ids:
            try:
                if unknowns.resolve(self.ctx, order_id) == "later":
                    found.append(order_id)
            except Unavailable as error:
                self._wait(error.message, 30)
                found.append(order_id)
        return found

    def _send_due(self) -> None:
        """Send every order that is due, within the window; the venue is asked once for what the checks need."""
        orders = guard.sheet(self.ctx)
        self.ctx.conn.rollback()
        now = self.desk.clock()
        open_ones = [o for o in orders if o.status in WAITING or unknowns.absent(self.ctx, o.client_order_id)]
        self.ctx.conn.rollback()
        if not open_ones or self.window.passed(now):
            return
        if now < self.window.opens_at:
            self._wait_until(self.window.opens_at, f"the window opens at {self.window.opens_at:%Y-%m-%d %H:%M} UTC")
            return
        due = [o for o in open_ones if o.not_before_at is None or o.not_before_at <= now]
        for o in open_ones:
            if o.not_before_at is not None and o.not_before_at > now:
                self._wait_until(o.not_before_at, f"the next slice is due at {o.not_before_at:%H:%M:%S} UTC")
        if not due:
            return
        try:
            reconciliation.reconcile(self.ctx, "submit")  # what a person did by hand since the plan is seen here
            scene = guard.survey(self.ctx, self.desk, due)
        except Unavailable as error:
            self._wait(f"the broker cannot be asked: {error.message}", 30)
            return
        for order in due:
            scene = self._send(scene, order, _lines(orders))

    def _send(self, scene: Scene, order: Order, run_size: int) -> Scene:
        """Send one order: SUBMITTING committed, then the request, then its answer committed."""
        scene = self._make_way(scene, order, run_size)
        return self._post(scene, order, lambda now: guard.examine(self.ctx, self.desk, now, order, run_size))

    def _post(self, scene: Scene, order: Order, rule: Callable[[Scene], Ruling]) -> Scene:
        """Rule on one order and let it leave: SUBMITTING committed, the request, its answer committed."""
        self._throttle()
        with self.ctx.conn.transaction(), book_lock(self.ctx.conn, self.ctx.book):
            if not self._still_waits(order):
                return scene
            ruling = rule(scene)
            self._store_checks(order, ruling)
            if ruling.permit is None:
                self._refuse(order, ruling)
            else:
                self._event(order.client_order_id, "SUBMITTING")
        self.ctx.conn.commit()
        if ruling.permit is None:
            return scene
        try:
            found = self.desk.broker.submit(order.request(), ruling.permit)
        except Rejected as error:
            if error.details.get("code") == "duplicate_id":  # it is there: whoever sent it, it is the same order
                self._answer(order, "UNKNOWN", "the venue has this id already")
            elif order.status == "UNKNOWN" and self._may_be_there(order):  # refused for what its first try holds
                self._answer(order, "UNKNOWN", f"sent again and refused: {error.message}")
            elif error.details.get("code") == "auth" and error.details.get("status") is not None:
                self._answer(order, "APPROVED", f"nothing was sent: {error.message}")
                self._wait(f"the broker refuses our keys: {error.message}", REFUSED_AGAIN_S)
            elif error.details.get("code") in ("auth", "window") and error.details.get("status") is None:
                self._answer(order, "NOT_SENT", error.message)  # the permit did not fit: nothing left the machine
                self.refused += 1
            else:
                self._answer(order, "REJECTED", f"{error.details.get('code', '')}: {error.message}")
                self.refused += 1
            return scene
        except Unavailable as error:
            self._answer(order, "APPROVED", f"nothing was sent: {error.message}")
            self._wait(error.message, 10)
            return scene
        except Unknown as error:
            self._answer(order, "UNKNOWN", error.message)
            return scene
        self._answer(order, OF_VENUE[found.status], found.broker_order_id, found)
        self.sent += not order.protects
        return scene.with_order(found)

    def _may_be_there(self, order: Order) -> bool:
        try:
            return self.desk.broker.order(order.client_order_id) is not None
        except Unavailable:
            return True

    def _still_waits(self, order: Order) -> bool:
        row = self.ctx.conn.execute(SQL["status"], (order.client_order_id,)).fetchone()
        status = str(row[0]) if row else ""
        return self.ctx.status() != "closed" and (
            status in WAITING or (status == "UNKNOWN" and unknowns.absent(self.ctx, order.client_order_id))
        )

    def _throttle(self) -> None:
        """Take a token of the account's bucket, waiting for it if need be."""
        rate = self.ctx.settings.trading.execution.requests_per_minute
        wait_s = throttle.take_of(self.ctx.conn, self.ctx.record.account, allowed=rate, now=self.desk.clock())
        self.ctx.conn.commit()
        if wait_s > 0:
            self.desk.sleep(wait_s)

    def _make_way(self, scene: Scene, order: Order, run_size: int) -> Scene:
        """Cancel orders of ours that oppose this one, or hold its shares, and wait a little for their end.

        Only for an order that nothing else stops: a stop that protects a holding does not end for one that is refused,
        nor for a buy. Of stops no more end than the sell needs, and what is kept gets others at once.
        """
        near = [o for o in scene.at_venue if o.symbol == order.symbol and not o.ended]
        own = unknowns.ours(self.ctx, near)
        against = [o for o in own if (o.qty > 0) != (order.qty > 0) and o.broker_order_id not in scene.legs]
        legs = [o for o in own if order.qty < 0 and o.qty < 0 and o.broker_order_id in scene.legs]
        self.ctx.conn.rollback()
        if not against and not legs:
            return scene
        failed = {v.name for v in guard.examine(self.ctx, self.desk, scene, order, run_size).verdicts if not v.passed}
        self.ctx.conn.rollback()
        if failed != {"opposite"}:
            return scene
        held, _, _ = scene.book.held.get(order.instrument_id, (Decimal(0), Decimal(0), 0))
        selling = sum(selling_groups(near, order.symbol).values(), Decimal(0))
        pairs = protection.groups_to_lift(legs, abs(order.qty) + selling - held * order.split)
        if pairs:
            stopped = sum(selling_groups(legs, order.symbol).values(), Decimal(0))
            protection.lift(self.ctx, order, pairs, max(Decimal(0), held * order.split - stopped))
        ids = [o.broker_order_id for o in (*against, *(leg for pair in pairs for leg in pair))]
        try:
            working = cancelling.end(self.ctx, ids)
        except (Rejected, Unavailable, Unknown) as error:
            self._wait(error.message, 10)
            return scene
        if working is None:
            return scene
        scene = scene.seeing(working)
        kept = held * order.split - abs(order.qty)
        if pairs and kept > 0 and all(one.symbol != order.symbol for one in protection.lifts(self.ctx)):
            stop_watch.tell(self.ctx, order.symbol, kept, "the prices of its stops are from before a split", BY_HAND)
        self.ctx.conn.commit()
        return (self._restore_stops(scene) or scene) if pairs else scene

    def _restore_stops(self, scene: Scene | None = None) -> Scene | None:
        """Put stops in the place of lifted ones, for what is kept: as soon as the lifted ones have ended.

        scene: as the run has it. Returns it with what was placed. Without a lift the venue is asked nothing.
        """
        known, now = protection.lifts(self.ctx), self.desk.clock()
        due = [] if self.window.passed(now) else guard.sheet(self.ctx)
        self.ctx.conn.rollback()
        if not known or not self.ctx.bar_end_at <= now < self.ctx.next_bar_end - self.margin:
            return scene
        try:
            at_venue = scene.at_venue if scene else self._working()  # before the positions: see plan_stops
            held = {p.symbol: p.qty for p in self.desk.broker.positions()}
            stops = protection.plan_stops(self.ctx, known, held, at_venue, due)
            if stops and (scene is None or any(stop.symbol not in scene.assets for stop in stops)):
                scene = guard.survey(self.ctx, self.desk, stops)
        except Unavailable as error:
            self._wait(f"lifted stops are not replaced yet: {error.message}", 10)
            self.unrestored = error.message
            return scene
        self.unrestored = ""
        for stop in stops:
            assert scene is not None
            scene = self._post(scene, stop, partial(self._rule_on_stop, stop))
        if stops:
            with self.ctx.conn.transaction(), book_lock(self.ctx.conn, self.ctx.book):
                stop_watch.look(self.ctx, held)  # who was told that there is none is told that there is one
            self.ctx.conn.commit()
        return scene

    def _rule_on_stop(self, stop: Order, scene: Scene) -> Ruling:
        return guard.examine_stop(self.ctx, self.desk, scene, stop)

    def _working(self) -> tuple[BrokerOrder, ...]:
        """Return what works at the venue, and keep all since the bar: the other one of a pair that was just placed is
        known as ours only from there, and later its parent is not said."""
        found = self.desk.broker.orders_since(self.ctx.bar_end_at)
        with self.ctx.conn.transaction(), book_lock(self.ctx.conn, self.ctx.book):
            observation.keep_orders(self.ctx, found)
            working = unknowns.with_parents(self.ctx, (o for o in found if not o.ended))
        self.ctx.conn.commit()
        return working

    def _cancel_unwanted(self) -> None:
        """End what the sheet replaces or the trading state does not allow, before anything is sent."""
        unwanted = cancelling.unwanted(self.ctx, replaced=not self.window.passed(self.desk.clock()))
        self.unended = ""
        try:
            if unwanted and cancelling.end(self.ctx, unwanted) is None:
                self.unended = "orders that are to end still work at the venue"
        except (Rejected, Unavailable, Unknown) as error:
            self.unended = f"orders that are to end could not be cancelled: {error.message}"
        if self.unended:
            self._wait(self.unended, 10)

    def _end(self) -> Result:
        """Close the bar when nothing of its sheet waits; past the window nothing does."""
        with self.ctx.conn.transaction(), book_lock(self.ctx.conn, self.ctx.book):
            if self.ctx.status() == "closed":
                return {"sent": self.sent, "already": True}
            now = self.desk.clock()
            orders = guard.sheet(self.ctx)
            if self.window.passed(now):
                self._expire(orders)
                orders = guard.sheet(self.ctx)
            open_ones = [o for o in orders if o.status in WAITING] + protection.waiting(self.ctx)
            unsure = self._at_risk()
            last_call = now >= self.ctx.next_bar_end - self.margin
            if unsure and last_call:
                end = f"at the end of the session after {self.ctx.session_date}"
                unknowns.halt(self.ctx, f"{len(unsure)} order(s) are unknown {end}")
            if self.unended and last_call:
                self._tell_unended()
            if last_call:
                for stop in protection.give_up(self.ctx, "window_passed"):
                    self._tell_refused(stop, f"it was not placed before the session's end: {self.waiting}")
                stop_watch.tell_unseen(self.ctx, "it was not placed before the session's end")
            if (open_ones or unsure or self.unended or self.unrestored) and not last_call:
                if unsure and not self.waiting:
                    self._wait(f"{len(unsure)} order(s) are unknown: the venue is asked again", 30)
                again_s = max(1.0, ((self.again_at or now) - now).total_seconds())
                return {"sent": self.sent, "refused": self.refused, "waiting": self.waiting, "again_s": again_s}
            total = _lines(orders)
            missed = len([o for o in orders if o.status in ("NOT_SENT", "REJECTED")])
            self.ctx.set_status("closed", f"{total} orders" + (f", {missed} not sent" if missed else ""))
        self.ctx.conn.commit()
        return {"sent": self.sent, "refused": self.refused, "done": True}


def _lines(orders: Sequence[Order]) -> int:
    """Return how many lines of the sheet they are: the slices of a parent are one."""
    return len({o.line_id for o in orders})
