"""Every figure against empyrical and quantstats, as tests/golden/metrics_peers.json has them (make metrics-peers)."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tradecore.reports import metrics as m
from tradecore.units import from_day, to_day

TESTS = Path(__file__).resolve().parents[2]
GOLDEN = json.loads((TESTS / "golden" / "metrics_peers.json").read_text(encoding="utf-8"))
CASES = GOLDEN["cases"]
Series = np.ndarray
Figure = Callable[[Series, Series, Series], Any]


@cache
def market(symbol: str) -> tuple[Series, Series]:
    """Return days and returns of a symbol's adjusted closes, as the golden file's maker computes them."""
    with (TESTS.parent / "include" / "sample_data" / f"{symbol}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    close = np.array([float(row["vendor_adj_close"]) for row in rows])
    day = np.array([to_day(date.fromisoformat(row["session_date"])) for row in rows])
    return day[1:], close[1:] / close[:-1] - 1.0


def case(name: str) -> tuple[Series, Series, Series]:
    """Return returns, the benchmark's returns on the same days, and the days."""
    symbol, benchmark = name.split("/")
    (day, returns), (days, others) = market(symbol), market(benchmark)
    return returns, others[np.searchsorted(days, day)], day


def thinned(values: Series, skip: int = 0) -> Series:
    return values[skip:][::-1][:: GOLDEN["every"]]


def details(r: Series, d: Series) -> list[list[Any]]:
    found = [x for x in m.worst_drawdowns(r, d, 5) if x.recovered or x.start_day != d[0]]
    return [[str(from_day(x.start_day)), str(from_day(x.valley_day)), -100.0 * x.depth] for x in found]


def outliers(r: Series, d: Series) -> list[int]:
    return [m.box(values)[1].size for values in (r, m.by_span(r, d, "month")[1])]


def compared(r: Series, b: Series, d: Series, span: str) -> list[Series]:
    found = m.compare(r, b, d, span)
    return [100.0 * found.returns, 100.0 * found.benchmark, found.multiple]


