"""The checks of a certificate: what each statistic says of a strategy's returns, in a sentence and in figures.

*Required* are the proofs that can be wrong or right: no look-ahead, prices without later actions, nothing read beside
the window. The others measure luck and costs; they are told, with `ok` saying on which side of a usual mark they fall,
and keep nobody from trading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tradecore.model import Floats
from tradecore.reports import metrics
from tradecore.research import bootstrap, cross_validation, overfitting, trade_paths, windows
from tradecore.research.adjustment import AdjustmentProof
from tradecore.research.causality import Proof
from tradecore.research.warm_up import WarmUp

SURE, PBO_BLOCKS, CV_BLOCKS, CV_TEST, DRAWS = 0.95, 10, 6, 2, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of a certificate. ok None: it does not apply, and `says` why."""

    id: str
    title: str
    required: bool
    ok: bool | None
    says: str
    figures: dict[str, object] = field(default_factory=dict)


def causality(proof: Proof) -> Check:
    figures = {"bars": proof.bars, "comparisons": proof.comparisons, "differing": dict(sorted(proof.differing.items()))}
    if proof.first is not None:
        figures |= {
            "first_session": str(proof.first.session_date),
            "first_symbol": proof.first.symbol,
            "suspicion": proof.suspicion,
        }
    return Check(
        id="causality", title="No look-ahead", required=True, ok=proof.holds, says=proof.message, figures=figures
    )


def adjustment(proof: AdjustmentProof) -> Check:
    return Check(
        id="prices",
        title="Prices know no later action",
        required=True,
        ok=proof.holds,
        says=proof.message,
        figures={"bars": proof.bars},
    )


def reads(undeclared: Sequence[str], named: dict[str, str]) -> Check:
    """named: {parameter: sha256} of the files that parameters name."""
    if undeclared:
        says = (
            f"it reads {', '.join(undeclared[:3])}{' and more' if len(undeclared) > 3 else ''}: no proof can cut that "
            "at a day. Name files in a parameter; fetch nothing while scoring"
        )
    elif named:
        says = (
            f"it reads the files of {', '.join(named)}, and nothing else beside its window. Files with dates were cut "
            "at each session; what others know of later days, their maker must say"
        )
    else:
        says = "scores are made of the window and the parameters alone"
    return Check(
        id="reads",
        title="Nothing read beside the window",
        required=True,
        ok=not undeclared,
        says=says,
        figures={"undeclared": list(undeclared[:20]), "files": named},
    )


def warm_up(found: Sequence[WarmUp]) -> Check:
    """ok: not one score in a hundred changes with the longest window."""
    if not found or not found[-1].compared:
        says = "history is too short for four times the look-back"
        return Check(id="warm_up", title="Warm-up", required=False, ok=None, says=says)
    figures: dict[str, object] = {}
    for w in found:
        figures |= {f"changed_frac_{w.multiple}x": w.changed_frac, f"largest_{w.multiple}x": w.largest}
    parts = [f"{100 * w.changed_frac:.2f} % from {w.multiple} times (largest {w.largest:.3g})" for w in found]
    return Check(
        id="warm_up",
        title="Warm-up",
        required=False,
        ok=found[-1].changed_frac < 0.01,
        says=f"of {found[-1].compared} scores, with the look-back lengthened: {', '.join(parts)} are others",
        figures=figures,
    )


def sharpe(returns: Floats, table: Floats, *, a_year: float, tried: int) -> Check:
    """Probabilistic and deflated Sharpe ratio of returns [T]; table [T, N]: its neighbours, `tried`: others beside."""
    ratio, skewness, kurtosis = overfitting.moments(returns)
    if math.isnan(ratio) or table.shape[1] < 2:
        says = "it never traded" if math.isnan(ratio) else "it has no number among its parameters to vary"
        return Check(id="sharpe", title="Deflated Sharpe ratio", required=False, ok=None, says=says)
    each = np.nan_to_num([metrics.sharpe(c, 1.0) for c in table.T])
    shape = {"skewness": skewness, "kurtosis": kurtosis}
    trials = table.shape[1] + tried
    variance = float(np.var(each, ddof=1))
    psr = overfitting.probabilistic_sharpe(ratio, returns.size, **shape)
    dsr = overfitting.deflated_sharpe(ratio, returns.size, trials=trials, variance=variance, **shape)
    least = overfitting.least_track_record(ratio, **shape)
    root = math.sqrt(a_year)
    return Check(
        id="sharpe",
        title="Deflated Sharpe ratio",
        required=False,
        ok=dsr >= SURE,
        says=(
            f"Sharpe ratio {ratio * root:.2f} a year; above 0 with {100 * psr:.1f} %, above the luck of the best of "
            f"{trials} trials with {100 * dsr:.1f} %"
        ),
        figures={
            "sharpe_annual": ratio * root,
            "probabilistic": psr,
            "deflated": dsr,
            "trials": trials,
            "best_by_luck_annual": overfitting.expected_best_sharpe(trials, variance) * root,
            "least_track_record_years": least / a_year,
            **shape,
        },
    )


