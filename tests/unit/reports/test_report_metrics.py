"""Figures against naive loops over plain floats, and against values worked out by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradecore.reports import metrics

RETURNS = st.lists(st.floats(-0.5, 0.5, allow_subnormal=False), min_size=3, max_size=60)


def naive_stats(returns: list[float]) -> tuple[float, float, float]:
    """Mean, sample standard deviation and downside deviation in exact fractions until the root."""
    exact = [Fraction(r) for r in returns]
    mean = sum(exact) / len(exact)
    variance = sum((r - mean) ** 2 for r in exact) / (len(exact) - 1)
    downside = sum(min(Fraction(0), r) ** 2 for r in exact) / len(exact)
    return float(mean), math.sqrt(variance), math.sqrt(downside)


@given(RETURNS)
def test_sharpe_sortino_and_volatility_equal_their_definitions(returns: list[float]) -> None:
    mean, deviation, downside = naive_stats(returns)
    given_returns = np.array(returns)
    if deviation < 1e-9 or downside < 1e-9:
        return  # the quotient of two roundings says nothing
    assert metrics.annual_volatility(given_returns) == pytest.approx(deviation * math.sqrt(252), rel=1e-9)
    assert metrics.sharpe(given_returns) == pytest.approx(mean / deviation * math.sqrt(252), rel=1e-6, abs=1e-9)
    assert metrics.sortino(given_returns) == pytest.approx(mean / downside * math.sqrt(252), rel=1e-6, abs=1e-9)


@given(RETURNS)
def test_drawdowns_equal_a_walk_with_a_running_peak(returns: list[float]) -> None:
    level = peak = 1.0
    depths, run, longest = [0.0], 0, 0
    for r in returns:
        level *= 1.0 + r
        peak = max(peak, level)
        depths.append(1.0 - level / peak)
        run = run + 1 if level < peak else 0
        longest = max(longest, run)
    found = metrics.drawdowns(np.array(returns))
    np.testing.assert_allclose(found, depths, atol=1e-12)
    assert metrics.max_drawdown(np.array(returns)) == pytest.approx(max(depths), abs=1e-12)
    assert metrics.longest_drawdown(np.array(returns)) == longest


def test_a_quarter_lost_and_regained() -> None:
    returns = np.array([-0.25, 1 / 3])
    assert metrics.total_return(returns) == pytest.approx(0.0)
    assert metrics.max_drawdown(returns) == pytest.approx(0.25)
    assert metrics.cagr(np.array([0.1, 0.1]), periods_per_year=1) == pytest.approx(0.1)
    assert metrics.calmar(np.array([-0.5, 3.0]), periods_per_year=2) == pytest.approx(1.0 / 0.5)


def test_a_deposit_is_no_return() -> None:
    equity = np.array([100.0, 200.0, 210.0])
    flow = np.array([0.0, 100.0, 0.0])
    np.testing.assert_allclose(metrics.simple_returns(equity, flow), [0.0, 0.05])


def test_the_base_of_a_return_is_what_the_breaker_measures_against() -> None:
    """docs/STEP.md settle 1: a deposit is added to the equity that the session's loss is measured on."""
    assert metrics.simple_returns(np.array([100.0, 190.0]), np.array([0.0, 100.0]))[0] == pytest.approx(-0.05)


def test_no_return_on_nothing_and_nan_stays_nan() -> None:
    assert np.isnan(metrics.simple_returns(np.array([0.0, 100.0]))).all()
    with_nan = np.array([0.01, np.nan, 0.02])
    for figure in (metrics.sharpe, metrics.sortino, metrics.cagr, metrics.annual_volatility, metrics.hit_rate):
        assert math.isnan(figure(with_nan))


@pytest.mark.parametrize("returns", [[], [0.01]])
def test_too_short_a_history_has_no_ratio(returns: list[float]) -> None:
    values = np.array(returns)
    assert math.isnan(metrics.sharpe(values))
    assert math.isnan(metrics.annual_volatility(values))
    assert metrics.max_drawdown(values) == 0.0


def test_without_variance_or_loss_there_is_no_ratio() -> None:
    steady = np.full(300, 0.001)
    assert math.isnan(metrics.sharpe(steady))
    assert math.isnan(metrics.sortino(steady))
    assert math.isnan(metrics.calmar(steady))
    assert metrics.hit_rate(steady) == 1.0
    assert math.isnan(metrics.hit_rate(np.zeros(5)))


def test_everything_lost_is_minus_one_a_year() -> None:
    assert metrics.cagr(np.array([0.1, -1.0, 0.0])) == -1.0


def test_turnover_of_a_book_exchanged_once_a_year_is_one() -> None:
    traded = np.zeros(252)
    traded[[0, 1]] = 100.0  # sold everything, bought everything
    assert metrics.annual_turnover(traded, np.full(252, 100.0)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="shape"):
        metrics.annual_turnover(traded, np.ones(2))


def test_shapes_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        metrics.simple_returns(np.ones(3), np.ones(2))