# What stands beside the plain call is the convention that differs; each function's docstring says why.
FIGURES: dict[str, Figure] = {
    "ep.alpha": lambda r, b, d: m.alpha(r, b),
    "ep.annual_return": lambda r, b, d: m.cagr(r),
    "ep.annual_volatility": lambda r, b, d: m.annual_volatility(r),
    "ep.batting_average": lambda r, b, d: list(m.batting_average(r, b)),
    "ep.beta": lambda r, b, d: m.beta(r, b),
    "ep.beta_fragility_heuristic": lambda r, b, d: m.beta_fragility(r, b),
    "ep.cagr": lambda r, b, d: m.cagr(r),
    "ep.calmar_ratio": lambda r, b, d: m.calmar(r),
    "ep.capture": lambda r, b, d: m.capture(r, b),
    "ep.conditional_value_at_risk": lambda r, b, d: m.conditional_value_at_risk(r),
    "ep.cum_returns": lambda r, b, d: thinned(m.growth(r)[1:] - 1.0),
    "ep.cum_returns_final": lambda r, b, d: m.total_return(r),
    "ep.down_alpha_beta": lambda r, b, d: [f(*m.down_market(r, b)) for f in (m.alpha, m.beta)],
    "ep.down_capture": lambda r, b, d: m.down_capture(r, b),
    "ep.downside_risk": lambda r, b, d: m.downside_risk(r),
    "ep.excess_sharpe": lambda r, b, d: m.information_ratio(r, b),
    "ep.max_drawdown": lambda r, b, d: -m.max_drawdown(r),
    "ep.omega_ratio": lambda r, b, d: m.omega(r),
    "ep.omega_ratio 5 %": lambda r, b, d: m.omega(r, required_return=0.05),
    "ep.roll_alpha": lambda r, b, d: thinned(m.rolling_alpha(r, b), 125),
    "ep.roll_annual_volatility": lambda r, b, d: thinned(m.rolling_volatility(r), 125),
    "ep.roll_beta": lambda r, b, d: thinned(m.rolling_beta(r, b), 125),
    "ep.roll_down_capture": lambda r, b, d: thinned(m.rolling_down_capture(r, b), 125),
    "ep.roll_max_drawdown": lambda r, b, d: thinned(-m.rolling_max_drawdown(r), 125),
    "ep.roll_sharpe_ratio": lambda r, b, d: thinned(m.rolling_sharpe(r), 125),
    "ep.roll_sortino_ratio": lambda r, b, d: thinned(m.rolling_sortino(r), 125),
    "ep.roll_up_capture": lambda r, b, d: thinned(m.rolling_up_capture(r, b), 125),
    "ep.roll_up_down_capture": lambda r, b, d: thinned(m.rolling_up_down_capture(r, b), 125),
    "ep.roll_up_capture of 2": lambda r, b, d: thinned(m.rolling_up_capture(r, b, 2), 1),
    "ep.sharpe_ratio": lambda r, b, d: m.sharpe(r),
    "ep.sharpe_ratio 0.01 %": lambda r, b, d: m.sharpe(r, risk_free=0.0001),
    "ep.sortino_ratio": lambda r, b, d: m.sortino(r),
    "ep.sortino_ratio 0.01 %": lambda r, b, d: m.sortino(r, target=0.0001),
    "ep.stability_of_timeseries": lambda r, b, d: m.stability(r),
    "ep.tail_ratio": lambda r, b, d: m.tail_ratio(r),
    "ep.up_alpha_beta": lambda r, b, d: [f(*m.up_market(r, b)) for f in (m.alpha, m.beta)],
    "ep.up_capture": lambda r, b, d: m.up_capture(r, b),
    "ep.up_down_capture": lambda r, b, d: m.up_down_capture(r, b),
    "ep.value_at_risk": lambda r, b, d: m.value_at_risk(r),
    "ep.weekly": lambda r, b, d: thinned(m.by_span(r, d, "week")[1]),
    "ep.monthly": lambda r, b, d: thinned(m.by_span(r, d, "month")[1]),
    "ep.quarterly": lambda r, b, d: m.by_span(r, d, "quarter")[1],
    "ep.yearly": lambda r, b, d: m.by_span(r, d, "year")[1],
    "qs.adjusted_sortino": lambda r, b, d: m.adjusted_sortino(r),
    "qs.autocorr_penalty": lambda r, b, d: m.autocorrelation_penalty(r),
    "qs.avg_loss": lambda r, b, d: m.average_loss(r),
    "qs.avg_return": lambda r, b, d: m.average_return(r),
    "qs.avg_win": lambda r, b, d: m.average_win(r),
    "qs.best": lambda r, b, d: r.max(),
    "qs.best month": lambda r, b, d: m.by_span(r, d, "month")[1].max(),
    "qs.cagr": lambda r, b, d: m.cagr(r),
    "qs.calmar": lambda r, b, d: m.calmar(r),
    "qs.common_sense_ratio": lambda r, b, d: m.common_sense_ratio(r),
    "qs.comp": lambda r, b, d: m.total_return(r),
    "qs.compare months": lambda r, b, d: compared(r, b, d, "month"),
    "qs.compare months won": lambda r, b, d: ["+" if won else "-" for won in m.compare(r, b, d, "month").won],
    "qs.compare years": lambda r, b, d: compared(r, b, d, "year"),
    "qs.compsum": lambda r, b, d: thinned(m.growth(r)[1:] - 1.0),
    "qs.conditional_value_at_risk": lambda r, b, d: m.normal_expected_shortfall(r),
    "qs.consecutive_losses": lambda r, b, d: m.longest_losses(r),
    "qs.consecutive_wins": lambda r, b, d: m.longest_wins(r),
    "qs.cpc_index": lambda r, b, d: m.cpc_index(r),
    "qs.cvar": lambda r, b, d: m.normal_expected_shortfall(r),
    "qs.cvar historical": lambda r, b, d: m.conditional_value_at_risk(r),
    "qs.distribution outliers": lambda r, b, d: outliers(r, d),
    "qs.drawdown_details": lambda r, b, d: details(r, d),
    "qs.expected_return": lambda r, b, d: m.geometric_mean(r),
    "qs.expected_shortfall": lambda r, b, d: m.normal_expected_shortfall(r),
    "qs.exposure": lambda r, b, d: np.ceil(m.exposure(r) * 100) / 100,
    "qs.gain_to_pain_ratio": lambda r, b, d: m.gain_to_pain(r),
    "qs.geometric_mean": lambda r, b, d: m.geometric_mean(r),
    "qs.ghpr": lambda r, b, d: m.geometric_mean(r),
    "qs.greeks alpha": lambda r, b, d: m.simple_alpha(r, b),
    "qs.greeks beta": lambda r, b, d: m.beta(r, b),
    "qs.implied_volatility": lambda r, b, d: thinned(m.rolling_log_volatility(r)),
    "qs.implied_volatility of 63": lambda r, b, d: thinned(m.rolling_log_volatility(r, 63, 63)),
    "qs.implied_volatility of all": lambda r, b, d: m.log_volatility(r),
    "qs.information_ratio": lambda r, b, d: m.information_ratio(r, b),
    "qs.kelly_criterion": lambda r, b, d: m.kelly(r),
    "qs.kurtosis": lambda r, b, d: m.kurtosis(r),
    "qs.max_drawdown": lambda r, b, d: -m.max_drawdown(r),
    "qs.monthly_returns": lambda r, b, d: np.nan_to_num(m.monthly_table(r, d)[1]),
    "qs.omega": lambda r, b, d: m.omega(r),
    "qs.outlier_loss_ratio": lambda r, b, d: m.outlier_loss_ratio(r),
    "qs.outlier_win_ratio": lambda r, b, d: m.outlier_win_ratio(r),
    "qs.outliers": lambda r, b, d: m.above_quantile(r),
    "qs.outliers 99 %": lambda r, b, d: m.above_quantile(r, 0.99),
    "qs.payoff_ratio": lambda r, b, d: m.payoff_ratio(r),
    "qs.pct_rank": lambda r, b, d: thinned(m.rolling_rank(m.growth(r)[1:]), 59),
    "qs.pct_rank of 5": lambda r, b, d: thinned(m.rolling_rank(np.round(r, 2), 5), 4),
    "qs.probabilistic_adjusted_sortino_ratio": lambda r, b, d: m.probabilistic_adjusted_sortino(r),
    "qs.probabilistic_sharpe_ratio": lambda r, b, d: m.probabilistic_sharpe(r),
    "qs.probabilistic_sortino_ratio": lambda r, b, d: m.probabilistic_sortino(r),
    "qs.profit_factor": lambda r, b, d: m.profit_factor(r),
    "qs.profit_ratio": lambda r, b, d: m.profit_ratio(r),
    "qs.r2": lambda r, b, d: m.r_squared(r, b),
    "qs.r_squared": lambda r, b, d: m.r_squared(r, b),
    "qs.rar": lambda r, b, d: m.return_over_exposure(r) * m.exposure(r) / (np.ceil(m.exposure(r) * 100) / 100),
    "qs.recovery_factor": lambda r, b, d: abs(m.recovery_factor(r)),
    "qs.remove_outliers": lambda r, b, d: thinned(m.below_quantile(r)),
    "qs.risk_of_ruin": lambda r, b, d: m.risk_of_ruin(r),
    "qs.risk_return_ratio": lambda r, b, d: m.risk_return_ratio(r),
    "qs.rolling_alpha": lambda r, b, d: thinned((1.0 + m.rolling_alpha(r, b)) ** (1 / 252) - 1.0),
    "qs.rolling_beta": lambda r, b, d: thinned(m.rolling_beta(r, b)),
    "qs.rolling_sharpe": lambda r, b, d: thinned(m.rolling_sharpe(r)),
    "qs.rolling_sortino": lambda r, b, d: thinned(m.rolling_sortino(r)),
    "qs.rolling_volatility": lambda r, b, d: thinned(m.rolling_volatility(r)),
    "qs.ror": lambda r, b, d: m.risk_of_ruin(r),
    "qs.serenity_index": lambda r, b, d: m.serenity(r),
    "qs.sharpe": lambda r, b, d: m.sharpe(r),
    "qs.skew": lambda r, b, d: m.skewness(r),
    "qs.smart_sharpe": lambda r, b, d: m.smart_sharpe(r),
    "qs.smart_sortino": lambda r, b, d: m.smart_sortino(r),
    "qs.sortino": lambda r, b, d: m.sortino(r),
    "qs.tail_ratio": lambda r, b, d: m.tail_ratio(r),
    "qs.to_drawdown_series": lambda r, b, d: thinned(-m.drawdowns(r)[1:]),
    "qs.treynor_ratio": lambda r, b, d: m.treynor(r, b),
    "qs.ulcer_index": lambda r, b, d: m.ulcer_index(r),
    "qs.ulcer_performance_index": lambda r, b, d: m.ulcer_performance(r),
    "qs.upi": lambda r, b, d: m.ulcer_performance(r),
    "qs.value_at_risk": lambda r, b, d: m.normal_value_at_risk(r),
    "qs.var": lambda r, b, d: m.normal_value_at_risk(r),
    "qs.volatility": lambda r, b, d: m.annual_volatility(r),
    "qs.win_loss_ratio": lambda r, b, d: m.payoff_ratio(r),
    "qs.win_rate": lambda r, b, d: m.hit_rate(r),
    "qs.worst": lambda r, b, d: r.min(),
    "qs.worst year": lambda r, b, d: m.by_span(r, d, "year")[1].min(),
}


