"""Block bootstrap against arch (golden/validity_peers.json, make validity-peers) and its own laws; trade paths."""

from __future__ import annotations

import csv
import itertools
import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tradecore.reports import metrics
from tradecore.research import bootstrap as b
from tradecore.research import trade_paths as tp

TESTS = Path(__file__).resolve().parents[2]
GOLDEN = json.loads((TESTS / "golden" / "validity_peers.json").read_text("utf-8"))


@cache
def returns_of(symbol: str) -> np.ndarray:
    with (TESTS.parent / "include" / "sample_data" / f"{symbol}.csv").open(encoding="utf-8") as file:
        close = np.array([float(row["vendor_adj_close"]) for row in csv.DictReader(file)])
    return np.asarray(close[1:] / close[:-1] - 1.0)


@pytest.mark.parametrize("symbol", sorted(GOLDEN["block_length"]))
def test_block_length_equals_archs(symbol: str):
    """Returns have hardly any correlation, absolute returns a long one: short and long blocks."""
    theirs = GOLDEN["block_length"][symbol]
    for found, wanted in (
        (b.block_length(returns_of(symbol)), theirs["returns"]),
        (b.block_length(np.abs(returns_of(symbol))), theirs["absolute"]),
    ):
        assert found == pytest.approx(tuple(max(1.0, w) for w in wanted), rel=1e-9)


def test_standard_error_of_the_mean_is_archs_and_the_closed_form():
    """20,000 draws on both sides: such an error is itself known to half a percent."""
    returns, block, rng = returns_of("FB"), GOLDEN["bootstrap"]["block"], np.random.default_rng(2)
    stationary = returns[b.stationary_indices(rng, returns.size, 20_000, block)].mean(axis=1).std()
    circular = returns[b.circular_indices(rng, returns.size, 20_000, block)].mean(axis=1).std()
    assert [stationary, circular] == pytest.approx(GOLDEN["mean_error"]["FB"], rel=0.02)
    assert stationary == pytest.approx(_error_by_formula(returns, block), rel=0.02)


def _error_by_formula(returns: np.ndarray, block: float) -> float:
    """The variance of the stationary bootstrap's mean in closed form (Politis & Romano 1994, lemma 1)."""
    n, d, p = returns.size, returns - returns.mean(), 1.0 / block
    total = float(d @ d) / n
    for k in range(1, n):
        circular = float(d @ np.roll(d, -k)) / n
        total += 2.0 * (1.0 - k / n) * (1.0 - p) ** k * circular
    return math.sqrt(total / n)


def test_stationary_blocks_run_on_and_have_the_mean_length():
    found = b.stationary_indices(np.random.default_rng(0), 500, 400, 10.0)
    runs_on = (found[:, 1:] - found[:, :-1]) % 500 == 1
    assert found.min() == 0
    assert found.max() == 499
    assert 1.0 / (1.0 - runs_on.mean()) == pytest.approx(10.0, rel=0.05)
    counts = np.bincount(found.ravel(), minlength=500)
    assert counts.min() > 250, "every row is drawn as often as any other"


def test_circular_blocks_have_their_length_and_go_around_the_end():
    found = b.circular_indices(np.random.default_rng(0), 50, 300, 7)
    for line in found[:20].tolist():
        for k in range(0, 50, 7):
            piece = line[k : k + 7]
            assert piece == [(piece[0] + j) % 50 for j in range(len(piece))]
    assert any(49 in line and line[line.index(49) + 1 : line.index(49) + 2] == [0] for line in found.tolist())


def test_bootstrap_of_real_returns_surrounds_the_ratio_that_was():
    returns = returns_of("IBM")[:1000]
    found = b.bootstrap(returns, np.random.default_rng(7), draws=500, periods_per_year=252.0)
    low, high = b.interval(found.sharpe)
    was = metrics.sharpe(returns)
    assert low < was < high
    assert math.sqrt(252 / 1000) * 1.96 * 2 == pytest.approx(high - low, rel=0.25), "Lo's error of an annual ratio"
    again = b.bootstrap(returns, np.random.default_rng(7), draws=500, periods_per_year=252.0)
    np.testing.assert_array_equal(found.sharpe, again.sharpe)


def test_a_constant_series_has_no_block_and_a_short_one_is_refused():
    assert all(math.isnan(x) for x in b.block_length(np.full(50, 0.01)))
    with pytest.raises(ValueError, match="8 or more"):
        b.block_length(np.arange(5.0))


# ------------------------------------------------------------------------------------------------------ trade paths


def test_reshuffling_covers_all_orders_and_keeps_the_end():
    trades = np.array([0.10, -0.20, 0.05])
    orders = [metrics.max_drawdown(np.array(o)) for o in itertools.permutations(trades)]
    found = tp.trade_paths(trades, np.random.default_rng(0), draws=600)
    assert found.drawdown == pytest.approx(metrics.max_drawdown(trades))
    seen = set(np.round(found.reshuffled_drawdown, 12).tolist())
    assert seen == set(np.round(orders, 12).tolist())
    assert found.reshuffled_drawdown.mean() == pytest.approx(np.mean(orders), rel=0.02)


def test_resampling_covers_all_samples():
    trades = np.array([0.10, -0.20, 0.05])
    every = [np.array(s) for s in itertools.product(trades, repeat=3)]
    found = tp.trade_paths(trades, np.random.default_rng(0), draws=20_000)
    assert found.resampled_return.mean() == pytest.approx(np.mean([np.prod(1 + s) - 1 for s in every]), abs=0.003)
    assert found.resampled_drawdown.mean() == pytest.approx(
        np.mean([metrics.max_drawdown(s) for s in every]), abs=0.003
    )
    with pytest.raises(ValueError, match="no trades"):
        tp.trade_paths(np.array([]), np.random.default_rng(0), draws=5)
