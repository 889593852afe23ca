"""Alpaca's documents as records of broker.py. Fields may be missing or null, and each number may be a string or not.

What a record cannot be without and the document does not say is Unreadable: nothing is invented in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from tradecore.execution.broker import (
    Account,
    Activity,
    Asset,
    BrokerFill,
    BrokerOrder,
    Clock,
    OrderRequest,
    Position,
    SessionHours,
)

Document = Mapping[str, Any]
NEW_YORK = ZoneInfo("America/New_York")
ZERO = Decimal(0)
# Alpaca's words for an order's state. stopped: a trade is guaranteed, not made; done_for_day and calculated: no more
# executions today, an end may still follow; an order with executions that goes on is `partial`, whatever its word.
STATUSES = {
    "accepted": "pending",
    "pending_new": "pending",
    "pending_review": "pending",
    "accepted_for_bidding": "pending",
    "held": "pending",
    "suspended": "pending",
    "new": "open",
    "stopped": "open",
    "done_for_day": "open",
    "calculated": "open",
    "partially_filled": "partial",
    "pending_cancel": "pending_cancel",
    "pending_replace": "pending_replace",
    "filled": "filled",
    "canceled": "canceled",
    "expired": "expired",
    "rejected": "rejected",
    "replaced": "replaced",
}
KINDS = {
    "INT": "interest",
    "INTNRA": "interest",
    "INTTW": "interest",
    "FEE": "fee",
    "CFEE": "fee",
    "DIVFEE": "fee",
    "PTC": "fee",
    "PTR": "fee",
    "CGD": "dividend",
    "SPLIT": "split",
    "SSP": "split",
    "CSD": "transfer",
    "CSW": "transfer",
    "JNL": "transfer",
    "JNLC": "transfer",
    "JNLS": "transfer",
    "ACATC": "transfer",
    "ACATS": "transfer",
    "TRANS": "transfer",
}


class Unreadable(ValueError):
    """A document that does not say what it must."""


def amount(document: Document, key: str) -> Decimal | None:
    """Return a number as it is written, or None where it is missing, null or empty. Raises Unreadable."""
    value = document.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise Unreadable(f"{key} is no number")
    try:
        found = Decimal(value)
    except InvalidOperation:
        raise Unreadable(f"{key} is no number") from None
    if not found.is_finite():
        raise Unreadable(f"{key} is no number")
    return found


def stated(document: Document, key: str) -> Decimal:
    """Return a number that must be there. Raises Unreadable."""
    found = amount(document, key)
    if found is None:
        raise Unreadable(f"there is no {key}")
    return found


def text(document: Document, key: str) -> str:
    """Return a text that must be there. Raises Unreadable."""
    found = document.get(key)
    if not isinstance(found, str) or not found:
        raise Unreadable(f"there is no {key}")
    return found


def maybe(document: Document, key: str) -> str:
    """Return a text, '' where it is missing or null."""
    found = document.get(key)
    return "" if found is None else str(found)


def moment(document: Document, key: str) -> datetime | None:
    """Return a time as UTC, or None. Raises Unreadable; nanoseconds are cut to microseconds."""
    value = document.get(key)
    if value is None or value == "":
        return None
    try:
        found = datetime.fromisoformat(str(value))
        if found.tzinfo is None:
            raise Unreadable(f"{key} has no UTC offset")
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable(f"{key} is no time") from None


def stamp(at: datetime) -> str:
    """Return a time as Alpaca takes it."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def plain(value: Decimal) -> str:
    """Return a number as it is sent: all its digits, no exponent."""
    return format(value, "f")


def signed(value: Decimal, sign: int) -> Decimal:
    """Return a number with that sign, all its digits kept: arithmetic would round to 28."""
    return value.copy_abs() if sign > 0 else value.copy_abs().copy_negate()


def order_body(order: OrderRequest) -> dict[str, Any]:
    """Return the document that asks for an order: numbers are strings, side and quantity apart."""
    body: dict[str, Any] = {
        "symbol": order.symbol,
        "qty": plain(order.qty.copy_abs()),
        "side": "buy" if order.qty > 0 else "sell",
        "type": order.order_type,
        "time_in_force": order.time_in_force,
        "client_order_id": order.client_order_id,
    }
    for key in ("limit_price", "stop_price", "trail_price"):
        if (price := getattr(order, key)) is not None:
            body[key] = plain(price)
    if order.extended_hours:
        body["extended_hours"] = True
    if order.take_profit is not None:
        body["take_profit"] = {"limit_price": plain(order.take_profit)}
    if order.stop_loss is not None:
        body["stop_loss"] = {"stop_price": plain(order.stop_loss)}
    if order.take_profit is not None or order.stop_loss is not None:
        both = order.take_profit is not None and order.stop_loss is not None
        body["order_class"] = "oco" if order.pair else "bracket" if both else "oto"
    return body


