"""Probabilistic and deflated Sharpe ratios against the papers' own examples; CSCV against a plain loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tradecore.reports import metrics
from tradecore.research import overfitting as o


def test_probabilistic_sharpe_of_the_papers_example():
    """2012, section on hedge funds: 24 months, a monthly ratio of 0.458, skewness -2.448, kurtosis 10.164."""
    assert o.probabilistic_sharpe(0.458, 24) == pytest.approx(0.982, abs=5e-4)
    assert o.probabilistic_sharpe(0.458, 24, skewness=-2.448, kurtosis=10.164) == pytest.approx(0.913, abs=5e-4)


@pytest.mark.parametrize(("a_year", "years"), [(252, 2.73), (52, 2.83), (12, 3.24)])
def test_least_track_record_of_the_papers_example(a_year: int, years: float):
    """2012, minimum track record: an annual ratio of 2 against 1 at 95 %, normal, daily, weekly and monthly."""
    least = o.least_track_record(2 / math.sqrt(a_year), benchmark=1 / math.sqrt(a_year))
    assert least / a_year == pytest.approx(years, abs=5e-3)


def test_least_track_record_is_where_the_probability_reaches_the_confidence():
    kind = {"benchmark": 0.03, "skewness": -1.0, "kurtosis": 7.0}
    least = o.least_track_record(0.1, **kind, confidence=0.9)
    assert (
        o.probabilistic_sharpe(0.1, math.floor(least), **kind)
        < 0.9
        <= o.probabilistic_sharpe(0.1, math.ceil(least), **kind)
    )
    assert o.least_track_record(0.1, benchmark=0.1) == math.inf


def test_deflated_sharpe_of_the_papers_example():
    """2014: best of 100 trials, annual ratio 2.5, 1,250 days of 250 a year, variance 1/2, skewness -3, kurtosis 10."""
    sharpe, variance = 2.5 / math.sqrt(250), 0.5 / 250
    assert o.expected_best_sharpe(100, variance) == pytest.approx(0.1132, abs=5e-5)
    shape = {"variance": variance, "skewness": -3.0, "kurtosis": 10.0}
    assert o.deflated_sharpe(sharpe, 1250, trials=100, **shape) == pytest.approx(0.9004, abs=5e-5)
    assert o.deflated_sharpe(sharpe, 1250, trials=46, **shape) == pytest.approx(0.9505, abs=5e-5)
    assert o.deflated_sharpe(sharpe, 1250, trials=88, variance=variance) == pytest.approx(0.9505, abs=5e-5)


def test_expected_best_sharpe_is_the_mean_of_the_best_of_so_many_draws():
    rng = np.random.default_rng(3)
    for trials in (10, 100, 1000):
        best = rng.normal(0.0, 0.2, (4000, trials)).max(axis=1).mean()
        assert o.expected_best_sharpe(trials, 0.04) == pytest.approx(best, rel=0.03)
    assert o.expected_best_sharpe(1, 0.04) == 0.0


def test_the_ratio_of_returns_is_that_of_their_moments():
    returns = np.random.default_rng(0).standard_t(4, 500) * 0.01 + 0.001
    sharpe, skewness, kurtosis = o.moments(returns)
    found = o.probabilistic_sharpe(sharpe, returns.size, skewness=skewness, kurtosis=kurtosis)
    assert found == pytest.approx(metrics.probabilistic_sharpe(returns), rel=1e-12)


# ------------------------------------------------------------------------------------------------------------- CSCV


def plainly(returns: np.ndarray, blocks: int) -> tuple[float, float, float, list[float]]:
    """CSCV as the paper's section 3 tells it, split by split, with numpy's mean and std only."""
    size = returns.shape[0] // blocks
    pieces = [returns[len(returns) - size * blocks :][k * size : (k + 1) * size] for k in range(blocks)]
    logits, lost, seen, later = [], 0, [], []
    for chosen in itertools.combinations(range(blocks), blocks // 2):
        inside = np.concatenate([pieces[k] for k in chosen])
        outside = np.concatenate([pieces[k] for k in range(blocks) if k not in chosen])
        r = [c.mean() / c.std(ddof=1) if c.std() > 1e-12 else 0.0 for c in inside.T]
        rest = [c.mean() / c.std(ddof=1) if c.std() > 1e-12 else 0.0 for c in outside.T]
        n = int(np.argmax(r))
        below, equal = sum(x < rest[n] for x in rest), sum(x == rest[n] for x in rest)
        omega = (below + (equal + 1) / 2) / (len(rest) + 1)
        logits.append(math.log(omega / (1 - omega)))
        lost += outside[:, n].sum() < 0
        seen.append(r[n])
        later.append(rest[n])
    slope = np.polyfit(seen, later, 1)[0]
    return sum(x <= 0 for x in logits) / len(logits), lost / len(logits), float(slope), logits


@pytest.mark.parametrize("skill", [0.0, 0.004])
def test_probability_of_overfitting_equals_the_plain_loop(skill: float):
    returns = np.random.default_rng(5).normal(0.0, 0.01, (203, 7))
    returns[:, 2] += skill
    found, (probability, loss, slope, logits) = o.probability_of_overfitting(returns, 8), plainly(returns, 8)
    assert found.splits == 70
    assert (found.probability, found.loss_probability) == (probability, loss)
    assert found.slope == pytest.approx(slope, rel=1e-9)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-12)


def test_probability_of_overfitting_is_high_for_noise_and_low_for_skill():
    """The paper's two ends: N strategies without skill, and one whose skill shows in every half."""
    rng = np.random.default_rng(11)
    noise = [o.probability_of_overfitting(rng.normal(0.0, 0.01, (800, 20)), 10).probability for _ in range(30)]
    assert 0.4 < np.mean(noise) < 0.75
    skilled = rng.normal(0.0, 0.01, (800, 20))
    skilled[:, 4] += 0.003
    assert o.probability_of_overfitting(skilled, 10).probability < 0.02


def test_sixteen_blocks_are_12870_splits():
    """The paper's example: S = 16."""
    found = o.probability_of_overfitting(np.random.default_rng(1).normal(0.0, 0.01, (320, 4)), 16)
    assert found.splits == 12_870


def test_a_variant_that_never_trades_is_worth_0_and_ties_share_their_rank():
    returns = np.zeros((40, 3))
    assert o.probability_of_overfitting(returns, 4).logits.tolist() == [0.0] * 6
    with pytest.raises(ValueError, match="even blocks"):
        o.probability_of_overfitting(returns, 5)
    with pytest.raises(ValueError, match="2 variants"):
        o.probability_of_overfitting(returns[:, :1], 4)