def overfit(table: Floats) -> Check:
    """PBO by CSCV over the neighbours' returns [T, N]."""
    title = "Probability of backtest overfitting"
    if table.shape[1] < 2 or table.shape[0] < 20 * PBO_BLOCKS:
        says = "fewer than two variants" if table.shape[1] < 2 else f"fewer than {20 * PBO_BLOCKS} bars"
        return Check(id="overfitting", title=title, required=False, ok=None, says=says)
    found = overfitting.probability_of_overfitting(table, PBO_BLOCKS)
    return Check(
        id="overfitting",
        title=title,
        required=False,
        ok=found.probability < 0.5,
        says=(
            f"the best of {table.shape[1]} neighbouring parameter sets in one half of history is at or below the "
            f"median in the other in {100 * found.probability:.0f} % of {found.splits} splits, and loses money there "
            f"in {100 * found.loss_probability:.0f} %"
        ),
        figures={
            "probability": found.probability,
            "loss_probability": found.loss_probability,
            "slope": found.slope,
            "splits": found.splits,
            "variants": table.shape[1],
        },
    )


def cross_validated(table: Floats, *, a_year: float) -> Check:
    """Combinatorial purged cross-validation: chosen in training, tested outside, over whole paths."""
    title = "Combinatorial purged cross-validation"
    n = table.shape[0]
    if table.shape[1] < 2 or n < 20 * CV_BLOCKS:
        says = "fewer than two variants" if table.shape[1] < 2 else f"fewer than {20 * CV_BLOCKS} bars"
        return Check(id="cross_validation", title=title, required=False, ok=None, says=says)
    embargo = max(1, n // 100)
    folds = cross_validation.combinatorial(
        cross_validation.labels_after(n, 1), CV_BLOCKS, CV_TEST, embargo_bars=embargo
    )
    path = cross_validation.paths(CV_BLOCKS, CV_TEST)
    found = cross_validation.select_and_test(table, folds, path, periods_per_year=a_year, blocks=CV_BLOCKS)
    ratios = np.nan_to_num(found.sharpe)
    return Check(
        id="cross_validation",
        title=title,
        required=False,
        ok=bool(np.median(ratios) > 0.0),
        says=(
            f"the best variant of each training set, tested outside it: Sharpe ratio {np.median(ratios):.2f} a year in "
            f"the median of {ratios.size} paths, {ratios.min():.2f} to {ratios.max():.2f}; {len(folds)} folds, embargo "
            f"{embargo} bars"
        ),
        figures={
            "sharpe_annual": ratios.tolist(),
            "folds": len(folds),
            "embargo_bars": embargo,
            "chosen": np.bincount(found.chosen, minlength=table.shape[1]).tolist(),
        },
    )


def walked_forward(table: Floats, *, a_year: float) -> Check:
    """Chosen on the bars before each block, tested on it, anchored and rolling; column 0 is the certified one."""
    title, n = "Walk-forward", table.shape[0]
    if table.shape[1] < 2 or n < 20 * CV_BLOCKS:
        says = "fewer than two variants" if table.shape[1] < 2 else f"fewer than {20 * CV_BLOCKS} bars"
        return Check(id="walk_forward", title=title, required=False, ok=None, says=says)
    size, found, first = n // (CV_BLOCKS + 1), dict[str, float](), 0
    for kind in ("anchored", "rolling"):
        splits = windows.walk_forward(n, train_bars=size, test_bars=size, gap_bars=1, anchored=kind == "anchored")
        tested = [table[slice(*s.test), cross_validation.best_column(table[slice(*s.train)])] for s in splits]
        found[kind], first = _ratio(np.concatenate(tested), a_year), splits[0].test[0]
    fixed = _ratio(table[first:, 0], a_year)
    return Check(
        id="walk_forward",
        title=title,
        required=False,
        ok=found["anchored"] > 0.0,
        says=(
            f"parameters chosen anew before every {size} bars: Sharpe ratio {found['anchored']:.2f} a year from all "
            f"bars before, {found['rolling']:.2f} from the last {size}; {fixed:.2f} with the certified ones"
        ),
        figures={"sharpe_annual": found, "sharpe_annual_fixed": fixed, "block_bars": size},
    )


def _ratio(returns: Floats, a_year: float) -> float:
    return float(np.nan_to_num(metrics.sharpe(returns, a_year)))


def resampled(returns: Floats, rng: np.random.Generator, *, a_year: float) -> Check:
    title = "Block bootstrap"
    if returns.size < 60 or not returns.any():
        says = "fewer than 60 returns" if returns.size < 60 else "it never traded"
        return Check(id="bootstrap", title=title, required=False, ok=None, says=says)
    found = bootstrap.bootstrap(returns, rng, draws=DRAWS, periods_per_year=a_year)
    (low, high), loss = bootstrap.interval(found.sharpe), float(np.mean(found.total_return < 0.0))
    depth = float(np.quantile(found.max_drawdown, 0.95))
    return Check(
        id="bootstrap",
        title=title,
        required=False,
        ok=low > 0.0,
        says=(
            f"{DRAWS} histories from blocks of {found.mean_block:.1f} bars on average: Sharpe ratio {low:.2f} to "
            f"{high:.2f} (95 %), a loss in {100 * loss:.1f} %, a drawdown deeper than {100 * depth:.0f} % in one of 20"
        ),
        figures={
            "mean_block": found.mean_block,
            "sharpe_low": low,
            "sharpe_high": high,
            "loss_frac": loss,
            "drawdown_95": depth,
        },
    )


def reordered(trades: Floats, rng: np.random.Generator) -> Check:
    title = "Monte Carlo of trades"
    if trades.size < 10:
        says = f"{trades.size} round trips; 10 or more are needed"
        return Check(id="trades", title=title, required=False, ok=None, says=says)
    found = trade_paths.trade_paths(trades, rng, draws=DRAWS)
    order, sample = (float(np.quantile(d, 0.95)) for d in (found.reshuffled_drawdown, found.resampled_drawdown))
    loss = float(np.mean(found.resampled_return < 0.0))
    return Check(
        id="trades",
        title=title,
        required=False,
        ok=loss < 1.0 - SURE,
        says=(
            f"{trades.size} round trips: drawdown {100 * found.drawdown:.1f} % in their own order, above "
            f"{100 * order:.1f} % in one of 20 other orders; drawn anew, above {100 * sample:.1f} %, and a loss in "
            f"{100 * loss:.1f} %"
        ),
        figures={
            "trades": int(trades.size),
            "hit_rate": float(np.mean(trades > 0.0)),
            "drawdown": found.drawdown,
            "reshuffled_95": order,
            "resampled_95": sample,
            "loss_frac": loss,
        },
    )


def costs(multiples: Sequence[float], curves: Sequence[Floats], *, a_year: float) -> Check:
    """curves: returns [T] of the fold at each multiple of the configured costs and slippage, the first at 0."""
    ratios = [metrics.sharpe(c, a_year) for c in curves]
    growth = [metrics.cagr(c, a_year) for c in curves]
    if any(math.isnan(r) for r in ratios):
        return Check(id="costs", title="Costs and slippage", required=False, ok=None, says="it never traded")
    last = next((k for k, g in enumerate(growth) if g <= 0.0), None)
    if last is None:
        even = f"still above 0 at {multiples[-1]:g} times"
    elif last == 0:
        even = "below 0 even without any"
    else:
        share = growth[last - 1] / (growth[last - 1] - growth[last])
        even = f"0 at about {multiples[last - 1] + share * (multiples[last] - multiples[last - 1]):.1f} times"
    shown = ", ".join(f"{100 * g:.1f} % at {m:g}" for m, g in zip(multiples, growth, strict=True))
    return Check(
        id="costs",
        title="Costs and slippage",
        required=False,
        ok=last is None or multiples[last] > 2.0,
        says=f"growth a year at multiples of the configured costs: {shown}; {even}",
        figures={"multiples": list(multiples), "cagr": growth, "sharpe_annual": ratios},
    )
