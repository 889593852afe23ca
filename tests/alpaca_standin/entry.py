"""Order entry: a request becomes an order, or is refused as Alpaca refuses it."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from alpaca_standin import figures
from alpaca_standin.market import Market, Sessions, in_new_york, new_york
from alpaca_standin.state import ApiError, Holding, Order, State, invalid, text

MAX_CLIENT_ORDER_ID_CHARS = 128
TYPES = ("market", "limit", "stop", "stop_limit", "trailing_stop")
TIMES_IN_FORCE = ("day", "gtc", "opg", "cls", "ioc", "fok")
CLASSES = ("", "simple", "bracket", "oco", "oto")
OPG_CUTOFF = timedelta(minutes=2)
CLS_CUTOFF = timedelta(minutes=10)
GTC_LIFE = timedelta(days=90)
ONE = Decimal(1)
MIN_STOP_DISTANCE = Decimal("0.01")
FORBIDDEN = 40310000
MISSING = 40010001


def place(
    state: State, market: Market, body: dict[str, Any], at: datetime, *, source: str | None = "access_key"
) -> Order:
    """Check a request and put its order (and legs) on the books, not yet matched. Raises ApiError."""
    symbol = str(body.get("symbol") or "")
    _check_words(body)
    asset = figures.asset(state, market, symbol)
    if asset is None:
        raise invalid(f'asset "{symbol}" not found')
    symbol = str(asset["symbol"])
    if not asset["tradable"] or asset["status"] != "active":
        raise invalid(f'asset "{symbol}" is not active' if asset["tradable"] else f'asset "{symbol}" is not tradable')
    order = _order(state, market, body, symbol, at, source)
    _check_prices(order)
    _check_size(order, asset)
    _check_class(order, body, figures.price(state, market, symbol, at))
    if order.client_order_id in state.by_client_id:
        raise invalid("client_order_id must be unique", MISSING)
    order.live_from, order.live_until = live_window(market.sessions, order.time_in_force, order.extended_hours, at)
    _check_account(state, market, order, asset, at)
    order.id = state.mint("order")
    order.status = "pending_new" if market.sessions.at(at) and order.live_from <= at else "accepted"
    _enter(state, order)
    _add_legs(state, order, body)
    return order


def replace(state: State, market: Market, old: Order, body: dict[str, Any], at: datetime) -> Order:
    """Put the order that takes the place of an open one on the books. Its fills so far stay counted in it.

    Raises ApiError if the old one cannot be replaced or the new one is refused.
    """
    if not old.is_open or old.status in ("pending_cancel", "held"):
        raise invalid(f'order is already in "{old.status}" state')
    if old.notional is not None:
        raise invalid("notional orders cannot be replaced")
    client_order_id = str(body.get("client_order_id") or state.mint("client"))
    if len(client_order_id) > MAX_CLIENT_ORDER_ID_CHARS:
        raise invalid(f"client_order_id must be no more than {MAX_CLIENT_ORDER_ID_CHARS} characters", MISSING)
    if client_order_id in state.by_client_id:
        raise invalid("client_order_id must be unique", MISSING)
    trail = number(body, "trail")
    new = Order(**{name: getattr(old, name) for name in Order.__dataclass_fields__})
    new.client_order_id, new.legs = client_order_id, list(old.legs)
    new.qty = number(body, "qty") or old.qty
    new.limit_price = number(body, "limit_price") or old.limit_price
    new.stop_price = number(body, "stop_price") or old.stop_price
    new.time_in_force = str(body.get("time_in_force") or old.time_in_force)
    if trail is not None:
        new.trail_price = trail if old.trail_price is not None else None
        new.trail_percent = trail if old.trail_percent is not None else None
    new.created_at = new.updated_at = new.submitted_at = at
    new.replaces, new.status = old.id, "accepted"
    _check_prices(new)
    if new.qty is not None and new.qty <= old.filled_qty:
        raise invalid("qty must be > filled_qty")
    new.live_from, new.live_until = live_window(market.sessions, new.time_in_force, new.extended_hours, at)
    asset = figures.asset(state, market, old.symbol) or {}
    state.close(old)  # the old order must not stand in the new one's way
    try:
        _check_account(state, market, new, asset, at)
    except ApiError:
        state.open_ids[old.id] = None
        raise
    new.id = state.mint("order")
    new.status = "new" if market.sessions.at(at) and new.live_from <= at else "accepted"
    old.status, old.replaced_at, old.updated_at, old.replaced_by = "replaced", at, at, new.id
    _enter(state, new)
    for leg in new.legs:
        state.orders[leg].parent = new.id
    if new.parent is not None:
        parent = state.orders[new.parent]
        parent.legs = [new.id if key == old.id else key for key in parent.legs]
    return new


def live_window(
    sessions: Sessions, time_in_force: str, extended_hours: bool, at: datetime
) -> tuple[datetime, datetime | None]:
    """Return from when and until when an order that arrives at `at` may trade. Raises ApiError.

    OPG orders are refused on a session's day from 2 minutes before the open (09:28) to 19:00 New York time,
    CLS orders from 10 minutes before the close (15:50, or 12:50 on a half-day) to 19:00.
    """
    today = sessions.on(new_york(at).date())
    try:
        following = sessions.after(at)
        if time_in_force in ("opg", "cls"):
            cutoff = OPG_CUTOFF if time_in_force == "opg" else CLS_CUTOFF
            target = following
            if today is not None:
                ends = (today.open_at if time_in_force == "opg" else today.close_at) - cutoff
                if ends <= at < in_new_york(today.label, 19):
                    name = "9:28am" if time_in_force == "opg" else "3:50pm"
                    raise invalid(f"{time_in_force} orders cannot be submitted after {name} and before 7:00pm ET")
                target = today if at < ends else sessions.following(today.label)
            moment = target.open_at if time_in_force == "opg" else target.close_at
            return moment, moment
        if extended_hours:
            open_until = today is not None and at < in_new_york(today.label, 20)
            label = today.label if today is not None and open_until else following.label
            if today is not None and label == today.label and not open_until:
                label = sessions.following(today.label).label
            return max(in_new_york(label, 4), at), in_new_york(label, 20)
    except IndexError:
        raise invalid("the stand-in's calendar has no session after this time") from None
    live_from = max(following.open_at, at)
    if time_in_force == "gtc":
        return live_from, at + GTC_LIFE
    if time_in_force in ("ioc", "fok"):
        return live_from, live_from
    return live_from, following.close_at


def number(body: dict[str, Any], key: str) -> Decimal | None:
    """Return a number of the request (JSON string or number), or None. Raises ApiError."""
    value = body.get(key)
    if value is None or value == "":
        return None
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise invalid(f"invalid {key} {value}") from None
    if not found.is_finite():
        raise invalid(f"invalid {key} {value}")
    return found


def _places(value: Decimal) -> int:
    """Return the decimal places that a number needs."""
    return -int(value.normalize().as_tuple().exponent)


def _check_words(body: dict[str, Any]) -> None:
    for key in ("symbol", "side", "type", "time_in_force"):
        if not body.get(key):
            raise invalid(f"{key} is required", MISSING)
    for key, known in (("side", ("buy", "sell")), ("type", TYPES), ("time_in_force", TIMES_IN_FORCE)):
        if body[key] not in known:
            raise invalid(f"invalid {key.replace('type', 'order type')}", MISSING)
    if body.get("order_class", "") not in CLASSES:
        raise invalid("invalid order_class", MISSING)
    given = body.get("client_order_id")
    if given is not None and len(str(given)) > MAX_CLIENT_ORDER_ID_CHARS:
        raise invalid(f"client_order_id must be no more than {MAX_CLIENT_ORDER_ID_CHARS} characters", MISSING)
    if number(body, "qty") is None and number(body, "notional") is None:
        raise invalid("qty or notional is required", MISSING)
    if number(body, "qty") is not None and number(body, "notional") is not None:
        raise invalid("only one of qty or notional is accepted", MISSING)


def _order(state: State, market: Market, body: dict[str, Any], symbol: str, at: datetime, source: str | None) -> Order:
    held = state.holdings.get(symbol, Holding()).qty
    side = str(body["side"])
    closes = held * (1 if side == "buy" else -1) < 0
    order_class = str(body.get("order_class") or "")
    take_profit = body.get("take_profit") or {}
    limit_price = number(body, "limit_price")
    if order_class == "oco" and limit_price is None:
        limit_price = number(take_profit, "limit_price")
    return Order(
        id="",
        client_order_id=str(body.get("client_order_id") or state.mint("client")),
        symbol=symbol,
        side=side,
        type=str(body["type"]),
        time_in_force=str(body["time_in_force"]),
        qty=number(body, "qty"),
        notional=number(body, "notional"),
        limit_price=limit_price,
        stop_price=number(body, "stop_price"),
        trail_price=number(body, "trail_price"),
        trail_percent=number(body, "trail_percent"),
        hwm=None,
        extended_hours=body.get("extended_hours") in (True, "true"),
        order_class=order_class,
        created_at=at,
        updated_at=at,
        submitted_at=at,
        live_from=at,
        live_until=None,
        intent=f"{side}_to_{'close' if closes else 'open'}",
        source=source,
    )


def _check_prices(order: Order) -> None:
    """Check which prices the type wants, and their increments."""
    needs_limit = order.type in ("limit", "stop_limit")
    needs_stop = order.type in ("stop", "stop_limit")
    if order.type == "market" and (order.limit_price or order.stop_price):
        raise invalid("market orders require no stop or limit price", MISSING)
    if needs_limit and order.limit_price is None:
        raise invalid(f"{order.type.replace('_', ' ')} orders require a limit price", MISSING)
    if needs_stop and order.stop_price is None:
        raise invalid(f"{order.type.replace('_', ' ')} orders require a stop price", MISSING)
    if order.type == "trailing_stop" and (order.trail_price is None) == (order.trail_percent is None):
        raise invalid("trailing stop orders require either trail_price or trail_percent", MISSING)
    for name in ("limit_price", "stop_price"):
        value: Decimal | None = getattr(order, name)
        if value is None or (order.type == "trailing_stop" and name == "stop_price"):
            continue
        if value <= 0:
            raise invalid(f"{name} must be > 0")
        if _places(value) > (2 if value >= ONE else 4):
            message = f"invalid {name} {text(value)}. sub-penny increment does not fulfill minimum pricing criteria"
            raise invalid(message)


def _check_size(order: Order, asset: dict[str, Any]) -> None:
    """Check quantity or notional against type, time in force and asset."""
    size = order.qty if order.qty is not None else order.notional
    if size is None or size <= 0:
        raise invalid("qty must be > 0" if order.qty is not None else "notional must be > 0")
    auction = order.time_in_force in ("opg", "cls")
    if auction and order.type not in ("market", "limit"):
        raise invalid(f"{order.time_in_force} orders must be market or limit orders")
    if order.type == "trailing_stop" and order.time_in_force not in ("day", "gtc"):
        raise invalid("trailing stop orders must be day or gtc orders")
    if order.extended_hours and (order.type != "limit" or order.time_in_force != "day"):
        raise invalid("extended hours order must be DAY limit orders")
    if order.notional is not None and order.type != "market":
        raise invalid("notional orders must be market orders")
    if order.qty is not None and order.qty == order.qty.to_integral_value():
        return
    if order.time_in_force != "day":
        raise invalid("fractional orders must be DAY orders")
    if order.order_class not in ("", "simple"):
        raise invalid("fractional orders must be simple orders")
    if not asset["fractionable"]:
        raise ApiError(403, FORBIDDEN, f'asset "{order.symbol}" is not fractionable')
    if order.qty is not None and _places(order.qty) > 9:
        raise invalid(f"invalid qty {order.qty}: at most 9 decimal places")
    if order.notional is not None and (order.notional < ONE or _places(order.notional) > 2):
        raise invalid("notional must be >= 1.00 with at most 2 decimal places")


def _check_class(order: Order, body: dict[str, Any], base_price: Decimal) -> None:
    """Check a bracket's, oco's or oto's legs against each other and the base price."""
    if order.order_class in ("", "simple"):
        return
    take_profit = number(body.get("take_profit") or {}, "limit_price")
    stop_loss = number(body.get("stop_loss") or {}, "stop_price")
    if order.time_in_force not in ("day", "gtc") or order.extended_hours:
        raise invalid(f"{order.order_class} orders must be DAY or GTC orders without extended hours")
    if order.type == "trailing_stop":
        raise invalid("trailing stop orders must be simple orders")
    if order.order_class in ("bracket", "oco") and take_profit is None:
        raise invalid(f"{order.order_class} orders require take_profit.limit_price", MISSING)
    if order.order_class in ("bracket", "oco") and stop_loss is None:
        raise invalid(f"{order.order_class} orders require stop_loss.stop_price", MISSING)
    if order.order_class == "oto" and (take_profit is None) == (stop_loss is None):
        raise invalid("oto orders require either take_profit or stop_loss", MISSING)
    if order.order_class == "oco" and (order.type != "limit" or order.intent.endswith("_to_open")):
        raise invalid("oco orders must be limit exit orders")
    base = order.limit_price if order.type == "limit" else base_price
    entry = order.sign if order.order_class != "oco" else -order.sign
    if stop_loss is not None and base is not None and entry * (base - stop_loss) < MIN_STOP_DISTANCE:
        raise invalid(f"stop_loss.stop_price must be {'<=' if entry > 0 else '>='} base_price -/+ 0.01")
    if order.order_class == "oco" or take_profit is None or base is None:
        return
    if entry * (take_profit - base) < MIN_STOP_DISTANCE:
        raise invalid(f"take_profit.limit_price must be {'>=' if entry > 0 else '<='} base_price +/- 0.01")


