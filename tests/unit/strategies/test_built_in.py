"""The built-in strategies on real prices: the laws that all obey, and each one's rule told a second time, naively."""

from __future__ import annotations

import dataclasses
import math
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference_indicators as twin
import sample_market
from tradecore import strategies
from tradecore.bars import Panel, window
from tradecore.strategies.pairs import CRITICAL, engle_granger
from tradecore.strategies.risk_parity import equal_risk_weights
from tradecore.units import from_day

FIRST, LAST = 700, 1600  # 2002-12 to 2006-07: a split, special dividends, GOOG's first day; FB never trades
EARLIER = 25  # scores are compared at every such row
EASIER = {
    "pairs": {"entry_z": 1.0, "level_pct": 10},
    "lead_lag": {"least_t": 0.0},
}  # with their defaults they hold nothing here
every_strategy = pytest.mark.parametrize("name", strategies.BUILT_IN)


@cache
def history() -> Panel:
    return sample_market.panel().rows(FIRST, LAST)


@cache
def scored(name: str, **params: Any) -> tuple[np.ndarray, int]:
    """Return the scores [T, n] over the history and the look-back."""
    rule = strategies.load(name)
    model = rule.params_model(**params)
    return strategies.score_panel(rule, model, history()), rule.lookback(model)


@cache
def closes() -> np.ndarray:
    return window(history()).close


def rows_of(score: np.ndarray, lookback: int) -> list[int]:
    return list(range(lookback - 1, score.shape[0], EARLIER))


def same(found: float, wanted: float) -> bool:
    return found == wanted or (math.isnan(found) and math.isnan(wanted))


# ------------------------------------------------------------------------------------------------ the laws of all


@every_strategy
def test_scores_are_0_to_1_or_no_opinion_and_both_kinds_occur(name: str):
    score, lookback = scored(name, **EASIER.get(name, {}))
    known = score[~np.isnan(score)]
    assert known.min() >= 0.0
    assert known.max() == 1.0 if name != "ma_crossover" else known.max() > 0.75
    assert np.isnan(score[: lookback - 1]).all(), "nothing before enough history"
    always = {"equal_weight", "buy_and_hold", "risk_parity"}
    assert (known == 0.0).any() or name in always


@every_strategy
def test_a_name_without_a_bar_has_no_opinion(name: str):
    score, _ = scored(name)
    traded = history().traded
    assert (~traded).any(axis=0).sum() == 2, "GOOG and FB"
    assert np.isnan(score[~traded]).all()


@every_strategy
def test_the_window_alone_gives_the_same_bits_as_the_whole_history(name: str):
    """Production loads exactly lookback_bars rows; a backtest has them all."""
    score, lookback = scored(name)
    rule = strategies.load(name)
    params = rule.params_model()
    for t in rows_of(score, lookback):
        alone = history().rows(t + 1 - lookback, t + 1)
        copied = dataclasses.replace(
            alone, **{f: getattr(alone, f).copy() for f in ("close", "high", "low", "adj_factor")}
        )
        np.testing.assert_array_equal(strategies.score_last(rule, params, copied), score[t])


@every_strategy
def test_scores_are_unchanged_by_future_bars(name: str):
    score, _ = scored(name)
    rule, cut = strategies.load(name), 600
    cells = {f: getattr(history(), f).copy() for f in ("open", "high", "low", "close", "volume")}
    rng = np.random.default_rng(1)
    for cell in cells.values():
        cell[cut:] = cell[cut:] * rng.integers(1, 9, cell[cut:].shape)
    poisoned = strategies.score_panel(
        rule, rule.params_model(), dataclasses.replace(history(), **cells).rows(0, cut + 60)
    )
    np.testing.assert_array_equal(poisoned[:cut], score[:cut])


@every_strategy
def test_docstring_names_the_source(name: str):
    strategies.load(name)
    text = (Path(strategies.__file__).parent / f"{name}.py").read_text(encoding="utf-8").split('"""')[1]
    assert any(str(year) in text for year in range(1900, 2020)) or name == "buy_and_hold"


