"""Rows *portfolio* and *portfolio, everything on*: 500 symbols, 20 years, one cash account, rebalanced at every open.

The fold is tradecore.backtest.step.fold, the one that production takes a bar of at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import compiled
import numpy as np
from numba import njit
from ratios import Row

from tradecore.backtest import step
from tradecore.config_models import Execution
from tradecore.config_risk import Risk
from tradecore.model import H_COLUMNS, H_QUIET, VOLATILITY_ADJUSTED, Capital, Instruments, Market, StepParams, new_book
from tradecore.risk.outlook import Outlook

SYMBOLS, SESSIONS, SEED = 500, 5_040, 20_261_125
FAST, SLOW, VOLATILITY_BARS = 20, 50, 20
CASH_USD, NAME_CAP, GROSS_CAP, TARGET_VOLATILITY = 10_000_000.0, 0.15, 0.90, 0.20
COMMISSION_BPS, SLIPPAGE_BPS = 5.0, 2.0
DAY_NS, FIRST_DAY = 86_400 * 10**9, 12_000
EVERYTHING = {"participation_ppm": 100_000, "remainder": 1, "max_turnover_ppm": 200_000, "min_order_e4": 1_000_000,
              "max_daily_loss_ppm": 100_000, "max_drawdown_ppm": 900_000}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A made-up market: opens and closes [T, n] in USD, a day more than is traded, and volumes in shares."""

    open: np.ndarray
    close: np.ndarray
    volume: np.ndarray


def made(sessions: int = SESSIONS, symbols: int = SYMBOLS, seed: int = SEED) -> Made:
    """Return walks with a common factor, to the cent; nothing splits and nothing pays."""
    rng = np.random.default_rng(seed)
    rows = sessions + 1
    gap = rng.normal(0.0, 0.004, (rows, symbols))
    day = rng.normal(0.0, 0.014, (rows, symbols)) + rng.normal(0.0003, 0.008, (rows, 1)) - 0.0001
    close = np.round(100.0 * np.exp(np.cumsum(gap + day, axis=0)), 2).clip(1.0)
    before = np.vstack([np.full((1, symbols), 100.0), close[:-1]])
    volume = rng.integers(500, 20_000, (rows, symbols))
    return Made(open=np.round(before * np.exp(gap), 2).clip(1.0), close=close, volume=volume)