def _check_account(state: State, market: Market, order: Order, asset: dict[str, Any], at: datetime) -> None:
    """Check the account: blocked, shares held, shorting, wash trade, buying power."""
    if state.configurations.get("suspend_trade"):
        raise ApiError(403, FORBIDDEN, "new orders are rejected by user request")
    last_price = figures.price(state, market, order.symbol, at)
    qty = order.remaining_qty
    if order.notional is not None:
        qty = order.notional / last_price if last_price else ONE
    held = state.holdings.get(order.symbol, Holding()).qty
    if order.intent.endswith("_to_close"):
        if order.order_class != "oco" or order.parent is None:
            _check_held(state, order, qty, held)
    elif order.side == "sell":
        if order.notional is not None or qty != qty.to_integral_value():
            raise invalid("fractional orders cannot be sold short")
        if not asset["shortable"] or not asset["easy_to_borrow"]:
            raise invalid(f'asset "{order.symbol}" cannot be sold short')
        if state.config.multiplier == 1 or state.configurations.get("no_shorting"):
            raise ApiError(403, FORBIDDEN, "account is not allowed to short")
    _check_wash(state, order)
    cost, power = figures.order_cost(order, last_price), figures.buying_power(state, market, at)
    if cost > power:
        raise ApiError(
            403, FORBIDDEN, "insufficient buying power", buying_power=text(power, 2), cost_basis=text(cost, 2)
        )