def test_documentation_lists_every_strategy_with_its_look_back():
    page = (Path(__file__).resolve().parents[3] / "docs" / "strategies.md").read_text(encoding="utf-8")
    listed = {line.split("|")[1].strip(" `"): int(line.split("|")[4]) for line in page.splitlines() if "| `" in line}
    rules = [strategies.load(name) for name in strategies.BUILT_IN]
    assert listed == {rule.name: rule.lookback(rule.params_model()) for rule in rules}


# --------------------------------------------------------------------------------------------- the rule of each one


def test_time_series_momentum_is_the_sign_of_the_past_year():
    score, lookback = scored("time_series_momentum")
    assert lookback == 253
    for t in range(252, score.shape[0]):
        for i in range(5):
            now, then = closes()[t, i], closes()[t - 252, i]
            wanted = math.nan if math.isnan(now + then) else float(now / then - 1 > 0)
            assert same(score[t, i], wanted)


def test_cross_sectional_momentum_holds_the_winners_and_no_one_else():
    rule, whole = strategies.load("cross_sectional_momentum"), sample_market.panel()
    score, prices = strategies.score_panel(rule, rule.params_model(), whole), window(whole).close
    sizes, today = set(), 0
    for t in range(252, score.shape[0]):
        past = {i: prices[t - 21, i] / prices[t - 252, i] for i in range(5) if not np.isnan(prices[t - 252, i])}
        ranking = sorted(past, key=lambda i: -past[i])
        held = set(np.flatnonzero(score[t] == 1.0).tolist())
        assert held == set(ranking[: math.ceil(0.3 * len(past))])
        assert set(np.flatnonzero(~np.isnan(score[t])).tolist()) == set(past)
        sizes.add((len(past), len(held)))
        today += held != set(sorted(past, key=lambda i: -prices[t, i] / prices[t - 252, i])[: len(held)])
    assert sizes == {(3, 1), (4, 2)}, "before and after GOOG has a year of history"
    assert today > 100, "the skipped month makes no difference"


def test_dual_momentum_holds_the_best_only_while_it_beats_cash():
    score, lookback = scored("dual_momentum", cash_rate_frac=1.0)
    kinds = {"held": 0, "cash": 0}
    for t in range(lookback - 1, score.shape[0]):
        past = {i: closes()[t, i] / closes()[t - 252, i] - 1 for i in range(5) if not np.isnan(closes()[t - 252, i])}
        best = max(past, key=lambda i: past[i])
        beats = past[best] > 1.0
        np.testing.assert_array_equal(np.flatnonzero(score[t] == 1.0), [best] if beats else [])
        kinds["held" if beats else "cash"] += 1
    assert min(kinds.values()) > 20, kinds


def test_rsi_reversion_buys_below_30_and_leaves_above_50():
    score, lookback = scored("rsi_reversion")
    seen = set()
    for t in rows_of(score, lookback):
        for i in range(5):
            rows = [(v,) for v in closes()[t + 1 - lookback : t + 1, i].tolist()]
            strength = math.nan if any(math.isnan(v) for (v,) in rows) else twin.rsi(rows, 14)[-1]
            wanted = 1.0 if strength < 30 else 0.0 if strength > 50 else math.nan
            assert same(score[t, i], wanted)
            seen.add(str(wanted))
    assert seen == {"1.0", "0.0", "nan"}


def test_bollinger_reversion_buys_below_the_band_and_leaves_at_the_average():
    score, _ = scored("bollinger_reversion")
    seen = set()
    for t in range(19, score.shape[0]):
        for i in range(5):
            rows = [(v,) for v in closes()[t - 19 : t + 1, i].tolist()]
            _, middle, lower = (band[-1] for band in twin.bbands(rows, 20, 2.0))
            close = rows[-1][0]
            if math.isnan(lower) or min(abs(close - lower), abs(close - middle)) > 1e-9:
                wanted = 1.0 if close < lower else 0.0 if close >= middle else math.nan
                assert same(score[t, i], wanted)
                seen.add(str(wanted))
    assert seen == {"1.0", "0.0", "nan"}


