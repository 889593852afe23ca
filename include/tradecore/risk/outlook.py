"""What a decision knows of risk beside its scores: the returns behind it. Sizes scores and fills in the limits.

One bar in production, many in a backtest; each bar sees the same rows in both, so both come to the same integers.
Closes are carried over a bar without a trade, as marks are; a name that did not trade at the first row of a window is
not known in it: it cannot be sized by its risk, and in limits it counts as the index (beta 1, the index's returns).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tradecore.model import Bools, Capital, Floats, Ints, Limits
from tradecore.risk import covariance
from tradecore.risk.covariance import _kernels as kernels
from tradecore.risk.sizing import NEEDS_RETURNS, Sizing, weights

ADV_BARS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge:
    """A name that brings a strategy's beta to a target."""

    column: int
    target_beta: float
    max_weight: float
    shorts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the configuration asks for, in the order of the instruments. sizing None: done by the step's kernel."""

    sizing: Sizing | None = None
    hedge: Hedge | None = None
    restricted: Bools  # [n] never ordered: no opinion
    index: int = -1  # column of the index, -1: the mean of what traded
    lookback_bars: int = 0  # of betas and clusters, 0: neither is asked for
    cluster_correlation: float = 2.0  # above 1: none
    tail_bars: int = 0
    traded_value: bool = False
    throttles: tuple[tuple[int, float, float], ...] = ()  # of each strategy: bars (0: none), start, stop
    member: Bools  # [G, n]
    group_ppm: Ints  # [G]
    loss: Floats  # [K, n] loss of a unit of each name in a shock

    @property
    def rows(self) -> int:
        """Bars before the first one that is decided on."""
        sizes = self.sizing is not None and self.sizing.method in NEEDS_RETURNS
        own = self.sizing.lookback_bars if self.sizing is not None and sizes else 0
        adv = ADV_BARS - 1 if self.traded_value else 0
        return max(own, self.lookback_bars, self.tail_bars, adv, self.throttle_bars)

    @property
    def throttle_bars(self) -> int:
        """Bars before the one that is decided on whose scores are asked for."""
        return max((bars for bars, _, _ in self.throttles), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """returns [rows + T - 1, n] and index [rows + T - 1] of the bars behind and at T decisions; traded and value
    [rows + T, n]: whether a bar traded, and its close times volume in e4."""

    plan: Plan
    returns: Floats
    index: Floats
    traded: Bools
    value_e4: Ints

    def at(self, t: int) -> Outlook:
        """Return what bar t alone sees."""
        rows = self.plan.rows
        return replace(
            self,
            returns=self.returns[t : t + rows],
            index=self.index[t : t + rows],
            traded=self.traded[t : t + rows + 1],
            value_e4=self.value_e4[t : t + rows + 1],
        )

    def window(self, t: int, bars: int) -> tuple[Floats, Floats, Bools]:
        """Return returns [bars, n], index [bars] and who is known [n] at bar t."""
        end = t + self.plan.rows
        return self.returns[end - bars : end], self.index[end - bars : end], self.traded[end - bars]


def outlook(plan: Plan, close: Floats, value_e4: Ints) -> Outlook:
    """Return the outlook of closes [rows + T, n], forward-adjusted, NaN where nothing traded, and close times volume.

    The index is the named one's return, 0 while it is not traded, or the mean over who traded at both ends.
    """
    traded = ~np.isnan(close)
    row = np.maximum.accumulate(np.where(traded, np.arange(close.shape[0])[:, None], 0), axis=0)
    carried = np.take_along_axis(close, row, axis=0)
    with np.errstate(invalid="ignore"):
        returns = np.ascontiguousarray(carried[1:] / carried[:-1] - 1.0)
    if plan.index >= 0:
        index = np.nan_to_num(returns[:, plan.index])
    else:
        index = np.empty(returns.shape[0])
        kernels.mean_of_traded(np.where(traded[1:] & traded[:-1], returns, np.nan), index)
    return Outlook(plan=plan, returns=returns, index=index, traded=traded, value_e4=value_e4)


def throttled(found: Outlook, scores: Floats, past: Floats | None) -> Floats:
    """Return the part [T, S] of its capital that each strategy has by its throttle, 1 without one.

    scores [T, S, n]; past [throttle_bars, S, n] those of the bars before, None or NaN where there were none.
    """
    plan, bars = found.plan, found.plan.throttle_bars
    n_bars, n_strategies, n = scores.shape
    out = np.ones((n_bars, n_strategies))
    if not bars:
        return out
    before = np.full((bars, n_strategies, n), np.nan) if past is None else past
    every = np.nan_to_num(np.concatenate([before, scores]))
    for t in range(n_bars):
        for s, (back, start, stop) in enumerate(plan.throttles):
            if back:
                returns, _, known = found.window(t, back)
                down = paper_drawdown(every[t + bars - back : t + bars, s], np.where(known, returns, 0.0))
                out[t, s] = min(1.0, max(0.0, (stop - down) / (stop - start)))
    return out


def paper_drawdown(scores: Floats, returns: Floats) -> float:
    """Return the drawdown of following scores [k, n], each held over the return [k, n] of the bar after it.

    Fully invested in the ratio of the scores, without costs; without a score in cash.
    """
    weight = np.clip(scores, -1.0, 1.0)
    gross = np.abs(weight).sum(axis=1)
    gained = np.divide((weight * returns).sum(axis=1), gross, out=np.zeros(gross.size), where=gross > 0.0)
    curve = np.concatenate([[1.0], np.cumprod(1.0 + gained)])
    return float(1.0 - curve[-1] / curve.max())


def sized(
    found: Outlook, scores: Floats, capital: Capital, traded: Bools, left: Bools, decides: Bools, part: Floats
) -> Floats:
    """Return scores [T, S, n] as the step's kernel takes them: weights where a method is chosen, no opinion where a
    name is restricted, times the part [T, S] of its throttle. traded and left [T, n]; rows that decide nothing stay."""
    plan = found.plan
    out = scores.copy()
    out[:, :, plan.restricted] = np.nan
    if plan.sizing is None:
        return np.asarray(out * part[:, :, None])
    for t in np.flatnonzero(decides[: scores.shape[0]]):
        window = _sizing_window(found, int(t))
        for s in range(scores.shape[1]):
            mine = np.flatnonzero(capital.member[s] & traded[t] & ~left[t])
            out[t, s, mine] = weights(plan.sizing, _clipped(plan, out[t, s, mine]), window[:, mine])
            if plan.hedge is not None and plan.hedge.column in mine:
                out[t, s, plan.hedge.column] = _hedge(found, int(t), plan.hedge, out[t, s])
    return np.asarray(out * part[:, :, None])


def _sizing_window(found: Outlook, t: int) -> Floats:
    how = found.plan.sizing
    assert how is not None  # asked for by `sized` alone
    if how.method not in NEEDS_RETURNS:
        return np.empty((0, found.returns.shape[1]))
    returns, _, known = found.window(t, how.lookback_bars)
    return np.where(known, returns, np.nan)


def _clipped(plan: Plan, score: Floats) -> Floats:
    """Without shorts a score below 0 is flat."""
    assert plan.sizing is not None
    return score if plan.sizing.shorts else np.where(score < 0.0, 0.0, score)


def _hedge(found: Outlook, t: int, hedge: Hedge, weight: Floats) -> float:
    """Return the weight of the hedge that brings the strategy's own weights to the target beta, as far as it may."""
    beta = betas(found, t)
    own = np.nan_to_num(weight)
    own[hedge.column] = 0.0
    if beta[hedge.column] == 0.0:
        return 0.0
    wanted = (hedge.target_beta - float(np.sum(own * beta))) / float(beta[hedge.column])
    least = -hedge.max_weight if hedge.shorts else 0.0
    return min(hedge.max_weight, max(least, wanted))


def betas(found: Outlook, t: int) -> Floats:
    """Return the betas [n] at bar t; 1 for who is not known."""
    returns, index, known = found.window(t, found.plan.lookback_bars)
    out = np.empty(returns.shape[1])
    kernels.betas(np.ascontiguousarray(np.where(known, returns, 0.0)), np.ascontiguousarray(index), out)
    return np.where(known & ~np.isnan(out), out, 1.0)


def limits(found: Outlook, n_bars: int) -> Limits:
    """Return the arrays that the step's limits read at n_bars bars; one row where nothing differs from bar to bar."""
    plan, n = found.plan, found.returns.shape[1]
    n_bars = n_bars if plan.lookback_bars or plan.traded_value or plan.tail_bars else 1
    beta, cluster = np.ones((n_bars, n)), np.tile(np.arange(n, dtype=np.int64), (n_bars, 1))
    traded, known = np.zeros((n_bars, n), np.int64), np.zeros((n_bars, n), np.bool_)
    for t in range(n_bars):
        if plan.lookback_bars:
            beta[t] = betas(found, t)
        if plan.lookback_bars and plan.cluster_correlation <= 1.0:
            returns, _, there = found.window(t, plan.lookback_bars)
            moves = covariance.estimate(np.where(there, returns, 0.0), "sample")
            cluster[t] = covariance.cluster(moves, plan.cluster_correlation)
        if plan.traded_value:
            end = t + plan.rows + 1
            traded[t] = found.value_e4[end - ADV_BARS : end].sum(axis=0) // ADV_BARS
        if plan.tail_bars:
            known[t] = found.window(t, plan.tail_bars)[2]
    first = plan.rows - plan.tail_bars
    return Limits(
        group_start=np.concatenate([[0], plan.member.sum(axis=1).cumsum()]).astype(np.int64),
        group_name=np.nonzero(plan.member)[1].astype(np.int64),
        group_ppm=plan.group_ppm,
        loss=plan.loss,
        room=np.empty((3, plan.tail_bars)),
        scenario=np.ascontiguousarray(found.returns[first : first + n_bars - 1 + plan.tail_bars]),
        market=np.ascontiguousarray(found.index[first : first + n_bars - 1 + plan.tail_bars]),
        beta=beta,
        cluster=cluster,
        traded_e4=traded,
        known=known,
    )


def limits_row(found: Limits, t: int) -> Limits:
    """Return what bar t sees of the limits. (`limits_at` is for kernels: without counting, they return no views.)"""
    bars = found.room.shape[1]
    rows = {name: getattr(found, name)[t] for name in ("beta", "cluster", "traded_e4", "known")}
    return found._replace(scenario=found.scenario[t : t + bars], market=found.market[t : t + bars], **rows)
