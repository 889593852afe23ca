"""Matching: orders against prints, fills into cash and positions, expiry, legs. No clock: time is passed in."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, Decimal

from alpaca_standin import documents, figures
from alpaca_standin.market import Market, Print
from alpaca_standin.state import FINEST_QTY, ZERO, Activity, Holding, Order, State, chance, stamp

WHOLE = Decimal(1)
HUNDRED = Decimal(100)
CENT = Decimal("0.01")
SAME_SESSION = timedelta(hours=8)


class Engine:
    """Takes a state through time on a market."""

    def __init__(self, state: State, market: Market) -> None:
        self.state = state
        self.market = market

    def advance(self, to: datetime) -> None:
        """Match everything up to and including `to`. Going in one step or in many comes to the same."""
        state = self.state
        if state.now is None:
            state.now = to
        while state.now < to and (state.open_ids or state.scheduled):
            ends = [o.live_until for o in state.open_orders() if o.live_until is not None and o.live_until > state.now]
            step = min([to, *ends, *(row.at for row in state.scheduled)])
            step = max(step, state.now)
            symbols = dict.fromkeys(order.symbol for order in state.open_orders())
            rows = [row for symbol in symbols for row in self.market.between(symbol, state.now, step)]
            rows.sort(key=lambda row: (row.at, row.symbol))
            for row in rows:
                self._on_print(row)
            state.now = step
            self._late_fills(step)
            self._expire(step)
        state.now = max(state.now, to)

    def arrive(self, order: Order, at: datetime) -> None:
        """Let a new order meet the last print, if it may trade at once; ends orders that cannot wait."""
        last = self.market.last(order.symbol, at)
        session = self.market.sessions.at(at)
        current = last is not None and (
            (session is not None and last.at >= session.open_at)
            or (session is None and order.extended_hours and at - last.at < timedelta(hours=1) and not last.regular)
        )
        if current and last is not None and order.live_from <= at and order.time_in_force not in ("opg", "cls"):
            self._go_live(order, at)
            self._touch(order, last._replace(at=at, auction=""), volume_at=last.at, gap=True)
        if order.is_open and order.time_in_force in ("ioc", "fok"):
            self.cancel(order, at)

    def cancel(self, order: Order, at: datetime, status: str = "canceled") -> None:
        """End an open order, its legs, and the other order of its pair."""
        if not order.is_open:
            return
        order.status, order.updated_at = status, at
        if status == "expired":
            order.expired_at = at
        elif status == "canceled":
            order.canceled_at = at
        self.state.close(order)
        self.emit(status, order, at)
        for other in self._family(order):
            self.cancel(other, at)

    def emit(self, event: str, order: Order, at: datetime, fill: tuple[Decimal, Decimal] | None = None) -> None:
        """Put a message on the trade_updates stream."""
        unique = self.state.mint("event")
        self.state.events.append(documents.event_document(self.state, event, order, at, fill, unique))

    def fill(self, order: Order, qty: Decimal, price: Decimal, at: datetime) -> None:
        """Book one execution: order, position, cash, activity, stream, legs."""
        figures.mark(self.state, self.market, at)
        order.filled_qty += qty
        order.filled_notional += qty * price
        full = order.remaining_qty <= 0 if order.qty is not None else order.notional_filled_out(price)
        order.status = "filled" if full else "partially_filled"
        order.updated_at = at
        order.filled_at = at if full else order.filled_at
        self._hold(order.symbol, order.sign * qty, price)
        self.state.cash -= order.sign * qty * price
        if full:
            self.state.close(order)
        execution_id = self.state.mint("execution")
        document = documents.fill_document(order, qty, price, at, execution_id)
        hidden = order.drop_fills_s
        shown_at = at if hidden is None else None if math.isinf(hidden) else at + timedelta(seconds=hidden)
        copies = 2 if order.double_fills else 1
        self.state.activities.append(Activity(at=at, document=document, shown_at=shown_at, copies=copies))
        event = documents.event_document(
            self.state, "fill" if full else "partial_fill", order, at, (qty, price), execution_id
        )
        self.state.events += [event] * (0 if hidden is not None else copies)
        self._after_fill(order, at)

    def _on_print(self, row: Print) -> None:
        for order in self.state.open_orders(row.symbol):
            if order.is_open and self._may_trade(order, row):
                self._go_live(order, row.at)
                gap = row.auction == "open" or order.time_in_force in ("opg", "cls")
                self._touch(order, row, volume_at=row.at, gap=gap)

    def _may_trade(self, order: Order, row: Print) -> bool:
        if order.status in ("held", "pending_cancel") or row.at < order.live_from:
            return False
        if order.live_until is not None and row.at > order.live_until:
            return False
        if order.time_in_force == "opg":
            return row.auction == "open"
        if order.time_in_force == "cls":
            return row.auction == "close"
        return row.regular or order.extended_hours

    def _go_live(self, order: Order, at: datetime) -> None:
        if order.status in ("accepted", "pending_new"):
            order.status, order.updated_at = "new", at
            self.emit("new", order, at)

    def _touch(self, order: Order, row: Print, *, volume_at: datetime, gap: bool) -> None:
        """Fill an order on a print if its price allows, up to the print's volume."""
        before = None if gap else self.market.last(row.symbol, row.at - timedelta(microseconds=1))
        if before is not None and (before.regular != row.regular or row.at - before.at > SAME_SESSION):
            before = None  # the first price of a session is a gap, whether or not it is an auction's
        price = execution_price(order, row.price, None if before is None else before.price)
        if price is None:
            return
        wanted = order.remaining_qty
        if order.qty is None and order.notional is not None:
            wanted = ((order.notional - order.filled_notional) / price).quantize(FINEST_QTY, ROUND_DOWN)
        stamp_at, used = self.state.used_volume.get(row.symbol, (volume_at, ZERO))
        used = used if stamp_at == volume_at else ZERO
        qty = min(wanted, row.volume - used)
        if wanted == wanted.to_integral_value():
            qty = qty.to_integral_value(ROUND_DOWN)
        if order.time_in_force == "fok" and qty < wanted:
            return
        qty = self._by_chance(order, qty, row.at)
        if qty > 0:
            self.state.used_volume[row.symbol] = (volume_at, used + qty)
            self.fill(order, qty, price, row.at)

    def _by_chance(self, order: Order, qty: Decimal, at: datetime) -> Decimal:
        """Make about one fill in ten of a paper account a partial one, of a size by seed."""
        config = self.state.config
        if not config.paper or order.time_in_force == "fok" or order.qty is None or qty <= 1:
            return qty
        key = (config.seed, order.client_order_id, stamp(at))
        if chance("partial", *key) >= float(config.partial_fill_frac):
            return qty
        return max(WHOLE, (qty * Decimal(str(chance("size", *key)))).to_integral_value(ROUND_DOWN))

    def _hold(self, symbol: str, signed_qty: Decimal, price: Decimal) -> None:
        held = self.state.holdings.setdefault(symbol, Holding())
        after = held.qty + signed_qty
        if held.qty * signed_qty >= 0:
            held.avg_price = (held.qty * held.avg_price + signed_qty * price) / after
        elif after * held.qty < 0:
            held.avg_price = price
        held.qty = after
        if after == 0:
            del self.state.holdings[symbol]

    def _after_fill(self, order: Order, at: datetime) -> None:
        if order.legs and order.order_class != "oco" and order.status == "filled":
            for leg in (self.state.orders[key] for key in order.legs):
                if leg.status == "held":
                    leg.status, leg.live_from, leg.updated_at = "new", at, at
                    self.emit("new", leg, at)
            return
        for other in self._family(order):
            if order.status == "filled":
                self.cancel(other, at)
            elif other.qty is not None and order.leg:
                other.qty = other.filled_qty + order.remaining_qty

    def _family(self, order: Order) -> list[Order]:
        """Return the open orders that end with this one: legs of an entry, the other one of a pair."""
        keys = list(order.legs)
        if order.parent is not None:
            parent = self.state.orders[order.parent]
            keys += [key for key in parent.legs if key != order.id]
            keys += [parent.id] if parent.order_class == "oco" else []
        return [self.state.orders[key] for key in keys if self.state.orders[key].is_open]

    def _late_fills(self, upto: datetime) -> None:
        due = [row for row in self.state.scheduled if row.at <= upto]
        self.state.scheduled = [row for row in self.state.scheduled if row.at > upto]
        for row in due:
            order = self.state.orders[row.order_id]
            qty = order.remaining_qty
            if order.status in ("canceled", "pending_cancel") and qty > 0:
                price = order.limit_price or figures.price(self.state, self.market, order.symbol, row.at)
                order.canceled_at = None
                self.fill(order, qty, price, row.at)

    def _expire(self, upto: datetime) -> None:
        for order in self.state.open_orders():
            if order.live_until is not None and order.live_until <= upto and order.status != "pending_cancel":
                ends = "expired" if order.time_in_force in ("day", "gtc") else "canceled"
                self.cancel(order, order.live_until, ends)


