"""Compile or load every serial kernel that a stage calls, with the very types that the stages use.

The scheduler does this once before it forks its workers (deploy/airflow/airflow_local_settings.py), so that a
task's first kernel call finds machine code. `python -m tradecore.warm` fills the cache on disk beforehand, in a
process whose compiler memory goes with it; `make up` and the containers' first step run it.

It goes through the same functions as the stages and never names a kernel, so that a new one is warmed with its
caller. A type that a stage uses and this does not shows in tests/system/test_kernel_start.py.
"""

from __future__ import annotations

import numpy as np

from tradecore import strategies
from tradecore.backtest import step
from tradecore.bars import Panel, adjusted
from tradecore.config_models import Execution
from tradecore.config_risk import Risk
from tradecore.market import bar_row, instrument_arrays
from tradecore.model import H_COLUMNS, Capital, Instrument, Market, new_book
from tradecore.risk.measures.summary import Portfolio, summary
from tradecore.risk.outlook import Plan, outlook
from tradecore.units import MONEY_SCALE, PRICE_SCALE, QTY_SCALE

INSTRUMENTS = (
    Instrument(instrument_id=1, symbol="A", tick_e4=100, qty_step_e6=QTY_SCALE),
    Instrument(instrument_id=2, symbol="B", tick_e4=100, qty_step_e6=QTY_SCALE),
)
DAY_NS = 86_400_000_000_000
FIRST_DAY = 12_000  # 2002-11-09: strategies that ask for the next session find it in the table
LOOKBACK = 3
MEASURED = 10  # bars behind a measured risk


def warm_serial_kernels() -> None:
    """Take a book of two made-up names over one bar, through settle, the strategies, decide and plan.

    Costs about a second with a warm cache, half a minute without one. Needs no database and writes only to
    numba's cache. No kernel here is parallel: threads of a parent do not survive a fork.
    """
    panel = _panel(LOOKBACK + 1)
    _score()
    params = step.step_params(Risk(), Execution())
    market, instruments = _market(), instrument_arrays(INSTRUMENTS)
    n = len(INSTRUMENTS)
    opened = new_book(cash_e4=100_000 * MONEY_SCALE, n_instruments=n, n_strategies=1, n_lots=2, n_orders=8)
    book, _ = step.settle(opened, bar_row(market, 0), instruments, params)
    decision, _ = step.decide(
        book,
        np.full((1, n), 1.0),
        Capital(np.array([1.0]), np.ones((1, n), np.bool_)),
        step.volatilities(adjusted(panel.close, panel), LOOKBACK, 252.0)[-1],
        bar_row(market, 0),
        bar_row(market, 1),
        instruments,
        params,
    )
    step.plan(book, decision, bar_row(market, 0), bar_row(market, 1), instruments, params)
    step.in_next_units(book, bar_row(market, 1), instruments)
    _measure()


def _score() -> None:
    """Score each built-in strategy with its defaults over as many rows as it wants."""
    for kind in strategies.BUILT_IN:
        rule = strategies.load(kind)
        params = rule.params_model()
        strategies.score_last(rule, params, _panel(rule.lookback(params)))


def _measure() -> None:
    """Measure the risk of a book of both names, as the report does."""
    panel, n = _panel(MEASURED + 1), len(INSTRUMENTS)
    plan = Plan(
        restricted=np.zeros(n, np.bool_),
        lookback_bars=MEASURED,
        member=np.zeros((0, n), np.bool_),
        group_ppm=np.zeros(0, np.int64),
        loss=np.zeros((0, n)),
    )
    value = panel.close * panel.volume
    returns, index, _ = outlook(plan, adjusted(panel.close, panel), value).window(0, MEASURED)
    summary(
        Portfolio(
            symbols=panel.symbols,
            weight=np.full(n, 0.5),
            returns=np.ascontiguousarray(returns),
            index=np.ascontiguousarray(index),
            value=value[-1].astype(np.float64),
            traded_value=np.asarray(value.mean(axis=0)),
            stresses={},
            stop_frac=None,
            participation_frac=0.1,
            decay=0.94,
        )
    )


def _panel(rows: int) -> Panel:
    """Return made-up bars [rows, n] of the dtypes that storage.bars.read_panel gives."""
    shape = (rows, len(INSTRUMENTS))
    day = FIRST_DAY + np.arange(rows, dtype=np.int64)
    price = np.full(shape, 10 * PRICE_SCALE, np.int64) + 100 * np.arange(rows)[:, None]
    return Panel(
        instruments=INSTRUMENTS,
        bar_end_ns=day * DAY_NS,
        day=day,
        open=price,
        high=price,
        low=price,
        close=price,
        volume=np.full(shape, 1_000_000, np.int64),
        traded=np.ones(shape, np.bool_),
        adj_factor=np.ones(shape),
    )


def _market() -> Market:
    """Return one made-up bar and the row that tells the next bar's splits, [2, n] as market.to_market gives them."""
    panel, ones = _panel(2), np.ones((2, len(INSTRUMENTS)), np.int64)
    head = np.zeros((2, H_COLUMNS), np.int64)
    head[:, 0], head[:, 1], head[:, 2:4], head[:, 5] = panel.bar_end_ns, panel.day, 1, -1
    return Market(
        open=panel.open,
        high=panel.high,
        low=panel.low,
        close=panel.close,
        volume=panel.volume,
        traded=panel.traded,
        split_num=ones,
        split_den=ones.copy(),
        dividend=np.zeros_like(ones),
        pay_day=np.zeros_like(ones),
        left=np.zeros(ones.shape, np.bool_),
        head=head,
    )


if __name__ == "__main__":
    warm_serial_kernels()
