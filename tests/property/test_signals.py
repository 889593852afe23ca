"""Indicators, the built-in strategy and the adjustment factor against their naive twins, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from tradecore.backtest.step import volatilities
from tradecore.bars import next_factor
from tradecore.indicators._kernels import ema_at, sma_at, volatility_at
from tradecore.strategies._kernels import ma_crossover_at, ma_crossover_panel

EXAMPLES = settings(max_examples=100, deadline=None)
PRICES = st.floats(0.01, 5_000.0) | st.integers(1, 50).map(float)
GAPPY = PRICES | st.just(math.nan)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@EXAMPLES
@given(closes=st.lists(GAPPY, min_size=6, max_size=60), period=st.integers(2, 6))
def test_averages_equal_their_twins_to_the_bit(closes: list[float], period: int):
    x = np.array(closes)
    assert same(sma_at(x, x.size, period), reference.sma(closes[-period:]))
    assert same(ema_at(x, 0, x.size, period), reference.ema(closes, period))


@EXAMPLES
@given(closes=st.lists(GAPPY, min_size=4, max_size=60), lookback=st.integers(2, 20))
def test_volatility_equals_its_twin(closes: list[float], lookback: int):
    lookback = min(lookback, len(closes) - 1)
    ours = reference.volatility(closes[-(lookback + 1) :], 252.0)
    theirs = volatility_at(np.array(closes), len(closes), lookback, 252.0)
    # The logarithm of numba and of Python may differ in the last bit.
    assert same(theirs, ours) or theirs == pytest.approx(ours, rel=1e-12, abs=1e-13)


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    short=st.integers(2, 6),
    more=st.integers(1, 8),
    kind=st.sampled_from(("sma", "ema")),
    threshold=st.sampled_from((0.0, 0.4, 0.75, 1.0)),
    drift=st.sampled_from((-0.01, 0.0, 0.005, 0.02)),
)
def test_crossover_equals_its_twin_to_the_bit(
    seed: int, short: int, more: int, kind: str, threshold: float, drift: float
):
    rows = reference.ma_crossover_window(short + more, kind)
    closes = walk(seed, rows, drift)
    theirs = ma_crossover_at(closes, 0, rows, short, short + more, 5, kind == "ema", threshold)
    assert same(theirs, reference.ma_crossover(closes.tolist(), short, short + more, threshold, kind))


def walk(seed: int, rows: int, drift: float) -> np.ndarray:
    """Return random closes; in one of eight a row is missing."""
    rng = np.random.default_rng(seed)
    closes = 100.0 * np.exp(np.cumsum(rng.normal(drift, 0.01, rows)))
    if rng.integers(8) == 0:
        closes[rng.integers(rows)] = np.nan
    return np.asarray(closes)


def test_crossover_comparison_sees_every_answer():
    """The walks give 0, NaN for a gap, NaN below the threshold, and a confidence."""
    answers = {"flat": 0, "gap": 0, "unsure": 0, "sure": 0}
    for seed in range(200):
        closes = walk(seed, 15, 0.005)
        score = ma_crossover_at(closes, 0, 15, 3, 10, 5, False, 0.75)
        gap = bool(np.isnan(closes).any())
        answers["gap" if gap else "unsure" if math.isnan(score) else "sure" if score else "flat"] += 1
    assert min(answers.values()) >= 10, answers


@EXAMPLES
@given(seed=st.integers(0, 2**32), cut=st.integers(20, 58), exponential=st.booleans())
def test_signal_unchanged_by_future_bars(seed: int, cut: int, exponential: bool):
    closes = np.column_stack([walk(seed, 60, 0.005), walk(seed + 1, 60, 0.0)])
    lookback = reference.ma_crossover_window(4, "ema" if exponential else "sma")
    scores, other = np.full((60, 2), np.nan), np.full((60, 2), np.nan)
    changed = closes.copy()
    changed[cut + 1 :] *= np.random.default_rng(seed).uniform(0.5, 2.0)
    for panel, out in ((closes, scores), (changed, other)):
        ma_crossover_panel(panel, lookback - 1, lookback, 2, 4, 5, exponential, 0.4, out)
    np.testing.assert_array_equal(scores[: cut + 1], other[: cut + 1])
    np.testing.assert_array_equal(
        volatilities(closes, 10, 252.0)[: cut + 1], volatilities(changed, 10, 252.0)[: cut + 1]
    )


@EXAMPLES
@given(seed=st.integers(0, 2**32), exponential=st.booleans())
def test_signal_of_a_window_alone_is_the_signal_of_the_panel(seed: int, exponential: bool):
    """Production looks at exactly the window, a backtest at the panel: the scores are the same bits."""
    closes = walk(seed, 60, 0.005)
    lookback = reference.ma_crossover_window(4, "ema" if exponential else "sma")
    out = np.full((60, 1), np.nan)
    ma_crossover_panel(closes[:, None].copy(), lookback - 1, lookback, 2, 4, 5, exponential, 0.4, out)
    for end in range(lookback, 61):
        alone = closes[end - lookback : end].copy()
        assert same(ma_crossover_at(alone, 0, lookback, 2, 4, 5, exponential, 0.4), out[end - 1, 0])


@EXAMPLES
@given(
    rows=st.lists(
        st.tuples(
            st.integers(100, 50_000_000),
            st.sampled_from(((1, 1), (1, 1), (2, 1), (3, 2), (1, 10))),
            st.just(0) | st.integers(1, 5_000_000),
        ),
        min_size=2,
        max_size=20,
    )
)
def test_adjustment_factor_equals_its_twin_to_the_bit(rows: list[tuple[int, tuple[int, int], int]]):
    factor, factors = 1.0, [1.0]
    for close_e4, (num, den), dividend_e6 in rows[1:]:
        factor = next_factor(factor, close_e4, num, den, dividend_e6)
        factors.append(factor)
    closes, splits, dividends = zip(*rows, strict=True)
    twin = reference.adjustment_factors([c / 1e4 for c in closes], splits, [d / 1e6 for d in dividends])
    assert factors == twin
