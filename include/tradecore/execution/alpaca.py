"""Alpaca, paper and live: the one place from which a request to trade leaves the machine.

No thread, no sleep, no retry, no state but the account number: the throttle waits outside (storage/throttle.py), and
who asked for an order that got no answer looks it up by its client id. What answers mean: alpaca_http.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import quote

from requests.adapters import BaseAdapter

from tradecore.errors import Rejected, Unavailable, Unknown
from tradecore.execution import alpaca_records as records
from tradecore.execution.alpaca_http import Line, NotThere, address, unclear
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

ORDERS_PAGE, ACTIVITIES_PAGE, MAX_PAGES = 500, 100, 1_000
FEW_ASSETS = 20  # the list of all has some 12,000: a second or two, and one request of the account's 200 a minute
# Executions and activities may appear after younger ones did: each reading goes back behind the youngest known.
FILLS_OVERLAP, ACTIVITIES_OVERLAP = timedelta(days=1), timedelta(days=7)
TICK = timedelta(microseconds=1)
T = TypeVar("T")


class AlpacaBroker:
    """A Broker (broker.py) on one account at Alpaca.

    Parameters: live, whether it is the real account; clock, an aware time for the permit's window; timeout_s, for the
    connection and for each part of an answer; base_url, a stand-in on this machine; transport, a requests adapter in
    the place of the network; pace, called with method and path before each request. Raises ConfigError for an address
    that is not the account's.
    """

    batch = 1

    def __init__(
        self,
        *,
        api_key: str,
        secret_key: str,
        live: bool,
        clock: Callable[[], datetime],
        timeout_s: float,
        base_url: str | None = None,
        transport: BaseAdapter | None = None,
        pace: Callable[[str, str], None] = lambda method, path: None,
    ) -> None:
        self.live = live
        self.name = "alpaca-live" if live else "alpaca-paper"
        self._base_url = base_url
        self._clock = clock
        self._account_number: str | None = None
        self._line = Line(
            api_key=api_key,
            secret_key=secret_key,
            live=live,
            url=address(live, base_url),
            timeout_s=timeout_s,
            transport=transport,
            pace=pace,
        )

    def __repr__(self) -> str:
        return f"AlpacaBroker({self.name})"

    def account(self) -> Account:
        """Return the account; its number is what permits are held against from now on."""
        found = self._read("/account", {}, records.account_of)
        self._account_number = found.account_number
        return found

    def clock(self) -> Clock:
        return self._read("/clock", {}, records.clock_of)

    def sessions(self, first: date, last: date) -> Sequence[SessionHours]:
        return self._read_list("/calendar", {"start": str(first), "end": str(last)}, records.hours_of)

    def asset(self, symbol: str) -> Asset | None:
        return self._find(f"/assets/{quote(symbol, safe='')}", {}, records.asset_of)

    def assets(self, symbols: Sequence[str]) -> dict[str, Asset | None]:
        """Return several assets: one by one while they are few, else from the list of all, in one request.

        The list has symbols that changed hands once for each holder: the one that is active counts.
        """
        if len(symbols) <= FEW_ASSETS:
            return {symbol: self.asset(symbol) for symbol in symbols}
        listed = self._read_list("/assets", {"asset_class": "us_equity"}, records.asset_of)
        found = {asset.symbol: asset for asset in sorted(listed, key=lambda asset: asset.status == "active")}
        return {symbol: found.get(symbol) for symbol in symbols}

    def positions(self) -> Sequence[Position]:
        return self._read_list("/positions", {}, records.position_of)

    def submit(self, order: OrderRequest, permit: Permit) -> BrokerOrder:
        return self._send_order("POST", "/orders", records.order_body(order), permit)

    def cancel(self, broker_order_id: str) -> None:
        """Ask for the end of an order. One whose cancel is under way is no refusal."""
        try:
            self._line.delete(_path(broker_order_id))
        except Rejected as refusal:
            if "pending cancel" not in refusal.message:
                raise

    def replace(
        self, broker_order_id: str, *, client_order_id: str, qty: Decimal, limit_price: Decimal | None, permit: Permit
    ) -> BrokerOrder:
        """Change quantity and limit. The side stays: the order is read first, and another sign is refused."""
        if not qty:
            raise Rejected("An order's quantity is not zero: cancel it.", code="malformed")
        old = self._find(_path(broker_order_id), {}, records.order_of)
        if old is None:
            raise Rejected(f"Alpaca has no order {broker_order_id}.", code="no_such_order")
        if old.qty * qty < 0:
            raise Rejected("A replacement keeps the side of its order.", code="malformed")
        body = {"qty": records.plain(qty.copy_abs()), "client_order_id": client_order_id}
        if limit_price is not None:
            body["limit_price"] = records.plain(limit_price)
        return self._send_order("PATCH", _path(broker_order_id), body, permit)

    def order(self, client_order_id: str) -> BrokerOrder | None:
        asked = {"client_order_id": client_order_id}
        found = self._find("/orders:by_client_order_id", asked, records.order_of)
        if found is not None and found.client_order_id != client_order_id:
            raise Unavailable("Alpaca answered with another order than the one asked for.")
        return found

    def orders_since(self, at: datetime) -> Sequence[BrokerOrder]:
        """Return the orders since a time with their legs, and all that work, oldest first.

        Alpaca tells a leg's parent only inside the parent: a leg that works on after its parent came before `at` has
        parent_id None here, and is known from when it was placed.
        """
        working = self._order_pages({"status": "open", "nested": "false"}, None)
        recent = self._order_pages({"status": "all", "nested": "true"}, at - TICK)  # the later word, and with parents
        found = {order.broker_order_id: order for order in (*working, *recent)}
        return sorted(found.values(), key=lambda o: (o.submitted_at is None, o.submitted_at or at, o.broker_order_id))

    def fills_since(self, cursor: str, behind: datetime | None = None) -> tuple[Sequence[BrokerFill], str]:
        """Return executions; the cursor is the time of the youngest one.

        A trade that the exchange took back or corrected is left out: reconciliation shows what it changed.
        """
        start = min(cursor, records.stamp(behind)) if behind else cursor
        rows = self._activity_pages({"activity_types": "FILL"}, start, FILLS_OVERLAP, _fill_that_counts)
        found = {fill.fill_id: fill for fill in rows if fill is not None}
        fills = sorted(found.values(), key=lambda fill: (fill.filled_at, fill.fill_id))
        return fills, max(cursor, records.stamp(fills[-1].filled_at)) if fills else cursor

    def activities_since(self, cursor: str) -> tuple[Sequence[Activity], str]:
        """Return what is no execution; the cursor is the youngest day. One that Alpaca took back is left out."""
        rows = self._activity_pages(
            {"category": "non_trade_activity"}, cursor, ACTIVITIES_OVERLAP, _activity_that_counts
        )
        found = {row.activity_id: row for row in rows if row is not None}
        activities = sorted(found.values(), key=lambda row: (row.effective_on, row.activity_id))
        if not activities:
            return activities, cursor
        return activities, max(cursor, f"{activities[-1].effective_on}T00:00:00.000000Z")

    def _send_order(self, method: str, path: str, body: dict[str, Any], permit: Permit) -> BrokerOrder:
        """Let one order leave, if its permit fits. The only caller of POST and PATCH.

        Raises Rejected('auth' | 'window') and sends nothing where it does not.
        """
        wanted = body["client_order_id"]
        if permit.client_order_id != wanted:
            raise Rejected(f"The permit is for {permit.client_order_id}, not for {wanted}.", code="auth")
        if permit.live != self.live or self._line.url != address(self.live, self._base_url):
            raise Rejected(f"The permit does not let {self.name} trade.", code="auth")
        if self._account_number is None:
            self.account()
        if permit.account_number != self._account_number:
            raise Rejected("The permit is for another account than the one that Alpaca reports.", code="auth")
        if not permit.not_before <= self._clock() < permit.not_after:
            raise Rejected(f"The window is {permit.not_before} to {permit.not_after}.", code="window")
        document = (self._line.post if method == "POST" else self._line.patch)(path, body)
        try:
            if not isinstance(document, dict):
                raise records.Unreadable("it is no document")
            found = records.order_of(document)
        except records.Unreadable as error:
            raise Unknown(f"Alpaca's answer to {method} {path} cannot be read: {error}.") from None
        if found.client_order_id != wanted:
            raise Unknown(f"Alpaca's answer to {method} {path} is about another order.")
        return found

    def _read(self, path: str, params: dict[str, str], record: Callable[[records.Document], T]) -> T:
        found = self._find(path, params, record)
        if found is None:
            raise Unavailable(f"Alpaca has nothing at {path}.")
        return found

    def _find(self, path: str, params: dict[str, str], record: Callable[[records.Document], T]) -> T | None:
        """Return what a path has, or None where Alpaca itself says that there is no such thing."""
        try:
            document = self._line.get(path, params)
        except NotThere:
            return None
        if not isinstance(document, dict):
            raise unclear("GET", f"Alpaca's answer to GET {path} is no document.")
        return _made(path, record, document)

    def _read_list(self, path: str, params: dict[str, str], record: Callable[[records.Document], T]) -> list[T]:
        return [_made(path, record, row) for row in self._rows(path, params)]

    def _rows(self, path: str, params: dict[str, str]) -> list[records.Document]:
        try:
            document = self._line.get(path, params)
        except NotThere as error:
            raise Unavailable(f"{error}") from None
        if not isinstance(document, list) or not all(isinstance(row, dict) for row in document):
            raise unclear("GET", f"Alpaca's answer to GET {path} is no list of documents.")
        return document

    def _order_pages(self, params: dict[str, str], after: datetime | None) -> list[BrokerOrder]:
        """Read orders page by page, oldest first. `after` leaves out its own time, so pages overlap by one instant."""
        found: dict[str, BrokerOrder] = {}
        for _ in range(MAX_PAGES):
            since = {"after": records.stamp(after)} if after else {}
            rows = self._rows("/orders", {**params, **since, "direction": "asc", "limit": str(ORDERS_PAGE)})
            before = len(found)
            for row in rows:
                found.update((order.broker_order_id, order) for order in _made("/orders", _family, row))
            if len(rows) < ORDERS_PAGE:
                return list(found.values())
            last = _made("/orders", records.order_of, rows[-1]).submitted_at
            if last is None or len(found) == before:
                break
            after = last - TICK
        raise Unavailable("Alpaca's list of orders does not come to an end.")

    def _activity_pages(
        self, params: dict[str, str], cursor: str, overlap: timedelta, record: Callable[[records.Document], T]
    ) -> list[T]:
        """Read activities page by page, oldest first; a page begins after the last id of the one before."""
        asked = {**params, "direction": "asc", "page_size": str(ACTIVITIES_PAGE)}
        if cursor:
            asked["after"] = records.stamp(datetime.fromisoformat(cursor) - overlap)
        found: list[T] = []
        for _ in range(MAX_PAGES):
            rows = self._rows("/account/activities", asked)
            found += [_made("/account/activities", record, row) for row in rows]
            if len(rows) < ACTIVITIES_PAGE:
                return found
            token = _made("/account/activities", lambda row: records.text(row, "id"), rows[-1])
            if token == asked.get("page_token"):
                break
            asked["page_token"] = token
        raise Unavailable("Alpaca's list of activities does not come to an end.")


def _made(path: str, record: Callable[[records.Document], T], document: records.Document) -> T:
    try:
        return record(document)
    except records.Unreadable as error:
        raise Unavailable(f"Alpaca's answer to GET {path} cannot be read: {error}.") from None


def _family(document: records.Document) -> list[BrokerOrder]:
    return list(records.family(document))


def _fill_that_counts(document: records.Document) -> BrokerFill | None:
    changed = records.maybe(document, "type").startswith("trade_")  # trade_bust, trade_correct
    return None if changed else records.fill_of(document)


def _activity_that_counts(document: records.Document) -> Activity | None:
    taken_back = records.maybe(document, "status") == "canceled"
    is_fill = records.maybe(document, "activity_type") == "FILL"
    return None if taken_back or is_fill else records.activity_of(document)


def _path(broker_order_id: str) -> str:
    return f"/orders/{quote(broker_order_id, safe='')}"
