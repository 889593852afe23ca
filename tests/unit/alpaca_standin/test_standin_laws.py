"""Laws of the stand-in over random days: nothing is lost or made up, whatever is sent; the journal makes it again."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from venue_case import EVENING, KEYS, Case, at

from alpaca_standin.entry import TYPES
from alpaca_standin.faults import KINDS, Fault, FaultPlan
from alpaca_standin.state import ZERO
from alpaca_standin.venue import ReplyLost

SEEDS = range(25)
STEPS = 120


def random_order(rng: random.Random, n: int) -> dict[str, Any]:
    """Return some order, often one that must be refused."""
    kind = rng.choice(["market", "market", "limit", "limit", "stop", "stop_limit", "trailing_stop"])
    body: dict[str, Any] = {
        "symbol": rng.choice(["AAPL", "AAPL", "THIN"]),
        "side": rng.choice(["buy", "buy", "sell"]),
        "type": kind,
        "time_in_force": rng.choice(["day", "day", "gtc", "opg", "cls", "ioc", "fok"]),
        "client_order_id": f"order-{rng.randrange(n + 1)}" if rng.random() < 0.1 else f"order-{n}",
        "qty": str(rng.choice([1, 7, 30, 60, "2.5"])),
    }
    near = 100 if body["symbol"] == "AAPL" else 10
    price = f"{near * rng.uniform(0.9, 1.1):.2f}"
    if "limit" in kind:
        body["limit_price"] = price
    if kind in ("stop", "stop_limit"):
        body["stop_price"] = f"{near * rng.uniform(0.95, 1.05):.2f}"
    if kind == "trailing_stop":
        body["trail_percent"] = "2"
    if rng.random() < 0.2:
        legs = {"take_profit": {"limit_price": f"{near * 1.05:.2f}"}, "stop_loss": {"stop_price": f"{near * 0.96:.2f}"}}
        body |= {"order_class": rng.choice(["bracket", "oco"]), **legs}
    return body


def random_days(seed: int) -> tuple[Case, Counter[int]]:
    """Send random requests over four days, with faults; returns the case and the statuses seen."""
    rng = random.Random(seed)
    case = Case(seed=seed, partial_fill_frac=Decimal("0.2"), now=EVENING)
    late = [
        Fault(kind="late_fill", seconds=90, skip=seed % 3, times=3, shows=rng.choice(["pending_cancel", "canceled"]))
    ]
    case.venue.faults = FaultPlan(seed=seed, rate_frac=0.1, faults=late)
    statuses: Counter[int] = Counter()
    for n in range(STEPS):
        case.go(case.now + timedelta(minutes=rng.expovariate(1 / 45)))
        orders = list(case.venue.state.orders)
        method, path, body = "POST", "/v2/orders", random_order(rng, n)
        if orders and rng.random() < 0.25:
            method, path = rng.choice(["DELETE", "PATCH", "GET"]), f"/v2/orders/{rng.choice(orders)}"
            body = {"qty": str(rng.choice([3, 20]))} if method == "PATCH" else {}
        try:
            status, _, _ = case.venue.handle(method, path, "", KEYS, json.dumps(body).encode())
            statuses[status] += 1
        except ReplyLost:
            statuses[0] += 1
    case.fired = {row["kind"] for row in case.venue.faults.fired}
    case.venue.faults = FaultPlan()
    case.go(at(30, 20))
    return case, statuses


@pytest.mark.parametrize("seed", SEEDS)
def test_laws_of_an_account(seed: int):
    case, statuses = random_days(seed)
    state = case.venue.state
    fills = [row.document for row in state.activities if row.document["activity_type"] == "FILL"]
    assert fills, "a day without a fill shows nothing"
    assert statuses[200] > 10
    signed = [(Decimal(f["qty"]) * (1 if f["side"] == "buy" else -1), f) for f in fills]
    assert state.cash == state.config.cash_usd - sum(qty * Decimal(f["price"]) for qty, f in signed)
    for symbol in ("AAPL", "THIN"):
        held = state.holdings[symbol].qty if symbol in state.holdings else ZERO
        assert held == sum((qty for qty, f in signed if f["symbol"] == symbol), ZERO)
    by_order: Counter[str] = Counter()
    for fill in fills:
        by_order[fill["order_id"]] += Decimal(fill["qty"])  # type: ignore[assignment]
    for order in state.orders.values():
        carried = state.orders[order.replaces].filled_qty if order.replaces else ZERO
        assert order.filled_qty == by_order[order.id] + carried
        assert order.qty is None or order.filled_qty <= order.qty
        assert (order.id in state.open_ids) == order.is_open
        if order.status == "filled":
            assert order.filled_qty == order.qty
    assert len({row.id for row in state.activities}) == len(state.activities)
    counters = state.counters
    assert sum(counters.received.values()) == counters.posts_received >= counters.posts_accepted


def test_the_random_days_are_full_of_life():
    ends: set[tuple[str, str, str]] = set()
    fired: set[str] = set()
    for seed in SEEDS:
        case, _ = random_days(seed)
        ends |= {(order.type, order.leg, order.status) for order in case.venue.state.orders.values()}
        fired |= case.fired
    assert {kind for kind, _, status in ends if status == "filled"} == set(TYPES)
    assert {leg for _, leg, status in ends if status == "filled"} == {"", "take_profit", "stop_loss"}
    assert {status for _, _, status in ends} >= {"filled", "canceled", "expired", "replaced", "partially_filled"}
    assert fired == set(KINDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_journal_makes_the_same_account_again(seed: int):
    case, _ = random_days(seed)
    other = Case(seed=seed, partial_fill_frac=Decimal("0.2"), now=EVENING)
    for line in case.lines:
        other.venue.replay(json.loads(json.dumps(line)))
    other.go(case.now)
    for part in ("cash", "orders", "holdings", "activities", "events", "open_ids", "equity_marks", "minted"):
        assert getattr(other.venue.state, part) == getattr(case.venue.state, part), part
    assert other.venue.state.counters.received == case.venue.state.counters.received
