"""Loss measures: against naive twins, closed forms, and the formulas of the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference_risk as reference
from tradecore.risk import measures
from tradecore.risk.measures import _kernels as kernels


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 400), confidence=st.sampled_from([0.5, 0.9, 0.95, 0.975, 0.99]))
def test_historical_equals_its_naive_twin(seed: int, rows: int, confidence: float):
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(rows, 3)), 2)  # with equal values among them
    value, tail = measures.historical(x, confidence)
    for c in range(3):
        assert (value[c], tail[c]) == pytest.approx(reference.historical(x[:, c].tolist(), confidence), abs=1e-12)
    assert (tail >= value - 1e-12).all()


def test_worst_rows_are_what_a_partition_has_in_front():
    x = np.random.default_rng(2).normal(size=(1260, 7)) * 0.02
    value, mean = np.empty(7), np.empty(7)
    kernels.partition_columns(x, 13, np.empty(13), value, mean)
    front = np.partition(x, 12, axis=0)
    np.testing.assert_array_equal(value, -front[12])
    np.testing.assert_allclose(mean, -front[:13].mean(axis=0), rtol=1e-13)


def test_normal_is_the_mean_beyond_the_quantile():
    value, tail = measures.normal(0.001, 0.02, 0.975)
    assert value == pytest.approx(-(0.001 - 1.959963984540054 * 0.02))
    draws = 0.001 + 0.02 * np.array([measures.NORMAL.inv_cdf(p) for p in (np.arange(250_000) + 0.5) / 250_000])
    assert tail == pytest.approx(-draws[: int(0.025 * draws.size)].mean(), rel=1e-4)


def test_cornish_fisher_is_normal_without_skew_and_integrates_its_quantile():
    even = np.array([-1.0, 1.0] * 500 + [0.0] * 2000)  # no skew, kurtosis of 3
    assert np.mean(even**4) / np.mean(even**2) ** 2 == pytest.approx(3.0)
    np.testing.assert_allclose(measures.cornish_fisher(even, 0.95), measures.normal(0.0, even.std(), 0.95))
    x = np.random.default_rng(0).gamma(2.0, size=2000) * -0.01
    confidence, steps = 0.99, 4000
    tails = 1.0 - (1.0 - confidence) * (np.arange(steps) + 0.5) / steps
    quantiles = [measures.cornish_fisher(x, float(p))[0] for p in tails]
    assert measures.cornish_fisher(x, confidence)[1] == pytest.approx(np.mean(quantiles), rel=1e-3)
    assert measures.cornish_fisher(x, confidence)[0] > measures.normal(x.mean(), x.std(), confidence)[0]


def test_filtered_grows_with_what_the_last_days_were_like():
    calm = np.random.default_rng(4).normal(size=500) * 0.01
    wild = np.concatenate([calm, [0.05, -0.04, 0.06]])
    assert measures.filtered(wild, 0.99, 0.94)[0] > 1.5 * measures.filtered(calm, 0.99, 0.94)[0]
    volatility = np.empty(4)
    kernels.ewma_volatility(np.array([0.01, 0.03, -0.02]), 0.9, volatility)
    first = (0.01**2 + 0.03**2 + 0.02**2) / 3
    expected = [first]
    for r in (0.01, 0.03, -0.02):
        expected.append(0.9 * expected[-1] + 0.1 * r * r)
    np.testing.assert_allclose(volatility**2, expected)


def test_components_sum_to_the_value_at_risk_and_marginals_are_its_slope():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 4)) * 0.02
    of, w = np.cov(x, rowvar=False), np.array([0.4, -0.2, 0.3, 0.1])
    marginal, component = measures.contributions(w, of, 0.99)

    def whole(w: np.ndarray) -> float:
        return measures.normal(0.0, math.sqrt(w @ of @ w), 0.99)[0]

    assert component.sum() == pytest.approx(whole(w))
    for i in range(4):
        step = np.eye(4)[i] * 1e-7
        assert marginal[i] == pytest.approx((whole(w + step) - whole(w - step)) / 2e-7, rel=1e-6)
    assert not measures.contributions(np.zeros(4), of, 0.99)[1].any()


def test_concentration_of_equal_independent_names():
    found = measures.concentration(np.full(4, 0.2), np.eye(4) * 0.01)
    assert (found.names, found.herfindahl, found.largest) == pytest.approx((4.0, 0.25, 0.2))
    assert found.diversification == pytest.approx(2.0)
    assert measures.concentration(np.zeros(4), np.eye(4)).names == 0.0


def test_liquidity_is_counted_in_sessions():
    days = measures.liquidity_days(np.array([1e6, -1e6, 0.0, 5.0]), np.array([1e7, 1e6, 0.0, 0.0]), 0.1)
    assert days.tolist() == [1.0, 10.0, 0.0, math.inf]


def test_over_compounds_overlapping_stretches():
    np.testing.assert_allclose(
        measures.over(np.array([0.1, -0.1, 0.2]), 2), [1.1 * 0.9 - 1.0, 0.9 * 1.2 - 1.0], rtol=1e-12
    )


@pytest.mark.parametrize(
    ("rows", "accepted"), [(255, range(1, 7)), (510, range(2, 11)), (1000, range(5, 17))]
)  # Kupiec 1995, table 3, p = 0.01: N < 7, 1 < N < 11, 4 < N < 17; none in 255 is refused by the formula
def test_kupiec_accepts_the_published_numbers_of_failures(rows: int, accepted: range):
    passed = [x for x in range(40) if measures.kupiec(np.arange(rows) < x, 0.99).p_value > 0.05]
    assert passed == list(accepted)


def test_kupiec_and_christoffersen_equal_the_papers_formulas():
    hits = np.zeros(60, bool)
    hits[[3, 4, 20, 41, 42, 43]] = True
    assert measures.kupiec(hits, 0.95).statistic == pytest.approx(reference.kupiec(60, 6, 0.05))
    n00, n01, n10, n11 = 50, 3, 3, 3
    p01, p11, every = n01 / (n00 + n01), n11 / (n10 + n11), (n01 + n11) / 59
    null = (1 - every) ** (n00 + n10) * every ** (n01 + n11)
    ratio = -2 * math.log(null / ((1 - p01) ** n00 * p01**n01 * (1 - p11) ** n10 * p11**n11))
    independence, both = measures.christoffersen(hits, 0.95)
    assert independence.statistic == pytest.approx(ratio)
    assert both.statistic == pytest.approx(ratio + reference.kupiec(60, 6, 0.05))
    assert both.p_value == pytest.approx(math.exp(-both.statistic / 2))


def test_value_at_risk_that_is_right_passes_and_one_that_is_too_small_does_not():
    rng = np.random.default_rng(11)
    x = rng.normal(size=2000)
    limit = measures.normal(0.0, 1.0, 0.99)[0]
    assert measures.kupiec(-x > limit, 0.99).p_value > 0.05
    assert measures.kupiec(-x > 0.8 * limit, 0.99).p_value < 0.01
    clustered = np.repeat(rng.random(200) < 0.05, 10)
    assert measures.christoffersen(clustered, 0.95)[0].p_value < 1e-6


def test_holes_are_refused():
    with pytest.raises(ValueError, match="no NaN"):
        measures.historical(np.array([0.1, np.nan]), 0.95)
