"""What the stand-in refuses, with Alpaca's statuses, codes and words (FIELD notes; recorded refusals)."""

from __future__ import annotations

from typing import Any

import pytest
from venue_case import KEYS, Case, at

DUPLICATE = (422, 40010001, "client_order_id must be unique")


def test_a_client_order_id_is_taken_for_ever():
    case = Case()
    order = case.order(client_order_id="one")
    assert case.refused(client_order_id="one") == DUPLICATE
    assert case.refused(client_order_id="one", symbol="THIN", qty="1") == DUPLICATE
    assert case.call("DELETE", f"/v2/orders/{order['id']}") == (204, None)
    assert case.refused(client_order_id="one") == DUPLICATE
    assert case.get("/v2/orders:by_client_order_id", "client_order_id=one")["status"] == "canceled"


def test_a_refused_order_leaves_its_id_free():
    case = Case()
    case.refused(client_order_id="one", qty="1000000")
    status, document = case.call("GET", "/v2/orders:by_client_order_id", "client_order_id=one")
    assert (status, document) == (404, {"code": 40410000, "message": "order not found for one"})
    case.order(client_order_id="one")


WORDS: list[tuple[dict[str, Any], str]] = [
    ({"symbol": "NONE"}, 'asset "NONE" not found'),
    ({"qty": "0"}, "qty must be > 0"),
    ({"qty": "-3"}, "qty must be > 0"),
    ({"qty": "0.5", "time_in_force": "gtc"}, "fractional orders must be DAY orders"),
    ({"qty": "0.5", "time_in_force": "opg"}, "fractional orders must be DAY orders"),
    ({"qty": None, "notional": "50", "type": "limit", "limit_price": "99"}, "notional orders must be market orders"),
    ({"type": "limit", "limit_price": "99.123"}, "invalid limit_price 99.123. sub-penny increment"),
    ({"type": "stop", "stop_price": "99.123"}, "invalid stop_price 99.123. sub-penny increment"),
    ({"extended_hours": True}, "extended hours order must be DAY limit orders"),
    (
        {"extended_hours": True, "type": "limit", "limit_price": "99", "time_in_force": "gtc"},
        "extended hours order must be DAY limit orders",
    ),
    ({"side": "sell", "qty": "0.5"}, "fractional orders cannot be sold short"),
    ({"type": "stop", "stop_price": "120", "time_in_force": "cls"}, "cls orders must be market or limit orders"),
]


@pytest.mark.parametrize("order, message", WORDS, ids=[message for _, message in WORDS])
def test_rules_of_an_order(order: dict[str, Any], message: str):
    status, code, said = Case().refused(**order)
    assert (status, code) == (422, 42210000)
    assert said.startswith(message)


@pytest.mark.parametrize(
    "order, message",
    [
        ({"symbol": None}, "symbol is required"),
        ({"side": None}, "side is required"),
        ({"qty": None}, "qty or notional is required"),
        ({"notional": "5"}, "only one of qty or notional is accepted"),
        ({"type": "limit"}, "limit orders require a limit price"),
        ({"limit_price": "99"}, "market orders require no stop or limit price"),
        ({"type": "funny"}, "invalid order type"),
        ({"client_order_id": "x" * 129}, "client_order_id must be no more than 128 characters"),
    ],
)
def test_what_a_request_must_have(order: dict[str, Any], message: str):
    assert Case().refused(**order) == (422, 40010001, message)


def test_a_client_order_id_of_128_characters_is_fine():
    assert len(Case().order(client_order_id="x" * 128)["client_order_id"]) == 128


# New York times of Wednesday the 25th, of Thanksgiving, and of Friday's half-day (closes at 13:00).
WINDOWS = [
    ("opg", at(25, 9, 27), True),
    ("opg", at(25, 9, 28), False),
    ("opg", at(25, 12), False),
    ("opg", at(25, 18, 59), False),
    ("opg", at(25, 19), True),
    ("opg", at(26, 12), True),
    ("cls", at(25, 15, 49), True),
    ("cls", at(25, 15, 50), False),
    ("cls", at(25, 18, 59), False),
    ("cls", at(25, 19), True),
    ("cls", at(27, 12, 49), True),
    ("cls", at(27, 12, 50), False),
]


