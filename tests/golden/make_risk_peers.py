"""What skfolio, riskfolio-lib and PyPortfolioOpt say of the sample: `make risk-peers` runs this in their environment.

.local/risk-peers/bin/python tests/golden/make_risk_peers.py            write risk_peers.json
.local/risk-peers/bin/python tests/golden/make_risk_peers.py --check    compare it with what they say now, to 1e-6
"""

from __future__ import annotations

import csv
import json
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HOME = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("risk_peers.json")
SYMBOLS, LAGS, ROWS = ("AAPL", "MSFT", "IBM"), (0, 7, 13, 29), 500
CAP, AVERSION = 0.15, 5.0


def returns() -> pd.DataFrame:
    """Return twelve columns of 500 rows: three names of the sample, each four times with another lag."""
    columns = {}
    for symbol in SYMBOLS:
        with (HOME / "include" / "sample_data" / f"{symbol}.csv").open(encoding="utf-8") as file:
            close = np.array([float(row["vendor_adj_close"]) for row in csv.DictReader(file)])
        moves = close[1:] / close[:-1] - 1.0
        for lag in LAGS:
            columns[f"{symbol}{lag}"] = moves[moves.size - ROWS - lag : moves.size - lag]
    return pd.DataFrame(columns, index=pd.bdate_range("2011-01-03", periods=ROWS))


def of_skfolio(x: pd.DataFrame) -> dict[str, Any]:
    from skfolio import measures
    from skfolio.moments import EmpiricalCovariance, LedoitWolf
    from skfolio.optimization import InverseVolatility, MeanRisk, RiskBudgeting
    from skfolio.prior import EmpiricalPrior

    prior = EmpiricalPrior(covariance_estimator=EmpiricalCovariance())
    tight = {"solver": "CLARABEL", "solver_params": {"tol_gap_abs": 1e-14, "tol_gap_rel": 1e-14, "tol_feas": 1e-14}}
    least = MeanRisk(prior_estimator=prior, max_weights=CAP, **tight).fit(x)
    parity = RiskBudgeting(prior_estimator=prior, **tight).fit(x)
    fund = x.mean(axis=1).to_numpy()
    shrunk = LedoitWolf().fit(x)
    return {
        "ledoit_wolf": shrunk.covariance_.tolist(),
        "minimum_variance": least.weights_.tolist(),
        "risk_parity": parity.weights_.tolist(),
        "inverse_volatility": InverseVolatility(prior_estimator=prior).fit(x).weights_.tolist(),
        "value_at_risk": {str(b): float(measures.value_at_risk(fund, beta=b)) for b in (0.95, 0.99)},
        "expected_shortfall": {str(b): float(measures.cvar(fund, beta=b)) for b in (0.95, 0.99)},
    }


def of_riskfolio(x: pd.DataFrame) -> dict[str, Any]:
    import riskfolio as rp

    fund = x.mean(axis=1).to_numpy()
    portfolio = rp.Portfolio(returns=x)
    portfolio.assets_stats(method_mu="hist", method_cov="hist")
    weights = portfolio.rp_optimization(model="Classic", rm="MV", hist=True)
    return {
        "risk_parity": weights["weights"].tolist(),
        "value_at_risk": {str(1 - a): float(rp.VaR_Hist(fund, alpha=a)) for a in (0.05, 0.01)},
        "expected_shortfall": {str(1 - a): float(rp.CVaR_Hist(fund, alpha=a)) for a in (0.05, 0.01)},
    }


def of_pypfopt(x: pd.DataFrame) -> dict[str, Any]:
    from pypfopt import EfficientFrontier

    covariance, mean = x.cov(), x.mean()
    tight = {"solver": "CLARABEL", "solver_options": {"tol_gap_abs": 1e-14, "tol_gap_rel": 1e-14, "tol_feas": 1e-14}}
    least = EfficientFrontier(None, covariance, weight_bounds=(0, CAP), **tight)
    least.min_volatility()
    best = EfficientFrontier(mean, covariance, weight_bounds=(0, CAP), **tight)
    best.max_quadratic_utility(risk_aversion=AVERSION)
    return {"minimum_variance": least.weights.tolist(), "mean_variance": best.weights.tolist()}


def figures() -> dict[str, Any]:
    x = returns()
    return {
        "versions": {name: metadata.version(name) for name in ("skfolio", "riskfolio-lib", "pyportfolioopt")},
        "cap": CAP,
        "aversion": AVERSION,
        "skfolio": of_skfolio(x),
        "riskfolio-lib": of_riskfolio(x),
        "pyportfolioopt": of_pypfopt(x),
    }


def near(one: Any, other: Any) -> bool:
    """Tell whether two documents agree to 1e-6."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(near(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(near(a, b) for a, b in zip(one, other, strict=True))
    return abs(one - other) <= 1e-6 if isinstance(one, float) else bool(one == other)


def main() -> int:
    warnings.simplefilter("ignore")
    found = json.loads(json.dumps(figures()))
    if "--check" not in sys.argv:
        GOLDEN.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
        return 0
    same = near(found, json.loads(GOLDEN.read_text(encoding="utf-8")))
    print(f"the golden figures are {'' if same else 'NOT '}what skfolio, riskfolio-lib and PyPortfolioOpt say")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
