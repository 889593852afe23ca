"""The screening kernel against its naive twin and against the production fold, on real prices with and without gaps."""

from __future__ import annotations

import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
import pytest

import reference_screening as twin
import sample_market
from tradecore import market
from tradecore.backtest import step
from tradecore.bars import adjusted
from tradecore.model import F_QTY, Capital, Instruments, Market, new_book
from tradecore.reports import metrics
from tradecore.research import screening
from tradecore.research.screening import ScreenResult, screen_ma_crossover
from tradecore.sessions import calendar
from tradecore.settings import Execution, Risk

MANY = screening.FEW_PAIRS + 1
SETS, BARS_PER_YEAR = 500, 252.0
# The fold counts in whole quanta: the more of them, the finer. Limits multiply equity by ppm: more than this overflows.
MOST_E4 = 6 * 10**12
TOLERANCE = 1e-10
PPM = 10**6


@dataclass(frozen=True)
class Case:
    """A parameter set: rows start..stop of a symbol's adjusted prices, some of them missing."""

    symbol: int
    start: int
    stop: int
    fast: int
    slow: int
    cost_ppm: int
    kind: str
    missing: tuple[int, ...]

    def prices(self) -> tuple[np.ndarray, np.ndarray]:
        """Opens and closes [T] in 1e-4 USD, as floats; NaN where missing."""
        rows = [getattr(whole_market(), name)[self.start : self.stop, self.symbol].copy() for name in ("open", "close")]
        opens, closes = (np.where(row > 0, row, np.nan) for row in rows)
        opens[list(self.missing)] = closes[list(self.missing)] = np.nan
        return opens, closes

    def screened(self, pairs: int = 1) -> ScreenResult:
        """Screen it as so many pairs: up to FEW_PAIRS are walked, if no bar is missing, more jump."""
        return screen_ma_crossover(
            *self.prices(),
            [self.fast] * pairs,
            [self.slow] * pairs,
            cost_bps=self.cost_ppm / 100,
            bars_per_year=BARS_PER_YEAR,
            kind=self.kind,
        )


@cache
def whole_market() -> Market:
    """The sample's five symbols as the fold takes them, prices forward-adjusted, so that no action is needed."""
    panel = sample_market.panel()
    found = market.to_market(panel, [], calendar=calendar("XNYS"), timeframe="1d")
    moved = {}
    for name in ("open", "high", "low", "close"):
        whole = np.nan_to_num(np.rint(adjusted(getattr(panel, name), panel) * 1e4)).astype(np.int64)
        moved[name] = np.vstack([whole, np.zeros((1, whole.shape[1]), np.int64)])
    return found._replace(**moved)