@pytest.mark.parametrize("time_in_force, now, taken", WINDOWS)
def test_auction_orders_have_their_hours(time_in_force: str, now: Any, taken: bool):
    status, document = Case(now=now).send(time_in_force=time_in_force)
    assert (status == 200) == taken
    if not taken:
        assert (status, document["code"]) == (422, 42210000)


def test_an_opg_order_of_the_evening_before_a_holiday_waits_for_the_session_after_it():
    case = Case(now=at(25, 19))
    order = case.order(time_in_force="opg")
    case.go(at(27, 9, 30))
    assert case.again(order)["filled_avg_price"] == "107"


def test_shares_locked_by_open_orders_cannot_be_sold_again():
    case = Case()
    case.order()
    case.go(at(24, 20))
    resting = case.order(side="sell", qty="6", type="limit", limit_price="200", time_in_force="gtc")
    status, document = case.send(side="sell", qty="5")
    assert status == 403
    assert document == {
        "code": 40310000,
        "message": "insufficient qty available for order (requested: 5, available: 4)",
        "available": "4",
        "existing_qty": "10",
        "held_for_orders": "6",
        "symbol": "AAPL",
        "related_orders": [resting["id"]],
    }
    assert case.refused(side="sell", qty="11", client_order_id="more")[0] == 403
    assert case.get("/v2/positions/AAPL")["qty_available"] == "4"


def limit(side: str, price: str) -> dict[str, Any]:
    return {"side": side, "type": "limit", "limit_price": price, "qty": "1", "time_in_force": "gtc"}


STOP_SELL = {"side": "sell", "type": "stop", "stop_price": "50", "qty": "1", "time_in_force": "gtc"}
MARKET_SELL = {"side": "sell", "qty": "1"}


@pytest.mark.parametrize(
    "resting, order, reason",
    [
        (limit("buy", "50"), MARKET_SELL, "opposite side limit order exists"),
        (limit("sell", "300"), limit("buy", "299"), None),
        (limit("sell", "300"), limit("buy", "300"), "opposite side limit order exists"),
        (limit("sell", "300"), {"qty": "1"}, "opposite side limit order exists"),
        (STOP_SELL, limit("buy", "49"), "opposite side market/stop order exists"),
        (MARKET_SELL, {"qty": "1"}, "opposite side market/stop order exists"),
        (STOP_SELL, {"qty": "1", "symbol": "THIN"}, None),
    ],
)
def test_wash_trades(resting: dict[str, Any], order: dict[str, Any], reason: str | None):
    case = Case()
    case.order()
    case.go(at(24, 20))
    first = case.order(**resting)
    status, document = case.send(**order)
    if reason is None:
        assert status == 200, document
        return
    assert status == 403
    assert document == {
        "code": 40310000,
        "message": "potential wash trade detected. use complex orders",
        "existing_order_id": first["id"],
        "reject_reason": reason,
    }


def test_buying_power_counts_open_orders_and_the_refusal_says_both_sums():
    case = Case(multiplier=1)
    assert case.get("/v2/account")["buying_power"] == "100000"
    case.order(type="limit", limit_price="80", qty="1000")
    assert case.get("/v2/account")["buying_power"] == "20000"
    status, document = case.send(qty="200", client_order_id="m")
    assert status == 403
    cost = "20500"  # a market buy at 100 counts 2.5 % more
    assert document == {
        "code": 40310000,
        "message": "insufficient buying power",
        "buying_power": "20000",
        "cost_basis": cost,
    }


def test_flags_of_an_asset():
    case = Case()
    case.venue.configure(assets={"AAPL": {"tradable": False}})
    assert case.refused() == (422, 42210000, 'asset "AAPL" is not tradable')
    assert case.get("/v2/assets/AAPL")["tradable"] is False
    case.venue.configure(assets={"AAPL": {"tradable": True, "fractionable": False, "shortable": False}})
    assert case.refused(qty="0.5") == (403, 40310000, 'asset "AAPL" is not fractionable')
    assert case.refused(side="sell") == (422, 42210000, 'asset "AAPL" cannot be sold short')