def test_donchian_breakout_enters_above_the_channel_and_leaves_below_the_nearer_one():
    score, _ = scored("donchian_breakout")
    bars = window(history())
    seen = set()
    for t in range(20, score.shape[0]):
        for i in range(5):
            close = bars.close[t, i]
            highs, lows = bars.high[t - 20 : t, i].tolist(), bars.low[t - 10 : t, i].tolist()
            wanted = math.nan
            if not any(map(math.isnan, highs)) and close > max(highs):
                wanted = 1.0
            elif not any(map(math.isnan, lows)) and close < min(lows):
                wanted = 0.0
            assert same(score[t, i], wanted)
            seen.add(str(wanted))
    assert seen == {"1.0", "0.0", "nan"}


def test_faber_average_changes_its_mind_at_month_ends_only():
    score, lookback = scored("faber_average")
    days = [from_day(int(d)) for d in history().day]
    last_of_month = [t for t in range(len(days) - 1) if days[t].month != days[t + 1].month]
    for t in range(lookback - 1, score.shape[0] - 1):
        ends = [e for e in last_of_month if e <= t][-10:]
        for i in range(5):
            values = [closes()[e, i] for e in ends]
            average = sum(values) / 10
            assert same(score[t, i], math.nan if math.isnan(average) else float(values[-1] > average))
    changes = {t for t in range(lookback, score.shape[0]) for i in range(5) if not same(score[t, i], score[t - 1, i])}
    assert len(changes) > 3
    assert changes <= set(last_of_month)


def test_turn_of_month_is_held_over_the_last_and_the_first_three_sessions():
    score, _ = scored("turn_of_month")
    days = [from_day(int(d)) for d in history().day]
    for t in range(len(days) - 25):
        ahead = t + 1
        in_month = [k for k, d in enumerate(days) if (d.year, d.month) == (days[ahead].year, days[ahead].month)]
        if in_month[0] == 0:
            continue  # the sample does not have that month's first days
        hold = ahead in (*in_month[:3], in_month[-1])
        assert (score[t][history().traded[t]] == float(hold)).all(), days[t]
    held = np.nanmean(score[:, 0])
    assert 4 / 23 < held < 4 / 18


def test_day_of_week_looks_at_the_session_that_follows():
    score, _ = scored("day_of_week", weekdays=("mon", "fri"))
    days = [from_day(int(d)) for d in history().day]
    for today, ahead, row in zip(days, days[1:], score, strict=False):
        assert row[0] == float(ahead.weekday() in (0, 4)), today
    assert (days.index(date(2004, 4, 8)), score[days.index(date(2004, 4, 8)), 0])[1] == 1.0, (
        "Good Friday: Monday follows"
    )


def test_day_of_week_within_a_session_looks_at_the_same_session():
    rule = strategies.load("day_of_week")
    monday = history().rows(0, 900)
    t = next(k for k in range(900) if from_day(int(monday.day[k])).weekday() == 0)
    noon = dataclasses.replace(monday.rows(t, t + 1), bar_end_ns=monday.bar_end_ns[t : t + 1] - 3 * 3_600 * 10**9)
    assert strategies.score_last(rule, rule.params_model(weekdays=("mon",)), noon)[0] == 1.0
    assert strategies.score_last(rule, rule.params_model(weekdays=("mon",)), monday.rows(t, t + 1))[0] == 0.0


