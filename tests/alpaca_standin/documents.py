"""The JSON documents as Alpaca prints them: money and quantities are strings, what is not known is null."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from alpaca_standin import figures
from alpaca_standin.market import Market, SessionRow, new_york
from alpaca_standin.state import ZERO, Activity, Holding, Order, State, digest, stamp, text

PDT_FIELDS_END = date(2026, 7, 6)
SETTLEMENT_SESSIONS = 1


def order_document(state: State, order: Order, *, nested: bool = False) -> dict[str, Any]:
    """Return an order; with `nested` its legs inside it."""
    average = order.filled_notional / order.filled_qty if order.filled_qty else None
    legs = [order_document(state, state.orders[leg]) for leg in order.legs] if nested and order.legs else None
    return {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "created_at": stamp(order.created_at),
        "updated_at": stamp(order.updated_at),
        "submitted_at": stamp(order.submitted_at),
        "filled_at": stamp(order.filled_at),
        "expired_at": stamp(order.expired_at),
        "canceled_at": stamp(order.canceled_at),
        "failed_at": stamp(order.failed_at),
        "replaced_at": stamp(order.replaced_at),
        "replaced_by": order.replaced_by,
        "replaces": order.replaces,
        "asset_id": figures.asset_id(order.symbol),
        "symbol": order.symbol,
        "asset_class": "us_equity",
        "notional": text(order.notional, 2),
        "qty": text(order.qty),
        "filled_qty": text(order.filled_qty),
        "filled_avg_price": text(average, 6),
        "order_class": order.order_class,
        "order_type": order.type,
        "type": order.type,
        "side": order.side,
        "position_intent": order.intent,
        "time_in_force": order.time_in_force,
        "limit_price": text(order.limit_price),
        "stop_price": text(order.stop_price),
        "status": order.status,
        "extended_hours": order.extended_hours,
        "legs": legs,
        "trail_percent": text(order.trail_percent),
        "trail_price": text(order.trail_price),
        "hwm": text(order.hwm),
        "subtag": None,
        "source": order.source,
        "expires_at": stamp(order.live_until),
    }


def account_document(state: State, market: Market, at: datetime) -> dict[str, Any]:
    """Return the account at `at`. Day-trade fields are in it until 2026-07-05 only."""
    config = state.config
    long_value, short_value = figures.market_values(state, market, at)
    worth = state.cash + long_value + short_value
    power = figures.buying_power(state, market, at)
    margin = figures.initial_margin(state, market, at)
    maintenance = long_value * figures.MAINTENANCE_LONG - short_value
    before = market.sessions.previous_close(at)
    document: dict[str, Any] = {
        "id": figures.asset_id(f"account {config.account_number}"),
        "admin_configurations": {},
        "user_configurations": {},
        "account_number": config.account_number,
        "status": "ACTIVE",
        "crypto_status": "ACTIVE",
        "crypto_tier": 1,
        "options_approved_level": 0,
        "options_trading_level": 0,
        "currency": "USD",
        "buying_power": text(power, 2),
        "regt_buying_power": text(power, 2),
        "options_buying_power": text(max(state.cash, ZERO), 2),
        "non_marginable_buying_power": text(max(state.cash, ZERO), 2),
        "effective_buying_power": text(power, 2),
        "cash": text(state.cash, 6),
        "accrued_fees": "0",
        "pending_transfer_in": "0",
        "pending_transfer_out": "0",
        "portfolio_value": text(worth, 6),
        "trading_blocked": False,
        "transfers_blocked": False,
        "account_blocked": False,
        "created_at": config.created_at,
        "trade_suspended_by_user": bool(state.configurations.get("suspend_trade", False)),
        "multiplier": str(config.multiplier),
        "shorting_enabled": config.multiplier > 1,
        "equity": text(worth, 6),
        "last_equity": text(figures.last_equity(state, market, at), 6),
        "long_market_value": text(long_value, 6),
        "short_market_value": text(short_value, 6),
        "position_market_value": text(long_value - short_value, 6),
        "initial_margin": text(margin, 2),
        "maintenance_margin": text(maintenance, 2),
        "last_maintenance_margin": "0",
        "sma": "0",
        "balance_asof": before.label.isoformat() if before else None,
        "intraday_adjustments": "0",
        "pending_reg_taf_fees": "0",
    }
    if new_york(at).date() < PDT_FIELDS_END:
        document |= {"daytrade_count": 0, "pattern_day_trader": False, "daytrading_buying_power": "0"}
    document |= {key: None for key in config.null_fields if key in document}
    return {key: value for key, value in document.items() if key not in config.missing_fields}


def position_document(state: State, market: Market, symbol: str, at: datetime) -> dict[str, Any]:
    """Return the position in a symbol that is held."""
    held = state.holdings[symbol]
    last = figures.price(state, market, symbol, at)
    lastday = market.last_close(symbol, at) or last
    value, cost = held.qty * last, held.qty * held.avg_price
    profit, today = value - cost, held.qty * (last - lastday)
    return {
        "asset_id": figures.asset_id(symbol),
        "symbol": symbol,
        "exchange": "NASDAQ",
        "asset_class": "us_equity",
        "asset_marginable": True,
        "qty": text(held.qty),
        "avg_entry_price": text(held.avg_price, 6),
        "side": "long" if held.qty > 0 else "short",
        "market_value": text(value, 6),
        "cost_basis": text(cost, 6),
        "unrealized_pl": text(profit, 6),
        "unrealized_plpc": text(_share(profit, abs(cost)), 16),
        "unrealized_intraday_pl": text(today, 6),
        "unrealized_intraday_plpc": text(_share(today, abs(held.qty * lastday)), 16),
        "current_price": text(last),
        "lastday_price": text(lastday),
        "change_today": text(_share(last - lastday, lastday), 16),
        "qty_available": text(figures.available(state, symbol)),
    }


def fill_document(order: Order, qty: Decimal, price: Decimal, at: datetime, execution_id: str) -> dict[str, Any]:
    """Return the FILL activity of an execution."""
    return {
        "id": activity_id(at, execution_id),
        "activity_type": "FILL",
        "transaction_time": stamp(at),
        "type": "fill" if order.status == "filled" else "partial_fill",
        "price": text(price),
        "qty": text(qty),
        "side": order.side,
        "symbol": order.symbol,
        "leaves_qty": text(order.remaining_qty),
        "order_id": order.id,
        "cum_qty": text(order.filled_qty),
        "order_status": order.status,
    }


def activity_id(at: datetime, unique: str) -> str:
    """Return '<time>::<uuid>': the time in milliseconds, so that ids sort as the activities happened."""
    return f"{at:%Y%m%d%H%M%S}{at.microsecond // 1000:03d}::{unique}"


def event_document(
    state: State, event: str, order: Order, at: datetime, fill: tuple[Decimal, Decimal] | None, execution_id: str
) -> dict[str, Any]:
    """Return a trade_updates message; `fill` is (qty, price) of an execution."""
    data: dict[str, Any] = {
        "event": event,
        "execution_id": execution_id,
        "order": order_document(state, order, nested=True),
        "timestamp": stamp(at),
    }
    if fill is not None:
        held = state.holdings.get(order.symbol, Holding())
        data |= {"qty": text(fill[0]), "price": text(fill[1]), "position_qty": text(held.qty)}
    return {"stream": "trade_updates", "data": data}


def clock_document(market: Market, at: datetime) -> dict[str, Any]:
    """Return the clock, in New York time with its UTC offset."""
    now = market.sessions.at(at)
    following = market.sessions.after(at)
    opening = market.sessions.following(following.label) if now else following
    return {
        "timestamp": new_york(at).isoformat(),
        "is_open": now is not None,
        "next_open": new_york(opening.open_at).isoformat(),
        "next_close": new_york(following.close_at).isoformat(),
    }


def calendar_document(market: Market, session: SessionRow) -> dict[str, Any]:
    """Return a calendar day, in New York wall times."""
    try:
        settled = market.sessions.following(session.label).label
    except IndexError:
        settled = session.label + timedelta(days=1)
    return {
        "date": session.label.isoformat(),
        "open": f"{new_york(session.open_at):%H:%M}",
        "close": f"{new_york(session.close_at):%H:%M}",
        "session_open": "0400",
        "session_close": "2000",
        "settlement_date": settled.isoformat(),
    }


def shown(state: State, at: datetime) -> list[Activity]:
    """Return the activities that the REST list has at `at`, oldest first, copies included."""
    found = [row for row in state.activities if row.shown_at is not None and row.shown_at <= at]
    found.sort(key=lambda row: row.id)
    return [row for row in found for _ in range(row.copies)]


def new_activity(state: State, kind: str, at: datetime, more: dict[str, Any]) -> dict[str, Any]:
    """Return a non-trade activity's document (dividend, fee, ...)."""
    unique = state.mint(f"activity {digest(kind).hex()[:4]}")
    return {
        "id": activity_id(at, unique),
        "activity_type": kind,
        "date": new_york(at).date().isoformat(),
        "created_at": stamp(at),
        "currency": "USD",
        "net_amount": "0",
        "description": "",
        "status": "executed",
        **more,
    }


def _share(part: Decimal, whole: Decimal) -> Decimal:
    return part / whole if whole else ZERO
