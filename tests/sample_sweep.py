"""A sweep's job on the sample's real prices, without a database."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import sample_market
from tradecore import market
from tradecore.backtest import step
from tradecore.bars import adjusted
from tradecore.model import Capital
from tradecore.research.backtest import Inputs
from tradecore.research.sweep.evaluate import Job, Spec
from tradecore.research.sweep.space import parse_axis
from tradecore.sessions import calendar
from tradecore.settings import Execution, Risk
from tradecore.units import from_day, to_day

BACK = 60
COST_BPS = 3.0


def job(strategy: str, *params: str, rows: int = 400, **options: Any) -> Job:
    """Return a job over the last `rows` sessions of the sample; options replace fields of its specification."""
    whole = sample_market.panel()
    panel = whole.rows(whole.day.size - rows - BACK + 1, whole.day.size)
    cut, n = panel.rows(BACK - 1, panel.day.size), len(panel.symbols)
    risk = Risk()
    spec: dict[str, Any] = {
        "strategy": strategy,
        "axes": tuple(parse_axis(text) for text in params),
        "fixed": {},
        "sample": "grid",
        "n_sets": int(np.prod([len(parse_axis(text).values) for text in params])),
        "seed": 0,
        "first": from_day(int(cut.day[0])),
        "last": from_day(int(cut.day[-1])),
        "metric": "sharpe",
        "engine": "fold",
        "chunk_size": 10,
    }
    xnys = calendar("XNYS")
    inputs = Inputs(
        market=market.to_market(cut, [], calendar=xnys, timeframe="1d"),
        scores=np.empty((0, 1, n)),
        capital=Capital(np.array([1.0]), np.ones((1, n), np.bool_)),
        volatility=step.volatilities(adjusted(panel.close, panel), risk.volatility_lookback_bars, 252.0)[BACK - 1 :],
        instruments=market.instrument_arrays(panel.instruments),
        params=step.step_params(risk, Execution()),
        symbols=panel.symbols,
        instrument_ids=tuple(i.instrument_id for i in panel.instruments),
        strategies=(strategy,),
        cash_e4=10**9,
        days=tuple(from_day(int(d)) for d in cut.day),
    )
    return Job(
        spec=Spec(**{**spec, **options}),
        inputs=inputs,
        panel=panel,
        back=BACK,
        symbols=panel.symbols,
        due={s: (to_day(date.min), to_day(date.max)) for s in panel.symbols},
        own_folder=Path("none"),
        kind=str({**spec, **options}["strategy"]),
        cost_bps=COST_BPS,
        bars_per_year=252.0,
    )