def test_a_short_is_opened_only_with_margin():
    assert Case(multiplier=1).refused(side="sell") == (403, 40310000, "account is not allowed to short")
    case = Case()
    case.order(side="sell")
    case.go(at(24, 10))
    position = case.get("/v2/positions/AAPL")
    assert (position["qty"], position["side"], case.get("/v2/account")["cash"]) == ("-10", "short", "101000")


def test_keys():
    case = Case()
    unknown, wrong = {**KEYS, "APCA-API-KEY-ID": "other"}, {**KEYS, "APCA-API-SECRET-KEY": "other"}
    assert case.call("GET", "/v2/account", keys={})[0] == 401
    assert case.call("GET", "/v2/account", keys=unknown) == (
        401,
        {"code": 40110000, "message": "request is not authorized"},
    )
    assert case.call("GET", "/v2/account", keys=wrong) == (403, {"message": "forbidden."})
    assert case.call("POST", "/v2/orders", body={"symbol": "AAPL"}, keys=wrong)[0] == 403
    assert case.venue.state.counters.posts_received == 1


def test_the_201st_request_of_a_minute_is_refused_and_the_headers_count():
    case = Case(rate_limit_per_min=200)
    seen = [case.venue.handle("GET", "/v2/clock", "", KEYS, b"") for _ in range(201)]
    assert [status for status, _, _ in seen] == [200] * 200 + [429]
    assert seen[0][1]["X-RateLimit-Limit"] == "200"
    assert [int(headers["X-RateLimit-Remaining"]) for _, headers, _ in seen[:200]] == list(range(199, -1, -1))
    case.go(at(23, 20, 1))
    assert case.call("GET", "/v2/clock")[0] == 200


def test_a_refused_post_counts_as_received():
    case = Case(rate_limit_per_min=2)
    for n in range(4):
        case.send(client_order_id=f"{n}")
    counters = case.venue.state.counters
    assert (counters.posts_received, counters.posts_accepted) == (4, 2)
    assert counters.received == {"0": 1, "1": 1, "2": 1, "3": 1}


def test_cancelling_twice_and_cancelling_nothing():
    case = Case()
    order = case.order()
    path = f"/v2/orders/{order['id']}"
    assert case.call("DELETE", path)[0] == 204
    assert case.call("DELETE", path) == (422, {"code": 42210000, "message": 'order is already in "canceled" state'})
    assert case.call("DELETE", "/v2/orders/nothing") == (
        404,
        {"code": 40410000, "message": "order not found for nothing"},
    )


def test_all_orders_are_cancelled_with_a_status_each():
    case = Case()
    ids = {case.order(client_order_id=name)["id"] for name in "ab"}
    status, rows = case.call("DELETE", "/v2/orders")
    assert status == 207
    assert {row["id"] for row in rows} == ids
    assert {row["status"] for row in rows} == {200}


def test_a_replacement_has_an_id_of_its_own_and_the_old_one_points_to_it():
    case = Case()
    old = case.order(type="limit", limit_price="90", client_order_id="old")
    status, new = case.call("PATCH", f"/v2/orders/{old['id']}", body={"limit_price": "101", "client_order_id": "new"})
    assert status == 200
    assert (new["replaces"], new["client_order_id"], new["limit_price"], new["qty"]) == (old["id"], "new", "101", "10")
    replaced = case.again(old)
    assert (replaced["status"], replaced["replaced_by"]) == ("replaced", new["id"])
    assert case.call("PATCH", f"/v2/orders/{old['id']}", body={"qty": "2"})[0] == 422
    case.go(at(24, 9, 30))
    assert case.again(new)["status"] == "filled"
    assert case.again(old)["filled_qty"] == "0"


def test_bodies_that_are_no_request():
    case = Case()
    for content in (b"{", b"[]", b""):
        status, _, _ = case.venue.handle("POST", "/v2/orders", "", KEYS, content)
        assert status in (400, 422)
    assert case.venue.state.counters.posts_received == 3
    assert case.venue.state.orders == {}
