"""Figures of empyrical and quantstats on the sample's returns: `make metrics-peers` runs this in their environment.

.local/peers/bin/python tests/golden/make_metrics_peers.py            write metrics_peers.json
.local/peers/bin/python tests/golden/make_metrics_peers.py --check    compare it with what they say now
"""

from __future__ import annotations

import csv
import inspect
import json
import math
import sys
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import empyrical as ep
import numpy as np
import pandas as pd
from quantstats import stats as qs

HOME = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("metrics_peers.json")
CASES = (("AAPL", "IBM"), ("MSFT", "IBM"), ("FB", "IBM"))  # a great gain, a small one, a short loss
EVERY = 97  # of a series, every such value is kept
TOLERANCE = 1e-12


def returns_of(symbol: str) -> pd.Series:
    """Return the vendor's adjusted closes as simple returns."""
    with (HOME / "include" / "sample_data" / f"{symbol}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    close = np.array([float(row["vendor_adj_close"]) for row in rows])
    index = pd.DatetimeIndex([row["session_date"] for row in rows])
    return pd.Series(close[1:] / close[:-1] - 1.0, index=index[1:])


def plain(value: Any) -> Any:
    """Return a result as JSON: floats, lists and texts; of a series every EVERY-th value, NaN as None."""
    if isinstance(value, pd.Series | pd.DataFrame):
        value = value.to_numpy()
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, str):
        return value
    number = float(value)
    return None if math.isnan(number) else number


def thinned(series: pd.Series) -> pd.Series:
    """Return every EVERY-th value, counted from the end."""
    return series.iloc[::-1].iloc[::EVERY]


