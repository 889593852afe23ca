"""What a sweep is: its specification checked, its data read, and the name that follows from all of it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import psycopg
from pydantic import ValidationError

from tradecore import market, provenance, strategies
from tradecore.config_models import StrategyConfig
from tradecore.context import book_calendar
from tradecore.errors import ConfigError, SweepError
from tradecore.research import asked, backtest
from tradecore.research.sweep import space
from tradecore.research.sweep.evaluate import FIGURES, SCREENED, SCREENED_PARAMS, Job, Spec, spec_of
from tradecore.research.sweep.space import Axis
from tradecore.settings import Settings
from tradecore.storage import bars as stored
from tradecore.storage import sweeps as storage

CHUNK = {"fold": 25, "screen": 5_000}
MOST_CORNERS = 4_096
MOST_SETS = 2**30  # what scipy's Sobol sequence counts to


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep that is known to the database: its id, its job, and the hashes that it is named by."""

    sweep_id: str
    job: Job
    data_hash: str
    config_hash: str
    code_hash: str

    @property
    def spec(self) -> Spec:
        return self.job.spec


def specify(
    settings: Settings,
    strategy: str,
    axes: Sequence[Axis],
    *,
    first: date,
    last: date,
    sample: str = "grid",
    n_sets: int = 0,
    seed: int = 0,
    metric: str = "sharpe",
    engine: str = "auto",
    chunk_size: int = 0,
) -> Spec:
    """Return a checked specification with its defaults filled in.

    Parameters that are not swept have the values of trading.yaml where it names the strategy, else their own defaults.
    engine 'auto' screens a moving-average crossover whose periods alone are swept, and folds everything else.
    Raises ConfigError for what cannot be swept.
    """
    _one_of("sample", sample, space.SAMPLES)
    _one_of("metric", metric, FIGURES)
    _one_of("engine", engine, ("auto", "fold", "screen"))
    fixed = {**_configured(settings, strategy).params}
    swept = tuple(axis for axis in axes if len(axis.values) != 1)
    fixed |= {axis.name: axis.values[0] for axis in axes if len(axis.values) == 1}
    if len({axis.name for axis in axes}) < len(axes):
        raise ConfigError(
            "a parameter is given twice.", next_step="give each --param once", value=[a.name for a in axes]
        )
    fixed = {name: value for name, value in fixed.items() if name not in {axis.name for axis in swept}}
    _check_values(settings, strategy, swept, fixed)
    can_screen = _kind(settings, strategy) == SCREENED and {axis.name for axis in swept} <= SCREENED_PARAMS
    if engine == "screen" and not (can_screen and metric in ("total_return", "sharpe", "max_drawdown")):
        raise ConfigError(
            f"the screening kernel sweeps {SCREENED} over {', '.join(sorted(SCREENED_PARAMS))}, by total_return, "
            "sharpe or max_drawdown.",
            next_step="--engine fold takes any strategy, parameter and metric",
            engine=engine,
        )
    if engine == "auto":
        engine = "screen" if can_screen and metric in ("total_return", "sharpe", "max_drawdown") else "fold"
    whole = space.grid_size(swept) if sample == "grid" else n_sets
    if not swept or not 1 <= whole <= MOST_SETS:
        raise ConfigError(
            f"{whole} sets of {len(swept)} parameters cannot be swept.",
            next_step=f"give at least one --param with several values; --sample random and sobol need --n, 1 to "
            f"{MOST_SETS:,}",
        )
    return Spec(
        strategy=strategy,
        axes=swept,
        fixed=fixed,
        sample=sample,
        n_sets=whole,
        seed=seed,
        first=first,
        last=last,
        metric=metric,
        engine=engine,
        chunk_size=chunk_size or CHUNK[engine],
    )


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{name} {value!r} is unknown; known: {', '.join(known)}.", next_step=f"correct --{name}")


def _configured(settings: Settings, strategy: str) -> StrategyConfig:
    """Return the strategy's settings in trading.yaml, or the defaults of one that is not there."""
    known = settings.trading.strategies
    found = [known[strategy]] if strategy in known else [c for c in known.values() if c.kind == strategy]
    _rule(settings, strategy)
    return found[0] if found else StrategyConfig(kind=strategy)


def _kind(settings: Settings, strategy: str) -> str:
    """Return the kind of a strategy that may be named as trading.yaml names it."""
    found = settings.trading.strategies.get(strategy)
    return found.kind or strategy if found else strategy


def _rule(settings: Settings, strategy: str) -> strategies.Strategy:
    """Return a strategy by its name or kind. Raises ConfigError where there is none."""
    return asked.strategy(_kind(settings, strategy), settings.strategies_folder, "STRATEGY")


def _check_values(settings: Settings, strategy: str, axes: Sequence[Axis], fixed: Mapping[str, Any]) -> None:
    """Raise ConfigError for a parameter that the strategy does not have, or a value that it does not take by itself."""
    model = _rule(settings, strategy).params_model
    known = ", ".join(model.model_fields) or "none"
    for name in [*fixed, *(axis.name for axis in axes)]:
        if name not in model.model_fields:
            raise ConfigError(
                f"strategy {strategy} has no parameter {name!r}; it has: {known}.", next_step="correct --param"
            )
    needed = {axis.name: axis.corners()[0] for axis in axes}
    for axis in axes:
        for value in axis.values or axis.corners():
            try:
                model(**{**needed, **fixed, axis.name: value})
            except ValidationError as error:
                said = error.errors()[0]
                raise ConfigError(
                    f"{said['loc'][0] if said['loc'] else axis.name}={said['input']!r}: {said['msg']}.",
                    next_step=f"correct --param; see docs/strategies.md for {strategy}",
                    parameter=axis.name,
                ) from error