def test_lead_lag_follows_a_leader_that_leads_and_not_one_that_does_not():
    """The sample's names do not lead each other for long; made-up ones do, by construction."""
    rng = np.random.default_rng(2)
    lead = rng.normal(0, 0.02, 120)
    follow = np.concatenate([[0.0], 0.6 * lead[:-1]]) + rng.normal(0, 0.004, 120)
    alone = rng.normal(0, 0.02, 120)
    price = 100.0 * np.exp(np.cumsum(np.column_stack([lead, follow, alone]), axis=0))
    rule = strategies.load("lead_lag")
    base = window(sample_market.panel().rows(0, 120))
    seen = set()
    for end in range(62, 121):
        rows = slice(end - 62, end)
        cut = dataclasses.replace(
            base, symbols=("L", "F", "A"), close=price[rows], volume=np.full((62, 3), [3e6, 1e6, 1e6])
        )
        named = rule.score(cut, leader="L", period=60, least_t=2.0)
        np.testing.assert_array_equal(named, rule.score(cut, leader="", period=60, least_t=2.0))
        assert named[0] == 0.0
        x, y = price[rows][1:] / price[rows][:-1] - 1.0, None
        y = x[1:, 1]
        slope, intercept = np.polyfit(x[:-1, 0], y, 1)
        assert named[1] == float(intercept + slope * x[-1, 0] > 0)
        seen |= {("F", named[1]), ("A", named[2])}
    assert {("F", 0.0), ("F", 1.0), ("A", 0.0)} <= seen
    with pytest.raises(ValueError, match="leader X is not among"):
        rule.score(base, leader="X", period=60, least_t=2.0)


def test_risk_parity_gives_every_name_the_same_part_of_the_variance():
    score, lookback = scored("risk_parity")
    for t in rows_of(score, lookback):
        known = np.flatnonzero(~np.isnan(score[t]))
        prices = closes()[t - 120 : t + 1, known]
        assert known.tolist() == np.flatnonzero(~np.isnan(closes()[t - 120 : t + 1]).any(axis=0)).tolist()
        weight = score[t, known]
        assert weight.max() == 1.0
        parts = weight * (np.cov((prices[1:] / prices[:-1] - 1).T) @ weight)
        np.testing.assert_allclose(parts / parts.sum(), 1.0 / known.size, rtol=1e-6)


def test_risk_parity_without_correlation_is_inverse_volatility():
    weight = equal_risk_weights(np.diag([0.04, 0.01, 0.0025]))
    np.testing.assert_allclose(weight, np.array([1, 2, 4]) / 7, rtol=1e-12)