def order_of(document: Document, parent_id: str | None = None) -> BrokerOrder:
    """Return one order. An order over an amount of money has as quantity what it has bought so far."""
    sign = sign_of(document)
    filled = amount(document, "filled_qty") or ZERO
    qty = amount(document, "qty")
    word = text(document, "status")
    status = STATUSES.get(word, "pending")  # a word that is new to us: it may still trade
    if status == "open" and filled:
        status = "filled" if word == "calculated" and filled == qty else "partial"
    return BrokerOrder(
        broker_order_id=text(document, "id"),
        client_order_id=maybe(document, "client_order_id"),
        symbol=maybe(document, "symbol"),
        qty=signed(filled if qty is None else qty, sign),
        filled_qty=signed(filled, sign),
        status=status,
        order_type=maybe(document, "type") or maybe(document, "order_type"),
        time_in_force=maybe(document, "time_in_force"),
        limit_price=amount(document, "limit_price"),
        stop_price=amount(document, "stop_price"),
        average_price=amount(document, "filled_avg_price") if filled else None,
        submitted_at=moment(document, "submitted_at"),
        updated_at=moment(document, "updated_at"),
        replaced_by=maybe(document, "replaced_by") or None,
        parent_id=parent_id,
        reason="" if word in STATUSES else f"status {word}",
    )


def family(document: Document) -> Iterator[BrokerOrder]:
    """Return an order and the legs inside its document."""
    parent = order_of(document)
    yield parent
    legs = document.get("legs") or ()
    if not isinstance(legs, Sequence) or isinstance(legs, str):
        raise Unreadable("the legs are no list")
    for leg in legs:
        if not isinstance(leg, Mapping):
            raise Unreadable("a leg is no document")
        yield order_of(leg, parent.broker_order_id)


def sign_of(document: Document) -> int:
    """Return 1 for a buy, -1 for a sale ('sell_short' among the activities). An order of several legs has no side."""
    side = maybe(document, "side")
    if not side and document.get("legs"):
        return 1
    if not side.startswith(("buy", "sell")):
        raise Unreadable("there is no side")
    return 1 if side.startswith("buy") else -1


def fill_of(document: Document) -> BrokerFill:
    """Return one execution of the account's activities."""
    filled_at = moment(document, "transaction_time")
    if filled_at is None:
        raise Unreadable("there is no transaction_time")
    return BrokerFill(
        fill_id=text(document, "id"),
        broker_order_id=text(document, "order_id"),
        symbol=text(document, "symbol"),
        qty=signed(stated(document, "qty"), sign_of(document)),
        price=stated(document, "price"),
        filled_at=filled_at,
    )


def activity_of(document: Document) -> Activity:
    """Return what moved cash or shares beside executions."""
    word = text(document, "activity_type")
    kind = KINDS.get(word) or ("dividend" if word.startswith("DIV") else "other")
    note = " ".join(part for part in (word, maybe(document, "description"), maybe(document, "status")) if part)
    return Activity(
        activity_id=text(document, "id"),
        kind=kind,
        symbol=maybe(document, "symbol") or None,
        qty=amount(document, "qty") or ZERO,
        amount=amount(document, "net_amount") or ZERO,
        effective_on=_day_of(document),
        note=note,
    )


def _day_of(document: Document) -> date:
    for key in ("date", "transaction_time", "created_at"):
        value = maybe(document, key)
        if value:
            try:
                return date.fromisoformat(value[:10])
            except ValueError:
                raise Unreadable(f"{key} is no date") from None
    raise Unreadable("there is no date")


def account_of(document: Document) -> Account:
    """Return the account. Only its number and its cash must be there."""
    own = document.get("user_configurations")
    fractional = own.get("fractional_trading") if isinstance(own, Mapping) else None
    blocked = ("trading_blocked", "account_blocked", "trade_suspended_by_user")
    return Account(
        account_number=text(document, "account_number"),
        status=maybe(document, "status"),
        currency=maybe(document, "currency") or "USD",
        cash=stated(document, "cash"),
        equity=amount(document, "equity"),
        buying_power=amount(document, "buying_power"),
        trading_blocked=any(document.get(key) is True for key in blocked),
        shorting_enabled=document.get("shorting_enabled") is True,
        fractional_trading=fractional is not False,
    )


def position_of(document: Document) -> Position:
    """Return what is held of a symbol; a short one is negative."""
    qty = stated(document, "qty")
    return Position(
        symbol=text(document, "symbol"),
        qty=signed(qty, -1) if maybe(document, "side") == "short" else qty,
        average_cost=stated(document, "avg_entry_price"),
        market_value=amount(document, "market_value"),
    )


def asset_of(document: Document) -> Asset:
    """Return what Alpaca says of a symbol; a flag that is missing is no."""
    return Asset(
        symbol=text(document, "symbol"),
        tradable=document.get("tradable") is True,
        fractionable=document.get("fractionable") is True,
        shortable=document.get("shortable") is True,
        easy_to_borrow=document.get("easy_to_borrow") is True,
        status=maybe(document, "status"),
    )


def clock_of(document: Document) -> Clock:
    """Return Alpaca's clock."""
    times = [moment(document, key) for key in ("timestamp", "next_open", "next_close")]
    now_at, next_open_at, next_close_at = times
    if now_at is None or next_open_at is None or next_close_at is None:
        raise Unreadable("the clock tells no time")
    is_open = document.get("is_open") is True
    return Clock(now_at=now_at, is_open=is_open, next_open_at=next_open_at, next_close_at=next_close_at)


def hours_of(document: Document) -> SessionHours:
    """Return a session of Alpaca's calendar, which is written in New York's wall time."""
    try:
        label = date.fromisoformat(text(document, "date"))
        ends = [time.fromisoformat(text(document, key)) for key in ("open", "close")]
        open_at, close_at = (datetime.combine(label, at, NEW_YORK).astimezone(UTC) for at in ends)
    except (ValueError, OverflowError) as error:
        raise Unreadable(f"the calendar cannot be read ({error})") from None
    return SessionHours(session_date=label, open_at=open_at, close_at=close_at)