def plan(settings: Settings, conn: psycopg.Connection, spec: Spec) -> Plan:
    """Read what a sweep needs and name it; nothing is written.

    Raises ConfigError for ranges in which no combination is possible, SessionError as a backtest does.
    """
    params = _longest(settings, spec)
    configured = _configured(settings, spec.strategy)
    alone = configured.model_copy(update={"enabled": True, "capital_share": 1.0, "params": params})
    trading = settings.trading.model_copy(update={"strategies": {spec.strategy: alone}})
    solo = settings.model_copy(update={"trading": trading})
    inputs = backtest.load(solo, conn, first=spec.first, last=spec.last)
    (rule,) = market.rules(solo)
    calendar, timeframe = book_calendar(settings), trading.book.timeframe
    ends = [(d, e) for d in calendar.sessions_in_range(spec.first, spec.last) for e in calendar.bar_ends(d, timeframe)]
    known = stored.instruments_by_id(conn, list(inputs.instrument_ids))
    panel = market.read_panel(
        conn,
        timeframe=timeframe,
        source=trading.data.feed,
        instruments=[known[i] for i in inputs.instrument_ids],
        ends=market.bar_ends_until(calendar, ends[0][1], timeframe, rule.lookback_bars) + ends[1:],
        series=rule.series,
    )
    conn.commit()
    hashes = {
        "data_hash": provenance.data_hash(panel, inputs.market),
        "config_hash": settings.trading.config_hash(),
        "code_hash": provenance.code_hash(settings.home),
    }
    job = Job(
        spec=spec,
        inputs=dataclasses.replace(inputs, scores=np.empty((0, 1, len(inputs.symbols)))),
        panel=panel,
        back=rule.lookback_bars,
        symbols=rule.symbols,
        due=rule.due,
        own_folder=settings.strategies_folder,
        kind=_kind(settings, spec.strategy),
        cost_bps=float(trading.execution.slippage_bps + trading.execution.commission_bps),
        bars_per_year=market.bars_per_year(calendar, timeframe),
    )
    return Plan(sweep_id="sw-" + provenance.hash_of(spec.as_record(), hashes)[:12], job=job, **hashes)


def longest_lookback(settings: Settings, spec: Spec) -> int:
    """Return the longest look-back of a sweep's sets, in bars."""
    strategy = _rule(settings, spec.strategy)
    return int(strategy.lookback(strategy.params_model(**_longest(settings, spec))))


def _longest(settings: Settings, spec: Spec) -> dict[str, Any]:
    """Return the possible set at the ends of the ranges that looks back furthest."""
    strategy = _rule(settings, spec.strategy)
    longest, found = -1, {}
    corners = itertools.product(*(dict.fromkeys(axis.corners()) for axis in spec.axes))
    for corner in itertools.islice(corners, MOST_CORNERS):
        params = {**spec.fixed, **{axis.name: value for axis, value in zip(spec.axes, corner, strict=True)}}
        try:
            lookback = int(strategy.lookback(strategy.params_model(**params)))
        except ValueError:
            continue
        if lookback > longest:
            longest, found = lookback, params
    if longest < 0:
        raise ConfigError(
            f"strategy {spec.strategy} takes none of the combinations at the ends of these ranges.",
            next_step="correct the ranges of --param",
        )
    return found


def begin(settings: Settings, conn: psycopg.Connection, spec: Spec, now: datetime) -> Plan:
    """Plan a sweep and make it known to the database; one that is known already goes on where it stopped."""
    found = plan(settings, conn, spec)
    storage.add_sweep(
        conn,
        sweep_id=found.sweep_id,
        spec=spec.as_record(),
        n_chunks=spec.n_chunks,
        hashes={"data_hash": found.data_hash, "config_hash": found.config_hash, "code_hash": found.code_hash},
        now=now,
    )
    conn.commit()
    return found


def resume(settings: Settings, conn: psycopg.Connection, sweep_id: str) -> Plan:
    """Return the plan of a sweep of the database.

    Raises SweepError for one that is not there, or whose data, settings or code are no longer what it began with: its
    table would be of two kinds.
    """
    record = find(conn, sweep_id)
    known = {"config_hash": settings.trading.config_hash(), "code_hash": provenance.code_hash(settings.home)}
    changed = [_HASHED[name] for name, value in known.items() if value != record[name]]
    if changed:  # before the bars are read, scored and hashed
        raise _of_two_kinds(sweep_id, changed)
    found = plan(settings, conn, spec_of(record["spec"]))
    if found.data_hash != record["data_hash"] or found.sweep_id != sweep_id:
        raise _of_two_kinds(sweep_id, ["bars"] if found.data_hash != record["data_hash"] else ["rules"])
    return found


_HASHED = {"config_hash": "settings in trading.yaml", "code_hash": "code"}


def _of_two_kinds(sweep_id: str, changed: Sequence[str]) -> SweepError:
    return SweepError(
        f"sweep {sweep_id} was begun with other {' and '.join(changed)}: its table would be of two kinds.",
        next_step="start it anew: the same command without --resume",
        sweep_id=sweep_id,
    )


def find(conn: psycopg.Connection, sweep_id: str) -> dict[str, Any]:
    """Return the record of a sweep with how far it is. Raises SweepError when there is none."""
    record = storage.sweep(conn, sweep_id)
    conn.commit()
    if record is None:
        raise SweepError(
            f"there is no sweep {sweep_id!r}.", next_step="python -m tradecore sweeps list", sweep_id=sweep_id
        )
    return record
