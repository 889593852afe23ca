"""Row *fold, single*: one symbol, a million minute bars, all in or all out, decided only where the averages cross.

C, the fold and a plain Python loop get the same prices, whole numbers of 1e-4 USD, and must end with the same value
and the same number of entries before anything is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import compiled
import numpy as np
from numba import njit
from ratios import Row
from row_portfolio import params
from row_sweep import MINUTES, MINUTES_A_YEAR, walk

from tradecore.backtest import step
from tradecore.model import EQUAL_WEIGHT, H_COLUMNS, H_QUIET, Capital, Instruments, Market, new_book

FAST, SLOW, CASH_USD = 20, 50, 1_000_000.0
COST_BPS = 0.1  # with more of it nothing is left after fourteen thousand round trips
MINUTE_NS = 60 * 10**9
TOLERANCE = 1e-6  # the book counts in whole quanta


def in_c(open_: np.ndarray, close: np.ndarray) -> Callable[[], Any]:
    """Return the plain loop of bench/sweep.c as a contestant, for one pair."""
    run = compiled.function("sweep", "sweep", "ppippiddpppp")
    pair, out, trades = np.array([[FAST], [SLOW]], np.int64), np.empty((3, 1)), np.empty(1, np.int64)

    def contestant() -> Any:
        ends = [compiled.pointer(a) for a in (*out, trades)]
        sizes = close.size, *map(compiled.pointer, pair), 1
        run(compiled.pointer(open_), compiled.pointer(close), *sizes, COST_BPS / 1e4, MINUTES_A_YEAR, *ends)
        return float(out[0, 0]), int(trades[0])

    return contestant


@njit(cache=True, error_model="numpy")
def crossings(close, fast, slow, scores, decides):
    """Write where the fast average of closes [T] goes above or below the slow one, decides [T], and there the score,
    1 above, scores [T, 1, 1]; by running sums as C does. Nobody reads the scores of other bars."""
    fast_sum, slow_sum, before = 0.0, 0.0, False
    fast_scale, slow_scale = 1.0 / fast, 1.0 / slow
    for t in range(close.size):
        fast_sum += close[t]
        slow_sum += close[t]
        if t >= fast:
            fast_sum -= close[t - fast]
        if t >= slow:
            slow_sum -= close[t - slow]
        now = t >= slow - 1 and fast_sum * fast_scale > slow_sum * slow_scale
        decides[t] = now != before
        if now != before:
            scores[t, 0, 0] = 1.0 if now else 0.0
        before = now


def market(open_: np.ndarray, close: np.ndarray) -> Market:
    """Return the bars as the fold takes them: prices to 1e-4 USD, and one bar more that tells its splits."""
    rows = close.size + 1
    prices = [np.rint(np.append(p, p[-1]) * 1e4).astype(np.int64)[:, None] for p in (open_, close)]
    head = np.zeros((rows, H_COLUMNS), np.int64)
    head[:, 0], head[:, 1], head[:, 5] = np.arange(1, rows + 1) * MINUTE_NS, 12_000 + np.arange(rows) // 390, -1
    head[:, 2], head[:, 3] = np.arange(rows) % 390 == 0, np.arange(rows) % 390 == 389
    head[:, H_QUIET] = 1
    ones, zeros, falses = np.ones((rows, 1), np.int64), np.zeros((rows, 1), np.int64), np.zeros((rows, 1), np.bool_)
    return Market(
        open=prices[0],
        high=np.maximum(*prices),
        low=np.minimum(*prices),
        close=prices[1],
        volume=np.full((rows, 1), 10**9),
        traded=~falses,
        split_num=ones,
        split_den=ones.copy(),
        dividend=zeros,
        pay_day=zeros.copy(),
        left=falses,
        head=head,
    )


def folded(open_: np.ndarray, close: np.ndarray) -> Callable[[], step.FoldResult]:
    """Return averages, scores and fold as a contestant.

    A weight of two asks for more than the cash buys, and the fill kernel cuts it to what the cash buys: all of it.
    """
    bars = market(open_, close)
    rules = params(slippage_ppm=0, commission_ppm=round(COST_BPS * 100), sizing=EQUAL_WEIGHT)._replace(
        max_position_ppm=2_000_000, max_exposure_ppm=2_000_000, max_position=2.0, max_exposure=2.0
    )
    instruments = Instruments(np.ones(1, np.int64), np.ones(1, np.int64))
    capital = Capital(np.ones(1), np.ones((1, 1), np.bool_))
    volatility = np.zeros((close.size, 1))
    scores, decides = np.full((close.size, 1, 1), np.nan), np.empty(close.size, np.bool_)

    def contestant() -> step.FoldResult:
        book = new_book(cash_e4=round(CASH_USD * 1e4), n_instruments=1, n_strategies=1, n_lots=8, n_orders=2)
        crossings(close, FAST, SLOW, scores, decides)
        return step.fold(book, bars, scores, capital, volatility, instruments, rules, decides, records=False)

    return contestant


def in_python(open_: list[float], close: list[float]) -> tuple[float, int]:
    """Return (total return, entries) by the rules of docs/benchmarks.md, *single*, in plain Python: another hand.

    Windows are sums of whole quanta, so that no rounding decides.
    """
    quanta = [round(price * 1e4) for price in close]
    cash, shares, entries, fast, slow, wanted = 1.0, 0.0, 0, 0, 0, False
    for t, price in enumerate(open_):
        if wanted and shares == 0.0:
            shares, cash, entries = cash / (price * (1.0 + COST_BPS / 1e4)), 0.0, entries + 1
        elif not wanted and shares > 0.0:
            shares, cash = 0.0, shares * price * (1.0 - COST_BPS / 1e4)
        fast += quanta[t] - (quanta[t - FAST] if t >= FAST else 0)
        slow += quanta[t] - (quanta[t - SLOW] if t >= SLOW else 0)
        wanted = t >= SLOW - 1 and fast * SLOW > slow * FAST
    return cash + shares * close[-1] - 1.0, entries


def outcome(result: step.FoldResult) -> tuple[float, int]:
    """Return (total return, entries) of the fold: bars after which the cash is spent and was not before."""
    spent = np.append(False, 2 * result.table[:, 0] < result.table[:, 1])
    return result.equity_e4[-1] / 1e4 / CASH_USD - 1.0, int(np.count_nonzero(spent[1:] & ~spent[:-1]))


def rows() -> list[Row]:
    """Return the row."""
    open_, close = (np.round(prices, 4) for prices in walk(MINUTES, 0.0004))

    def agree(results: dict[str, Any]) -> None:
        """Raise AssertionError unless C, the fold and plain Python end with the same value and as many entries."""
        total, entries = in_python(open_.tolist(), close.tolist())
        for name, found in (("C", results["C"]), ("fold", outcome(results["fold"]))):
            np.testing.assert_allclose(1.0 + found[0], 1.0 + total, rtol=TOLERANCE, err_msg=name)
            assert found[1] == entries, f"{name}: {found[1]} entries, plain Python {entries}"

    return [
        Row(
            name="fold, single",
            unit="bar",
            units=MINUTES,
            contestants={"C": in_c(open_, close), "fold": folded(open_, close)},
            agree=agree,
            goals={"fold": 4.0},
            note="SMA crossover 20/50 on minute bars, averages included",
        )
    ]
