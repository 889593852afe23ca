"""From scores to the weights of a decision: what a sizing method says is what decide has, hedged and restricted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tradecore.backtest import step
from tradecore.config_models import Execution, Member, Trading, Universe
from tradecore.config_risk import LimitParams, PreTrade, Risk, SizingParams
from tradecore.model import EQUITY, H_COLUMNS, Capital, Decision, Instruments, Market, new_book
from tradecore.risk import covariance, sizing
from tradecore.risk import outlook as risk_outlook
from tradecore.risk.plan import plan_of

NAMES, ROWS, SHARE = ("AAA", "BBB", "CCC", "SPY"), 60, 0.8


def closes() -> np.ndarray:
    rng = np.random.default_rng(9)
    common = rng.normal(size=(ROWS, 1)) * 0.01
    moves = common * np.array([0.8, 1.3, 1.0, 1.0]) + rng.normal(size=(ROWS, 4)) * np.array([0.01, 0.02, 0.005, 0.0])
    return 100.0 * np.cumprod(np.vstack([np.ones(4), 1.0 + moves]), axis=0)


def trading(**changes: Any) -> Trading:
    risk = {
        "position_sizing_method": "risk_parity",
        "sizing": SizingParams(lookback_bars=ROWS, **changes.pop("sizing", {})),
        "limits": LimitParams(lookback_bars=ROWS, index_symbol="SPY"),
        "max_position_size": 0.5,
        "allow_short": True,
        "max_exposure": 1.0,
    }
    return Trading(
        universe=Universe(name="few", members={name: Member() for name in NAMES}),
        strategies={"own": {"kind": "own", "capital_share": SHARE}},
        risk=Risk(**risk),
        execution=Execution(checks=PreTrade(**changes)),
    )


def decide(of: Trading, scores: list[float]) -> Decision:
    close = closes()
    n = len(NAMES)
    plan = plan_of(of, NAMES, ("own",), 252.0)
    assert plan is not None
    found = risk_outlook.outlook(plan, close[-plan.rows - 1 :], np.zeros((plan.rows + 1, n), np.int64))
    ones, zeros = np.ones(n, np.int64), np.zeros(n, np.int64)
    price = np.round(close[-1] * 1e4).astype(np.int64)
    bar = Market(
        *(price,) * 4,
        volume=zeros,
        traded=np.ones(n, np.bool_),
        split_num=ones,
        split_den=ones,
        dividend=zeros,
        pay_day=zeros,
        left=np.zeros(n, np.bool_),
        head=np.zeros(H_COLUMNS, np.int64),
    )
    book = new_book(cash_e4=10**9, n_instruments=n, n_strategies=1, n_lots=1, n_orders=1)
    book.mark[:] = price
    assert book.acct[EQUITY] == 10**9
    instruments = Instruments(np.full(n, 100, np.int64), np.full(n, 1_000_000, np.int64))
    capital = Capital(np.array([SHARE]), np.ones((1, n), np.bool_))
    score, volatility = np.array([scores]), np.full(n, 0.1)
    params = step.step_params(of.risk, of.execution)
    return step.decide(book, score, capital, volatility, bar, bar, instruments, params, found)[0]


def test_decide_has_the_weights_of_the_method():
    decision = decide(trading(), [1.0, 0.5, 1.0, np.nan])
    close = closes()
    returns = close[1:] / close[:-1] - 1.0
    parity = sizing.equal_risk(covariance.estimate(returns[:, :3]), np.array([1.0, 0.5, 1.0]))
    expected = np.floor(SHARE * sizing.filled(parity, np.full(3, 0.5), 1.0) * 1e6 + 0.5)
    assert expected.max() < 500_000 * SHARE + 1
    np.testing.assert_array_equal(decision.weight[0, :3], expected.astype(np.int64))
    assert decision.opinion.tolist() == [True, True, True, False]


@pytest.mark.parametrize("target", [0.0, 0.1])
def test_hedge_brings_the_beta_to_its_target(target: float):
    decision = decide(trading(sizing={"hedge_symbol": "SPY", "hedge_beta": target}), [1.0, 0.0, -1.0, np.nan])
    close = closes()
    returns = close[1:] / close[:-1] - 1.0
    beta = covariance.beta(returns, returns[:, 3])
    assert beta[3] == pytest.approx(1.0)
    assert decision.weight[0] / SHARE / 1e6 @ beta == pytest.approx(target, abs=1e-5)
    assert decision.weight[0, 3] != 0, "not exercised: nothing was hedged"


def test_a_restricted_name_has_no_opinion():
    decision = decide(trading(restricted=("BBB",)), [1.0, 1.0, 1.0, np.nan])
    assert decision.opinion.tolist() == [True, False, True, False]
    assert decision.weight[0, 1] == 0


def test_a_later_bar_changes_no_earlier_weight():
    """The fold sizes every row from its own window: cut off after it, the row stays as it is."""
    of = trading()
    plan = plan_of(of, NAMES, ("own",), 252.0)
    assert plan is not None
    assert plan.sizing is not None
    rng = np.random.default_rng(3)
    close = 50.0 * np.cumprod(1.0 + rng.normal(size=(ROWS + 6, 4)) * 0.01, axis=0)
    close[30, 1] = np.nan  # a bar without a trade is carried over
    scores = rng.uniform(0.0, 1.0, (6, 1, 4))
    capital = Capital(np.array([SHARE]), np.ones((1, 4), np.bool_))
    traded, left = np.ones((6, 4), np.bool_), np.zeros((6, 4), np.bool_)

    def weights(first: int, last: int) -> np.ndarray:
        rows = close[first : ROWS + last]
        found = risk_outlook.outlook(plan, rows, np.zeros(rows.shape, np.int64))
        k = last - first
        part = np.ones((k, 1))
        mine = scores[first:last]
        return risk_outlook.sized(found, mine, capital, traded[:k], left[:k], np.ones(k, np.bool_), part)

    whole = weights(0, 6)
    for t in range(6):
        np.testing.assert_array_equal(whole[t], weights(t, t + 1)[0])
    assert not np.isnan(whole).any()
