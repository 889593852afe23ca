"""Sizing: each kernel against its naive twin or the conditions of an optimum, and the laws that hold for any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_risk as reference
from tradecore.risk import covariance, sizing
from tradecore.risk.outlook import Plan, outlook, paper_drawdown, throttled
from tradecore.risk.sizing import Sizing

EXAMPLES = settings(max_examples=60, deadline=None)
CAP, GROSS = 0.15, 0.9


def returns_of(seed: int, rows: int = 60, n: int = 6, kind: str = "plain") -> np.ndarray:
    """Returns with something wrong with them: a hole, names that stood still, that are one another's copy, few rows."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(rows, n)) * rng.uniform(0.002, 0.05, n) + rng.normal(size=(rows, 1)) * 0.01
    if kind == "hole":
        found[rng.integers(rows), 0] = np.nan
    elif kind == "still":
        found[:, : 1 + n // 2] = 0.0
    elif kind == "copies":
        found[:] = found[:, :1] * rng.choice([1.0, 2.0, -1.0], n)
    elif kind == "singular":
        found = found[: max(2, n // 2)]
    return np.ascontiguousarray(found)


KINDS = ("plain", "hole", "still", "copies", "singular")


@pytest.mark.parametrize("n", [1, 2, 9, 70])
def test_covariances_equal_their_naive_twins(n: int):
    x = returns_of(n, 47, n)
    rows = x.tolist()
    twin, part = reference.ledoit_wolf(rows)
    np.testing.assert_allclose(
        covariance.estimate(x, "sample"), reference.sample_covariance(rows), rtol=1e-10, atol=1e-18
    )
    np.testing.assert_allclose(
        covariance.estimate(x, "ewma", 0.9), reference.ewma_covariance(rows, 0.9), rtol=1e-10, atol=1e-18
    )
    np.testing.assert_allclose(covariance.estimate(x), twin, rtol=1e-10, atol=1e-18)
    assert covariance.shrinkage(x) == pytest.approx(part, abs=1e-10)


def test_beta_and_clusters_equal_their_naive_twins():
    x = returns_of(3, 80, 12)
    x[:, 5] = 2.0 * x[:, 1]
    index = x.mean(axis=1)
    np.testing.assert_allclose(covariance.beta(x, index), reference.betas(x.tolist(), index.tolist()), rtol=1e-10)
    assert np.isnan(covariance.beta(x, np.zeros(80))).all(), "an index that stood still has no betas"
    of = covariance.estimate(x, "sample")
    seen = set()
    for least in (0.0, 0.2, 0.4, 0.6, 0.999):
        mine = covariance.cluster(of, least).tolist()
        assert mine == reference.clusters(of.tolist(), least)
        seen.add(len(set(mine)))
    assert len(seen) > 2, "the thresholds told clusters apart"


@EXAMPLES
@given(seed=st.integers(0, 2**32), n=st.integers(1, 40))
def test_risk_parity_parts_are_equal_within_1e_8(seed: int, n: int):
    of = covariance.estimate(returns_of(seed, 120, n))
    budget = np.random.default_rng(seed).uniform(0.1, 1.0, n)
    for parts in (None, budget):
        w = sizing.equal_risk(of, parts)
        asked = np.full(n, 1.0 / n) if parts is None else parts / parts.sum()
        np.testing.assert_allclose(reference.risk_parts(of.tolist(), w.tolist()), asked, atol=1e-8, rtol=0)
        assert w.sum() == pytest.approx(1.0)
        assert (w > 0).all()


@EXAMPLES
@given(seed=st.integers(0, 2**32), n=st.integers(1, 12), budget=st.floats(0.05, 1.5))
def test_filled_is_one_factor_cut_at_the_caps(seed: int, n: int, budget: float):
    rng = np.random.default_rng(seed)
    w, upper = rng.uniform(0.0, 1.0, n), rng.uniform(0.05, 0.5, n)
    np.testing.assert_allclose(
        sizing.filled(w, upper, budget), reference.filled(w.tolist(), upper.tolist(), budget), atol=1e-9
    )


@EXAMPLES
@given(seed=st.integers(0, 2**32), n=st.integers(1, 30), kind=st.sampled_from(KINDS))
def test_optima_meet_the_conditions_of_one(seed: int, n: int, kind: str):
    x = np.nan_to_num(returns_of(seed, 50, n, kind))
    of = covariance.estimate(x, "sample")
    rng = np.random.default_rng(seed)
    upper, mean = rng.uniform(0.05, 0.5, n), rng.normal(size=n) * 0.001
    w = sizing.minimum(of, upper, 0.9)
    scale = max(float(np.abs(of).max()), 1e-12)
    assert reference.optimality_gap(of.tolist(), [0.0] * n, upper.tolist(), w.tolist()) <= 1e-8 * scale
    assert w.sum() == pytest.approx(min(0.9, upper.sum()))
    w = sizing.at_most(of * 2.0, mean, upper, 0.9)
    q, cash = np.zeros((n + 1, n + 1)), max(0.0, round(0.9 - w.sum(), 12))  # cash neither moves nor earns
    q[:n, :n] = of * 2.0
    all_of = (q.tolist(), [*mean.tolist(), 0.0], [*upper.tolist(), 0.9], [*w.tolist(), cash])
    assert reference.optimality_gap(*all_of) <= 1e-8 * max(2.0 * scale, 0.001)
    assert (w >= 0).all()
    assert (w <= upper).all()
    assert w.sum() <= 0.9 + 1e-12


@EXAMPLES
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 12),
    kind=st.sampled_from(KINDS),
    method=st.sampled_from(sizing.METHODS),
    estimator=st.sampled_from(covariance.ESTIMATORS),
    shorts=st.booleans(),
)
def test_no_weight_is_above_a_cap_whatever_comes_in(seed, n, kind, method, estimator, shorts):
    x = returns_of(seed, 40, n, kind)
    rng = np.random.default_rng(seed)
    score = rng.choice([0.0, 1.0, 0.3, np.nan, -0.7 if shorts else 0.5, 1.7], n)
    how = Sizing(method=method, max_weight=CAP, max_gross=GROSS, estimator=estimator, stop_frac=0.05, shorts=shorts)
    w = sizing.weights(how, score, x)
    assert np.abs(np.nan_to_num(w)).max() <= CAP + 1e-12
    if method != "fixed_fractional":  # whose sum the gross cap of the step holds
        assert np.abs(np.nan_to_num(w)).sum() <= GROSS + 1e-9
    assert np.isnan(w[np.isnan(score)]).all()
    assert (w[score == 0.0] == 0.0).all()
    moved = np.nan_to_num(w)
    assert (moved * np.nan_to_num(score) >= 0.0).all(), "nobody is bought whom the strategy sells"
    np.testing.assert_array_equal(w, sizing.weights(how, score, x))


def test_kelly_of_one_name_is_mean_over_variance_and_shrinks():
    x = np.full((100, 1), 0.001)
    x[::2] = 0.003
    mean, variance = x.mean(), x.var()
    how = {"method": "kelly", "max_weight": 1e6, "max_gross": 1e6, "estimator": "ledoit_wolf"}
    full = sizing.weights(Sizing(**how, kelly_frac=1.0, kelly_shrink=False), np.ones(1), x)[0]
    assert full == pytest.approx(mean / variance, rel=1e-6)
    half = sizing.weights(Sizing(**how, kelly_frac=0.5, kelly_shrink=False), np.ones(1), x)[0]
    assert half == pytest.approx(full / 2, rel=1e-6)
    strength = 100 * mean * mean / variance
    shrunk = sizing.weights(Sizing(**how, kelly_frac=1.0), np.ones(1), x)[0]
    assert shrunk == pytest.approx(full * strength / (3 + strength), rel=1e-6)


def test_volatility_target_is_met_where_no_cap_binds():
    x = returns_of(5, 250, 4)
    how = Sizing(method="volatility_target", max_weight=1.0, max_gross=1.0, target_volatility=0.05)
    w = sizing.weights(how, np.array([1.0, 0.5, 1.0, 0.2]), x)
    assert np.sqrt(w @ covariance.estimate(x) @ w * 252.0) == pytest.approx(0.05)
    assert w[0] == pytest.approx(2 * w[1])


def test_fixed_fractional_loses_its_part_at_the_stop():
    how = Sizing(method="fixed_fractional", max_weight=0.5, max_gross=1.0, trade_risk_frac=0.01, stop_frac=0.04)
    w = sizing.weights(how, np.array([1.0, 0.5, np.nan, 0.0]), np.empty((0, 4)))
    np.testing.assert_allclose(w, [0.25, 0.125, np.nan, 0.0])


def test_a_short_name_is_sized_as_its_mirror():
    x = returns_of(8, 90, 5)
    for method in sizing.METHODS:
        how = Sizing(method=method, max_weight=0.4, max_gross=1.0, kelly_shrink=False, shorts=True)
        mirrored = x * np.array([1, -1, 1, -1, 1])
        np.testing.assert_allclose(
            sizing.weights(how, np.array([1.0, -1.0, 1.0, -0.5, 1.0]), x),
            sizing.weights(how, np.array([1.0, 1.0, 1.0, 0.5, 1.0]), mirrored) * np.array([1, -1, 1, -1, 1]),
            atol=1e-12,
        )


def test_throttle_follows_the_drawdown_of_the_scores():
    scores = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [-1.0, 0.5]])
    moves = np.array([[0.10, 9.0], [-0.10, -0.30], [9.0, 9.0], [0.05, 0.20]])
    curve = [1.0, 1.1, 1.1 * 0.8, 1.1 * 0.8, 1.1 * 0.8 * (1 + (-0.05 + 0.5 * 0.20) / 1.5)]
    assert paper_drawdown(scores, moves) == pytest.approx(1.0 - curve[-1] / 1.1)
    assert paper_drawdown(np.zeros((4, 2)), moves) == 0.0
    plan = Plan(
        restricted=np.zeros(2, np.bool_),
        throttles=((4, 0.1, 0.3), (0, 0.0, 1.0)),
        member=np.zeros((0, 2), np.bool_),
        group_ppm=np.zeros(0, np.int64),
        loss=np.zeros((0, 2)),
    )
    close = np.vstack([np.ones(2), np.cumprod(1.0 + moves, axis=0)])
    found = outlook(plan, close, np.zeros(close.shape, np.int64))
    past = np.stack([scores, np.ones((4, 2))], axis=1)
    part = throttled(found, np.zeros((1, 2, 2)), past)
    assert part[0, 0] == pytest.approx((0.3 - (1.0 - curve[-1] / 1.1)) / 0.2)
    assert part[0, 1] == 1.0
    assert throttled(found, np.zeros((1, 2, 2)), None)[0, 0] == 1.0, "no record, no drawdown"


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="finite"):
        covariance.estimate(np.array([[0.1], [np.nan]]))
    with pytest.raises(ValueError, match="T >= 2"):
        covariance.estimate(np.array([[0.1]]))
    with pytest.raises(ValueError, match="estimator"):
        covariance.estimate(np.zeros((3, 1)), "magic")
    with pytest.raises(ValueError, match="sizing must be one of"):
        Sizing(method="martingale", max_weight=1.0, max_gross=1.0)