def execution_price(order: Order, price: Decimal, before: Decimal | None) -> Decimal | None:
    """Return the price at which the order trades on its way to a print, or None.

    `before` is the print before in the same session, None after a gap (an auction, an arrival). Between two
    prints the price passes everything in between: a resting limit trades at its limit, a stop at its stop.
    Updates the high-water mark and the stop of a trailing stop, and `triggered`.
    """
    if order.type == "trailing_stop" and not order.triggered:
        _trail(order, price)
    reached = price
    if order.type in ("stop", "stop_limit", "trailing_stop") and not order.triggered:
        stop = order.stop_price
        if stop is None or order.sign * (price - stop) < 0:
            return None
        order.triggered = True
        reached = price if before is None or order.sign * (before - stop) >= 0 else stop
        before = None
    limit = order.limit_price
    if order.type == "stop" and order.side == "buy" and order.stop_price is not None:
        limit = figures.market_buy_collar(order.stop_price)  # a buy stop becomes a stop-limit at Alpaca
    if limit is None:
        return reached
    if order.sign * (limit - reached) >= 0:  # marketable where the price was reached
        resting = before is not None and order.sign * (before - limit) > 0
        return limit if resting else reached
    return limit if order.sign * (limit - price) >= 0 else None


def _trail(order: Order, price: Decimal) -> None:
    """Move the high-water mark (low for a buy) and the stop with it."""
    if order.hwm is None or order.sign * (order.hwm - price) > 0:
        order.hwm = price
    distance = order.trail_price if order.trail_price is not None else ZERO
    if order.trail_percent is not None:
        distance = order.hwm * order.trail_percent / HUNDRED
    order.stop_price = (order.hwm + order.sign * distance).quantize(CENT)