def test_equal_weight_speaks_on_the_first_session_of_a_period():
    days = [from_day(int(d)) for d in history().day]
    for every, key in (
        ("month", lambda d: (d.year, d.month)),
        ("quarter", lambda d: (d.year, (d.month - 1) // 3)),
        ("week", lambda d: d - timedelta(days=d.weekday())),
    ):
        score, _ = scored("equal_weight", every=every)
        first = [t for t in range(1, len(days)) if key(days[t]) != key(days[t - 1])]
        np.testing.assert_array_equal(np.flatnonzero(score[:, 0] == 1.0), first)
    score, _ = scored("equal_weight", every="bar")
    assert (score[1:, 0] == 1.0).all()


def test_buy_and_hold_buys_until_the_day_and_then_has_no_opinion():
    score, _ = scored("buy_and_hold", buy_until=date(2003, 1, 10))
    days = [from_day(int(d)) for d in history().day]
    assert np.flatnonzero(score[:, 0] == 1.0).tolist() == [t for t, d in enumerate(days) if d <= date(2003, 1, 10)]
    assert np.isnan(score[days.index(date(2003, 1, 13)) :]).all()
    assert (scored("buy_and_hold")[0][history().traded] == 1.0).all()


# ------------------------------------------------------------------------------------------------------------ pairs


def test_engle_granger_finds_a_planted_hedge_ratio():
    rng = np.random.default_rng(8)
    x = np.cumsum(rng.normal(0, 0.01, 2_000))
    rest = np.zeros(2_000)
    for t in range(1, 2_000):
        rest[t] = 0.9 * rest[t - 1] + rng.normal(0, 0.005)
    tied = engle_granger(1.0 + 0.7 * x + rest, x)
    assert tied.hedge == pytest.approx(0.7, abs=0.05)
    assert tied.t < -8.0
    assert tied.z == pytest.approx(rest[-1] / rest.std(), abs=0.3)


@pytest.mark.parametrize("level_pct", [5, 10])
def test_engle_granger_takes_random_walks_for_tied_as_often_as_its_level_says(level_pct: int):
    rng, trials, size = np.random.default_rng(1), 2_000, 250
    walks = np.cumsum(rng.normal(0, 0.01, (trials, 2, size)), axis=2)
    b0, b1, b2 = CRITICAL[level_pct]
    wrong = sum(engle_granger(y, x).t < b0 + b1 / (size - 1) + b2 / (size - 1) ** 2 for y, x in walks)
    expected = trials * level_pct / 100
    assert abs(wrong - expected) < 4 * math.sqrt(expected)


def test_pairs_hold_the_cheap_leg_of_a_cointegrated_pair_and_nothing_else():
    rule, whole = strategies.load("pairs"), sample_market.panel()
    params = rule.params_model(chosen=(("AAPL", "MSFT"), ("IBM", "MSFT")), level_pct=10, entry_z=1.5)
    prices, seen = window(whole).close, set()
    for t in range(249, prices.shape[0], 5):
        score = strategies.score_last(rule, params, whole.rows(t - 249, t + 1))
        logs = np.log(prices[t - 249 : t + 1])
        cheapness: dict[int, list[float]] = {0: [], 3: [], 4: []}
        for i, j in ((0, 4), (3, 4)):
            slope, intercept = np.polyfit(logs[:, j], logs[:, i], 1)
            rest = logs[:, i] - intercept - slope * logs[:, j]
            pull = float((rest[:-1] * np.diff(rest)).sum() / (rest[:-1] ** 2).sum())
            noise = math.sqrt(
                float(((np.diff(rest) - pull * rest[:-1]) ** 2).sum()) / 248 / float((rest[:-1] ** 2).sum())
            )
            if pull / noise < -3.04445 - 4.2412 / 249 - 2.720 / 249**2 and slope > 0:
                z = float(rest[-1]) / math.sqrt(float((rest**2).sum()) / 248)
                cheapness[i].append(-z)
                cheapness[j].append(z)
        for name, cheap in cheapness.items():
            apart, waiting = any(z > 1.5 for z in cheap), any(z > 0.5 for z in cheap)
            wanted = 1.0 if apart else math.nan if waiting else 0.0
            assert same(score[name], wanted), (t, name, cheap)
            seen.add(str(wanted))
        assert same(score[2], math.nan if np.isnan(logs[:, 2]).any() else 0.0), "GOOG is in no chosen pair"
    assert seen == {"1.0", "0.0", "nan"}


def test_pairs_say_what_is_wrong_with_their_names():
    rule = strategies.load("pairs")
    bars = window(history().rows(0, 250))
    with pytest.raises(ValueError, match="unknown symbols XYZ"):
        rule.score(bars, **rule.params_model(chosen=(("AAPL", "XYZ"),)).model_dump())
    many = dataclasses.replace(bars, symbols=tuple(f"S{i}" for i in range(31)), close=np.full((250, 31), np.nan))
    with pytest.raises(ValueError, match="31 symbols make too many pairs"):
        rule.score(many, **rule.params_model().model_dump())


@pytest.mark.parametrize(
    "name, params, match",
    [
        ("pairs", {"exit_z": 2.0}, "exit_z 2.0 must be below entry_z 2.0"),
        ("pairs", {"level_pct": 7}, "level_pct 7 must be one of 1, 5, 10"),
        ("rsi_reversion", {"entry_level": 60.0}, "must be below exit_level"),
        ("cross_sectional_momentum", {"skip": 252}, "skip 252 must be below period 252"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(name: str, params: dict[str, Any], match: str):
    rule = strategies.load(name)
    with pytest.raises(ValueError, match=match):
        rule.lookback(rule.params_model(**params))