@cache
def cases() -> tuple[Case, ...]:
    rng = random.Random(20240607)
    n_rows = sample_market.panel().day.size
    drawn = []
    for _ in range(SETS):
        symbol, length = rng.randrange(5), rng.randrange(60, 700)
        start = rng.randrange(n_rows - length)
        fast = rng.choice((1, 2, 3, 5, rng.randrange(2, 60)))
        gaps = rng.choice((0, 0, 1, 5, length // 10))
        drawn.append(
            Case(
                symbol=symbol,
                start=start,
                stop=start + length,
                fast=fast,
                slow=fast + rng.choice((1, 2, 10, rng.randrange(1, 150))),
                cost_ppm=rng.choice((0, 1_000, rng.randrange(5_000))),
                kind=rng.choice(("sma", "ema")),
                missing=tuple(rng.randrange(length) for _ in range(gaps)),
            )
        )
    return tuple(drawn)


def folded(case: Case, cash_e4: int = MOST_E4 * 2 // 3) -> twin.Figures:
    """Run the production fold with rounding and limits off: the cash is 4e12 quanta (less for a curve that grows
    beyond MOST_E4), ticks and steps are one quantum, all caps and breakers open, and no rebalancing of what is held.

    A weight of two asks for more than the cash buys, and the fill kernel cuts it to what the cash buys: all of it.
    """
    _, closes = case.prices()
    here = np.isfinite(closes)
    cut = Market(*(np.ascontiguousarray(a[case.start : case.stop + 1]) for a in whole_market()))
    cut = Market(*(a[:, [case.symbol]] if a.ndim == 2 and a is not cut.head else a for a in cut))
    traded = np.append(here, False)[:, None]
    names = ("open", "high", "low", "close")
    cut = cut._replace(
        **{name: np.where(traded, getattr(cut, name), 0) for name in names},
        traded=traded,
        volume=np.where(traded, 10**12, 0),
    )
    risk, execution = Risk(position_sizing_method="equal_weight"), Execution()
    params = step.step_params(risk, execution)._replace(
        slippage_ppm=0,
        commission_ppm=case.cost_ppm,
        commission_per_share_e6=0,
        commission_min_e4=0,
        participation_ppm=PPM,
        max_position_ppm=2 * PPM,
        max_exposure_ppm=2 * PPM,
        max_position=2.0,
        max_exposure=2.0,
        max_turnover_ppm=10**9,
        min_order_e4=0,
        band_ppm=PPM * 3 // 2,  # no rebalancing of what is held
        max_daily_loss_ppm=PPM,
        max_drawdown_ppm=PPM,
    )
    opinion = np.array(twin.opinions(closes.tolist(), case.fast, case.slow, case.kind))
    result = step.fold(
        new_book(cash_e4=cash_e4, n_instruments=1, n_strategies=1, n_lots=8, n_orders=8),
        cut,
        opinion[:, None, None],
        Capital(np.array([1.0]), np.ones((1, 1), np.bool_)),
        np.full((closes.size, 1), np.nan),
        Instruments(np.ones(1, np.int64), np.ones(1, np.int64)),
        params,
    )
    if result.equity_e4.max() > MOST_E4:
        return folded(case, cash_e4 // 2)
    returns = metrics.simple_returns(np.concatenate([[cash_e4], result.equity_e4]) / cash_e4)
    return twin.Figures(
        total_return=metrics.total_return(returns),
        sharpe=metrics.sharpe(returns, BARS_PER_YEAR),
        max_drawdown=metrics.max_drawdown(returns),
        n_trades=int(np.sum(result.journal.fills[:, F_QTY] > 0)),
    )


def differences(ours: ScreenResult, theirs: twin.Figures) -> list[float]:
    """How far each figure is off, in parts of max(1, the figure); NaN on one side only, or other trades: infinitely."""
    if int(ours.n_trades[0]) != theirs.n_trades:
        return [np.inf] * 3
    pairs = zip((ours.total_return[0], ours.sharpe[0], ours.max_drawdown[0]), theirs[:3], strict=True)
    return [np.inf if np.isnan(a) != np.isnan(b) else np.nan_to_num(abs(a - b) / max(1.0, abs(b))) for a, b in pairs]


def report(what: str, found: list[list[float]]) -> None:
    worst = np.max(found, axis=0)
    print(f"proof: screening = {what}, {len(found)} parameter sets, off by at most {worst.max():.1e}")
    assert worst.max() <= TOLERANCE, dict(zip(twin.Figures._fields, worst, strict=False))


def test_equals_the_naive_twin():
    one, many = [], []
    for case in cases():
        opens, closes = (prices.tolist() for prices in case.prices())
        cost = case.cost_ppm / PPM
        theirs = twin.screen(
            opens, closes, case.fast, case.slow, cost=cost, bars_per_year=BARS_PER_YEAR, kind=case.kind
        )
        one.append(differences(case.screened(), theirs))
        many.append(differences(case.screened(MANY), theirs))
    report("plain Python, one pair", one)
    report("plain Python, many pairs", many)


def test_equals_the_production_fold_with_rounding_and_limits_off():
    report("the production fold", [differences(case.screened(MANY), folded(case)) for case in cases()])


def test_the_cases_hold_what_they_are_meant_to():
    drawn = cases()
    results = [case.screened() for case in drawn]
    assert sum(bool(case.missing) for case in drawn) > 100
    assert {case.kind for case in drawn} == {"sma", "ema"}
    assert sum(int(r.n_trades[0]) > 50 for r in results) > 20
    assert sum(int(r.n_trades[0]) == 0 and np.isnan(r.sharpe[0]) for r in results) > 5, "a window that never fills"
    assert sum(r.total_return[0] > 0.5 for r in results) > 5


def random_walk(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(rng.normal(0.0005, 0.01, n)))
    return close * np.exp(rng.normal(0.0, 0.003, n)), close


def every_pair(longest: int) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(list(combinations(range(1, longest + 1), 2)))
    return table[:, 0], table[:, 1]


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 128, 700, 9_000])
def test_walking_and_jumping_agree(n: int):
    prices, (fast, slow) = random_walk(n, n), every_pair(40)
    slow[-3:] = n // 2 + 41, n + 50, 10**9  # positions of thousands of bars, and windows that never fill
    jumped = screen_ma_crossover(*prices, fast, slow, cost_bps=10.0, bars_per_year=252.0)
    walked = [
        screen_ma_crossover(*prices, fast[p : p + 5], slow[p : p + 5], cost_bps=10.0, bars_per_year=252.0)
        for p in range(0, fast.size, 5)
    ]
    for k, ours in enumerate(jumped):
        np.testing.assert_allclose(np.concatenate([w[k] for w in walked]), ours, rtol=1e-11, atol=1e-11)
    assert n < 64 or jumped.n_trades.max() > n // 20


@pytest.mark.parametrize("kind", ["sma", "ema"])
def test_chunks_and_parts_change_no_bit(kind: str, monkeypatch: pytest.MonkeyPatch):
    prices, (fast, slow) = random_walk(500, 3), every_pair(60)
    shuffled = np.random.default_rng(1).permutation(fast.size)
    fast, slow = fast[shuffled], slow[shuffled]
    whole = screen_ma_crossover(*prices, fast, slow, cost_bps=10.0, bars_per_year=252.0, kind=kind)
    monkeypatch.setattr(screening, "CHUNK_PAIRS", 701)
    monkeypatch.setattr(screening, "ROWS_BYTES", 14 * 8 * 512)
    parts = screen_ma_crossover(*prices, fast, slow, cost_bps=10.0, bars_per_year=252.0, kind=kind)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_grows_by_the_pairs_and_their_figures_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(screening, "CHUNK_PAIRS", 5_000)
    prices, (fast, slow) = random_walk(500, 3), every_pair(100)
    peaks = []
    screen_ma_crossover(*prices, fast, slow, cost_bps=10.0, bars_per_year=252.0)  # compiled before the counting
    for times in (2, 20):
        pairs = np.tile(fast, times), np.tile(slow, times)
        tracemalloc.start()
        screen_ma_crossover(*prices, *pairs, cost_bps=10.0, bars_per_year=252.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    a_pair = (peaks[1] - peaks[0]) / (18 * fast.size)
    print(f"proof: {a_pair:.0f} bytes a pair: 32 of figures, 16 of windows; {peaks[0] / 1e6:.1f} MB for all else")
    assert a_pair < 49


def test_given_arrays_stay_as_they_are():
    open_, close = random_walk(300, 5)
    close[100] = np.nan
    kept = open_.copy(), close.copy()
    for array in (open_, close):
        array.flags.writeable = False
    for pairs in (1, MANY):
        screen_ma_crossover(open_, close, [5] * pairs, [20] * pairs, cost_bps=10.0, bars_per_year=252.0)
    np.testing.assert_array_equal(open_, kept[0])
    np.testing.assert_array_equal(close, kept[1])


def test_other_threads_run_while_it_screens():
    prices, (fast, slow) = random_walk(2_000, 3), every_pair(200)
    pairs = np.tile(fast, 4), np.tile(slow, 4)

    def screen() -> ScreenResult:
        return screen_ma_crossover(*prices, *pairs, cost_bps=10.0, bars_per_year=252.0)

    alone = screen()
    turns = 0
    with ThreadPoolExecutor(2) as pool:
        at_once = [pool.submit(screen) for _ in range(2)]
        while not all(done.done() for done in at_once):
            turns += 1
    assert turns > 1_000, "this loop stands still while a kernel holds the interpreter"
    for done in at_once:
        for a, b in zip(alone, done.result(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("pairs", [1, MANY])
def test_long_walks_do_not_drift(pairs: int):
    """A million bars: the running sums of a walk and the sums that jumps subtract stay exact enough."""
    noise = np.random.default_rng(11).normal(0.0, 0.2, 1_000_000)
    close = 50.0 + 40.0 * np.sin(np.arange(noise.size) / 30_000.0) + noise  # a level that goes away and comes back
    found = screen_ma_crossover(close, close, [20] * pairs, [50] * pairs, cost_bps=0.1, bars_per_year=252.0)
    assert found.n_trades[0] > 10_000
    expected = carried(close, 20, 50, 0.1e-4)
    np.testing.assert_allclose([column[-1] for column in found[:3]], expected, rtol=1e-10, atol=1e-10)


def carried(close: np.ndarray, fast: int, slow: int, cost: float) -> list[float]:
    """The figures by whole arrays of numpy in extended precision; fills at the open, which is the close here."""
    level = np.concatenate([[0.0], np.cumsum(close.astype(np.longdouble))])
    want = np.zeros(close.size, np.bool_)
    at = np.arange(slow - 1, close.size)
    want[at] = (level[at + 1] - level[at + 1 - fast]) / fast > (level[at + 1] - level[at + 1 - slow]) / slow * (
        1 + 1e-11
    )
    held = np.concatenate([[False], want[:-1]])
    before = np.concatenate([[False], held[:-1]])
    step = np.concatenate([[1.0], close[1:] / close[:-1]])
    growth = np.where(before, step, 1.0) * np.where(held & ~before, 1 / (1 + cost), 1.0)
    growth = (growth * np.where(~held & before, 1 - cost, 1.0)).astype(np.longdouble)
    curve = np.concatenate([[1.0], np.cumprod(growth)])
    r = growth - 1
    sharpe = r.mean() / r.std(ddof=1) * np.sqrt(np.longdouble(252.0))
    return [float(x) for x in (curve[-1] - 1, sharpe, (1 - curve / np.maximum.accumulate(curve)).max())]


def test_an_order_that_meets_a_missing_bar_ends_there():
    close = np.array([10.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0])
    open_ = close.copy()
    whole = screen_ma_crossover(open_, close, [1], [2], cost_bps=0.0, bars_per_year=252.0)
    assert whole.total_return[0] == pytest.approx(16.0 / 12.0 - 1.0), "decided at 11, bought at 12"
    open_[3] = np.nan
    gap = screen_ma_crossover(open_, close, [1], [2], cost_bps=0.0, bars_per_year=252.0)
    assert gap.total_return[0] == pytest.approx(16.0 / 15.0 - 1.0), "no bar at 12, no average at 13, decided at 14"


def test_equal_averages_are_flat_whatever_their_last_bits():
    close = np.full(300, 67.11)  # 0.1 + 0.2 is not 0.3: sums of three and of seven such prices differ in the last bits
    found = screen_ma_crossover(close, close, [3, 7], [7, 50], cost_bps=10.0, bars_per_year=252.0)
    assert found.n_trades.tolist() == [0, 0]
    assert np.isnan(found.sharpe).all()


def test_a_cost_is_paid_at_both_ends():
    close = np.array([10.0, 11.0, 12.0, 12.0, 9.0, 9.0, 9.0])
    found = screen_ma_crossover(close, close, [1], [2], cost_bps=100.0, bars_per_year=252.0)
    assert found.n_trades[0] == 1
    assert found.total_return[0] == pytest.approx(9.0 / 12.0 / 1.01 * 0.99 - 1.0, abs=1e-15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"close": [1.0, 2.0]}, "the shapes are open_ (3,), close (2,)"),
        ({"close": [1.0, -2.0, 3.0]}, "close[1] is -2.0"),
        ({"open_": [1.0, np.inf, 3.0]}, "open_[1] is inf"),
        ({"fast": [2]}, "pair 0 is fast 2, slow 2"),
        ({"fast": [0]}, "pair 0 is fast 0, slow 2"),
        ({"fast": [1.5]}, "they must be whole numbers"),
        ({"slow": [2, 3]}, "the shapes are fast (1,), slow (2,)"),
        ({"cost_bps": -1.0}, "cost_bps is -1.0"),
        ({"cost_bps": np.nan}, "cost_bps is nan"),
        ({"bars_per_year": 0.0}, "bars_per_year is 0.0"),
        ({"kind": "wma"}, "kind is 'wma'"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str):
    fitting = {"open_": [1.0, 2.0, 3.0], "close": [1.0, 2.0, 3.0], "fast": [1], "slow": [2], "cost_bps": 10.0}
    with pytest.raises(ValueError) as caught:
        screen_ma_crossover(**(fitting | {"bars_per_year": 252.0} | changes))
    assert message in str(caught.value)


def test_no_pairs_give_no_figures():
    none = np.array([], np.int64)
    found = screen_ma_crossover([1.0, 2.0], [1.0, 2.0], none, none, cost_bps=10.0, bars_per_year=252.0)
    assert [column.shape for column in found] == [(0,)] * 4