def _check_held(state: State, order: Order, qty: Decimal, held: Decimal) -> None:
    free = figures.available(state, order.symbol)
    if order.parent is not None:  # a replaced leg takes the place of its own shares
        free = abs(held)
    if qty > free:
        raise ApiError(
            403,
            FORBIDDEN,
            f"insufficient qty available for order (requested: {text(qty)}, available: {text(free)})",
            available=text(free),
            existing_qty=text(held),
            held_for_orders=text(figures.held_for_orders(state, order.symbol)),
            symbol=order.symbol,
            related_orders=[o.id for o in state.open_orders(order.symbol) if o.side == order.side],
        )


def _check_wash(state: State, order: Order) -> None:
    """Refuse an order that could meet a resting one of this account on the other side.

    Two limits may rest when the buy lies below the sell; anything else on the other side is refused. Complex
    orders (bracket, oco, oto) are exempt.
    """
    if order.order_class not in ("", "simple") or order.parent is not None:
        return
    for other in state.open_orders(order.symbol):
        if other.side == order.side or other.status == "held":
            continue
        if order.type == other.type == "limit" and order.limit_price is not None and other.limit_price is not None:
            if order.sign * (other.limit_price - order.limit_price) > 0:
                continue
            reason = "opposite side limit order exists"
        else:
            reason = f"opposite side {'limit' if other.type == 'limit' else 'market/stop'} order exists"
        raise wash(other.id, reason)


