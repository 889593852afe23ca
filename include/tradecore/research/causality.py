"""The causality proof: a score at a bar is what it would have been on that day, whatever came later.

For every bar t the score is computed again, and must equal the full run to the bit:

* *window*     as production does: from the `lookback_bars` rows that end at t, and nothing else;
* *truncated*  through the rule's panel form, from a history that ends at t;
* *nan, shuffled, scaled, actions*  from a history whose bars after t are taken away, exchanged, multiplied, or split
  and paid out: what comes later must not matter even where it looks different from a missing end;
* *file*       with the files that its parameters name cut at t, where they have dates (see `dated_files`);
* *known*      with its alternative series made from what was known by t's end, and from nothing else.

The bars are visited in random order, and the full run is made twice: a rule that keeps something between its calls, or
draws by chance, differs too. The calendar of sessions is not poisoned: it is known years ahead.

What differs is traced: how far ahead of t a change still matters says what kind of leak it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial

import numpy as np
from pydantic import BaseModel

from tradecore import strategies
from tradecore.bars import Panel, window
from tradecore.errors import StrategyError
from tradecore.model import Bools, Floats, Ints
from tradecore.strategies import Strategy
from tradecore.units import from_day

FUTURE_BARS = 64  # poisoned rows behind a bar: what reaches further is seen by the truncated run
POISONS = ("nan", "shuffled", "scaled", "actions")
PLANTED_SPLIT, PLANTED_DIVIDEND_FRAC = 7, 0.05
ParamsAt = Callable[[int], BaseModel]
SeriesAt = Callable[[int], Mapping[str, Floats]]  # row t -> {series: [t + 1, n]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A score that is not what it was: at row t of the panel, in column i, `full` in the full run, `found` in `run`."""

    run: str
    t: int
    column: int
    session_date: date
    symbol: str
    full: float
    found: float

    def __str__(self) -> str:
        return (
            f"{self.symbol} at {self.session_date}: {_score(self.full)} in the full run, {_score(self.found)} "
            f"{RUNS[self.run]}"
        )


RUNS = {
    "again": "when the same history is scored a second time",
    "window": "from the look-back alone, as production computes it",
    "truncated": "from a history that ends there",
    "nan": "with the later bars taken away",
    "shuffled": "with the later bars in another order",
    "scaled": "with the later bars multiplied",
    "actions": "with a split and a dividend after it",
    "file": "with the files that its parameters name cut there",
    "known": "with the alternative values that were known by then",
}


@dataclass(slots=True, kw_only=True)
class Proof:
    """What the proof found: bars visited, comparisons made, differing scores by run, the first one in time."""

    bars: int
    comparisons: int = 0
    differing: dict[str, int] = field(default_factory=dict)
    first: Difference | None = None
    suspicion: str = ""
    raised: str = ""
    seen: list[Difference] = field(default_factory=list, repr=False)

    @property
    def holds(self) -> bool:
        return self.first is None and not self.raised

    @property
    def message(self) -> str:
        """Return the verdict in a sentence or three."""
        if self.raised:
            return f"the strategy raised: {self.raised}"
        if self.first is None:
            return f"{self.comparisons} recomputed scores of {self.bars} bars equal the full run to the bit"
        total = sum(self.differing.values())
        runs = ", ".join(f"{run} {count}" for run, count in self.differing.items())
        return (
            f"{total} of {self.comparisons} recomputed scores differ ({runs}). First: {self.first}. "
            f"Suspected: {self.suspicion}"
        )


