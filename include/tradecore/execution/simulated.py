"""The simulated venue: orders in venue_orders, fills by the fill kernel when the bar settles, the book as the account.

It takes market orders for the next open, and of other kinds what its book's `execution.order_style` makes: the fill
kernel that settles it has its distances from the same settings. Nothing here commits: an order that is taken and the
ledger's word for it are one transaction, so a simulated order is never in doubt. `record_settled` lets the orders
follow what settle did to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg

from tradecore import sessions
from tradecore.errors import Rejected, Unavailable
from tradecore.execution.broker import (
    Account,
    Activity,
    Asset,
    BrokerFill,
    BrokerOrder,
    Clock,
    OrderRequest,
    Permit,
    Position,
    SessionHours,
)
from tradecore.storage import queries
from tradecore.storage.books import BookRecord
from tradecore.units import QTY_SCALE, shares, to_quanta, usd

SQL = queries.load("venue")
BATCH = 10_000
FOR_THE_NEXT_OPEN = ("day", "opg")
STYLED = {  # by order style: type, time in force, with a limit, with a stop
    "market_on_close": ("market", "cls", False, False),
    "limit": ("limit", "day", True, False),
    "stop": ("stop", "day", False, True),
    "stop_limit": ("stop_limit", "day", True, True),
    "trailing_stop": ("trailing_stop", "day", False, True),
}
FROM_THE_START = datetime(1970, 1, 1, tzinfo=UTC)


class SimulatedBroker:
    """A Broker (broker.py) on one book, over the connection of its run; the account's number is the account's name.

    What the account holds is the newest state of the book, so it agrees with the ledger by construction, and splits,
    dividends and fees are no activities here: settle books them itself.
    """

    name = "simulated"
    live = False
    batch = BATCH

    def __init__(
        self,
        conn: psycopg.Connection,
        record: BookRecord,
        clock: Callable[[], datetime],
        *,
        order_style: str = "market_on_open",
    ) -> None:
        self._conn = conn
        self._record = record
        self._clock = clock
        self._order_style = order_style
        self._calendar = sessions.calendar(record.calendar)

    def account(self) -> Account:
        _, cash_e4, equity_e4 = self._state()
        return Account(
            account_number=self._record.account,
            status="ACTIVE",
            currency=self._record.currency,
            cash=usd(cash_e4),
            equity=usd(equity_e4),
            buying_power=usd(cash_e4),
            trading_blocked=False,
            shorting_enabled=True,
            fractional_trading=True,
        )

    def clock(self) -> Clock:
        now = self._clock()
        session = self._calendar.session_after(now)
        is_open = session.open_at <= now
        following = self._calendar.session(self._calendar.next_session(session.session_date)) if is_open else session
        return Clock(now_at=now, is_open=is_open, next_open_at=following.open_at, next_close_at=session.close_at)

    def sessions(self, first: date, last: date) -> Sequence[SessionHours]:
        found = [self._calendar.session(label) for label in self._calendar.sessions_in_range(first, last)]
        return [SessionHours(session_date=s.session_date, open_at=s.open_at, close_at=s.close_at) for s in found]

    def asset(self, symbol: str) -> Asset | None:
        step_e6 = self._qty_step_e6(symbol)
        if step_e6 is None:
            return None
        return Asset(
            symbol=symbol,
            tradable=True,
            fractionable=step_e6 < QTY_SCALE,
            shortable=True,
            easy_to_borrow=True,
            status="active",
        )

    def assets(self, symbols: Sequence[str]) -> dict[str, Asset | None]:
        return {symbol: self.asset(symbol) for symbol in symbols}

    def submit(self, order: OrderRequest, permit: Permit) -> BrokerOrder:
        self._check_permit(order.client_order_id, permit)
        self._check_built(order)
        step_e6 = self._qty_step_e6(order.symbol)
        if step_e6 is None:
            raise Rejected(f"There is no symbol {order.symbol} in {self._record.calendar}.", code="no_such_symbol")
        qty_e6 = order.qty * QTY_SCALE
        if qty_e6 % step_e6:
            raise Rejected(f"{order.qty} {order.symbol} is no multiple of {shares(step_e6)}.", code="fractional")
        added = self._conn.execute(
            SQL["add"],
            {
                "id": order.client_order_id,
                "book": self._record.book,
                "symbol": order.symbol,
                "qty_e6": to_quanta(order.qty, QTY_SCALE),
                "order_type": order.order_type,
                "time_in_force": order.time_in_force,
                "now": self._clock(),
            },
        ).fetchone()
        if added is None:
            raise Rejected(f"There is an order {order.client_order_id} already.", code="duplicate_id")
        return _order((*added, None))

    def cancel(self, broker_order_id: str) -> None:
        key = {"book": self._record.book, "id": broker_order_id, "now": self._clock()}
        if not self._conn.execute(SQL["cancel"], key).rowcount:
            known = self.order(broker_order_id)
            raise Rejected(
                f"Order {broker_order_id} is {known.status}." if known else f"There is no order {broker_order_id}.",
                code="not_open" if known else "no_such_order",
            )

    def replace(
        self, broker_order_id: str, *, client_order_id: str, qty: Decimal, limit_price: Decimal | None, permit: Permit
    ) -> BrokerOrder:
        self._check_permit(client_order_id, permit)
        raise Rejected("The simulated venue does not replace orders: cancel, and send another.", code="not_built")

    def order(self, client_order_id: str) -> BrokerOrder | None:
        row = self._conn.execute(SQL["order"], (self._record.book, client_order_id)).fetchone()
        return _order(row) if row else None

    def orders_since(self, at: datetime) -> Sequence[BrokerOrder]:
        return [_order(row) for row in self._conn.execute(SQL["orders_since"], (self._record.book, at))]

    def fills_since(self, cursor: str, behind: datetime | None = None) -> tuple[Sequence[BrokerFill], str]:
        """Return the kernel's fills, at the end of their bar; the cursor is the newest one's bar and number. None comes
        late, so behind says nothing."""
        bar, _, number = cursor.partition(" ")
        after = (datetime.fromisoformat(bar), int(number)) if cursor else (FROM_THE_START, 0)
        rows = self._conn.execute(SQL["fills_after"], (self._record.book, *after)).fetchall()
        fills = [
            BrokerFill(
                fill_id=fill_id,
                broker_order_id=order_id or f"bracket of {symbol}",
                symbol=symbol,
                qty=shares(qty_e6),
                price=usd(price_e4),
                fee=usd(fee_e4),
                filled_at=bar_end,
            )
            for bar_end, _, fill_id, order_id, symbol, qty_e6, price_e4, fee_e4 in rows
        ]
        return fills, f"{rows[-1][0].isoformat()} {rows[-1][1]}" if rows else cursor

    def activities_since(self, cursor: str) -> tuple[Sequence[Activity], str]:
        return (), cursor

    def positions(self) -> Sequence[Position]:
        bar_end, _, _ = self._state()
        return [
            Position(
                symbol=symbol,
                qty=shares(qty_e6),
                average_cost=abs(usd(cost_e4) / shares(qty_e6)),
                market_value=shares(qty_e6) * usd(mark_e4),
            )
            for symbol, qty_e6, mark_e4, cost_e4 in self._conn.execute(SQL["positions"], (self._record.book, bar_end))
        ]

    def _state(self) -> tuple[datetime, int, int]:
        row = self._conn.execute(SQL["state"], (self._record.book,)).fetchone()
        if row is None:
            raise Unavailable(
                f"book {self._record.book!r} has no state yet.", next_step="open it: python -m tradecore init"
            )
        return row[0], row[1], row[2]

    def _qty_step_e6(self, symbol: str) -> int | None:
        """Return the quantity step of a symbol in the session that comes, None for one that is unknown then."""
        day = self._calendar.session_after(self._clock()).session_date
        row = self._conn.execute(
            SQL["symbol"], {"symbol": symbol, "calendar": self._record.calendar, "day": day}
        ).fetchone()
        return int(row[0]) if row else None

    def _check_permit(self, client_order_id: str, permit: Permit) -> None:
        """Hold a permit to the same rules as a real venue does."""
        if permit.client_order_id != client_order_id:
            raise Rejected(f"The permit is for {permit.client_order_id}, not for {client_order_id}.", code="auth")
        if permit.live or permit.account_number != self._record.account:
            raise Rejected(f"The permit is not for the account {self._record.account}.", code="auth")
        if not permit.not_before <= self._clock() < permit.not_after:
            raise Rejected(f"The window is {permit.not_before} to {permit.not_after}.", code="window")

    def _check_built(self, order: OrderRequest) -> None:
        prices = [order.limit_price is not None, order.stop_price is not None]
        asked = (order.order_type, order.time_in_force, *prices)
        plain = order.order_type == "market" and order.time_in_force in FOR_THE_NEXT_OPEN and not any(prices)
        attached = (order.trail_price, order.take_profit, order.stop_loss)
        if (
            not (plain or asked == STYLED.get(self._order_style))
            or order.extended_hours
            or any(price is not None for price in attached)
        ):
            raise Rejected(
                f"The simulated venue takes market orders for the next open, and what {self._order_style} makes.",
                code="not_built",
            )


def record_settled(conn: psycopg.Connection, book: str, now: datetime) -> int:
    """Let the simulated venue's orders follow the ledger: their fills so far, and their ends. Returns how many changed.

    To be called by settle in its transaction, after fills and order events are written.
    """
    return conn.execute(SQL["follow"], {"book": book, "now": now}).rowcount


def _order(row: Sequence[Any]) -> BrokerOrder:
    order_id, symbol, qty_e6, filled_e6, status, order_type, time_in_force, submitted_at, changed_at, average = row
    return BrokerOrder(
        broker_order_id=order_id,
        client_order_id=order_id,
        symbol=symbol,
        qty=shares(qty_e6),
        filled_qty=shares(filled_e6),
        status=status,
        order_type=order_type,
        time_in_force=time_in_force,
        average_price=average,
        submitted_at=submitted_at,
        updated_at=changed_at,
    )
