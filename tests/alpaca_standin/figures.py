"""Figures of an account: prices, equity, margin, buying power, shares held by open orders."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from alpaca_standin.market import Market
from alpaca_standin.state import ZERO, Holding, Order, State, digest

INITIAL_MARGIN_LONG = Decimal("0.5")
INITIAL_MARGIN_SHORT = Decimal("1.5")
MAINTENANCE_LONG = Decimal("0.3")
SHORT_COLLAR = Decimal("1.03")
LOW_PRICE_USD = Decimal(50)


def market_buy_collar(price: Decimal) -> Decimal:
    """Return the price that a market buy is valued at: 4 % above below 50 USD, else 2.5 %."""
    return price * (Decimal("1.04") if price < LOW_PRICE_USD else Decimal("1.025"))


def asset(state: State, market: Market, symbol: str) -> dict[str, Any] | None:
    """Return the asset's document, or None if the venue does not know the symbol (or asset id)."""
    for name in (symbol,) if symbol in market.bars or symbol in state.config.assets else known_symbols(state, market):
        made_id = asset_id(name)
        if symbol in (name, made_id):
            return {
                "id": made_id,
                "class": "us_equity",
                "exchange": "NASDAQ",
                "symbol": name,
                "name": f"{name} Common Stock",
                "status": "active",
                "tradable": True,
                "marginable": True,
                "maintenance_margin_requirement": 30,
                "margin_requirement_long": "30",
                "margin_requirement_short": "100",
                "shortable": True,
                "easy_to_borrow": True,
                "fractionable": True,
                "attributes": [],
                **state.config.assets.get(name, {}),
            }
    return None


def asset_id(symbol: str) -> str:
    """Return the asset's id, the same in every run."""
    hexed = digest("asset", symbol)[:16].hex()
    return f"{hexed[:8]}-{hexed[8:12]}-4{hexed[13:16]}-a{hexed[17:20]}-{hexed[20:32]}"


def known_symbols(state: State, market: Market) -> list[str]:
    return sorted({*market.symbols, *state.config.assets})


def price(state: State, market: Market, symbol: str, at: datetime) -> Decimal:
    """Return the last price at `at`; without any print a holding's own average price."""
    found = market.last(symbol, at)
    return found.price if found else state.holdings.get(symbol, Holding()).avg_price


def market_values(state: State, market: Market, at: datetime) -> tuple[Decimal, Decimal]:
    """Return the value of the long and of the short positions (the latter <= 0)."""
    values = [held.qty * price(state, market, symbol, at) for symbol, held in state.holdings.items()]
    return sum((v for v in values if v > 0), ZERO), sum((v for v in values if v < 0), ZERO)


def equity(state: State, market: Market, at: datetime) -> Decimal:
    return state.cash + sum(market_values(state, market, at), ZERO)


def last_equity(state: State, market: Market, at: datetime) -> Decimal:
    """Return the equity at the last close before `at`."""
    before = market.sessions.previous_close(at)
    if before is None:
        return state.config.cash_usd
    stored = state.equity_marks.get(before.label.isoformat())
    return equity(state, market, before.close_at) if stored is None else stored


def mark(state: State, market: Market, at: datetime) -> None:
    """Store the equity of the last close, before something changes what is held."""
    before = market.sessions.previous_close(at)
    if before is not None:
        key = before.label.isoformat()
        if key not in state.equity_marks:
            state.equity_marks[key] = equity(state, market, before.close_at)


def order_cost(order: Order, last_price: Decimal) -> Decimal:
    """Return what an open order takes of the buying power: nothing if it closes a position."""
    if order.intent.endswith("_to_close") or order.parent is not None:
        return ZERO
    if order.notional is not None:
        return order.notional - order.filled_notional
    if order.side == "buy":
        value = order.limit_price or order.stop_price or market_buy_collar(last_price)
    else:
        value = max(order.limit_price or ZERO, last_price * SHORT_COLLAR)
    return value * order.remaining_qty


def buying_power(state: State, market: Market, at: datetime) -> Decimal:
    """Return the buying power that is left with all open orders taken off."""
    taken = sum((order_cost(o, price(state, market, o.symbol, at)) for o in state.open_orders()), ZERO)
    if state.config.multiplier == 1:
        return max(state.cash - taken, ZERO)
    free = equity(state, market, at) - initial_margin(state, market, at)
    return max(max(free, ZERO) * state.config.multiplier - taken, ZERO)


def initial_margin(state: State, market: Market, at: datetime) -> Decimal:
    long_value, short_value = market_values(state, market, at)
    return long_value * INITIAL_MARGIN_LONG - short_value * INITIAL_MARGIN_SHORT


def held_for_orders(state: State, symbol: str) -> Decimal:
    """Return the shares of the position that open closing orders lock; a one-cancels-other pair counts once."""
    held = state.holdings.get(symbol, Holding()).qty
    groups: dict[str, Decimal] = {}
    for order in state.open_orders(symbol):
        if order.status != "held" and order.sign * held < 0:
            key = order.parent or order.id
            groups[key] = max(groups.get(key, ZERO), order.remaining_qty)
    return sum(groups.values(), ZERO)


def available(state: State, symbol: str) -> Decimal:
    """Return the shares of the position (absolute) that no open order locks."""
    return abs(state.holdings.get(symbol, Holding()).qty) - held_for_orders(state, symbol)