def flat(value: Any) -> list[Any]:
    """Return a result as a flat list, None for NaN."""
    if isinstance(value, list | tuple | np.ndarray):
        return [leaf for part in value for leaf in flat(part)]
    return [None if value is None or (not isinstance(value, str) and math.isnan(value)) else value]


def test_every_golden_figure_has_its_counterpart():
    assert all(set(kept) == set(FIGURES) for kept in CASES.values())
    assert len(CASES) == 3


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("figure", FIGURES)
def test_figure_equals_the_peers_to_1e9(figure: str, name: str):
    found, wanted = flat(FIGURES[figure](*case(name))), flat(CASES[name][figure])
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        if theirs is None or isinstance(theirs, str):
            assert ours == theirs
        else:
            assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


def test_the_cases_hold_a_gain_a_loss_and_a_benchmark_beaten_and_not():
    totals = [m.total_return(case(name)[0]) for name in CASES]
    assert max(totals) > 5.0
    assert min(totals) < 0.0
    assert m.recovery_factor(case("FB/IBM")[0]) < 0.0, "the sign that quantstats drops"
    assert len({math.copysign(1.0, m.information_ratio(*case(name)[:2])) for name in CASES}) == 2


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_figures_of_next_to_nothing_are_nan_and_do_not_raise(length: int):
    r, b, d = (v[:length] for v in case("MSFT/IBM"))
    for name, figure in FIGURES.items():
        if name not in {"qs.best", "qs.best month", "qs.worst", "qs.worst year"}:  # numpy's own maximum
            assert all(isinstance(v, str | int | float | None) for v in flat(figure(r, b, d))), name