def market(data: Made, *, actions: bool) -> Market:
    """Return the market as the fold takes it; with actions a name in 50 splits in a year, and a third of them pays a
    dividend each quarter (prices stay as they are: money is only counted)."""
    rows, n = data.close.shape
    ints = np.int64
    split, dividend, pay_day = np.ones((rows, n), ints), np.zeros((rows, n), ints), np.zeros((rows, n), ints)
    head = np.zeros((rows, H_COLUMNS), ints)
    head[:, 1] = FIRST_DAY + np.arange(rows)
    head[:, 0], head[:, 2], head[:, 3], head[:, 5] = head[:, 1] * DAY_NS, 1, 1, -1
    if actions:
        rng = np.random.default_rng(SEED)
        split[rng.integers(0, rows, rows * n // 12_600), rng.integers(0, n, rows * n // 12_600)] = 2
        for i in range(0, n, 3):
            days = np.arange(20 + i % 63, rows, 63)
            dividend[days, i], pay_day[days, i] = 400_000, head[days, 1] + 10
    head[:, H_QUIET] = ((split == 1) & (dividend == 0)).all(axis=1)
    prices = [np.rint(p * 1e4).astype(ints) for p in (data.open, data.close)]
    return Market(
        open=prices[0],
        high=np.maximum(*prices),
        low=np.minimum(*prices),
        close=prices[1],
        volume=data.volume,
        traded=np.ones((rows, n), np.bool_),
        split_num=split,
        split_den=np.ones((rows, n), ints),
        dividend=dividend,
        pay_day=pay_day,
        left=np.zeros((rows, n), np.bool_),
        head=head,
    )


def params(**changed: Any) -> StepParams:
    """Return the rules of the row; what is not named here is off."""
    plain = step.step_params(Risk(), Execution())._replace(
        slippage_ppm=round(SLIPPAGE_BPS * 100),
        commission_ppm=round(COMMISSION_BPS * 100),
        commission_per_share_e6=0,
        commission_min_e4=0,
        participation_ppm=1_000_000,
        remainder=0,
        max_order_age_bars=5,
        sizing=VOLATILITY_ADJUSTED,
        max_position_ppm=round(NAME_CAP * 1e6),
        max_exposure_ppm=round(GROSS_CAP * 1e6),
        max_turnover_ppm=10_000_000,
        min_order_e4=0,
        band_ppm=0,
        max_daily_loss_ppm=1_000_000,
        max_drawdown_ppm=1_000_000,
        reduce_lifts=1,
        halt_lifts=0,
        max_position=NAME_CAP,
        max_exposure=GROSS_CAP,
        target_volatility=TARGET_VOLATILITY,
    )
    return plain._replace(**changed)


@njit(cache=True, error_model="numpy")
def follow(close, fast, slow, bars, scores, volatility):
    """Write the scores [T, 1, n] and volatilities [T, n] of closes [T, n] in USD, by running sums as C does."""
    rows, n = close.shape
    fast_sum, slow_sum, total, squares = np.zeros((4, n))
    mean, yearly = 1.0 / bars, 252.0 / (bars - 1)
    past = np.zeros((bars, n))
    for t in range(rows):
        if t >= fast:
            for i in range(n):
                fast_sum[i] -= close[t - fast, i]
        if t >= slow:
            for i in range(n):
                slow_sum[i] -= close[t - slow, i]
        before = max(t - 1, 0)
        row = t % bars
        for i in range(n):
            fast_sum[i] += close[t, i]
            slow_sum[i] += close[t, i]
            scores[t, 0, i] = 1.0 if fast_sum[i] * slow > slow_sum[i] * fast else 0.0
        for i in range(n):
            now, old = close[t, i] / close[before, i] - 1.0, past[row, i]
            past[row, i] = now
            total[i] += now - old
            squares[i] += now * now - old * old
            rest = squares[i] - total[i] * total[i] * mean
            volatility[t, i] = math.sqrt(max(rest, 0.0) * yearly)
        if t < slow - 1:
            scores[t] = np.nan


def in_c(data: Made) -> Callable[[], Any]:
    """Return the plain C as a contestant."""
    run = compiled.function("portfolio", "portfolio", "ppiiiiiddddddp")
    equity = np.empty(data.close.shape[0] - 1)
    opens, closes = map(compiled.pointer, (data.open, data.close))
    sizes = equity.size, data.close.shape[1], FAST, SLOW, VOLATILITY_BARS
    rules = CASH_USD, NAME_CAP, GROSS_CAP, TARGET_VOLATILITY, COMMISSION_BPS / 1e4, SLIPPAGE_BPS / 1e4

    def contestant() -> Any:
        run(opens, closes, *sizes, *rules, compiled.pointer(equity))
        return equity.copy()

    return contestant


def folded(
    data: Made, rules: StepParams, *, actions: bool, outlook: Outlook | None = None
) -> Callable[[], step.FoldResult]:
    """Return signals and fold as a contestant."""
    n = data.close.shape[1]
    bars = market(data, actions=actions)
    instruments = Instruments(np.ones(n, np.int64), np.full(n, 1_000_000, np.int64))
    capital = Capital(np.ones(1), np.ones((1, n), np.bool_))
    scores, volatility = np.empty((data.close.shape[0], 1, n)), np.empty(data.close.shape)

    def contestant() -> step.FoldResult:
        book = new_book(cash_e4=round(CASH_USD * 1e4), n_instruments=n, n_strategies=1, n_lots=8, n_orders=n)
        follow(data.close, FAST, SLOW, VOLATILITY_BARS, scores, volatility)
        return step.fold(book, bars, scores, capital, volatility, instruments, rules, records=False, outlook=outlook)

    return contestant


def agree(results: dict[str, Any]) -> None:
    """Raise AssertionError unless every curve is C's to 0.3 %: the book floors weights to ppm, prices to the tick."""
    names = list(results)
    for name in names[1:]:
        found = results[name].equity_e4 / 1e4
        np.testing.assert_allclose(found, results[names[0]], rtol=3e-3, err_msg=name)


def rows() -> list[Row]:
    """Return portfolio with what is not asked for off, and with everything on."""
    data = made()
    plain = in_c(data)
    units = SESSIONS * SYMBOLS
    return [
        Row(
            name="portfolio",
            unit="symbol-bar",
            units=units,
            contestants={"C": plain, "fold": folded(data, params(), actions=False)},
            agree=agree,
            goals={"fold": 3.0},
            note="20/50 crossover, volatility sizing, daily rebalance",
        ),
        Row(
            name="portfolio, everything on",
            unit="symbol-bar",
            units=units,
            contestants={"C": plain, "fold": folded(data, params(**EVERYTHING), actions=True)},
            goals={"fold": 6.0},
            note="C does without; partial fills, splits, dividends, limits",
        ),
    ]
