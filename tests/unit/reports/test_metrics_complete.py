"""Nothing of empyrical and quantstats is forgotten: every public function and every row of the table has its place."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pytest
from test_metrics_peers import FIGURES, GOLDEN, case

from tradecore.reports import metrics as m
from tradecore.units import from_day, to_day

ALIGNED = "the same on arrays that are aligned already: here all are"
FACTORS = "splits returns by a vendor's factor loadings of each name; no feed here has such"
PLUMBING = "plumbing of pandas"

# Where ours is, if a golden figure of its name does not say it already; or why there is none.
ELSEWHERE = {
    "ep.aggregate_returns": "tradecore.reports.metrics.by_span",  # golden as ep.weekly to ep.yearly
    "ep.alpha_beta": "tradecore.reports.metrics.alpha",
    "ep.roll_alpha_beta": "tradecore.reports.metrics.rolling_alpha",
    "ep.simple_returns": "tradecore.reports.metrics.simple_returns",
    "qs.probabilistic_ratio": "tradecore.reports.metrics.probabilistic_sharpe",  # and the two Sortino ones, each golden
    "qs.rolling_greeks": "tradecore.reports.metrics.rolling_beta",  # golden as qs.rolling_alpha and qs.rolling_beta
    # Drawn by chance, so that no figure can be equal. Ours are seeded, of blocks and of trades:
    "qs.montecarlo": "tradecore.research.bootstrap.bootstrap",
    "qs.montecarlo_cagr": "tradecore.research.bootstrap.bootstrap",
    "qs.montecarlo_drawdown": "tradecore.research.trade_paths.trade_paths",
    "qs.montecarlo_sharpe": "tradecore.research.bootstrap.bootstrap",
}
ABSENT = {
    **dict.fromkeys(("ep.alpha_aligned", "ep.beta_aligned", "ep.alpha_beta_aligned", "ep.roll_alpha_aligned"), ALIGNED),
    **dict.fromkeys(("ep.roll_beta_aligned", "ep.roll_alpha_beta_aligned"), ALIGNED),
    "ep.beta_fragility_heuristic_aligned": ALIGNED,
    **dict.fromkeys(("ep.compute_exposures", "ep.perf_attrib"), FACTORS),
    **dict.fromkeys(
        ("ep.gpd_risk_estimates", "ep.gpd_risk_estimates_aligned"),
        "the result of an optimiser, which stops where its version stops",
    ),
    **dict.fromkeys(("qs.safe_concat", "qs.safe_resample", "qs.validate_input"), PLUMBING),
}


def golden_names() -> set[str]:
    return {key.split(" ")[0] for key in FIGURES}


def test_every_public_function_has_its_place_or_a_reason():
    theirs = {f"{short}.{name}" for short, names in GOLDEN["functions"].items() for name in names}
    assert len(theirs) > 120
    places = (golden_names() & theirs, set(ELSEWHERE), set(ABSENT))
    assert theirs - set.union(*places) == set(), "public there, and named nowhere here"
    assert (places[1] | places[2]) - theirs == set(), "named here, and not public there any more"
    assert not places[0] & places[1]
    assert not (places[0] | places[1]) & places[2]
    assert all(ABSENT.values())


@pytest.mark.parametrize("name", sorted(set(ELSEWHERE.values())))
def test_the_place_that_is_named_is_there(name: str):
    module, _, function = name.rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))


# ---------------------------------------------------------------------------------------------- quantstats' own table

Row = Callable[[np.ndarray, np.ndarray, np.ndarray], object]


def percent(row: Row) -> Row:
    return lambda r, b, d: f"{round(100.0 * float(row(r, b, d)), 2)}%"  # type: ignore[arg-type]


def months_before(last: int, months: int) -> int:
    """Return the same day of a month before, or its last one."""
    day = from_day(last)
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    following = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    return to_day(min(date(year, month + 1, 1) + timedelta(days=day.day - 1), following - timedelta(days=1)))


def since(months: int, figure: Callable[[np.ndarray], float]) -> Row:
    return percent(lambda r, b, d: figure(r[d >= months_before(int(d[-1]), months)]))


def start_of(span: str, figure: Callable[[np.ndarray], float]) -> Row:
    return percent(lambda r, b, d: figure(r[m.span_of(d, span) == m.span_of(d[-1:], span)]))


def every_drawdown(r: np.ndarray, d: np.ndarray) -> list[m.Drawdown]:
    return list(m.worst_drawdowns(r, d, 10_000))


def days_of(found: m.Drawdown) -> int:
    """Return the days from the first one below the peak to the last one, both of them counted."""
    return found.end_day - found.start_day + 1


def monthly(r: np.ndarray, d: np.ndarray) -> np.ndarray:
    return m.by_span(r, d, "month")[1]


def sums(r: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.add.reduceat(r, np.flatnonzero(np.diff(m.span_of(d, "month"), prepend=-1)))


def two(row: Row) -> Row:
    return lambda r, b, d: str(round(float(row(r, b, d)), 2))  # type: ignore[arg-type]


ROWS: dict[str, Row] = {
    "Start Period": lambda r, b, d: from_day(int(d[0])),
    "End Period": lambda r, b, d: from_day(int(d[-1])),
    "Risk-Free Rate": lambda r, b, d: "0.0%",
    "Time in Market": percent(lambda r, b, d: np.ceil(100.0 * m.exposure(r)) / 100.0),
    "Cumulative Return": lambda r, b, d: f"{100.0 * m.total_return(r):,.2f}%",
    "CAGR﹪": percent(lambda r, b, d: m.cagr(r)),
    "Sharpe": two(lambda r, b, d: m.sharpe(r)),
    "Prob. Sharpe Ratio": percent(lambda r, b, d: m.probabilistic_sharpe(r)),
    "Smart Sharpe": two(lambda r, b, d: m.smart_sharpe(r)),
    "Sortino": two(lambda r, b, d: m.sortino(r)),
    "Smart Sortino": two(lambda r, b, d: m.smart_sortino(r)),
    "Sortino/√2": two(lambda r, b, d: m.adjusted_sortino(r)),
    "Smart Sortino/√2": two(lambda r, b, d: m.smart_sortino(r) / np.sqrt(2.0)),
    "Omega": two(lambda r, b, d: m.omega(r)),
    "Max Drawdown": percent(lambda r, b, d: -m.max_drawdown(r)),
    "Max DD Date": lambda r, b, d: from_day(every_drawdown(r, d)[0].valley_day),
    "Max DD Period Start": lambda r, b, d: from_day(every_drawdown(r, d)[0].start_day),
    "Max DD Period End": lambda r, b, d: from_day(every_drawdown(r, d)[0].end_day),
    "Longest DD Days": lambda r, b, d: max(days_of(x) for x in every_drawdown(r, d)),
    "Volatility (ann.)": percent(lambda r, b, d: m.annual_volatility(r)),
    "R^2": two(lambda r, b, d: m.r_squared(r, b)),
    "Information Ratio": two(lambda r, b, d: m.information_ratio(r, b)),
    "Calmar": two(lambda r, b, d: m.calmar(r)),
    "Skew": two(lambda r, b, d: m.skewness(r)),
    "Kurtosis": two(lambda r, b, d: m.kurtosis(r)),
    "Ulcer Performance Index": two(lambda r, b, d: m.ulcer_performance(r)),
    "Risk-Adjusted Return": percent(lambda r, b, d: m.cagr(r) / (np.ceil(100.0 * m.exposure(r)) / 100.0)),
    "Risk-Return Ratio": two(lambda r, b, d: m.risk_return_ratio(r)),
    "Avg. Return": percent(lambda r, b, d: m.average_return(r)),
    "Avg. Win": percent(lambda r, b, d: m.average_win(r)),
    "Avg. Loss": percent(lambda r, b, d: m.average_loss(r)),
    "Win/Loss Ratio": two(lambda r, b, d: m.payoff_ratio(r)),
    "Profit Ratio": two(lambda r, b, d: m.profit_ratio(r)),
    "Expected Daily": percent(lambda r, b, d: m.geometric_mean(r)),
    "Expected Monthly": percent(lambda r, b, d: m.geometric_mean(monthly(r, d))),
    "Expected Yearly": percent(lambda r, b, d: m.geometric_mean(m.by_span(r, d, "year")[1])),
    "Kelly Criterion": percent(lambda r, b, d: m.kelly(r)),
    "Risk of Ruin": percent(lambda r, b, d: m.risk_of_ruin(r)),
    "Daily Value-at-Risk": percent(lambda r, b, d: m.normal_value_at_risk(r)),
    "Expected Shortfall (cVaR)": percent(lambda r, b, d: m.normal_expected_shortfall(r)),
    "Max Consecutive Wins": lambda r, b, d: m.longest_wins(r),
    "Max Consecutive Losses": lambda r, b, d: m.longest_losses(r),
    "Gain/Pain Ratio": two(lambda r, b, d: m.gain_to_pain(r)),
    "Gain/Pain (1M)": two(lambda r, b, d: m.gain_to_pain(sums(r, d))),
    "Payoff Ratio": two(lambda r, b, d: m.payoff_ratio(r)),
    "Profit Factor": two(lambda r, b, d: m.profit_factor(r)),
    "Common Sense Ratio": two(lambda r, b, d: m.common_sense_ratio(r)),
    "CPC Index": two(lambda r, b, d: m.cpc_index(r)),
    "Tail Ratio": two(lambda r, b, d: m.tail_ratio(r)),
    "Outlier Win Ratio": two(lambda r, b, d: m.outlier_win_ratio(r)),
    "Outlier Loss Ratio": two(lambda r, b, d: m.outlier_loss_ratio(r)),
    "MTD": start_of("month", m.total_return),
    "3M": since(3, m.total_return),
    "6M": since(6, m.total_return),
    "YTD": start_of("year", m.total_return),
    "1Y": since(12, m.total_return),
    "3Y (ann.)": since(35, m.cagr),  # 35, 59 and 119 months are what it takes for 3, 5 and 10 years
    "5Y (ann.)": since(59, m.cagr),
    "10Y (ann.)": since(119, m.cagr),
    "All-time (ann.)": percent(lambda r, b, d: m.cagr(r)),
    "Best Day": percent(lambda r, b, d: r.max()),
    "Worst Day": percent(lambda r, b, d: r.min()),
    "Best Month": percent(lambda r, b, d: monthly(r, d).max()),
    "Worst Month": percent(lambda r, b, d: monthly(r, d).min()),
    "Best Year": percent(lambda r, b, d: m.by_span(r, d, "year")[1].max()),
    "Worst Year": percent(lambda r, b, d: m.by_span(r, d, "year")[1].min()),
    "Avg. Drawdown": percent(lambda r, b, d: -np.mean([x.depth for x in every_drawdown(r, d)])),
    "Avg. Drawdown Days": lambda r, b, d: round(float(np.mean([days_of(x) for x in every_drawdown(r, d)]))),
    "Recovery Factor": two(lambda r, b, d: m.recovery_factor(r)),
    "Ulcer Index": two(lambda r, b, d: m.ulcer_index(r)),
    "Serenity Index": two(lambda r, b, d: m.serenity(r)),
    "Avg. Up Month": percent(lambda r, b, d: m.average_win(monthly(r, d))),
    "Avg. Down Month": percent(lambda r, b, d: m.average_loss(monthly(r, d))),
    "Win Days": percent(lambda r, b, d: m.hit_rate(r)),
    "Win Month": percent(lambda r, b, d: m.hit_rate(monthly(r, d))),
    "Win Quarter": percent(lambda r, b, d: m.hit_rate(m.by_span(r, d, "quarter")[1])),
    "Win Year": percent(lambda r, b, d: m.hit_rate(m.by_span(r, d, "year")[1])),
    "Beta": two(lambda r, b, d: m.beta(r, b)),
    "Alpha": two(lambda r, b, d: m.simple_alpha(r, b)),
    "Correlation": percent(lambda r, b, d: np.corrcoef(r, b)[0, 1]),
    "Treynor Ratio": percent(lambda r, b, d: m.treynor(r, b)),
}


def test_the_table_of_quantstats_is_printed_from_ours_to_the_last_digit():
    theirs, (r, b, d) = GOLDEN["table"], case("AAPL/IBM")
    assert set(theirs) == set(ROWS)
    assert len(theirs) > 70
    ours = {name: str(row(r, b, d)) for name, row in ROWS.items()}
    assert ours == theirs


def test_rolling_figures_are_those_of_each_window_and_a_nan_is_in_each_that_holds_it():
    r, b = (v[:120].copy() for v in case("MSFT/IBM")[:2])
    r[40] = b[80] = np.nan
    pairs = ((m.rolling_up_capture, m.up_capture), (m.rolling_down_capture, m.down_capture))
    for rolling, whole in (*pairs, (m.rolling_up_down_capture, m.up_down_capture)):
        found = rolling(r, b, 15)
        for t in range(120):
            window = slice(t - 14, t + 1)
            known = t >= 14 and not (np.isnan(r[window]) | np.isnan(b[window])).any()
            wanted = whole(r[window], b[window]) if known else np.nan
            assert found[t] == pytest.approx(wanted, rel=1e-9, nan_ok=True), (rolling, t)
    assert np.isnan(m.rolling_rank(r, 15)[40:55]).all()
    assert m.rolling_rank(np.arange(9.0), 3)[2:].tolist() == [100.0] * 7
    assert np.isnan(m.rolling_rank(r, 200)).all()
    assert np.isnan(m.rolling_log_volatility(np.array([0.1, -1.0, 0.1, 0.2]), 2)).tolist() == [True, True, True, False]
    assert m.above_quantile(r).size == m.below_quantile(r).size == 0, "one is not known"
    assert np.isnan(m.rolling_up_capture(r, np.full(120, -0.01), 15)).all(), "it never rose"
    with pytest.raises(ValueError, match="shape"):
        m.rolling_up_capture(r, b[1:], 15)