def figures(r: pd.Series, b: pd.Series) -> dict[str, Any]:
    """Return every figure of both libraries by name."""
    greeks, batting = qs.greeks(r, b), ep.batting_average(r, b)
    months, years = qs.compare(r, b, aggregate="eom"), qs.compare(r, b, aggregate="eoy")
    details = qs.drawdown_details(qs.to_drawdown_series(r)).sort_values("max drawdown", kind="stable").head(5)
    out: dict[str, Any] = {
        "ep.alpha": ep.alpha(r, b),
        "ep.annual_return": ep.annual_return(r),
        "ep.annual_volatility": ep.annual_volatility(r),
        "ep.batting_average": list(batting),
        "ep.beta": ep.beta(r, b),
        "ep.beta_fragility_heuristic": ep.beta_fragility_heuristic(r, b),
        "ep.cagr": ep.cagr(r),
        "ep.calmar_ratio": ep.calmar_ratio(r),
        "ep.capture": ep.capture(r, b),
        "ep.conditional_value_at_risk": ep.conditional_value_at_risk(r),
        "ep.cum_returns": thinned(ep.cum_returns(r)),
        "ep.cum_returns_final": ep.cum_returns_final(r),
        "ep.down_alpha_beta": list(ep.down_alpha_beta(r, b)),
        "ep.down_capture": ep.down_capture(r, b),
        "ep.downside_risk": ep.downside_risk(r),
        "ep.excess_sharpe": ep.excess_sharpe(r, b),
        "ep.max_drawdown": ep.max_drawdown(r),
        "ep.omega_ratio": ep.omega_ratio(r),
        "ep.omega_ratio 5 %": ep.omega_ratio(r, required_return=0.05),
        "ep.roll_alpha": thinned(ep.roll_alpha(r, b, window=126)),
        "ep.roll_annual_volatility": thinned(ep.roll_annual_volatility(r, 126)),
        "ep.roll_beta": thinned(ep.roll_beta(r, b, window=126)),
        "ep.roll_down_capture": thinned(ep.roll_down_capture(r, b, window=126)),
        "ep.roll_max_drawdown": thinned(ep.roll_max_drawdown(r, 126)),
        "ep.roll_sharpe_ratio": thinned(ep.roll_sharpe_ratio(r, 126)),
        "ep.roll_sortino_ratio": thinned(ep.roll_sortino_ratio(r, 126)),
        "ep.roll_up_capture": thinned(ep.roll_up_capture(r, b, window=126)),
        "ep.roll_up_down_capture": thinned(ep.roll_up_down_capture(r, b, window=126)),
        "ep.roll_up_capture of 2": thinned(ep.roll_up_capture(r, b, window=2)),
        "ep.sharpe_ratio": ep.sharpe_ratio(r),
        "ep.sharpe_ratio 0.01 %": ep.sharpe_ratio(r, risk_free=0.0001),
        "ep.sortino_ratio": ep.sortino_ratio(r),
        "ep.sortino_ratio 0.01 %": ep.sortino_ratio(r, required_return=0.0001),
        "ep.stability_of_timeseries": ep.stability_of_timeseries(r),
        "ep.tail_ratio": ep.tail_ratio(r),
        "ep.up_alpha_beta": list(ep.up_alpha_beta(r, b)),
        "ep.up_capture": ep.up_capture(r, b),
        "ep.up_down_capture": ep.up_down_capture(r, b),
        "ep.value_at_risk": ep.value_at_risk(r),
        "ep.weekly": thinned(ep.aggregate_returns(r, "weekly")),
        "ep.monthly": thinned(ep.aggregate_returns(r, "monthly")),
        "ep.quarterly": ep.aggregate_returns(r, "quarterly"),
        "ep.yearly": ep.aggregate_returns(r, "yearly"),
        "qs.adjusted_sortino": qs.adjusted_sortino(r),
        "qs.autocorr_penalty": qs.autocorr_penalty(r),
        "qs.avg_loss": qs.avg_loss(r),
        "qs.avg_return": qs.avg_return(r),
        "qs.avg_win": qs.avg_win(r),
        "qs.best": qs.best(r),
        "qs.best month": qs.best(r, aggregate="eom"),
        "qs.cagr": qs.cagr(r),
        "qs.calmar": qs.calmar(r),
        "qs.common_sense_ratio": qs.common_sense_ratio(r),
        "qs.comp": qs.comp(r),
        "qs.compare months": [months["Returns"], months["Benchmark"], months["Multiplier"]],
        "qs.compare months won": list(months["Won"]),
        "qs.compare years": [years["Returns"], years["Benchmark"], years["Multiplier"]],
        "qs.compsum": thinned(qs.compsum(r)),
        "qs.conditional_value_at_risk": qs.conditional_value_at_risk(r),
        "qs.consecutive_losses": qs.consecutive_losses(r),
        "qs.consecutive_wins": qs.consecutive_wins(r),
        "qs.cpc_index": qs.cpc_index(r),
        "qs.cvar": qs.cvar(r),
        "qs.cvar historical": qs.cvar(r, method="historical"),
        "qs.distribution outliers": [len(v["outliers"]) for v in (qs.distribution(r)[k] for k in ("Daily", "Monthly"))],
        "qs.drawdown_details": [[row["start"], row["valley"], row["max drawdown"]] for _, row in details.iterrows()],
        "qs.expected_return": qs.expected_return(r),
        "qs.expected_shortfall": qs.expected_shortfall(r),
        "qs.exposure": qs.exposure(r),
        "qs.gain_to_pain_ratio": qs.gain_to_pain_ratio(r),
        "qs.geometric_mean": qs.geometric_mean(r),
        "qs.ghpr": qs.ghpr(r),
        "qs.greeks alpha": greeks["alpha"],
        "qs.greeks beta": greeks["beta"],
        "qs.implied_volatility": thinned(qs.implied_volatility(r)),
        "qs.implied_volatility of 63": thinned(qs.implied_volatility(r, 63)),
        "qs.implied_volatility of all": qs.implied_volatility(r, annualize=False),
        "qs.information_ratio": qs.information_ratio(r, b),
        "qs.kelly_criterion": qs.kelly_criterion(r),
        "qs.kurtosis": qs.kurtosis(r),
        "qs.max_drawdown": qs.max_drawdown(r),
        "qs.monthly_returns": qs.monthly_returns(r),
        "qs.omega": qs.omega(r),
        "qs.outlier_loss_ratio": qs.outlier_loss_ratio(r),
        "qs.outlier_win_ratio": qs.outlier_win_ratio(r),
        "qs.outliers": qs.outliers(r),
        "qs.outliers 99 %": qs.outliers(r, 0.99),
        "qs.payoff_ratio": qs.payoff_ratio(r),
        "qs.pct_rank": thinned(qs.pct_rank((1.0 + r).cumprod()).iloc[59:]),
        "qs.pct_rank of 5": thinned(qs.pct_rank(r.round(2), 5).iloc[4:]),
        "qs.probabilistic_adjusted_sortino_ratio": qs.probabilistic_adjusted_sortino_ratio(r),
        "qs.probabilistic_sharpe_ratio": qs.probabilistic_sharpe_ratio(r),
        "qs.probabilistic_sortino_ratio": qs.probabilistic_sortino_ratio(r),
        "qs.profit_factor": qs.profit_factor(r),
        "qs.profit_ratio": qs.profit_ratio(r),
        "qs.r2": qs.r2(r, b),
        "qs.r_squared": qs.r_squared(r, b),
        "qs.rar": qs.rar(r),
        "qs.recovery_factor": qs.recovery_factor(r),
        "qs.remove_outliers": thinned(qs.remove_outliers(r)),
        "qs.risk_of_ruin": qs.risk_of_ruin(r),
        "qs.risk_return_ratio": qs.risk_return_ratio(r),
        "qs.rolling_alpha": thinned(qs.rolling_greeks(r, b, 126)["alpha"]),
        "qs.rolling_beta": thinned(qs.rolling_greeks(r, b, 126)["beta"]),
        "qs.rolling_sharpe": thinned(qs.rolling_sharpe(r)),
        "qs.rolling_sortino": thinned(qs.rolling_sortino(r)),
        "qs.rolling_volatility": thinned(qs.rolling_volatility(r)),
        "qs.ror": qs.ror(r),
        "qs.serenity_index": qs.serenity_index(r),
        "qs.sharpe": qs.sharpe(r),
        "qs.skew": qs.skew(r),
        "qs.smart_sharpe": qs.smart_sharpe(r),
        "qs.smart_sortino": qs.smart_sortino(r),
        "qs.sortino": qs.sortino(r),
        "qs.tail_ratio": qs.tail_ratio(r),
        "qs.to_drawdown_series": thinned(qs.to_drawdown_series(r)),
        "qs.treynor_ratio": qs.treynor_ratio(r, b),
        "qs.ulcer_index": qs.ulcer_index(r),
        "qs.ulcer_performance_index": qs.ulcer_performance_index(r),
        "qs.upi": qs.upi(r),
        "qs.value_at_risk": qs.value_at_risk(r),
        "qs.var": qs.var(r),
        "qs.volatility": qs.volatility(r),
        "qs.win_loss_ratio": qs.win_loss_ratio(r),
        "qs.win_rate": qs.win_rate(r),
        "qs.worst": qs.worst(r),
        "qs.worst year": qs.worst(r, aggregate="eoy"),
    }
    return {key: plain(value) for key, value in out.items()}


