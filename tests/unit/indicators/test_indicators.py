"""Indicators against their naive twins, against TA-Lib on real prices, and their laws."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import talib

import reference_indicators as twin
import sample_market
from tradecore import indicators as ta

HLC, HLCV, OHLC = ("high", "low", "close"), ("high", "low", "close", "volume"), ("open", "high", "low", "close")


@dataclass(frozen=True)
class Case:
    """An indicator, the series that it takes, its parameters, its twin, and TA-Lib's function where there is one."""

    name: str
    fields: tuple[str, ...]
    params: tuple[Any, ...]
    talib: Callable[..., Any] | None = None

    def ours(self, data: dict[str, np.ndarray]) -> list[np.ndarray]:
        return parts(getattr(ta, self.name)(*(data[f] for f in self.fields), *self.params))

    def twin(self, data: dict[str, np.ndarray]) -> list[np.ndarray]:
        rows = list(zip(*(data[f].tolist() for f in self.fields), strict=True))
        return [np.array(p) for p in parts(getattr(twin, self.name)(rows, *self.params))]

    def theirs(self, data: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert self.talib is not None
        return parts(self.talib(*(data[f] for f in self.fields), *self.params))


def parts(result: Any) -> list[Any]:
    return list(result) if isinstance(result, tuple) else [result]


def directional(high: np.ndarray, low: np.ndarray, close: np.ndarray, period: int) -> tuple[np.ndarray, ...]:
    functions = (talib.ADX, talib.PLUS_DI, talib.MINUS_DI)
    return tuple(f(high, low, close, period) for f in functions)


def same_range(high: np.ndarray, low: np.ndarray, period: int) -> tuple[np.ndarray, ...]:
    upper, lower = talib.MAX(high, period), talib.MIN(low, period)
    return upper, (upper + lower) / 2, lower


CLOSE = ("close",)
CASES = [
    Case("sma", CLOSE, (20,), talib.SMA),
    Case("ema", CLOSE, (20,), talib.EMA),
    Case("wma", CLOSE, (9,), talib.WMA),
    Case("vwap", HLCV, (8,)),
    Case("stddev", CLOSE, (20,), talib.STDDEV),
    Case("var", CLOSE, (5,), talib.VAR),
    Case("zscore", CLOSE, (20, 1)),
    Case("rolling_min", CLOSE, (7,), talib.MIN),
    Case("rolling_max", CLOSE, (30,), talib.MAX),
    Case("rolling_median", CLOSE, (8,)),
    Case("rolling_median", CLOSE, (13,)),
    Case("correl", ("high", "low"), (12,), talib.CORREL),
    Case("beta", ("close", "open"), (15,)),
    Case("rsi", CLOSE, (14,), talib.RSI),
    Case("roc", CLOSE, (10,), talib.ROC),
    Case("stoch", HLC, (5, 3, 3), lambda h, lo, c, k, s, d: talib.STOCH(h, lo, c, k, s, 0, d, 0)),
    Case("cci", HLC, (14,), talib.CCI),
    Case("obv", ("close", "volume"), (), talib.OBV),
    Case("mfi", HLCV, (14,), talib.MFI),
    Case("trange", HLC, (), talib.TRANGE),
    Case("atr", HLC, (14,), talib.ATR),
    Case("parkinson", ("high", "low"), (20, 252.0)),
    Case("garman_klass", OHLC, (20, 252.0)),
    Case("ewma_volatility", CLOSE, (0.94, 20, 252.0)),
    Case("macd", CLOSE, (12, 26, 9), talib.MACD),
    Case("bbands", CLOSE, (20, 2.0), lambda x, p, k: talib.BBANDS(x, p, k, k)),
    Case("donchian", ("high", "low"), (20,), same_range),
    Case("keltner", HLC, (20, 10, 2.0)),
    Case("adx", HLC, (14,), directional),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.name}{list(c.params)}")


def market(seed: int, rows: int, *, gaps: bool) -> dict[str, np.ndarray]:
    """Return random bars; with gaps: a NaN head of its own and lone NaNs in each series, and rows that are all NaN."""
    rng = np.random.default_rng(seed)
    close = np.round(50.0 * np.exp(np.cumsum(rng.normal(0, 0.02, rows))), 2)
    open_ = np.round(close * np.exp(rng.normal(0, 0.01, rows)), 2)
    high = np.round(np.maximum(open_, close) + rng.exponential(0.3, rows), 2)
    low = np.round(np.minimum(open_, close) - rng.exponential(0.3, rows), 2)
    volume = rng.integers(1, 1_000, rows).astype(float)
    data = {"open": open_, "high": high, "low": low, "close": close, "volume": volume}
    if gaps:
        missing = rng.choice(np.arange(5, rows), 3, replace=False)
        for series in data.values():
            series[: rng.integers(0, 5)] = np.nan
            series[missing] = np.nan
            series[rng.integers(0, rows)] = np.nan
    return data


def agree(found: list[np.ndarray], wanted: list[np.ndarray], tolerance: float) -> float:
    """Assert the same NaNs, and values to the tolerance relative to at least 1; return the worst."""
    worst = 0.0
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        known = ~np.isnan(b)
        if known.any():
            error = np.abs(a[known] - b[known]) / np.maximum(1.0, np.abs(b[known]))
            worst = max(worst, float(error.max()))
    assert worst <= tolerance, worst
    return worst


@every_case
def test_indicator_equals_its_twin_with_nan_heads_and_gaps(case: Case):
    known = 0
    for seed, rows in enumerate([150, 150, 150, 90, 41, 40, 21, 20, 19, 3, 1, 0]):
        for gaps in (False, rows > 10):
            data = market(seed, rows, gaps=gaps)
            found = case.ours(data)
            agree(found, case.twin(data), 1e-10)
            known += gaps * int(np.isfinite(found[0]).sum())
    assert known > 50, "gaps leave too little to compare"


@every_case
def test_panel_is_its_columns_side_by_side_to_the_bit(case: Case):
    several = [market(seed, 60, gaps=True) for seed in (1, 2, 3)]
    panel = {f: np.column_stack([m[f] for m in several]) for f in several[0]}
    for whole, *alone in zip(case.ours(panel), *(case.ours(m) for m in several), strict=True):
        assert whole.shape == (60, 3)
        np.testing.assert_array_equal(whole, np.column_stack(alone))


@every_case
def test_rows_do_not_change_when_later_rows_do(case: Case):
    data = market(4, 200, gaps=True)
    poisoned = {f: v.copy() for f, v in data.items()}
    for series in poisoned.values():
        series[151:] *= np.random.default_rng(0).uniform(0.2, 5.0)
    cut = {f: v[:151].copy() for f, v in data.items()}
    for a, b, c in zip(case.ours(data), case.ours(poisoned), case.ours(cut), strict=True):
        np.testing.assert_array_equal(a[:151], b[:151])
        np.testing.assert_array_equal(a[:151], c)
        assert np.isfinite(a[:151]).any()


@pytest.mark.parametrize("symbol", ["AAPL", "IBM"])
@pytest.mark.parametrize("case", [c for c in CASES if c.talib], ids=lambda c: c.name)
def test_indicator_equals_talib_on_real_prices(case: Case, symbol: str):
    """Where TA-Lib has a value; relative to the level of its inputs, which is where its own rounding is."""
    data = sample_market.columns(symbol)
    for a, b in zip(case.ours(data), case.theirs(data), strict=True):
        known = ~np.isnan(b)
        assert known.sum() > 3_000
        np.testing.assert_allclose(a[known], b[known], rtol=1e-9, atol=1e-9)


def test_beta_equals_talib_with_its_arguments_turned_round():
    asset, benchmark = (sample_market.columns(s)["close"] for s in ("AAPL", "IBM"))
    returns = [p[1:] / p[:-1] - 1.0 for p in (asset, benchmark)]
    found, theirs = ta.beta(returns[0], returns[1], 20), talib.BETA(benchmark, asset, 20)[1:]
    known = ~np.isnan(theirs)
    np.testing.assert_array_equal(known, ~np.isnan(found))
    np.testing.assert_allclose(found[known], theirs[known], rtol=1e-9, atol=1e-9)


def test_first_value_is_where_talib_has_it():
    """One row earlier only where the docstring says so (%K of the slow stochastic)."""
    data = sample_market.columns("MSFT")
    for case in CASES:
        if case.talib:
            for k, (a, b) in enumerate(zip(case.ours(data), case.theirs(data), strict=True)):
                early = case.params[2] - 1 if (case.name, k) == ("stoch", 0) else 0
                assert np.flatnonzero(~np.isnan(a))[0] == np.flatnonzero(~np.isnan(b))[0] - early, case.name


def test_session_vwap_equals_its_twin():
    data = market(7, 60, gaps=True)
    days = np.repeat(np.arange(12), 5)
    rows = list(zip(*(data[f].tolist() for f in HLCV), strict=True))
    found = ta.session_vwap(*(data[f] for f in HLCV), days)
    agree([found], [np.array(twin.session_vwap(rows, days.tolist()))], 1e-12)
    assert found[5] == pytest.approx((data["high"][5] + data["low"][5] + data["close"][5]) / 3)
    with pytest.raises(ValueError, match="one label a row"):
        ta.session_vwap(*(data[f] for f in HLCV), days[1:])


# ------------------------------------------------------------------------------------------------------ precision

POINTS = 1_000_000


def hard_series() -> dict[str, np.ndarray]:
    """Return a million points each: a level far above the noise, a trend, and one spike that must leave no trace."""
    rng = np.random.default_rng(11)
    noise = rng.normal(0.0, 1.0, POINTS)
    spike = noise.copy()
    spike[1_000] = 1e12
    return {"level": 1e6 + noise, "trend": np.arange(POINTS) * 0.01 + noise, "spike": spike}


def exact(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population deviation of [k, w] windows in extended precision with compensated (two-pass) sums."""
    wide = windows.astype(np.longdouble)
    mean = wide.mean(axis=1)
    d = wide - mean[:, None]
    square = (d * d).mean(axis=1) - d.mean(axis=1) ** 2  # the second term compensates the rounding of the mean
    return mean.astype(float), np.sqrt(square).astype(float)


@pytest.mark.parametrize("period", [20, 500])
def test_variance_family_at_a_million_points_is_exact_to_1e12_of_the_windows_scale(period: int):
    worst = 0.0
    rng = np.random.default_rng(period)
    for name, x in hard_series().items():
        at = np.unique(np.concatenate([rng.integers(period, POINTS, 3_000), np.arange(POINTS - 500, POINTS)]))
        windows = np.lib.stride_tricks.sliding_window_view(x, period)[at - period + 1]
        mean, std = exact(windows)
        scale = std  # the strictest reading: the scatter of the window, not the level of its values
        bands, z = ta.bbands(x, period, 2.0), ta.zscore(x, period)
        found = ta.stddev(x, period)
        errors = {
            "stddev": np.abs(found[at] - std) / scale,
            "var": np.abs(ta.var(x, period)[at] - std**2) / scale**2,
            "zscore": np.abs(z[at] - (x[at] - mean) / std) / np.maximum(1.0, np.abs(mean) / scale),
            "bbands": np.abs(bands.upper[at] - (mean + 2 * std)) / np.abs(windows).max(axis=1),
        }
        for figure, error in errors.items():
            assert error.max() <= 1e-12, (name, figure, error.max())
            worst = max(worst, float(error.max()))
    print(f"\nproof: variance family at {POINTS:,} points, period {period}: {worst:.1e} of the window's scale")


def decayed(x: np.ndarray, keep: float, at: np.ndarray) -> np.ndarray:
    """Return sum over j of (1 - keep) keep^j x[t - j] at rows t, in extended precision, as far back as counts."""
    back = int(np.ceil(60.0 / -np.log(keep)))  # what lies before weighs exp(-60)
    weights = (np.longdouble(1) - np.longdouble(keep)) * np.longdouble(keep) ** np.arange(back)
    return np.array([(x[t - back + 1 : t + 1][::-1].astype(np.longdouble) * weights).sum() for t in at])


def test_averages_at_a_million_points_are_exact_to_1e12_of_the_windows_scale():
    """SMA against math.fsum; what is recursive against its weights summed afresh at each row."""
    rng = np.random.default_rng(8)
    at = np.unique(np.concatenate([rng.integers(20_000, POINTS, 300), [POINTS - 1]]))
    close = 1e4 + np.cumsum(rng.normal(0.0, 1.0, POINTS))
    spread = rng.exponential(0.5, (2, POINTS))
    high, low = close + spread[0], close - spread[1]
    before = np.concatenate([close[:1], close[:-1]])
    change, ranges = close - before, np.maximum(high, before) - np.minimum(low, before)
    gains, losses = (decayed(np.maximum(sign * change, 0.0), 13 / 14, at) for sign in (1.0, -1.0))
    fast, slow = (decayed(close, 1.0 - 2.0 / (period + 1), at) for period in (12, 26))
    scale = np.abs(close[at])
    errors = {
        "sma": np.abs(ta.sma(close, 30)[at] - [math.fsum(close[t - 29 : t + 1]) / 30 for t in at]) / scale,
        "ema": np.abs(ta.ema(close, 30)[at] - decayed(close, 1.0 - 2.0 / 31, at)) / scale,
        "rsi": np.abs(ta.rsi(close, 14)[at] - 100 * gains / (gains + losses)) / 100.0,
        "atr": np.abs(ta.atr(high, low, close, 14)[at] - decayed(ranges, 13 / 14, at)) / scale,
        "macd": np.abs(ta.macd(close).line[at] - (fast - slow)) / scale,
    }
    for figure, error in errors.items():
        assert error.max() <= 1e-12, (figure, error.max())
    print(f"\nproof: averages at {POINTS:,} points: {max(e.max() for e in errors.values()):.1e} of the window's scale")


def test_correlation_and_beta_at_a_million_points_are_exact_to_1e12():
    rng = np.random.default_rng(5)
    y = 1e5 + np.cumsum(rng.normal(0, 1, POINTS))
    x = 1e5 + 0.5 * y + rng.normal(0, 1, POINTS)
    period, at = 60, rng.integers(60, POINTS, 3_000)
    wx, wy = (np.lib.stride_tricks.sliding_window_view(v, period)[at - 59].astype(np.longdouble) for v in (x, y))
    dx, dy = wx - wx.mean(axis=1)[:, None], wy - wy.mean(axis=1)[:, None]
    xx, yy, xy = ((a * b).sum(axis=1) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    correlation, slope = (xy / np.sqrt(xx * yy)).astype(float), (xy / yy).astype(float)
    assert np.abs(ta.correl(x, y, period)[at] - correlation).max() <= 1e-12
    assert np.abs(ta.beta(x, y, period)[at] - slope).max() <= 1e-12 * np.abs(slope).max()


def test_a_spike_leaves_no_trace_in_any_window_after_it():
    rng = np.random.default_rng(3)
    plain = market(5, 400, gaps=False)
    for case in (
        c for c in CASES if c.name in {"sma", "wma", "stddev", "zscore", "vwap", "cci", "correl", "beta", "mfi"}
    ):
        spiked = {f: v.copy() for f, v in plain.items()}
        for series in spiked.values():
            series[100] = 1e14 * rng.uniform(1, 2)
        late = slice(180, None)
        agree([p[late] for p in case.ours(spiked)], [p[late] for p in case.ours(plain)], 1e-11)


# ------------------------------------------------------------------------------------------------------------- time


def cell_ns(case: Case, rows: int, columns: int) -> float:
    """Return the CPU time that a cell of a panel takes, the best of five."""
    one = market(1, rows, gaps=False)
    panel = {f: np.tile(v[:, None], columns) for f, v in one.items()}
    best = math.inf
    for _ in range(5):
        began = time.process_time()
        case.ours(panel)
        best = min(best, time.process_time() - began)
    return best / (rows * columns) * 1e9


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name in {"sma", "ema", "atr", "macd", "stddev"}], ids=lambda c: c.name
)
def test_time_of_a_panel_grows_with_its_cells(case: Case):
    """16 times the columns, and 16 times the rows, take 16 times as long; four times that at most, on any machine."""
    case.ours(market(1, 50, gaps=False))
    few, wide, long = cell_ns(case, 4_000, 8), cell_ns(case, 4_000, 128), cell_ns(case, 64_000, 8)
    assert max(wide, long) < 4.0 * few, (few, wide, long)


# --------------------------------------------------------------------------------------------------- bounds, errors


def test_bounded_indicators_stay_in_their_bounds_on_real_prices():
    data = sample_market.columns("AAPL")
    h, lo, c, v = (data[f] for f in HLCV)
    for values in (ta.rsi(c), *ta.stoch(h, lo, c), ta.mfi(h, lo, c, v), *ta.adx(h, lo, c)):
        known = values[~np.isnan(values)]
        assert known.min() >= -1e-9
        assert known.max() <= 100 + 1e-9
    channel = ta.donchian(h, lo, 20)
    assert (channel.upper[19:] >= h[19:]).all()
    assert (channel.lower[19:] <= lo[19:]).all()


def test_what_does_not_move_has_no_score():
    still = np.full(60, 25.0)
    for values in (ta.rsi(still), ta.zscore(still, 10), ta.cci(still, still, still), ta.correl(still, still, 10)):
        assert np.isnan(values).all()
    np.testing.assert_array_equal(ta.stddev(still, 10)[9:], 0.0)
    np.testing.assert_array_equal(ta.atr(still, still, still)[14:], 0.0)


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda x: ta.sma(x, 0), "period is 0; it must be a whole number of rows, 1 or more"),
        (lambda x: ta.sma(x, 2.5), "period is 2.5"),
        (lambda x: ta.stddev(x, 1, 1), "period is 1; .* 2 or more"),
        (lambda x: ta.correl(x, x[1:], 5), r"shapes are x \(30,\), y \(29,\)"),
        (lambda x: ta.sma(x.reshape(5, 3, 2), 2), r"\(5, 3, 2\)"),
        (lambda x: ta.macd(x, 26, 12), "fast must be below slow"),
        (lambda x: ta.ewma_volatility(x, 1.0), "must be below 1"),
        (lambda x: ta.bbands(x, 5, 0.0), "n_std is 0.0"),
        (lambda x: ta.donchian(x, x[1:], 3), "low"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(call: Callable[[np.ndarray], object], match: str):
    with pytest.raises(ValueError, match=match):
        call(np.arange(30.0))


def test_arrays_of_the_caller_are_left_as_they_are():
    x = np.arange(40.0)
    x.flags.writeable = False
    np.testing.assert_allclose(ta.sma(x, 4)[3:], x[3:] - 1.5)
    np.testing.assert_allclose(ta.sma(np.arange(40), 4)[3:], x[3:] - 1.5)
    np.testing.assert_array_equal(x, np.arange(40.0))


def test_every_indicator_is_in_the_table_of_the_documentation():
    page = (Path(__file__).resolve().parents[3] / "docs" / "indicators.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))
    assert listed == {name for name in ta.__all__ if name[0].islower()}
