"""The fault plan: every kind fires, does what it says, and is written down."""

from __future__ import annotations

import json

import pytest
from venue_case import KEYS, Case, at, request

from alpaca_standin.faults import KINDS, Fault, FaultPlan
from alpaca_standin.venue import ReplyLost


def known(case: Case, client_order_id: str = "one") -> bool:
    """Tell whether the venue has the order, as a client would find out."""
    return bool(case.call("GET", "/v2/orders:by_client_order_id", f"client_order_id={client_order_id}")[0] == 200)


@pytest.mark.parametrize("kind, processed", [("timeout_accepted", True), ("timeout_refused", False), ("cut", True)])
def test_a_lost_reply_says_nothing_about_the_order(kind: str, processed: bool):
    case = Case({"kind": kind})
    with pytest.raises(ReplyLost) as lost:
        case.send(client_order_id="one")
    assert lost.value.processed == processed
    assert known(case) == processed
    assert case.venue.state.counters.received == {"one": 1}
    assert [row["kind"] for row in case.venue.faults.fired] == [kind]
    assert (case.send(client_order_id="one")[0] == 200) == (not processed)


@pytest.mark.parametrize(
    "kind, status, processed",
    [
        ("429", 429, False),
        ("500", 500, False),
        ("504", 504, False),
        ("500_accepted", 500, True),
        ("504_accepted", 504, True),
        ("422_duplicate", 422, True),
        ("403_wash", 403, False),
    ],
)
def test_an_error_may_hide_an_accepted_order(kind: str, status: int, processed: bool):
    case = Case({"kind": kind})
    assert case.send(client_order_id="one")[0] == status
    assert known(case) == processed
    assert case.venue.state.counters.posts_accepted == int(processed)


def test_a_malformed_answer_is_no_json():
    case = Case({"kind": "malformed"})
    _, _, body = case.venue.handle("POST", "/v2/orders", "", KEYS, json.dumps(request(client_order_id="one")).encode())
    with pytest.raises(ValueError):
        json.loads(body)
    assert known(case)


def test_a_slow_answer_says_how_slow():
    case = Case({"kind": "slow", "seconds": 3, "path": "/v2/clock"})
    _, headers, _ = case.venue.handle("GET", "/v2/clock", "", KEYS, b"")
    assert headers["X-Standin-Delay-S"] == "3"


@pytest.mark.parametrize("shows", ["pending_cancel", "canceled"])
def test_a_fill_may_come_after_a_confirmed_cancel(shows: str):
    case = Case({"kind": "late_fill", "seconds": 60, "shows": shows}, now=at(25, 10))
    order = case.order(type="limit", limit_price="50", client_order_id="one")
    assert case.call("DELETE", f"/v2/orders/{order['id']}")[0] == 204
    assert case.again(order)["status"] == shows
    case.go(at(25, 10, 1))
    late = case.again(order)
    assert (late["status"], late["filled_qty"], late["filled_avg_price"]) == ("filled", "10", "50")
    assert case.events()[-2:] == [shows, "fill"]
    assert case.get("/v2/positions/AAPL")["qty"] == "10"


def test_a_dropped_fill_is_in_the_order_but_not_in_the_activities_for_a_while():
    case = Case({"kind": "dropped_fill", "seconds": 300})
    order = case.order()
    case.go(at(24, 9, 34))
    assert case.again(order)["filled_qty"] == "10"
    assert case.fills() == []
    assert "fill" not in case.events()
    case.go(at(24, 9, 35))
    assert [fill["order_id"] for fill in case.fills()] == [order["id"]]


def test_a_dropped_fill_may_never_appear():
    case = Case({"kind": "dropped_fill", "seconds": None})
    case.order()
    case.go(at(27, 20))
    assert case.fills() == []
    assert case.get("/v2/positions/AAPL")["qty"] == "10"


def test_a_duplicated_fill_comes_twice_with_one_id():
    case = Case({"kind": "duplicated_fill"})
    case.order()
    case.go(at(24, 9, 30))
    first, second = case.fills()
    assert first == second
    fills = [row["data"] for row in case.venue.state.events if row["data"]["event"] == "fill"]
    assert fills[0]["execution_id"] == fills[1]["execution_id"]
    assert case.get("/v2/positions/AAPL")["qty"] == "10"


def test_a_fault_waits_for_its_request():
    case = Case({"kind": "500", "client_order_id": "two"}, {"kind": "429", "skip": 2, "times": 1})
    statuses = [case.send(client_order_id=name, qty="1")[0] for name in ("one", "two", "three", "four", "five")]
    assert statuses == [200, 500, 200, 429, 200]


def test_a_plan_by_seed_is_the_same_plan_each_time():
    def fired(seed: int) -> list[dict[str, object]]:
        plan = FaultPlan(seed=seed, rate_frac=0.3)
        for n in range(400):
            plan.choose(*[("POST", "/v2/orders"), ("GET", "/v2/account"), ("DELETE", "/v2/orders/x")][n % 3], None)
        return plan.fired

    assert fired(3) == fired(3)
    assert fired(3) != fired(4)
    assert {row["kind"] for row in fired(3)} == set(KINDS)


def test_there_is_no_fault_of_another_name():
    with pytest.raises(ValueError, match="timeout_accepted"):
        Fault(kind="nonsense")