def test_a_nan_makes_every_single_figure_nan():
    r, b, d = (v[:300].copy() for v in case("MSFT/IBM"))
    r[[int(np.argmax(b)), int(np.argmin(b))]] = np.nan  # one where the benchmark rose, one where it fell
    runs = {"qs.consecutive_losses", "qs.consecutive_wins", "qs.distribution outliers"}
    for name, figure in FIGURES.items():
        value = figure(r, b, d)
        if isinstance(value, float | int) and name not in runs:
            assert math.isnan(value), name


def test_the_expected_shortfall_of_twenty_returns_at_5_percent_is_the_worst_one():
    r = np.linspace(-0.1, 0.09, 20)
    assert m.conditional_value_at_risk(r) == -0.1
    assert m.conditional_value_at_risk(np.append(r, 0.1)) == pytest.approx(-0.095)


def test_a_drawdown_from_the_first_return_to_the_last_is_one():
    r, _, d = case("FB/IBM")
    (found,) = m.worst_drawdowns(r, d)
    assert (found.start_day, found.periods, found.recovered) == (d[0], r.size, False)


def test_many_curves_at_once_are_the_curves_one_by_one():
    rng = np.random.default_rng(6)
    table = rng.normal(0.0005, 0.01, (40, 300))
    table[3] = 0.001
    table[4, 7] = np.nan
    table[5] = np.abs(table[5])
    table[6, 0] = 5.0
    found = m.curve_figures(table)
    for k, row in enumerate(table):
        wanted = (m.sharpe(row), m.sortino(row), m.max_drawdown(row))
        for ours, single in zip((f[k] for f in found), wanted, strict=True):
            assert ours == pytest.approx(single, rel=1e-12, abs=1e-15, nan_ok=True), (k, wanted)
    assert np.isnan([found.sharpe[3], found.sortino[5], found.max_drawdown[4]]).all()
    with pytest.raises(ValueError, match="a row for each curve"):
        m.curve_figures(table[0])


def test_worst_drawdowns_cover_every_period_below_a_peak_once():
    r, _, d = case("AAPL/IBM")
    every = m.worst_drawdowns(r, d, 10_000)
    assert sum(x.periods for x in every) == int((m.drawdowns(r) > 0).sum())
    assert every[0].depth == m.max_drawdown(r)
    assert [x.depth for x in every] == sorted((x.depth for x in every), reverse=True)
    assert all(x.start_day <= x.valley_day <= x.end_day for x in every)
    assert [x.recovered for x in every].count(False) == 1, "the sample ends below a peak"


def test_monthly_table_compounds_to_the_years_and_the_years_to_the_whole():
    r, _, d = case("FB/IBM")
    years, table = m.monthly_table(r, d)
    assert years.tolist() == [2012, 2013]
    np.testing.assert_allclose(np.nanprod(1.0 + table[:, :12], axis=1), 1.0 + table[:, 12])
    assert np.prod(1.0 + table[:, 12]) == pytest.approx(1.0 + m.total_return(r))
    assert np.isnan(table[0, :4]).all()
    assert np.isnan(table[1, 3:12]).all()


def test_shapes_that_do_not_match_are_refused():
    for call in (m.beta, m.up_capture, m.information_ratio, m.batting_average):
        with pytest.raises(ValueError, match="shape"):
            call(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="their days"):
        m.by_span(np.ones(3), np.zeros(2, np.int64), "year")