def table() -> dict[str, str]:
    """Return quantstats' own table of the first case as it prints it."""
    from quantstats import reports

    symbol, benchmark = CASES[0]
    r = returns_of(symbol)
    b = returns_of(benchmark).reindex(r.index)
    rows = reports.metrics(r, benchmark=b, mode="full", display=False, internal=True)["Strategy"]
    return {str(name): str(value) for name, value in rows.items()}


def functions() -> dict[str, list[str]]:
    """Return the public functions of both libraries: what the test must have a place or a reason for."""
    return {
        name: sorted(k for k, v in vars(module).items() if inspect.isfunction(v) and not k.startswith("_"))
        for name, module in (("ep", ep), ("qs", qs))
    }


def made() -> dict[str, Any]:
    """Return the golden file's content."""
    warnings.simplefilter("ignore")
    cases = {}
    for symbol, benchmark in CASES:
        r = returns_of(symbol)
        cases[f"{symbol}/{benchmark}"] = figures(r, returns_of(benchmark).reindex(r.index))
    versions = {name: metadata.version(name) for name in ("empyrical-reloaded", "quantstats", "pandas", "numpy")}
    head = {"origin": __doc__.splitlines()[0], "every": EVERY, "versions": versions}
    return {**head, "functions": functions(), "table": table(), "cases": cases}


def a_line_each(content: dict[str, Any]) -> str:
    """Return the content as JSON with a line for each figure, so that a change shows as one."""
    cases = [
        f"  {json.dumps(case)}: {{\n"
        + ",\n".join(f"   {json.dumps(k)}: {json.dumps(v)}" for k, v in kept.items())
        + "\n  }"
        for case, kept in content["cases"].items()
    ]
    head = [f" {json.dumps(k)}: {json.dumps(v)}" for k, v in content.items() if k != "cases"]
    return "{\n" + ",\n".join([*head, ' "cases": {\n' + ",\n".join(cases) + "\n }"]) + "\n}\n"


def same(a: Any, b: Any) -> bool:
    """Tell whether two results agree: numbers to the tolerance, everything else exactly."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(a == b)


def main() -> int:
    """Write the golden file, or compare it."""
    now = made()
    if "--check" not in sys.argv:
        GOLDEN.write_text(a_line_each(now), encoding="utf-8")
        return 0
    then = json.loads(GOLDEN.read_text(encoding="utf-8"))
    wrong = [
        f"{case}: {key}: {value} in the file, {now['cases'][case].get(key)} now"
        for case, kept in then["cases"].items()
        for key, value in kept.items()
        if not same(value, now["cases"][case].get(key))
    ]
    wrong += [f"table: {k}: {v} now" for k, v in now["table"].items() if then["table"].get(k) != v]
    wrong += [f"{k}: other public functions now" for k, v in now["functions"].items() if then["functions"][k] != v]
    print(
        "\n".join(wrong)
        or f"proof: {sum(map(len, then['cases'].values()))} golden figures are what {now['versions']} say"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
