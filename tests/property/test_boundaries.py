"""Cases on the very edge of a rule, which random markets hardly meet: tradecore equals the reference there too."""

from __future__ import annotations

from decimal import Decimal as D

import numpy as np
import pytest
from random_market import World
from test_parity import compare, core_steps, reference_steps

from reference import ACTIVE, HALTED, REDUCING, RefBar, RefParams, RefQuote
from tradecore.model import J_ENDS

PLAIN = {
    "capital_shares": [1.0],
    "slippage_bps": D(0),
    "commission_bps": D(0),
    "min_order_notional": D(0),
    "rebalance_band": D(0),
    "max_position": D(1),
    "max_exposure": D(1),
    "max_drawdown": D("0.99"),
    "max_daily_loss": D("0.99"),
    "participation_frac": D(1),
    "sizing": "equal_weight",
}


def hand_world(prices: list[str], scores: list[float], cash: str = "10000", **changes: object) -> World:
    """Return a world of one instrument; each bar opens and closes at its price, volume a million."""
    quotes = [RefQuote(open=D(p), high=D(p), low=D(p), close=D(p), volume=10**6) for p in [*prices, prices[-1]]]
    bars = [RefBar(day=15_000 + t, bar_end_ns=(t + 1) * 10**12, quotes=[q]) for t, q in enumerate(quotes)]
    n = len(prices)
    return World(
        cash=D(cash),
        bars=bars,
        params=RefParams(**{**PLAIN, **changes}),  # type: ignore[arg-type]
        scores=np.array(scores).reshape(n, 1, 1),
        volatility=np.full((n, 1), 0.2),
        decides=np.ones(n, np.bool_),
        known_splits=[[(1, 1)]] * n,
    )


def last(world: World) -> dict[str, object]:
    compare(world)
    return reference_steps(world)[-1].book


@pytest.mark.parametrize(("minimum", "orders"), [("100", 1), ("100.0001", 0)])
def test_order_worth_the_minimum_goes_out(minimum: str, orders: int):
    world = hand_world(["10"], [0.01], min_order_notional=D(minimum))
    assert len(last(world)["orders"]) == orders  # type: ignore[arg-type]


@pytest.mark.parametrize(("band", "orders"), [("0.01", 1), ("0.010001", 0)])
def test_change_worth_the_band_goes_out(band: str, orders: int):
    world = hand_world(["10", "10", "10"], [0.5, 0.5, 0.51], rebalance_band=D(band))
    assert len(last(world)["orders"]) == orders  # type: ignore[arg-type]


@pytest.mark.parametrize(("loss", "state"), [("0.05", REDUCING), ("0.050001", ACTIVE)])
def test_daily_loss_of_exactly_the_limit_reduces(loss: str, state: int):
    """All is in shares: a price down 5 % is a loss of 5 % of equity."""
    world = hand_world(["10", "10", "9.5"], [1.0, 1.0, 1.0], max_daily_loss=D(loss))
    assert last(world)["state"] == state


@pytest.mark.parametrize(("drawdown", "state"), [("0.05", HALTED), ("0.050001", ACTIVE)])
def test_drawdown_of_exactly_the_limit_halts(drawdown: str, state: int):
    world = hand_world(["10", "10", "9.5"], [1.0, 1.0, 1.0], max_drawdown=D(drawdown))
    assert last(world)["state"] == state


@pytest.mark.parametrize("ordered", [REDUCING, HALTED])
def test_what_a_person_ordered_outlasts_the_counts_of_the_breakers(ordered: int):
    """Ordered at bar 1, bars 2 to 4 pass; at bar 3 a fall of 10 % halts whatever does not stand still yet."""
    lifts = {"halt_lifts_after_sessions": 1, "reduce_lifts_after_sessions": 1, "max_drawdown": D("0.05")}
    world = hand_world(["10", "10", "9", "9", "9"], [1.0] * 5, **lifts)
    world.bars[1].person_state = ordered
    assert (last(world)["state"], last(world)["ordered_state"]) == (ordered, ordered)


def test_buy_that_cash_does_not_allow_at_all_is_cancelled_not_expired():
    """One share at 10 is planned with 10 of cash; it opens at 11."""
    world = hand_world(["10", "11"], [1.0, 1.0], cash="10")
    assert last(world)["qty"] == [0]
    (ended,) = reference_steps(world)[1].ended
    assert ended.status == "CANCELED"
    assert core_steps(world)[1][1][0].counts[J_ENDS] == 1


def test_buy_takes_the_last_cent_of_cash():
    world = hand_world(["10", "10"], [1.0, 1.0], commission_bps=D(0))
    assert (last(world)["cash"], last(world)["qty"]) == (0, [1_000_000_000])


@pytest.mark.parametrize("remainder", ["cancel", "carry"])
def test_large_lot_is_sold_in_parts_to_the_quantum(remainder: str):
    """5 000 000 USD in shares of 7.77: cost times part passes 2**63 by far."""
    world = hand_world(["7.77", "7.77", "7.81", "7.84"], [1.0, 0.4, 0.3, 0.0], cash="5000000", remainder=remainder)
    seen = compare(world)
    assert seen["fills"] == 3
