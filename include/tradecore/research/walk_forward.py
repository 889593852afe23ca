"""Walk-forward: optimise on a window by a sweep, trade the next one with what was best, and so on; one joined curve.

The joined curve is one run of the production fold over all tests, from one book: at each window's first bar the
parameters change, what is held goes on. Everything has a name that follows from what it is made of, so that the same
command goes on where it stopped.

Source: Pardo, The Evaluation and Optimization of Trading Strategies, 2nd edition, Wiley 2008, chapter 11.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import psycopg

from tradecore import provenance
from tradecore.context import book_calendar
from tradecore.errors import ConfigError, SweepError
from tradecore.model import J_FILLS, Floats, Ints
from tradecore.research import windows
from tradecore.research.sweep import evaluate, planning, results
from tradecore.research.sweep.evaluate import Spec
from tradecore.research.sweep.planning import Plan
from tradecore.settings import Settings
from tradecore.storage import sweeps as storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The windows, in sessions. gap None: as many as the longest look-back."""

    train: int
    test: int
    gap: int | None = None
    anchored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window: the sweep over its training, and the sessions that it is tested on."""

    plan: Plan
    train: tuple[date, date]
    test: tuple[date, date]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """A walk-forward that is known to the database; `whole` is the job of all tests together."""

    walk_id: str
    spec: Mapping[str, Any]
    windows: tuple[Window, ...]
    whole: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """What a walk-forward came to: figures of the joined curve, of each window, and the curve [T] with its days."""

    figures: dict[str, Any]
    windows: list[dict[str, Any]]
    days: tuple[date, ...]
    equity_e4: Ints


def begin(settings: Settings, conn: psycopg.Connection, spec: Spec, shape: Shape, now: datetime) -> Walk:
    """Plan all windows and make them known to the database.

    Parameters: spec, the sweep over the whole range; its first session is the first of the first training.
    Raises ConfigError for a range too short for one training, its gap and one tested session.
    """
    calendar = book_calendar(settings)
    sessions = calendar.sessions_in_range(spec.first, spec.last)
    bars = len(calendar.bar_ends(sessions[0], settings.trading.book.timeframe)) if sessions else 1
    gap = shape.gap if shape.gap is not None else -(-planning.longest_lookback(settings, spec) // bars)
    try:
        splits = windows.walk_forward(
            len(sessions), train_bars=shape.train, test_bars=shape.test, gap_bars=gap, anchored=shape.anchored
        )
    except ValueError as error:
        raise ConfigError(
            f"no walk-forward in {spec.first} to {spec.last}: {error} (in sessions).",
            next_step="a longer range, or smaller --train, --test and --gap",
        ) from error
    found = []
    for split in splits:
        train = sessions[split.train[0]], sessions[split.train[1] - 1]
        part = dataclasses.replace(spec, first=train[0], last=train[1])
        found.append(
            Window(
                plan=planning.begin(settings, conn, part, now),
                train=train,
                test=(sessions[split.test[0]], sessions[split.test[1] - 1]),
            )
        )
    whole = planning.plan(settings, conn, dataclasses.replace(spec, first=found[0].test[0], last=found[-1].test[1]))
    record = {**spec.as_record(), **dataclasses.asdict(shape), "gap": gap}
    walk_id = "wf-" + provenance.hash_of(record, whole.sweep_id, [w.plan.sweep_id for w in found])[:12]
    lines = [
        {
            "window_no": k,
            "sweep_id": w.plan.sweep_id,
            "train_first": w.train[0],
            "train_last": w.train[1],
            "test_first": w.test[0],
            "test_last": w.test[1],
        }
        for k, w in enumerate(found)
    ]
    storage.add_walk(conn, walk_id=walk_id, spec=record, windows=lines, now=now)
    conn.commit()
    return Walk(walk_id=walk_id, spec=record, windows=tuple(found), whole=whole)


def finish(conn: psycopg.Connection, walk: Walk) -> Walked:
    """Fold the best of each training over its test, join the tests, and store it all.

    Raises SweepError while a sweep of a training is not whole.
    """
    job, days = walk.whole.job, walk.whole.job.inputs.days
    scores, chosen = np.empty((len(days), 1, len(job.inputs.symbols))), []
    for window in walk.windows:
        results.require_whole(planning.find(conn, window.plan.sweep_id))
        (best,) = results.fold_best(conn, window.plan, 1)
        rule = evaluate.rule_of(job, best["params"])
        if rule is None:  # it had a result in its training
            raise SweepError(f"{best['params']} is refused by the strategy.", next_step="see its look-back")
        rows = _rows(days, window)
        scores[rows] = evaluate.scores_of(job, rule)[rows]
        chosen.append(best)
    joined = evaluate.fold(job, scores)
    lines = []
    for number, (window, best) in enumerate(zip(walk.windows, chosen, strict=True)):
        rows = _rows(days, window)
        lines.append(
            {
                "window_no": number,
                "params": best["params"],
                "in_sample": best["folded"],
                "out_of_sample": results.finite(evaluate.figures_of(job, joined, rows.start, rows.stop)),
            }
        )
    figures = {**evaluate.figures_of(job, joined), "n_trades": int(joined.journal.counts[J_FILLS])}
    figures |= {"efficiency": _efficiency(lines, walk.whole.spec.metric)}
    done = Walked(figures=results.finite(figures), windows=lines, days=days, equity_e4=joined.equity_e4.copy())
    storage.finish_walk(conn, walk.walk_id, windows=lines, figures=done.figures, days=days, equity_e4=done.equity_e4)
    conn.commit()
    return done


def _rows(days: tuple[date, ...], window: Window) -> slice:
    """Return the rows of a window's test among the days of all tests."""
    inside = [k for k, day in enumerate(days) if window.test[0] <= day <= window.test[1]]
    return slice(inside[0], inside[-1] + 1)


