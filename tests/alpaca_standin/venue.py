"""The venue: one account at Alpaca, as a function from requests to answers. No clock, no sockets, no threads.

    venue = Venue(State.new(), market, clock)        # clock() -> aware datetime
    status, headers, body = venue.handle("GET", "/v2/account", "", KEYS, b"")

Everything that happens follows from the seed, the market and the requests with their times, so a state can be
made again from its commands: `record` is given each one after it was applied, `replay` applies it again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from alpaca_standin import data, documents, entry
from alpaca_standin.faults import NOT_PROCESSED, Fault, FaultPlan
from alpaca_standin.figures import mark
from alpaca_standin.market import Market, bars_from_rows
from alpaca_standin.matching import Engine
from alpaca_standin.state import ZERO, Activity, ApiError, Config, State, digest, text
from alpaca_standin.trading import Trading

ORDERS = "/v2/orders"
UNAUTHORIZED = 40110000
RATE_LIMITED = 42910000
INTERNAL = 50010000
BAD_BODY = 40010000
MINUTE_S = 60
JSON_TYPE = "application/json; charset=UTF-8"


class Reply(NamedTuple):
    """An answer. `delay_s` is how late it comes; with `cut` the connection breaks in the middle of the body."""

    status: int
    headers: dict[str, str]
    body: bytes
    delay_s: float = 0.0
    cut: bool = False


class ReplyLost(Exception):
    """The sender gets no answer; `processed` tells whether the venue acted on the request.

    `hang_s` is how long the connection stays open in silence before it breaks.
    """

    def __init__(self, processed: bool, hang_s: float = 0.0) -> None:
        super().__init__(f"the reply is lost, the request was {'' if processed else 'not '}processed")
        self.processed = processed
        self.hang_s = hang_s


class Venue:
    """One account on a market."""

    def __init__(
        self,
        state: State,
        market: Market,
        clock: Callable[[], datetime],
        faults: FaultPlan | None = None,
        record: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.market = market
        self.clock = clock
        self.faults = faults or FaultPlan()
        self.record = record
        self.take(state)

    def take(self, state: State) -> None:
        """Continue with another state (a copy kept from before, a fresh one)."""
        self.state = state
        self.engine = Engine(state, self.market)
        self.trading = Trading(state, self.market, self.engine)

    def advance(self, to: datetime) -> None:
        """Let the market move on to `to` (nothing happens if that is in the past)."""
        self.engine.advance(to)

    def handle(
        self, method: str, path: str, query: str | Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer one request. Raises ReplyLost if the sender is to get no (whole) answer.

        How late a slow answer comes is in its header X-Standin-Delay-S: there is no waiting in here.
        """
        reply = self.respond(method, path, query, headers, body)
        if reply.cut:
            raise ReplyLost(processed=True)
        late = {"X-Standin-Delay-S": str(reply.delay_s)} if reply.delay_s else {}
        return reply.status, {**reply.headers, **late}, reply.body

    def respond(
        self, method: str, path: str, query: str | Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Reply:
        """Answer one request, with what the transport is to do to the answer. Raises ReplyLost."""
        at = self.clock()
        self.engine.advance(at)
        at = max(at, self.state.now or at)
        asked = dict(parse_qsl(query)) if isinstance(query, str) else dict(query)
        path = unquote(path)
        self.state.counters.requests += 1
        limits: dict[str, str] = {}
        sends = (method, path) == ("POST", ORDERS)
        client_order_id = self._client_order_id(method, path, asked, body)
        fault: Fault | None = None
        counted = False
        try:
            limits = self._rate_limit(at)
            self._authorise(headers)
            counted = True  # from here on the request itself is recorded, or was seen
            fault = self.faults.choose(method, path, client_order_id)
            if fault is not None and fault.kind in NOT_PROCESSED:
                if sends:
                    self._apply_and_record({"op": "seen", "client_order_id": client_order_id or ""}, at)
                return self._not_processed(fault, limits)
            status, document = self._process(method, path, asked, body, at, fault)
        except ApiError as refusal:
            status, document = refusal.status, refusal.body
            if sends and not counted:
                self._apply_and_record({"op": "seen", "client_order_id": client_order_id or ""}, at)
        return self._transport(status, document, limits, fault)

    def place_by_hand(self, body: dict[str, Any]) -> dict[str, Any]:
        """Place an order as the account's owner would in the broker's app: no key, not counted. Raises ApiError."""
        command = {"op": "request", "method": "POST", "path": ORDERS, "query": {}, "effects": {"by_hand": True}}
        at = self._now()
        _, document = self._apply_and_record({**command, "body": json.dumps(body, default=str)}, at)
        return dict(document)

    def cancel_by_hand(self, order_id: str) -> None:
        """Cancel an order as its owner would in the broker's app. Raises ApiError."""
        command = {"op": "request", "method": "DELETE", "path": f"{ORDERS}/{order_id}", "query": {}, "body": ""}
        self._apply_and_record({**command, "effects": {"by_hand": True}}, self._now())

    def add_activity(self, kind: str, **more: Any) -> dict[str, Any]:
        """Book a dividend, fee, deposit, ...: `net_amount` goes to the cash.

        With `symbol` and `per_share_amount` and no `net_amount` the position decides the amount. Returns the
        document.
        """
        return dict(self._apply_and_record({"op": "activity", "kind": kind, "more": more}, self._now()))

    def split(self, symbol: str, num: int, den: int) -> None:
        """Split a holding num for den. Its open orders are cancelled; the market's prices are the caller's."""
        self._apply_and_record({"op": "split", "symbol": symbol, "num": num, "den": den}, self._now())

    def add_bars(self, rows: Iterable[Mapping[str, Any]], minutes: int = 1) -> None:
        """Add prices: rows of time, symbol, open, high, low, close, volume."""
        plain = [{key: str(value) for key, value in row.items()} for row in rows]
        self._apply_and_record({"op": "bars", "rows": plain, "minutes": minutes}, self._now())

    def configure(self, **changes: Any) -> None:
        """Change fields of the configuration (`assets` merges by symbol)."""
        self._apply_and_record({"op": "configure", "changes": changes}, self._now())

    def replay(self, command: dict[str, Any]) -> None:
        """Apply a recorded command again."""
        with contextlib.suppress(ApiError):  # it was refused then, too
            self._apply(command, datetime.fromisoformat(command["at"]))

    def _now(self) -> datetime:
        self.engine.advance(self.clock())
        assert self.state.now is not None
        return self.state.now

    def _apply_and_record(self, command: dict[str, Any], at: datetime) -> Any:
        try:
            return self._apply(command, at)
        finally:
            if self.record is not None:
                self.record({**command, "at": at.isoformat()})

    def _apply(self, command: dict[str, Any], at: datetime) -> Any:
        self.engine.advance(at)
        op = command["op"]
        if op == "request":
            return self._apply_request(command, at)
        if op == "seen":
            self._count(command["client_order_id"])
        elif op == "activity":
            return self._apply_activity(command["kind"], command["more"], at)
        elif op == "split":
            self._apply_split(command["symbol"], Decimal(command["num"]) / Decimal(command["den"]), at)
        elif op == "bars":
            self.market.add(bars_from_rows(command["rows"], self.market.sessions, minutes=command["minutes"]))
        elif op == "configure":
            self._apply_configuration(command["changes"])
        return None

    def _apply_request(self, command: dict[str, Any], at: datetime) -> tuple[int, Any]:
        method, path, effects = command["method"], command["path"], command["effects"]
        sends = (method, path) == ("POST", ORDERS) and not effects.get("by_hand")
        try:
            body = json.loads(command["body"], parse_float=Decimal) if command["body"] else {}
            if not isinstance(body, dict):
                raise ValueError("not an object")
        except ValueError:
            body = None
        client_order_id = str(body.get("client_order_id") or "") if body else ""
        if sends:
            self._count(client_order_id)
        if body is None:
            raise ApiError(400, BAD_BODY, "request body format is invalid")
        status, document = self.trading.answer(method, path, command["query"], body, at, effects)
        if sends:
            counters = self.state.counters
            counters.posts_accepted += 1
            counters.accepted[document["client_order_id"]] = 1
        return status, document

    def _count(self, client_order_id: str) -> None:
        counters = self.state.counters
        counters.posts_received += 1
        counters.received[client_order_id] = counters.received.get(client_order_id, 0) + 1

    def _process(
        self, method: str, path: str, query: dict[str, str], body: bytes, at: datetime, fault: Fault | None
    ) -> tuple[int, Any]:
        if path.startswith("/v2/stocks/") and method == "GET":
            return 200, data.answer(self.market, path, query, at)
        if not path.startswith("/v2/"):
            raise ApiError(404, None, "endpoint not found.")
        if method == "GET":
            return self.trading.answer(method, path, query, {}, at, {})
        command = {"op": "request", "method": method, "path": path, "query": query, "effects": _effects(fault)}
        command["body"] = body.decode("utf-8", "replace")
        answer: tuple[int, Any] = self._apply_and_record(command, at)
        if fault is not None and fault.kind == "422_duplicate":
            return self._apply_and_record({**command, "effects": {}}, at)  # type: ignore[no-any-return]
        return answer

    def _apply_activity(self, kind: str, more: dict[str, Any], at: datetime) -> dict[str, Any]:
        mark(self.state, self.market, at)
        more = {key: value if isinstance(value, str) or value is None else str(value) for key, value in more.items()}
        symbol, per_share = more.get("symbol"), more.get("per_share_amount")
        if symbol and per_share and "net_amount" not in more:
            held = self.state.holdings.get(symbol)
            qty = held.qty if held else ZERO
            paid = (qty * Decimal(per_share)).quantize(Decimal("0.01"))
            more |= {"qty": text(qty) or "0", "net_amount": text(paid) or "0"}
        document = documents.new_activity(self.state, kind, at, more)
        self.state.cash += Decimal(document["net_amount"])
        self.state.activities.append(Activity(at=at, document=document, shown_at=at))
        return document

    def _apply_split(self, symbol: str, ratio: Decimal, at: datetime) -> None:
        mark(self.state, self.market, at)
        for order in self.state.open_orders(symbol):
            self.engine.cancel(order, at)
        held = self.state.holdings.get(symbol)
        if held is None:
            return
        before = held.qty
        held.qty, held.avg_price = held.qty * ratio, held.avg_price / ratio
        more = {"symbol": symbol, "qty": text(held.qty - before), "net_amount": "0", "description": f"split {ratio}"}
        document = documents.new_activity(self.state, "SPLIT", at, more)
        self.state.activities.append(Activity(at=at, document=document, shown_at=at))

    def _apply_configuration(self, changes: dict[str, Any]) -> None:
        for key, value in changes.items():
            if key == "assets":
                for symbol, flags in value.items():
                    self.state.config.assets.setdefault(symbol, {}).update(flags)
            elif key in Config.__dataclass_fields__:
                old = getattr(self.state.config, key)
                setattr(self.state.config, key, Decimal(str(value)) if isinstance(old, Decimal) else type(old)(value))
            else:
                raise ApiError(422, None, f"there is no configuration {key!r}")

    def _rate_limit(self, at: datetime) -> dict[str, str]:
        """Count the request in its minute. Raises ApiError 429; returns the headers that tell the quota."""
        limit = self.state.config.rate_limit_per_min
        minute = int(at.timestamp()) // MINUTE_S
        known, used = self.state.window
        used = used + 1 if known == minute else 1
        self.state.window = (minute, used)
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(limit - used, 0)),
            "X-RateLimit-Reset": str((minute + 1) * MINUTE_S),
        }
        if limit and used > limit:
            raise ApiError(429, RATE_LIMITED, "rate limit exceeded")
        return headers if limit else {}

    def _authorise(self, headers: Mapping[str, str]) -> None:
        given = {key.lower(): value for key, value in headers.items()}
        config = self.state.config
        if given.get("apca-api-key-id") != config.key_id:
            raise ApiError(401, UNAUTHORIZED, "request is not authorized")
        if given.get("apca-api-secret-key") != config.secret_key:
            raise ApiError(403, None, "forbidden.")

    def _client_order_id(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> str | None:
        """Return the client order id that a request is about, for the fault plan and the counters."""
        if path.startswith(f"{ORDERS}/"):
            order = self.state.orders.get(path.removeprefix(f"{ORDERS}/"))
            return order.client_order_id if order else None
        if method == "GET":
            return query.get("client_order_id")
        try:
            document = json.loads(body or b"{}")
        except ValueError:
            return None
        return str(document.get("client_order_id") or "") or None if isinstance(document, dict) else None

    def _not_processed(self, fault: Fault, limits: dict[str, str]) -> Reply:
        if fault.kind == "timeout_refused":
            raise ReplyLost(processed=False, hang_s=fault.seconds or 0.0)
        if fault.kind == "403_wash":
            refusal = entry.wash(digest("wash", self.state.counters.requests)[:16].hex())
            return self._reply(refusal.status, refusal.body, limits)
        if fault.kind == "429":
            gone = {**limits, "X-RateLimit-Remaining": "0"}
            return self._reply(429, {"code": RATE_LIMITED, "message": "rate limit exceeded"}, gone)
        return self._reply(int(fault.kind), _server_error(int(fault.kind)), limits)

    def _transport(self, status: int, document: Any, limits: dict[str, str], fault: Fault | None) -> Reply:
        """Do to the answer of a processed request what its fault says."""
        reply = self._reply(status, document, limits)
        if fault is None:
            return reply
        if fault.kind == "timeout_accepted":
            raise ReplyLost(processed=True, hang_s=fault.seconds or 0.0)
        if fault.kind in ("500_accepted", "504_accepted"):
            code = int(fault.kind.removesuffix("_accepted"))
            return self._reply(code, _server_error(code), limits)
        if fault.kind == "slow":
            return reply._replace(delay_s=fault.seconds or 0.0)
        if fault.kind == "cut":
            return reply._replace(cut=True)
        if fault.kind == "malformed":
            return reply._replace(body=reply.body[: len(reply.body) // 2] + b"<!-- upstream -->")
        return reply

    def _reply(self, status: int, document: Any, limits: dict[str, str]) -> Reply:
        body = b"" if document is None else json.dumps(document).encode()
        request_id = digest("request", self.state.config.seed, self.state.counters.requests)[:16].hex()
        return Reply(status, {"Content-Type": JSON_TYPE, "X-Request-ID": request_id, **limits}, body)


def _effects(fault: Fault | None) -> dict[str, Any]:
    """Return what a fault does to the order itself."""
    if fault is None:
        return {}
    if fault.kind == "dropped_fill":
        return {"drop_fills_s": float("inf") if fault.seconds is None else fault.seconds}
    if fault.kind == "duplicated_fill":
        return {"double_fills": True}
    if fault.kind == "late_fill":
        return {"late_fill_s": fault.seconds or 0.0, "shows": fault.shows}
    return {}


def _server_error(status: int) -> dict[str, Any]:
    if status == 504:
        return {"message": "upstream request timeout"}
    return {"code": INTERNAL, "message": "internal server error occurred"}
