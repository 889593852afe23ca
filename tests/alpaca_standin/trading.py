"""The trading endpoints: account, clock, calendar, assets, orders, positions, activities."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from alpaca_standin import documents, entry, figures
from alpaca_standin.market import Market, new_york
from alpaca_standin.matching import Engine
from alpaca_standin.state import ApiError, Order, Scheduled, State, invalid, text

MAX_ORDERS, DEFAULT_ORDERS = 500, 50
MAX_ACTIVITIES = 100
NOT_FOUND = 40410000
CONFIGURATIONS = {
    "disable_overnight_trading": False,
    "fractional_trading": True,
    "max_margin_multiplier": "4",
    "max_options_trading_level": 0,
    "no_shorting": False,
    "ptp_no_exception_entry": False,
    "suspend_trade": False,
    "trade_confirm_email": "all",
}
Answer = tuple[int, Any]


class Trading:
    """Answers requests about one account: (status, document); raises ApiError to refuse."""

    def __init__(self, state: State, market: Market, engine: Engine) -> None:
        self.state = state
        self.market = market
        self.engine = engine

    def answer(
        self, method: str, path: str, query: dict[str, str], body: dict[str, Any], at: datetime, effects: dict[str, Any]
    ) -> Answer:
        """Answer one request. `effects` are what the fault plan does to its order (see Venue)."""
        parts = path.removeprefix("/v2/").split("/")
        head, rest = parts[0], parts[1:]
        match (method, head, rest):
            case ("GET", "account", []):
                return 200, documents.account_document(self.state, self.market, at)
            case ("GET", "account", ["configurations"]):
                return 200, {**CONFIGURATIONS, **self.state.configurations}
            case ("PATCH", "account", ["configurations"]):
                self.state.configurations |= {key: body[key] for key in CONFIGURATIONS if key in body}
                return 200, {**CONFIGURATIONS, **self.state.configurations}
            case ("GET", "account", ["activities", *kinds]):
                return 200, self._activities(kinds[0] if kinds else query.get("activity_types", ""), query, at)
            case ("GET", "clock", []):
                return 200, documents.clock_document(self.market, at)
            case ("GET", "calendar", []):
                return 200, self._calendar(query)
            case ("GET", "assets", []):
                return 200, self._assets(query)
            case ("GET", "assets", [symbol]):
                return 200, self._asset(symbol)
            case (_, "orders" | "orders:by_client_order_id", _):
                return self._orders(method, head, rest, query, body, at, effects)
            case (_, "positions", _):
                return self._positions(method, rest, query, at)
        raise ApiError(404, NOT_FOUND, "endpoint not found")

    def _orders(
        self,
        method: str,
        head: str,
        rest: list[str],
        query: dict[str, str],
        body: dict[str, Any],
        at: datetime,
        effects: dict[str, Any],
    ) -> Answer:
        nested = query.get("nested") == "true"
        match (method, head, rest):
            case ("POST", "orders", []):
                return 200, self._place(body, at, effects)
            case ("GET", "orders", []):
                return 200, self._list(query)
            case ("DELETE", "orders", []):
                return 207, [self._cancelled(order, at) for order in self.state.open_orders() if order.parent is None]
            case ("GET", "orders:by_client_order_id", []):
                wanted = query.get("client_order_id", "")
                order_id = self.state.by_client_id.get(wanted)
                if order_id is None:
                    raise ApiError(404, NOT_FOUND, f"order not found for {wanted}")
                return 200, documents.order_document(self.state, self.state.orders[order_id], nested=nested)
            case ("GET", "orders", [order_id]):
                return 200, documents.order_document(self.state, self._known(order_id), nested=nested)
            case ("PATCH", "orders", [order_id]):
                return 200, self._replace(self._known(order_id), body, at)
            case ("DELETE", "orders", [order_id]):
                self._cancel(self._known(order_id), at, effects)
                return 204, None
        raise ApiError(405, None, "method not allowed")

    def _place(self, body: dict[str, Any], at: datetime, effects: dict[str, Any]) -> dict[str, Any]:
        source = None if effects.get("by_hand") else "access_key"
        order = entry.place(self.state, self.market, body, at, source=source)
        family = [order, *(self.state.orders[key] for key in order.legs)]
        for member in family:
            member.drop_fills_s = effects.get("drop_fills_s")
            member.double_fills = bool(effects.get("double_fills"))
        document = documents.order_document(self.state, order, nested=True)
        for member in family:
            if member.status == "pending_new":
                self.engine.emit("pending_new", member, at)
        for member in family:
            if member.is_open and member.status != "held":
                self.engine.arrive(member, at)
        return document

    def _replace(self, old: Order, body: dict[str, Any], at: datetime) -> dict[str, Any]:
        new = entry.replace(self.state, self.market, old, body, at)
        self.engine.emit("replaced", old, at)
        document = documents.order_document(self.state, new, nested=True)
        if new.status == "new":
            self.engine.emit("new", new, at)
        self.engine.arrive(new, at)
        return document

    def _cancel(self, order: Order, at: datetime, effects: dict[str, Any]) -> None:
        if order.status == "pending_cancel":
            raise invalid("order pending cancel")
        if not order.is_open:
            raise invalid(f'order is already in "{order.status}" state')
        late_s = effects.get("late_fill_s")
        if late_s is None:
            self.engine.cancel(order, at)
            return
        if effects.get("shows") == "canceled":
            self.engine.cancel(order, at)
        else:
            order.status, order.updated_at = "pending_cancel", at
            self.engine.emit("pending_cancel", order, at)
        self.state.scheduled.append(Scheduled(at=at + timedelta(seconds=late_s), order_id=order.id))

    def _cancelled(self, order: Order, at: datetime) -> dict[str, Any]:
        try:
            self._cancel(order, at, {})
        except ApiError as refusal:
            return {"id": order.id, "status": refusal.status, "body": refusal.body}
        return {"id": order.id, "status": 200}

    def _known(self, order_id: str) -> Order:
        order = self.state.orders.get(order_id)
        if order is None:
            raise ApiError(404, NOT_FOUND, f"order not found for {order_id}")
        return order

    def _list(self, query: dict[str, str]) -> list[dict[str, Any]]:
        nested = query.get("nested") == "true"
        limit = _whole(query, "limit", DEFAULT_ORDERS, MAX_ORDERS)
        after, until = _time(query, "after"), _time(query, "until")
        status = query.get("status", "open")
        if status not in ("open", "closed", "all"):
            raise invalid("invalid status", entry.MISSING)
        symbols = [name for name in query.get("symbols", "").split(",") if name]
        found = [
            order
            for order in self.state.orders.values()
            if (status == "all" or order.is_open == (status == "open"))
            and (not symbols or order.symbol in symbols)
            and query.get("side", order.side) == order.side
            and (after is None or order.submitted_at > after)
            and (until is None or order.submitted_at < until)
            and not (nested and order.parent is not None)
        ]
        found.sort(key=lambda order: order.submitted_at, reverse=query.get("direction", "desc") != "asc")
        return [documents.order_document(self.state, order, nested=nested) for order in found[:limit]]

    def _positions(self, method: str, rest: list[str], query: dict[str, str], at: datetime) -> Answer:
        held = self.state.holdings
        if method == "GET" and not rest:
            return 200, [documents.position_document(self.state, self.market, symbol, at) for symbol in sorted(held)]
        if method == "DELETE" and not rest:
            rows = [(symbol, self._close(symbol, {}, at)) for symbol in sorted(held)]
            return 207, [{"symbol": symbol, "status": 200, "body": body} for symbol, body in rows]
        asset = figures.asset(self.state, self.market, rest[0]) or {"symbol": rest[0]}
        symbol = str(asset["symbol"])
        if symbol not in held:
            raise ApiError(404, NOT_FOUND, "position does not exist")
        if method == "GET":
            return 200, documents.position_document(self.state, self.market, symbol, at)
        return 200, self._close(symbol, query, at)

    def _close(self, symbol: str, query: dict[str, str], at: datetime) -> dict[str, Any]:
        held = self.state.holdings[symbol].qty
        body = {
            "symbol": symbol,
            "qty": query.get("qty") or text(abs(held)),
            "side": "sell" if held > 0 else "buy",
            "type": "market",
            "time_in_force": "day",
        }
        return self._place(body, at, {})

    def _activities(self, kinds: str, query: dict[str, str], at: datetime) -> list[dict[str, Any]]:
        """Return a page of activities; `page_token` is the id of the last one of the page before."""
        wanted = {kind for kind in kinds.split(",") if kind}
        if "TRANS" in wanted:
            wanted |= {"CSD", "CSW"}
        category = query.get("category", "")
        day, after, until = _day(query, "date"), _time(query, "after"), _time(query, "until")
        rows = [
            row
            for row in documents.shown(self.state, at)
            if (not wanted or row.document["activity_type"] in wanted)
            and (not category or (row.document["activity_type"] == "FILL") == (category == "trade_activity"))
            and (day is None or new_york(row.at).date() == day)
            and (after is None or row.at > after)
            and (until is None or row.at < until)
        ]
        if query.get("direction", "desc") != "asc":
            rows.reverse()
        token = query.get("page_token")
        if token:
            places = [index for index, row in enumerate(rows) if row.id == token]
            if not places:
                raise invalid("invalid page_token", entry.MISSING)
            rows = rows[places[-1] + 1 :]
        size = len(rows) if day is not None and "page_size" not in query else MAX_ACTIVITIES
        size = _whole(query, "page_size", size, MAX_ACTIVITIES if day is None else len(rows) or 1)
        return [row.document for row in rows[:size]]

    def _calendar(self, query: dict[str, str]) -> list[dict[str, Any]]:
        rows = self.market.sessions.rows
        first, last = _day(query, "start") or rows[0].label, _day(query, "end") or rows[-1].label
        return [documents.calendar_document(self.market, row) for row in self.market.sessions.within(first, last)]

    def _assets(self, query: dict[str, str]) -> list[dict[str, Any]]:
        names = figures.known_symbols(self.state, self.market)
        found = [asset for name in names if (asset := figures.asset(self.state, self.market, name))]
        wanted = {"status": query.get("status"), "class": query.get("asset_class"), "exchange": query.get("exchange")}
        return [asset for asset in found if all(asset[key] == value for key, value in wanted.items() if value)]

    def _asset(self, symbol: str) -> dict[str, Any]:
        found = figures.asset(self.state, self.market, symbol)
        if found is None:
            raise ApiError(404, NOT_FOUND, f"asset not found for {symbol}")
        return found


def _whole(query: dict[str, str], key: str, default: int, largest: int) -> int:
    given = query.get(key)
    if given in (None, ""):
        return default
    if not str(given).isdigit() or not 1 <= int(str(given)) <= largest:
        raise invalid(f"invalid {key}: must be between 1 and {largest}", entry.MISSING)
    return int(str(given))


def _time(query: dict[str, str], key: str) -> datetime | None:
    given = query.get(key)
    if not given:
        return None
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise invalid(f"invalid {key}", entry.MISSING) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _day(query: dict[str, str], key: str) -> date | None:
    found = _time(query, key)
    return None if found is None else found.date()
