"""Weights and losses equal those of skfolio, riskfolio-lib and PyPortfolioOpt (tests/golden/make_risk_peers.py).

Tolerances: 1e-6 on weights where their solver is as exact; risk parity 5e-6 for skfolio, 1e-4 for riskfolio-lib (its
solver's own), 1e-12 on covariances and losses, which are formulas.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tradecore.risk import covariance, measures, sizing

HOME = Path(__file__).resolve().parents[3]
PEERS: dict[str, Any] = json.loads((HOME / "tests/golden/risk_peers.json").read_text(encoding="utf-8"))
SYMBOLS, LAGS, ROWS = ("AAPL", "MSFT", "IBM"), (0, 7, 13, 29), 500


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    columns = []
    for symbol in SYMBOLS:
        with (HOME / "include/sample_data" / f"{symbol}.csv").open(encoding="utf-8") as file:
            close = np.array([float(row["vendor_adj_close"]) for row in csv.DictReader(file)])
        moves = close[1:] / close[:-1] - 1.0
        columns += [moves[moves.size - ROWS - lag : moves.size - lag] for lag in LAGS]
    return np.ascontiguousarray(np.array(columns).T)


def test_ledoit_wolf(returns: np.ndarray):
    np.testing.assert_allclose(covariance.estimate(returns), PEERS["skfolio"]["ledoit_wolf"], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("peer", ["skfolio", "pyportfolioopt"])
def test_minimum_variance_under_a_cap(returns: np.ndarray, peer: str):
    of = covariance.estimate(returns, "sample")
    w = sizing.minimum(of, np.full(12, PEERS["cap"]), 1.0)
    theirs = np.array(PEERS[peer]["minimum_variance"])
    np.testing.assert_allclose(w, theirs, atol=1e-6)
    assert w @ of @ w <= (theirs @ of @ theirs) * (1 + 1e-9), "ours is no worse"


def test_mean_variance_under_a_cap(returns: np.ndarray):
    of, mean = covariance.estimate(returns, "sample"), returns.mean(axis=0)
    q = of * PEERS["aversion"]
    w = sizing._optimum(q, mean, np.full(12, PEERS["cap"]), 1.0)
    theirs = np.array(PEERS["pyportfolioopt"]["mean_variance"])
    np.testing.assert_allclose(w, theirs, atol=1e-5)
    assert mean @ w - w @ q @ w / 2 >= (mean @ theirs - theirs @ q @ theirs / 2) - 1e-12


@pytest.mark.parametrize(("peer", "tolerance"), [("skfolio", 5e-6), ("riskfolio-lib", 1e-4)])
def test_risk_parity(returns: np.ndarray, peer: str, tolerance: float):
    of = covariance.estimate(returns, "sample")
    w = sizing.equal_risk(of)
    np.testing.assert_allclose(w, PEERS[peer]["risk_parity"], atol=tolerance)
    parts = w * (of @ w) / (w @ of @ w)
    assert np.ptp(parts) <= 1e-8


def test_inverse_volatility(returns: np.ndarray):
    of = covariance.estimate(returns, "sample")
    w = sizing.filled(1.0 / np.sqrt(np.diag(of)), np.ones(12), 1.0)
    np.testing.assert_allclose(w, PEERS["skfolio"]["inverse_volatility"], atol=1e-12)


@pytest.mark.parametrize("peer", ["skfolio", "riskfolio-lib"])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_value_at_risk_and_expected_shortfall(returns: np.ndarray, peer: str, confidence: float):
    fund = returns.mean(axis=1)
    value, tail = measures.historical(fund, confidence)
    if peer == "skfolio":  # counts (1 - 0.95) * 500 as 25.00000000000002 rows, and takes the 26th
        value = np.sort(-fund)[::-1][measures.worst_rows(ROWS, confidence)]
    assert float(value) == pytest.approx(PEERS[peer]["value_at_risk"][str(confidence)], abs=1e-12)
    assert float(tail) == pytest.approx(PEERS[peer]["expected_shortfall"][str(confidence)], abs=1e-12)
