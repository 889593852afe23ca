"""A chunk of parameter sets -> rows: a pure function of the job and the chunk's number, wherever it runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tradecore import market, strategies
from tradecore.backtest import step
from tradecore.bars import Panel, adjusted
from tradecore.errors import StrategyError
from tradecore.model import J_FILLS, Floats, Ints
from tradecore.reports import metrics
from tradecore.research import backtest
from tradecore.research.screening import screen_ma_crossover
from tradecore.research.sweep import space
from tradecore.research.sweep.space import Axis
from tradecore.units import MONEY_SCALE

FIGURES = ("total_return", "cagr", "volatility", "sharpe", "sortino", "max_drawdown", "calmar", "hit_rate")
SCREENED = "ma_crossover"  # the strategy that has a screening kernel
SCREENED_PARAMS = {"short_period", "long_period", "average"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What is swept: everything that a person chose."""

    strategy: str
    axes: tuple[Axis, ...]
    fixed: Mapping[str, Any]
    sample: str
    n_sets: int
    seed: int
    first: date
    last: date
    metric: str
    engine: str
    chunk_size: int

    @property
    def n_chunks(self) -> int:
        return -(-self.n_sets // self.chunk_size)

    def as_record(self) -> dict[str, Any]:
        """Return the specification as JSON-able data; `spec_of` takes it back."""
        record = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        axes = [axis.as_record() for axis in self.axes]
        return {**record, "axes": axes, "fixed": dict(self.fixed), "first": str(self.first), "last": str(self.last)}


def spec_of(record: Mapping[str, Any]) -> Spec:
    """Return the specification that `as_record` wrote."""
    days = {name: date.fromisoformat(record[name]) for name in ("first", "last")}
    return Spec(**{**record, **days, "axes": tuple(space.axis_of(axis) for axis in record["axes"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that a chunk needs, as plain data: it travels to another process or machine.

    `inputs` are those of the fold but for the scores; `panel` has `back - 1` rows before the first bar of the range.
    """

    spec: Spec
    inputs: backtest.Inputs
    panel: Panel
    back: int
    symbols: tuple[str, ...]
    due: Mapping[str, tuple[int, int]]
    own_folder: Path
    kind: str  # of the strategy: the file that scores
    cost_bps: float
    bars_per_year: float


class Rows(NamedTuple):
    """The results of a chunk, [k] sets that are possible: params as canonical JSON, figures [k, 8] as in FIGURES."""

    chunk_no: int
    first_set: int
    n_sets: int
    set_no: Ints
    params: list[str]
    figures: Floats
    n_trades: Ints
    seconds: float

    def hash(self) -> str:
        """Return the sha256 of the rows, to the bit."""
        digest = hashlib.sha256("\n".join(self.params).encode())
        for array in (self.set_no, self.figures, self.n_trades):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def compute(job: Job, chunk_no: int) -> Rows:
    """Return the rows of a chunk. Sets that the strategy refuses (short_period >= long_period) have none.

    Raises StrategyError for whatever the strategy's own code raises.
    """
    started, spec = time.perf_counter(), job.spec
    first = chunk_no * spec.chunk_size
    count = min(spec.chunk_size, spec.n_sets - first)
    sets = space.columns(spec.axes, spec.sample, spec.seed, first, count)
    if spec.engine == "screen":
        kept, figures, trades = _screened(job, sets, count)
    else:
        kept, figures, trades = _folded(job, sets, count)
    names = sorted(sets)
    params = [canonical_json({name: sets[name][k] for name in names}) for k in kept]
    return Rows(
        chunk_no=chunk_no,
        first_set=first,
        n_sets=count,
        set_no=np.array(kept, np.int64) + first,
        params=params,
        figures=figures,
        n_trades=trades,
        seconds=time.perf_counter() - started,
    )


def canonical_json(params: Mapping[str, Any]) -> str:
    """Return parameters as one text, whatever their order."""
    return json.dumps(dict(params), sort_keys=True)


def _folded(job: Job, sets: Mapping[str, list[Any]], count: int) -> tuple[list[int], Floats, Ints]:
    kept, figures, trades = [], [], []
    for k in range(count):
        rule = rule_of(job, {name: values[k] for name, values in sets.items()})
        if rule is not None:
            result = fold(job, scores_of(job, rule))
            kept.append(k)
            figures.append(list(figures_of(job, result).values()))
            trades.append(int(result.journal.counts[J_FILLS]))
    return kept, np.array(figures, np.float64).reshape(-1, len(FIGURES)), np.array(trades, np.int64)


def rule_of(job: Job, params: Mapping[str, Any]) -> market.Rule | None:
    """Return the strategy with a set of parameters; None for a combination that it refuses."""
    strategy = strategies.load(job.kind, job.own_folder)
    try:
        model = strategy.params_model(**{**job.spec.fixed, **params})
        lookback = int(strategy.lookback(model))
    except ValueError:
        return None
    if lookback > job.back:
        raise StrategyError(
            f"strategy {strategy.name} looks back {lookback} bars with {dict(params)}, more than the {job.back} at the "
            "ends of its ranges.",
            next_step="fix that parameter, or sweep it by itself: its look-back must be longest at an end of its range",
            strategy=strategy.name,
        )
    return market.Rule(
        name=job.inputs.strategies[0],
        strategy=strategy,
        params=model,
        lookback_bars=lookback,
        symbols=job.symbols,
        due=job.due,
        share=1.0,
        on_failure="stop",
    )


def scores_of(job: Job, rule: market.Rule) -> Floats:
    """Return the scores [T, 1, n] of a rule over the range. Raises StrategyError whatever its code raised."""
    try:
        scores = market.score_history(rule, job.panel)
    except StrategyError:
        raise
    except Exception as error:  # the boundary to the owner's code
        raise StrategyError(
            f"strategy {rule.strategy.name} raised {type(error).__name__}: {error}, with {rule.params}.",
            next_step="correct it, or leave these parameters out",
            strategy=rule.strategy.name,
        ) from error
    return np.ascontiguousarray(scores[job.back - 1 :, None, :])


def fold(job: Job, scores: Floats) -> step.FoldResult:
    """Run the production fold on scores [T, 1, n] of the range."""
    return backtest.fold(dataclasses.replace(job.inputs, scores=scores))


def figures_of(job: Job, result: step.FoldResult, start: int = 0, stop: int | None = None) -> dict[str, float]:
    """Return the figures of a fold by name: of all bars, or of those from start to stop."""
    equity = np.concatenate([[job.inputs.cash_e4], result.equity_e4])[start : None if stop is None else stop + 1]
    r, a_year = metrics.simple_returns(equity / MONEY_SCALE), job.bars_per_year
    found = (
        metrics.total_return(r),
        metrics.cagr(r, a_year),
        metrics.annual_volatility(r, a_year),
        metrics.sharpe(r, a_year),
        metrics.sortino(r, a_year),
        metrics.max_drawdown(r),
        metrics.calmar(r, a_year),
        metrics.hit_rate(r),
    )
    return dict(zip(FIGURES, (float(x) for x in found), strict=True))


def _screened(job: Job, sets: Mapping[str, list[Any]], count: int) -> tuple[list[int], Floats, Ints]:
    """Screen a chunk of crossovers: each symbol alone with all the cash, figures as means over the symbols.

    A Sharpe ratio that is not defined (nothing was bought) counts as 0. The averages warm up within the range. What is
    not computed is NaN.
    """
    base = {**strategies.load(SCREENED).params_model().model_dump(), **job.spec.fixed}
    both = [np.array(sets.get(n, [base[n]] * count), np.int64) for n in ("short_period", "long_period")]
    kinds = sets.get("average", [base["average"]] * count)
    possible = both[0] < both[1]
    totals, trades = np.zeros((3, count)), np.zeros(count, np.int64)
    rows = job.panel.rows(job.back - 1, job.panel.bar_end_ns.size)
    opens, closes = adjusted(rows.open, rows), adjusted(rows.close, rows)
    columns = [k for k, s in enumerate(job.panel.symbols) if s in job.symbols and np.isfinite(closes[:, k]).any()]
    for kind in sorted(set(kinds)):
        at = np.flatnonzero(possible & np.array([k == kind for k in kinds]))
        for column in columns if at.size else ():
            seen = screen_ma_crossover(
                opens[:, column],
                closes[:, column],
                both[0][at],
                both[1][at],
                cost_bps=job.cost_bps,
                bars_per_year=job.bars_per_year,
                kind=kind,
            )
            for row, values in zip(totals, seen, strict=False):
                row[at] += np.nan_to_num(values) / len(columns)
            trades[at] += seen.n_trades
    kept = np.flatnonzero(possible)
    figures = np.full((kept.size, len(FIGURES)), np.nan)
    for name, row in zip(("total_return", "sharpe", "max_drawdown"), totals, strict=True):
        figures[:, FIGURES.index(name)] = row[kept]
    return kept.tolist(), figures, trades[kept]