def _efficiency(lines: list[dict[str, Any]], metric: str) -> float:
    """Return the mean of a figure out of sample over its mean in sample (Pardo's walk-forward efficiency)."""
    both: list[Floats] = [
        np.array([np.nan if line[side][metric] is None else line[side][metric] for line in lines])
        for side in ("out_of_sample", "in_sample")
    ]
    good = np.isfinite(both[0]) & np.isfinite(both[1])
    inside = float(both[1][good].mean()) if good.any() else 0.0
    return float(both[0][good].mean()) / inside if inside else float("nan")


def as_record(walk: Walk, done: Walked) -> dict[str, Any]:
    """Return a walk-forward for machines."""
    parts = [
        {
            "train": [str(d) for d in window.train],
            "test": [str(d) for d in window.test],
            "sweep_id": window.plan.sweep_id,
            **line,
        }
        for window, line in zip(walk.windows, done.windows, strict=True)
    ]
    return {"walk_id": walk.walk_id, "spec": dict(walk.spec), "figures": done.figures, "windows": parts}


def summary(walk: Walk, done: Walked) -> str:
    """Return a walk-forward in a line a window, for people."""
    metric = walk.whole.spec.metric
    text = [
        f"walk-forward {walk.walk_id}: {len(done.windows)} windows, {done.days[0]} to {done.days[-1]} out of sample"
    ]
    text.append(f"{'train':<25}{'test':<25}{metric + ' in':>18}{metric + ' out':>18}   parameters")
    for window, line in zip(walk.windows, done.windows, strict=True):
        params = ", ".join(f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v}" for k, v in line["params"].items())
        spans = f"{window.train[0]} {window.train[1]}    {window.test[0]} {window.test[1]}    "
        pair = "".join(f"{results.number(line[side][metric]):>18}" for side in ("in_sample", "out_of_sample"))
        text.append(f"{spans}{pair}   {params}")
    text += [f"{name:<14} {results.number(value):>12}" for name, value in done.figures.items()]
    return "\n".join(text)
