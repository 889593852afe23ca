"""What every venue is to us: a few verbs and plain records. The rules of their use: docs/EXECUTION.md.

Money, prices and quantities are Decimal, quantities are signed (a sell is negative), times are aware UTC. No binary
float passes here. Every verb may raise Unavailable (nothing was sent or changed: try later); `submit`, `cancel` and
`replace` also Rejected (final, with `code`) and Unknown (it may have happened: ask for the order by its client id).

Codes of Rejected: duplicate_id, wash_trade, held_shares, buying_power, window, untradable, fractional, short,
no_such_symbol, no_such_order, not_open (cancel or replace of an order that has ended), malformed, auth, not_built,
other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

ORDER_TYPES = ("market", "limit", "stop", "stop_limit", "trailing_stop")
TIMES_IN_FORCE = ("day", "opg", "cls", "gtc", "ioc", "fok")
# States of an order at a venue. `pending`: received, not working yet; `replaced`: another order took its place.
WORKING = ("pending", "open", "partial", "pending_cancel", "pending_replace")
ENDED = ("filled", "canceled", "expired", "rejected", "replaced")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """One order as it is sent. take_profit and stop_loss attach a bracket's legs (prices).

    pair: the order is itself a pair of which one cancels the other, at its limit (take_profit) and its stop_loss.
    """

    client_order_id: str
    symbol: str
    qty: Decimal
    order_type: str = "market"
    time_in_force: str = "day"
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    extended_hours: bool = False
    pair: bool = False

    def __post_init__(self) -> None:
        if not self.qty:
            raise ValueError("an order's quantity is not zero")
        if self.order_type not in ORDER_TYPES or self.time_in_force not in TIMES_IN_FORCE:
            raise ValueError(f"no such order: {self.order_type} {self.time_in_force}")
        if len(self.client_order_id) > 128 or not self.client_order_id:
            raise ValueError("a client order id has 1 to 128 characters")
        if self.pair and (self.take_profit is None or self.stop_loss is None or self.limit_price != self.take_profit):
            raise ValueError("a pair has a stop, and its limit as take_profit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """What lets one order pass, issued by guard.py alone and looked at again where the request leaves.

    not_before and not_after bound the venue's window; account_number is the one that the broker must report;
    live says whether real money may move.
    """

    client_order_id: str
    account_number: str
    live: bool
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOrder:
    """An order as the venue has it. status is one of WORKING or ENDED; filled_qty has the sign of qty."""

    broker_order_id: str
    client_order_id: str
    symbol: str
    qty: Decimal
    filled_qty: Decimal
    status: str
    order_type: str
    time_in_force: str
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    average_price: Decimal | None = None
    submitted_at: datetime | None = None
    updated_at: datetime | None = None
    replaced_by: str | None = None
    parent_id: str | None = None
    reason: str = ""

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFill:
    """One execution. fill_id is the venue's own, the same however often it is reported."""

    fill_id: str
    broker_order_id: str
    symbol: str
    qty: Decimal
    price: Decimal
    filled_at: datetime
    fee: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What moved cash or shares beside fills: kind dividend, fee, interest, split, transfer, or other."""

    activity_id: str
    kind: str
    symbol: str | None
    qty: Decimal
    amount: Decimal
    effective_on: date
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The account as the venue reports it; None is 'it does not say'."""

    account_number: str
    status: str
    currency: str
    cash: Decimal
    equity: Decimal | None
    buying_power: Decimal | None
    trading_blocked: bool
    shorting_enabled: bool
    fractional_trading: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What is held: signed quantity and its cost."""

    symbol: str
    qty: Decimal
    average_cost: Decimal
    market_value: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """What the venue says of a symbol."""

    symbol: str
    tradable: bool
    fractionable: bool
    shortable: bool
    easy_to_borrow: bool
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The venue's clock."""

    now_at: datetime
    is_open: bool
    next_open_at: datetime
    next_close_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionHours:
    """One session of the venue's own calendar."""

    session_date: date
    open_at: datetime
    close_at: datetime


class Broker(Protocol):
    """A venue. `batch` is how many orders one commit may send: 1 where a request leaves the machine."""

    name: str
    live: bool
    batch: int

    def account(self) -> Account: ...
    def clock(self) -> Clock: ...
    def sessions(self, first: date, last: date) -> Sequence[SessionHours]: ...
    def asset(self, symbol: str) -> Asset | None: ...

    def assets(self, symbols: Sequence[str]) -> Mapping[str, Asset | None]:
        """Return what the venue says of several symbols, in few requests however many they are."""
        ...

    def submit(self, order: OrderRequest, permit: Permit) -> BrokerOrder:
        """Send one order. Raises Rejected(code) | Unavailable | Unknown. A permit that does not fit raises
        Rejected('window' | 'auth') and nothing leaves."""
        ...

    def cancel(self, broker_order_id: str) -> None:
        """Ask for the end of an order; its end is read later. Raises Rejected('not_open'), Unavailable, Unknown."""
        ...

    def replace(
        self, broker_order_id: str, *, client_order_id: str, qty: Decimal, limit_price: Decimal | None, permit: Permit
    ) -> BrokerOrder:
        """Put another order in the place of one; qty is the whole new quantity, signed."""
        ...

    def order(self, client_order_id: str) -> BrokerOrder | None:
        """Return the order of that client id, or None where the venue has certainly never seen it."""
        ...

    def orders_since(self, at: datetime) -> Sequence[BrokerOrder]:
        """Return every order of the account that was submitted at or after a time, and all that still work, ours or
        not, legs of brackets included."""
        ...

    def fills_since(self, cursor: str, behind: datetime | None = None) -> tuple[Sequence[BrokerFill], str]:
        """Return the executions after a cursor ('' from the start), oldest first, and the next cursor. May repeat
        some that were returned before: the reader keeps them by fill_id. behind: from this time on at the latest, for
        one that is still missing from before the cursor."""
        ...

    def activities_since(self, cursor: str) -> tuple[Sequence[Activity], str]: ...
    def positions(self) -> Sequence[Position]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """How a run reaches its venue: the broker, the clock that goes on while it waits, and how it waits (seconds)."""

    broker: Broker
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
