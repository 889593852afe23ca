"""The stand-in as a program: over HTTP with Alpaca's own client, its stream, its faults on the wire, kill -9."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import GetOrdersRequest, MarketOrderRequest
from alpaca.trading.stream import TradingStream
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from alpaca_standin.client import KEYS, Standin, running

EVENING, OPENED, CLOSED = "2005-11-23T21:30Z", "2005-11-25T14:30Z", "2005-11-25T18:01Z"


@pytest.fixture
def standin() -> Iterator[Standin]:
    with running("--start", EVENING, "--partial-fills", "0", "--rate-limit", "0") as server:
        yield server


def client_of(standin: Standin) -> TradingClient:
    return TradingClient("STANDIN-KEY", "standin-secret", url_override=standin.url)


def order(client_order_id: str, **more: Any) -> dict[str, Any]:
    body = {"symbol": "AAPL", "qty": "5", "side": "buy", "type": "market", "time_in_force": "day"}
    return {**body, "client_order_id": client_order_id, **more}


def test_alpacas_own_client_trades_here(standin: Standin):
    client = client_of(standin)
    assert client.get_account().cash == "100000"
    assert not client.get_clock().is_open
    wanted = MarketOrderRequest(
        symbol="AAPL", qty=5, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, client_order_id="one"
    )
    sent = client.submit_order(wanted)
    with pytest.raises(APIError) as refused:
        client.submit_order(wanted)
    assert (refused.value.status_code, refused.value.code) == (422, 40010001)
    standin.set_clock(OPENED)
    assert client.get_clock().is_open
    assert client.get_order_by_client_id("one").filled_avg_price == "67.66"
    assert [row.id for row in client.get_orders(GetOrdersRequest(status="closed"))] == [sent.id]
    assert client.get_open_position("AAPL").qty == "5"
    assert standin.admin("counters")["received"] == {"one": 2}
    assert standin.admin("counters")["posts_accepted"] == 1


def stream(standin: Standin) -> str:
    return standin.url.replace("http", "ws") + "/stream"


def authenticate(connection: ClientConnection, secret: str = "standin-secret") -> dict[str, Any]:
    """Send the keys; returns the answer."""
    keys = {"key_id": "STANDIN-KEY", "secret_key": secret}
    connection.send(json.dumps({"action": "authenticate", "data": keys}))
    return dict(json.loads(connection.recv(5)))


def listen(connection: ClientConnection) -> dict[str, Any]:
    connection.send(json.dumps({"action": "listen", "data": {"streams": ["trade_updates", "other"]}}))
    return dict(json.loads(connection.recv(5)))


def test_the_stream_tells_what_happens_to_orders(standin: Standin):
    with connect(stream(standin)) as connection:
        answer = authenticate(connection)
        assert answer == {"stream": "authorization", "data": {"status": "authorized", "action": "authenticate"}}
        assert listen(connection) == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
        standin.api("POST", "/v2/orders", order("one"))
        standin.set_clock(OPENED)
        events = [json.loads(connection.recv(5)) for _ in range(2)]
        assert [event["data"]["event"] for event in events] == ["new", "fill"]
        fill = events[1]["data"]
        assert (fill["price"], fill["qty"], fill["position_qty"]) == ("67.66", "5", "5")
        assert fill["order"]["client_order_id"] == "one"
        (activity,) = standin.api("GET", "/v2/account/activities/FILL")[1]
        assert activity["id"].split("::")[1] == fill["execution_id"]
        standin.admin("streams/cut", {})
        with pytest.raises(ConnectionClosed):
            connection.recv(5)


def test_the_stream_has_one_connection_a_key_and_wants_the_secret(standin: Standin):
    with connect(stream(standin)) as wrong, connect(stream(standin)) as first, connect(stream(standin)) as second:
        assert authenticate(wrong, secret="other")["data"]["status"] == "unauthorized"
        assert listen(wrong)["data"] == {"status": "unauthorized", "action": "listen"}
        assert authenticate(first)["data"]["status"] == "authorized"
        assert authenticate(second)["data"]["status"] == "unauthorized"


@pytest.mark.parametrize(
    "kind, accepted", [("timeout_accepted", True), ("timeout_refused", False), ("cut", True), ("malformed", True)]
)
def test_faults_on_the_wire(standin: Standin, kind: str, accepted: bool):
    standin.faults({"kind": kind})
    with pytest.raises((OSError, http.client.HTTPException, ValueError)):
        standin.api("POST", "/v2/orders", order("one"))
    (fired,) = standin.admin("faults")["fired"]
    assert (fired["kind"], fired["client_order_id"]) == (kind, "one")
    status, _ = standin.api("GET", "/v2/orders:by_client_order_id?client_order_id=one")
    assert (status == 200) == accepted


def test_a_hanging_connection_outlasts_the_clients_patience(standin: Standin):
    standin.faults({"kind": "timeout_accepted", "seconds": 2})
    address = urlsplit(standin.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=0.3)
    connection.request("POST", "/v2/orders", json.dumps(order("one")), KEYS)
    with pytest.raises(TimeoutError):
        connection.getresponse()
    assert standin.api("GET", "/v2/orders:by_client_order_id?client_order_id=one")[0] == 200


def test_killed_in_the_middle_of_sending_it_still_knows_every_order_that_it_confirmed(tmp_path: Path):
    arguments = ("--start", EVENING, "--rate-limit", "0", "--journal", str(tmp_path / "account.jsonl"))
    standin = Standin(*arguments)
    confirmed: list[str] = []
    sent: list[str] = []

    def send() -> None:
        for n in range(5_000):
            sent.append(f"order-{n}")
            try:
                status, _ = standin.api("POST", "/v2/orders", order(f"order-{n}", qty="1"))
            except (OSError, http.client.HTTPException):
                return
            if status == 200:
                confirmed.append(f"order-{n}")

    sender = threading.Thread(target=send)
    sender.start()
    while len(confirmed) < 40 and sender.is_alive():
        sender.join(0.005)
    standin.kill()
    sender.join()
    standin.start()
    try:
        known = {row["client_order_id"] for row in standin.api("GET", "/v2/orders?status=all&limit=500")[1]}
        assert len(confirmed) >= 40
        assert set(confirmed) <= known <= set(sent)
        standin.set_clock(CLOSED)
        before = [standin.api("GET", path) for path in ("/v2/account", "/v2/account/activities", "/v2/positions")]
        assert before[2][1][0]["qty"] == str(len(known))
        counters = standin.admin("counters")
        standin.kill()
        standin.start()
        after = [standin.api("GET", path) for path in ("/v2/account", "/v2/account/activities", "/v2/positions")]
        assert after == before
        assert standin.admin("counters")["received"] == counters["received"]
        assert standin.api("POST", "/v2/orders", order(confirmed[0]))[1]["code"] == 40010001
    finally:
        standin.stop()


def test_what_a_person_does_beside_the_program(standin: Standin):
    by_hand = standin.admin("orders", {key: value for key, value in order("", symbol="IBM", qty="3").items() if value})
    assert standin.admin("counters")["posts_received"] == 0
    assert standin.admin("clock", {"to": "evening"})["now"] == "2005-11-24T00:00:00+00:00"
    assert standin.admin("clock", {"to": "open"})["now"] == "2005-11-25T14:30:00+00:00"
    assert standin.api("GET", f"/v2/orders/{by_hand['id']}")[1]["status"] == "filled"
    standin.admin("activities", {"activity_type": "FEE", "net_amount": "-0.02", "description": "TAF fee"})
    standin.admin("activities", {"activity_type": "DIV", "symbol": "IBM", "per_share_amount": "0.2"})
    amounts = [row["net_amount"] for row in standin.api("GET", "/v2/account/activities?category=non_trade_activity")[1]]
    assert sorted(amounts) == ["-0.02", "0.6"]
    rows = "time,symbol,open,high,low,close,volume\n2005-11-25T15:00Z,NEW,10,10,10,10,1000\n"
    request = http.client.HTTPConnection(str(urlsplit(standin.url).hostname), urlsplit(standin.url).port, timeout=5)
    request.request("POST", "/standin/prices", rows, {"Content-Type": "text/csv"})
    assert request.getresponse().status == 200
    standin.set_clock("2005-11-25T15:00Z")
    status, bought = standin.api("POST", "/v2/orders", order("new", symbol="NEW"))
    assert status == 200
    assert standin.api("GET", f"/v2/orders/{bought['id']}")[1]["filled_avg_price"] == "10"
    with pytest.raises(ValueError, match="cannot go back"):
        standin.set_clock(EVENING)
    state = standin.admin("state")
    assert (len(state["orders"]), state["holdings"]["IBM"]["qty"]) == (2, "3")
    assert state["config"]["secret_key"] == "..."
    standin.admin("reset", {})
    assert standin.api("GET", "/v2/orders?status=all")[1] == []
    assert standin.api("GET", "/v2/account")[1]["cash"] == "100000"


def test_a_running_clock_moves_the_market_by_itself():
    clock = ("--start", "2005-11-25T14:28Z", "--speed", "60")
    with running(*clock, "--partial-fills", "0") as standin, connect(stream(standin)) as connection:
        authenticate(connection)
        listen(connection)
        standin.api("POST", "/v2/orders", order("one", type="limit", limit_price="60"))
        standin.api("POST", "/v2/orders", order("two", symbol="MSFT"))
        seen: set[tuple[str, str]] = set()
        while ("two", "fill") not in seen:  # two seconds after the start it is 14:30
            data = json.loads(connection.recv(20))["data"]
            seen.add((data["order"]["client_order_id"], data["event"]))
        assert ("one", "fill") not in seen


def test_alpacas_own_stream_client_listens_here(standin: Standin):
    listener = TradingStream("STANDIN-KEY", "standin-secret", url_override=stream(standin))
    seen: list[tuple[str, str]] = []
    done = threading.Event()

    async def take(update: Any) -> None:
        seen.append((str(update.event), update.order.client_order_id))
        if update.event == "fill":
            done.set()

    listener.subscribe_trade_updates(take)
    thread = threading.Thread(target=listener.run)
    thread.start()
    try:
        # It listens from some moment on: orders are sent until one is heard of.
        for n in range(200):
            standin.api("POST", "/v2/orders", order(f"order-{n}", qty="1", type="limit", limit_price="60"))
            standin.api("DELETE", "/v2/orders")
            if seen or done.wait(0.05):
                break
        standin.api("POST", "/v2/orders", order("heard"))
        standin.set_clock(OPENED)
        assert done.wait(10)
    finally:
        listener.stop()
        standin.api("POST", "/v2/orders", order("wakes-it-up"))  # it looks whether to stop after each message
        thread.join(timeout=15)
    assert ("fill", "heard") in seen
    assert ("canceled", "heard") not in seen