def wash(existing_order_id: str, reason: str = "opposite side market/stop order exists") -> ApiError:
    """Return the refusal of a wash trade."""
    return ApiError(
        403,
        FORBIDDEN,
        "potential wash trade detected. use complex orders",
        existing_order_id=existing_order_id,
        reject_reason=reason,
    )


def _enter(state: State, order: Order) -> None:
    state.orders[order.id] = order
    state.open_ids[order.id] = None
    state.by_client_id[order.client_order_id] = order.id


def _add_legs(state: State, order: Order, body: dict[str, Any]) -> None:
    """Put the legs on the books: held until the entry is filled, at once for an oco."""
    if order.order_class in ("", "simple"):
        return
    take_profit, stop_loss = body.get("take_profit") or {}, body.get("stop_loss") or {}
    wanted = []
    if take_profit and order.order_class != "oco":
        wanted.append(("take_profit", "limit", number(take_profit, "limit_price"), None))
    if stop_loss:
        limit = number(stop_loss, "limit_price")
        wanted.append(("stop_loss", "stop" if limit is None else "stop_limit", limit, number(stop_loss, "stop_price")))
    side = order.side if order.order_class == "oco" else ("sell" if order.side == "buy" else "buy")
    for leg, kind, limit_price, stop_price in wanted:
        child = Order(**{name: getattr(order, name) for name in Order.__dataclass_fields__})
        child.id, child.client_order_id = state.mint("order"), state.mint("client")
        child.parent, child.leg, child.legs, child.side, child.type = order.id, leg, [], side, kind
        child.limit_price, child.stop_price = limit_price, stop_price
        child.intent = f"{side}_to_close"
        child.status = order.status if order.order_class == "oco" else "held"
        _check_prices(child)
        order.legs.append(child.id)
        _enter(state, child)
    if order.order_class == "oco":
        order.leg = "take_profit"
