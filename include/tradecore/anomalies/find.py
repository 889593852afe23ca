"""Anomalies in the bars of names as a vendor printed them. Pure: arrays in, a list out.

Nothing here judges a bar for trading (that is the suite's part): an anomaly asks a person to look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from tradecore.model import Bools, Floats, Ints
from tradecore.storage.bars import Action
from tradecore.units import DIVIDEND_SCALE, from_day, to_day

KINDS = ("gap", "outlier", "split_unannounced", "split_unseen", "repeat", "after_end", "disagreement", "kept_out")
OUTLIER_SIGMAS = 12.0  # robust: 1.4826 * median absolute deviation
OUTLIER_LEAST = 0.10
MAD_TO_SIGMA = 1.4826
RATIOS = tuple((num, den) for num, den in ((2, 1), (3, 1), (4, 1), (5, 1), (7, 1), (10, 1), (20, 1), (3, 2), (5, 4)))
OPEN_FRAC, CLOSE_FRAC = 0.05, 0.12  # how near to a whole ratio open and close must come
MIN_ROWS = 20  # fewer returns tell no usual size
REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One thing to look at. `last`: the end of it, where it is more than one session; value: how large, in its own unit
    (sessions of a gap, fraction of a move, ratio of a split)."""

    kind: str
    symbol: str
    session: date
    last: date
    value: float
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Bars as the vendor printed them, [T, n] in USD and shares, NaN where there is none; due [T, n]: a bar is
    expected."""

    symbols: tuple[str, ...]
    instruments: tuple[int, ...]
    day: Ints  # [T]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    due: Bools


def find(raw: Raw, actions: Iterable[Action]) -> list[Anomaly]:
    """Return the anomalies of every name, the latest first."""
    mine: dict[int, list[Action]] = {}
    for action in actions:
        mine.setdefault(action.instrument_id, []).append(action)
    found: list[Anomaly] = []
    for i, symbol in enumerate(raw.symbols):
        there = np.flatnonzero(np.isfinite(raw.close[:, i]) & (raw.close[:, i] > 0))
        found += _gaps(raw, i, symbol)
        if there.size > 1:
            theirs = mine.get(raw.instruments[i], [])
            found += _moves(raw, i, symbol, there, theirs)
            found += _repeats(raw, i, symbol, there)
            found += _after_end(raw, i, symbol, there, theirs)
    return newest_first(found)


def newest_first(found: Iterable[Anomaly]) -> list[Anomaly]:
    """Return anomalies by session, the latest first, then by name and kind."""
    return sorted(found, key=lambda a: (-a.session.toordinal(), a.symbol, KINDS.index(a.kind)))


def _gaps(raw: Raw, i: int, symbol: str) -> Iterator[Anomaly]:
    """Sessions without any bar where one was due, neighbours as one."""
    missing = np.flatnonzero(raw.due[:, i] & np.isnan(raw.close[:, i]))
    for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1) if missing.size else ():
        first, last = from_day(int(raw.day[run[0]])), from_day(int(raw.day[run[-1]]))
        bars = f"{run.size} bar{'s' if run.size > 1 else ''} missing"
        yield Anomaly(kind="gap", symbol=symbol, session=first, last=last, value=float(run.size), detail=bars)


def _explained(action: Sequence[Action], close: float) -> tuple[float, float]:
    """Return what actions make of 1 USD of the close before them, and of it the splits alone."""
    part, split = close, 1.0
    for a in action:
        part = part * a.ratio_den / a.ratio_num - a.dividend_e6 / DIVIDEND_SCALE
        split *= a.ratio_num / a.ratio_den
    return max(part / close, 1e-9), split


def _moves(raw: Raw, i: int, symbol: str, there: Ints, actions: Sequence[Action]) -> Iterator[Anomaly]:
    """Outliers, splits that nobody announced, and announced ones that the prices do not show."""
    close, days = raw.close[there, i], raw.day[there]
    at: dict[int, list[Action]] = {}
    for action in actions:
        k = int(np.searchsorted(days, to_day(action.ex_date)))
        if action.adjusts and 0 < k < there.size:
            at.setdefault(k, []).append(action)
    told = np.ones(there.size)
    for k, theirs in at.items():
        told[k], split = _explained(sorted(theirs, key=lambda a: a.ex_date), close[k - 1])
        plain, with_split = close[k] / close[k - 1], close[k] / close[k - 1] * split
        if abs(np.log(split)) > 0.3 and abs(np.log(with_split)) > 2 * abs(np.log(plain)) + 0.2:
            yield _of(raw, there, k, "split_unseen", symbol, split,
                      f"announced {split:g} for 1, and the close went {close[k - 1]:g} -> {close[k]:g}")  # fmt: skip
            told[k] = 1.0
    move = np.log(close[1:] / close[:-1] / told[1:])
    usual = MAD_TO_SIGMA * float(np.median(np.abs(move - np.median(move)))) if move.size >= MIN_ROWS else np.inf
    for k in (np.flatnonzero(np.abs(move) > np.log1p(OUTLIER_LEAST)) + 1).tolist():
        ratio = _split_like(raw, i, there, k, told[k])
        if ratio is not None:
            what = f"close {close[k - 1]:g} -> {close[k]:g}, as {ratio[0]} for {ratio[1]} would; none is announced"
            yield _of(raw, there, k, "split_unannounced", symbol, ratio[0] / ratio[1], what)
        elif abs(move[k - 1]) > OUTLIER_SIGMAS * usual:
            back = k < move.size and abs(move[k - 1] + move[k]) < 0.25 * abs(move[k - 1])
            yield _of(raw, there, k, "outlier", symbol, float(np.expm1(move[k - 1])),
                      f"close {close[k - 1]:g} -> {close[k]:g}, {abs(move[k - 1]) / usual:.0f} usual moves"
                      + (", and back at the next bar" if back else ""))  # fmt: skip


def _split_like(raw: Raw, i: int, there: Ints, k: int, told: float) -> tuple[int, int] | None:
    """Return the ratio that a move looks like: open and close near the old close over it, and the level stays."""
    before = raw.close[there[k - 1], i] * told
    now, opened = raw.close[there[k], i], raw.open[there[k], i]
    for num, den in (*RATIOS, *((den, num) for num, den in RATIOS)):
        level = before * den / num
        stays = k + 1 >= there.size or abs(raw.close[there[k + 1], i] / level - 1) < 2 * CLOSE_FRAC
        if abs(opened / level - 1) < OPEN_FRAC and abs(now / level - 1) < CLOSE_FRAC and stays:
            return num, den
    return None


def _repeats(raw: Raw, i: int, symbol: str, there: Ints) -> Iterator[Anomaly]:
    """Runs of bars that are equal in every value."""
    values = np.column_stack([getattr(raw, f)[there, i] for f in ("open", "high", "low", "close", "volume")])
    same = np.concatenate([[False], (values[1:] == values[:-1]).all(axis=1)])
    starts = np.flatnonzero(~same)
    for start, end in zip(starts, [*starts[1:].tolist(), there.size], strict=True):
        if end - start >= REPEATS and values[start, 4] > 0:
            first, last = (from_day(int(raw.day[there[k]])) for k in (start, end - 1))
            yield Anomaly(kind="repeat", symbol=symbol, session=first, last=last, value=float(end - start),
                          detail=f"{end - start} bars alike, close {values[start, 3]:g}")  # fmt: skip


def _after_end(raw: Raw, i: int, symbol: str, there: Ints, actions: Sequence[Action]) -> Iterator[Anomaly]:
    for action in actions:
        late = there[raw.day[there] >= to_day(action.ex_date)] if action.kind == "delisting" else there[:0]
        if late.size:
            first, last = from_day(int(raw.day[late[0]])), from_day(int(raw.day[late[-1]]))
            yield Anomaly(kind="after_end", symbol=symbol, session=first, last=last, value=float(late.size),
                          detail=f"{late.size} bar(s) after its delisting of {action.ex_date}")  # fmt: skip


def _of(raw: Raw, there: Ints, k: int, kind: str, symbol: str, value: float, detail: str) -> Anomaly:
    day = from_day(int(raw.day[there[k]]))
    return Anomaly(kind=kind, symbol=symbol, session=day, last=day, value=value, detail=detail)
