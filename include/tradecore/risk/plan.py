"""What the configuration asks of sizing and limits, as the plan of an outlook."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tradecore.config_models import Trading
from tradecore.risk.outlook import Hedge, Plan
from tradecore.risk.sizing import METHODS, Sizing

PPM = 1_000_000


def plan_of(trading: Trading, symbols: Sequence[str], strategies: Sequence[str], bars_per_year: float) -> Plan | None:
    """Return the plan for these symbols and strategies, in their order; None where the step's kernel needs nothing but
    scores."""
    risk, names = trading.risk, list(symbols)
    at, tail = risk.limits, risk.tail
    hedge = _hedge(trading, names)
    sized = _sizing(trading, bars_per_year) if risk.position_sizing_method in METHODS else None
    restricted = np.array([s in trading.execution.checks.restricted for s in names], np.bool_)
    stressed = tail.max_stress is not None and bool(tail.shocks)
    of_returns = at.max_beta is not None or at.max_cluster is not None or hedge is not None
    throttles = tuple(_throttle(trading, name) for name in strategies)
    slowed = any(bars for bars, _, _ in throttles)
    asked = (sized, of_returns, at.groups, at.max_adv_frac, tail.max_loss, stressed, restricted.any(), slowed)
    if not any(asked):
        return None
    tags = [trading.universe.members[s].tags if s in trading.universe.members else () for s in names]
    return Plan(
        sizing=sized,
        hedge=hedge,
        restricted=restricted,
        index=names.index(at.index_symbol) if at.index_symbol in names else -1,
        lookback_bars=at.lookback_bars if of_returns else 0,
        cluster_correlation=float(at.cluster_correlation) if at.max_cluster is not None else 2.0,
        tail_bars=tail.lookback_bars if tail.max_loss is not None else 0,
        traded_value=at.max_adv_frac is not None,
        throttles=throttles if slowed else (),
        member=np.array([[g in mine for mine in tags] for g in at.groups], np.bool_).reshape(
            len(at.groups), len(names)
        ),
        group_ppm=np.array([round(cap * PPM) for cap in at.groups.values()], np.int64),
        loss=shock_losses(trading, names) if stressed else np.zeros((0, len(names))),
    )


def _sizing(trading: Trading, bars_per_year: float) -> Sizing:
    risk, execution = trading.risk, trading.execution
    at = risk.sizing
    return Sizing(
        method=risk.position_sizing_method,
        max_weight=float(risk.max_position_size),
        max_gross=float(risk.max_exposure),
        estimator=at.covariance,
        lookback_bars=at.lookback_bars,
        decay=float(at.ewma_decay),
        bars_per_year=bars_per_year,
        target_volatility=float(risk.target_volatility),
        trade_risk_frac=float(at.trade_risk_frac),
        stop_frac=float(execution.stop_loss_frac or 1.0),
        kelly_frac=float(at.kelly_frac),
        kelly_shrink=at.kelly_shrink,
        risk_aversion=float(at.risk_aversion),
        skill=float(at.skill),
        shorts=risk.allow_short,
    )


def _throttle(trading: Trading, strategy: str) -> tuple[int, float, float]:
    config = trading.strategies.get(strategy)
    if config is None or config.throttle is None:
        return 0, 0.0, 1.0
    return config.throttle.lookback_bars, float(config.throttle.start_frac), float(config.throttle.stop_frac)


def throttle_bars(trading: Trading) -> int:
    """Return how many bars before a decision its throttles look at the scores of."""
    return max((_throttle(trading, name)[0] for name in trading.enabled()), default=0)


def _hedge(trading: Trading, names: list[str]) -> Hedge | None:
    at = trading.risk.sizing
    if at.hedge_symbol is None or at.hedge_symbol not in names:
        return None
    return Hedge(
        column=names.index(at.hedge_symbol),
        target_beta=float(at.hedge_beta),
        max_weight=float(trading.risk.max_position_size),
        shorts=trading.risk.allow_short,
    )


def shock_losses(trading: Trading, symbols: Sequence[str]) -> np.ndarray:
    """Return the loss [K, n] of a unit of each name in each fixed shock: its own move, else that of the first tag that
    has one, else that of `all`, else none."""
    rows = []
    for moves in trading.risk.tail.shocks.values():
        row = []
        for symbol in symbols:
            tags = trading.universe.members[symbol].tags if symbol in trading.universe.members else ()
            name = next((x for x in (symbol, *tags, "all") if x in moves), None)
            row.append(0.0 if name is None else -float(moves[name]))
        rows.append(row)
    return np.array(rows, np.float64).reshape(len(rows), len(symbols))