def prove(
    rule: Strategy,
    params: BaseModel,
    panel: Panel,
    *,
    rng: np.random.Generator,
    bars: Ints | None = None,
    params_at: ParamsAt | None = None,
    series_at: SeriesAt | None = None,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> Proof:
    """Recompute the scores of a rule at every bar of a panel (columns: its names), or at the rows `bars`.

    params_at gives the parameters as they were at a row, where a parameter names a file with dates; series_at the
    alternative series from what was known by a row's bar end.
    Returns a Proof; what the rule itself raises is a part of it.
    """
    lookback = rule.lookback(params)
    full = _answer(lambda: strategies.score_panel(rule, params, panel))
    again = _answer(lambda: strategies.score_panel(rule, params, panel))
    if isinstance(full, str) or isinstance(again, str):
        return Proof(bars=0, raised=full if isinstance(full, str) else str(again))
    rows = np.arange(lookback - 1, panel.day.size) if bars is None else bars[bars >= lookback - 1]
    proof = Proof(bars=rows.size)
    for t in rows:
        _compare(proof, "again", panel, int(t), full[t], again[t])
    for done, t in enumerate(rng.permutation(rows).tolist()):
        for run, found in _recomputed(rule, params, panel, t, lookback, rng, params_at, series_at):
            if isinstance(found, str):
                proof.raised = proof.raised or f"{found}, {RUNS[run]} ({from_day(int(panel.day[t]))})"
            else:
                _compare(proof, run, panel, t, full[t], found)
        if proof.raised:
            return proof
        progress(done + 1, rows.size)
    if proof.first is not None:
        proof.suspicion = suspicion(rule, params, panel, full, proof)
    return proof


def _recomputed(
    rule: Strategy,
    params: BaseModel,
    panel: Panel,
    t: int,
    lookback: int,
    rng: np.random.Generator,
    params_at: ParamsAt | None,
    series_at: SeriesAt | None,
) -> Iterator[tuple[str, Floats | str]]:
    """Yield each run of row t and its scores [n], or what the strategy raised."""
    seen = panel.rows(t + 1 - lookback, t + 1)
    yield "window", _answer(lambda: strategies.score_last(rule, params, _copied(seen)))
    if rule.panel_score is not None:
        yield "truncated", _answer(lambda: score_row(rule, params, _copied(seen), lookback - 1))
    if params_at is not None:
        yield "file", _answer(lambda: strategies.score_last(rule, params_at(t), _copied(seen)))
    if series_at is not None:
        known = {name: values[t + 1 - lookback :] for name, values in series_at(t).items()}
        yield "known", _answer(lambda: strategies.score_last(rule, params, replace(_copied(seen), series=known)))
    for kind in POISONS:
        after = panel.rows(t + 1 - lookback, min(panel.day.size, t + 1 + FUTURE_BARS))
        poison = poisoned(after, lookback - 1, kind, rng)
        yield kind, _answer(partial(score_row, rule, params, poison, lookback - 1))


def _answer(call: Callable[[], Floats]) -> Floats | str:
    """Return scores, or in words what the strategy raised."""
    try:
        return guarded(call)
    except StrategyError as error:
        return error.message


def guarded(call: Callable[[], Floats]) -> Floats:
    """Return scores; StrategyError whatever the strategy raised."""
    try:
        return call()
    except StrategyError:
        raise
    except Exception as error:  # the boundary to the owner's code, which may raise anything
        raise StrategyError(f"{type(error).__name__}: {error}", next_step="correct the strategy") from error


def score_row(rule: Strategy, params: BaseModel, panel: Panel, t: int) -> Floats:
    """Return the scores [n] of row t as a backtest over this panel computes them, without those of the other rows."""
    if rule.panel_score is not None:
        return np.asarray(strategies.score_panel(rule, params, panel)[t])
    seen = window(panel).rows(t + 1 - rule.lookback(params), t + 1)
    return strategies.checked(rule.score(seen, **params.model_dump()), len(panel.instruments), rule.name)


def poisoned(panel: Panel, t: int, kind: str, rng: np.random.Generator) -> Panel:
    """Return a panel whose bars after row t are others; bars up to t, and the calendar, are the same.

    kind: nan (nothing trades), shuffled (the same bars in another order), scaled (prices and volume times 2 to 9, a
    number for each name), actions (a split of PLANTED_SPLIT:1 and a dividend at t + 1). Alternative series go with
    them: nothing is known later, or in another order, or something else; actions leave them as they are.
    """
    cells = {f: getattr(panel, f).copy() for f in (*PRICES, "volume", "traded", "adj_factor")}
    series = {name: values.copy() for name, values in panel.series.items()}
    later = slice(t + 1, panel.day.size)
    if kind == "nan":
        for values in series.values():
            values[later] = np.nan
        for name, cell in cells.items():
            cell[later] = np.nan if name == "adj_factor" else 0
    elif kind == "shuffled":
        order = t + 1 + rng.permutation(panel.day.size - t - 1)
        for cell in (*cells.values(), *series.values()):
            cell[later] = cell[order]
    elif kind == "scaled":
        times = rng.integers(2, 10, len(panel.instruments))
        for name in (*PRICES, "volume"):
            cells[name][later] *= times
        for values in series.values():
            values[later] = values[later] * times + 1.0
    elif kind == "actions":
        for name in PRICES:
            cells[name][later] = np.maximum(cells[name][later] // PLANTED_SPLIT, cells["traded"][later])
        cells["adj_factor"][later] *= PLANTED_SPLIT * (1.0 + PLANTED_DIVIDEND_FRAC)
    else:
        raise ValueError(f"no poison is called {kind!r}; known: {', '.join(POISONS)}")
    return replace(panel, series=series, **cells)


PRICES = ("open", "high", "low", "close")


def _copied(panel: Panel) -> Panel:
    """Return a panel with arrays of its own: what lies behind a view cannot be reached."""
    cells = {f: getattr(panel, f).copy() for f in (*PRICES, "volume", "traded", "adj_factor", "bar_end_ns", "day")}
    return replace(panel, series={name: values.copy() for name, values in panel.series.items()}, **cells)


def differs(a: Floats, b: Floats) -> Bools:
    """Return where two rows of scores are not the same bits, NaN being equal to NaN."""
    return np.asarray(~((a == b) | (np.isnan(a) & np.isnan(b))))


def _compare(proof: Proof, run: str, panel: Panel, t: int, full: Floats, found: Floats) -> None:
    bad = differs(full, found)
    proof.comparisons += bad.size
    if not bad.any():
        return
    proof.differing[run] = proof.differing.get(run, 0) + int(bad.sum())
    for i in np.flatnonzero(bad).tolist():
        seen = Difference(
            run=run,
            t=t,
            column=i,
            session_date=from_day(int(panel.day[t])),
            symbol=panel.symbols[i],
            full=float(full[i]),
            found=float(found[i]),
        )
        proof.seen.append(seen)
        if proof.first is None or (t, i) < (proof.first.t, proof.first.column):
            proof.first = seen


def _score(value: float) -> str:
    return "no opinion" if np.isnan(value) else f"{value:g}"


# ------------------------------------------------------------------------------------------- what kind of leak it is

PROBES, NEAR_BARS, MOSTLY = 12, 70, 0.8
CHANGES = ("nan", "up", "down")


def suspicion(rule: Strategy, params: BaseModel, panel: Panel, full: Floats, proof: Proof) -> str:
    """Say what kind of leak the differences look like, by how far ahead of a bar a change of the bars still matters."""
    runs = set(proof.differing)
    if "again" in runs:
        return "chance, or something kept from one call to the next; a score may depend on its window alone"
    if runs == {"known"}:
        return (
            "an alternative series is read before it was known: joined by the time that a value is about and not by "
            "that of its publication, or restated values in the place of those of then"
        )
    if runs == {"file"}:
        return (
            "a file that a parameter names is read beyond the session: a corporate action before its ex-date, a figure "
            "before its publication, or a model fitted on later bars"
        )
    if rule.panel_score is None:
        return "something kept from one call to the next; a score may depend on its window alone"
    reach = [_reach(rule, params, panel, full, d) for d in _spread(proof.seen, panel.day.size - 1 - NEAR_BARS)]
    ahead = sorted({h for h, _ in reach if h > 0})
    if not ahead:
        return (
            "not the future: the panel form uses more bars than lookback_bars (it is recursive, or its sums carry "
            "rounding along), or it is another rule than the one that scores a single window"
        )
    far = sum(h > NEAR_BARS for h, _ in reach)
    if 2 * far >= sum(h > 0 for h, _ in reach):
        return (
            "a figure of the whole sample: a mean, deviation, rank, scaling or fit over all rows, later ones included"
        )
    if ahead == [1]:
        return "the next bar: shift(-1), or a value that is entered one row too early"
    ends = [t + h for h, t in reach if 0 < h <= NEAR_BARS]
    for name, period in (("week", _week), ("month", _month)):
        label = period(panel.day)
        if MOSTLY * len(ends) <= sum(e + 1 < label.size and label[e] != label[e + 1] for e in ends):
            return (
                f"the {name}'s bar before the {name} has ended: bars resampled with right-closed bins and labels at "
                f"the start, or joined on their opening date (merge_asof, as in freqtrade#12507), or filled backwards"
            )
    most = ahead[-1]
    if 2 * sum(h == most for h, _ in reach) >= len(ends):
        return f"{most} bars ahead: a centred window of {2 * most + 1} bars, or shift(-{most})"
    return (
        f"{ahead[0]} to {most} bars ahead, not always as many: the next event joined to the bars before it "
        f"(merge_asof with direction forward or nearest), a backward fill, or an interpolation"
    )


def _spread(seen: list[Difference], before: int) -> list[Difference]:
    """Return up to PROBES differences, spread over time, with enough bars behind them where there are such."""
    ordered = sorted((d for d in seen if d.run != "file"), key=lambda d: (d.t, d.column))
    ordered = [d for d in ordered if d.t < before] or ordered
    index = np.unique(np.linspace(0, len(ordered) - 1, PROBES).astype(int))
    return [ordered[k] for k in index.tolist()]


def _reach(rule: Strategy, params: BaseModel, panel: Panel, full: Floats, at: Difference) -> tuple[int, int]:
    """Return (h, t): the last bar whose change matters to the score at row t is t + h; above NEAR_BARS: further."""
    rest = panel.day.size - 1 - at.t

    def matters(h: int) -> bool:
        """Tell whether a change of the bars after t + h changes the score."""
        for change in CHANGES:
            found = _answer(partial(score_row, rule, params, _changed(panel, at.t + h, change), at.t))
            if isinstance(found, str) or differs(found, full[at.t])[at.column]:
                return True
        return False

    low, high = 0, min(NEAR_BARS, rest)
    if not matters(low):
        return 0, at.t
    if rest > NEAR_BARS and matters(high):
        return NEAR_BARS + 1, at.t
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if matters(middle) else (low, middle)
    return high, at.t


def _changed(panel: Panel, t: int, change: str) -> Panel:
    if change == "nan":
        return poisoned(panel, t, "nan", np.random.default_rng(0))
    cells = {f: getattr(panel, f).copy() for f in PRICES}
    for cell in cells.values():
        later = cell[t + 1 :]
        cell[t + 1 :] = later * 1000 if change == "up" else panel.traded[t + 1 :]
    series = {name: values.copy() for name, values in panel.series.items()}
    for values in series.values():
        values[t + 1 :] = values[t + 1 :] * 1000 + 1 if change == "up" else 0.0
    return replace(panel, series=series, **cells)


def _week(day: Ints) -> Ints:
    return np.asarray((day + 3) // 7)  # 1970-01-01 was a Thursday: weeks begin on Mondays


def _month(day: Ints) -> Ints:
    return np.asarray(day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64))
