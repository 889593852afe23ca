"""Bars in time order -> check rows: what came before each bar, and what corporate actions explain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from itertools import groupby
from typing import Protocol, SupportsFloat

from tradecore.units import DIVIDEND_SCALE
from tradecore.validation.records import CheckRow

ADJUSTING = ("split", "stock_dividend", "dividend")
OHLCV = tuple[float, ...]  # open, high, low, close in USD as traded, volume in shares


class RawBar(Protocol):
    """One raw vendor bar, NaN and nonsense included."""

    @property
    def bar_end_at(self) -> datetime: ...
    @property
    def dup_no(self) -> int: ...
    @property
    def session_date(self) -> date: ...
    @property
    def open(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def close(self) -> float: ...
    @property
    def volume(self) -> float: ...


class Action(Protocol):
    """A corporate action of the instrument."""

    @property
    def kind(self) -> str: ...
    @property
    def ex_date(self) -> date: ...
    @property
    def ratio_num(self) -> int: ...
    @property
    def ratio_den(self) -> int: ...
    @property
    def dividend_e6(self) -> int: ...


def check_rows(
    symbol: str,
    bars: Iterable[RawBar],
    actions: Sequence[Action],
    history: Sequence[tuple[date, OHLCV]],
    max_jump_frac: SupportsFloat,
) -> list[CheckRow]:
    """Return the check rows of one instrument, in time order.

    Parameters: bars to check, any order; actions with an ex-date after the last bar of history, and a delisting
    whenever it was; history, the selected bars before them, oldest first, stale_repeat_bars of them; max_jump_frac of
    the rules.
    """
    last = calm = history[-1] if history else None
    run = _equal_at_the_end([values for _, values in history])
    rows: list[CheckRow] = []
    actions = sorted(actions, key=lambda action: action.ex_date)
    end = min((action.ex_date for action in actions if action.kind == "delisting"), default=None)
    actions = [action for action in actions if action.kind in ADJUSTING]
    ordered = sorted(bars, key=lambda bar: (bar.bar_end_at, bar.dup_no))
    for _, same_end in groupby(ordered, key=lambda bar: bar.bar_end_at):
        copies = list(same_end)
        first = copies[0]
        now = (first.session_date, _values(first))
        repeats = run if last is not None and now[1] == last[1] and first.volume > 0 else 0
        ratio = _explained(last, first.session_date, actions)
        calm_ratio = ratio if calm is last else _explained(calm, first.session_date, actions)
        rows.extend(
            CheckRow(
                symbol=symbol,
                session_date=bar.session_date,
                bar_end_at=bar.bar_end_at,
                dup_no=bar.dup_no,
                open=bar.open,
                high=bar.high,
                low=bar.low,
                close=bar.close,
                volume=bar.volume,
                previous_close=last[1][3] if last else None,
                expected_ratio=ratio,
                repeats=repeats,
                calm_close=calm[1][3] if calm is not None and calm is not last else None,
                calm_ratio=calm_ratio if calm is not last else 1.0,
                delisted_on=end if end is not None and end <= bar.session_date else None,
            )
            for bar in copies
        )
        if not (math.isfinite(first.close) and first.close > 0):
            continue
        sides = ((last, ratio),) if calm is last else ((last, ratio), (calm, calm_ratio))
        jumps = [_jump(now[1], base[1][3] * part) for base, part in sides if base]
        if not jumps or min(jumps) <= float(max_jump_frac):
            calm = now
        last, run = now, repeats + 1
    return rows


def _values(bar: RawBar) -> OHLCV:
    return (bar.open, bar.high, bar.low, bar.close, bar.volume)


def _equal_at_the_end(values: Sequence[OHLCV]) -> int:
    """Return how many of the last bars are equal to the very last one, itself included."""
    count = 0
    for one in reversed(values):
        if one != values[-1]:
            break
        count += 1
    return count


def _explained(base: tuple[date, OHLCV] | None, day: date, actions: Sequence[Action]) -> float:
    """Return what splits and dividends (by ex-date) between two bars make of 1 USD of the earlier close."""
    if base is None or not base[1][3] > 0 or not actions:
        return 1.0
    close = base[1][3]
    for action in actions:
        if base[0] < action.ex_date <= day:
            close = close * action.ratio_den / action.ratio_num - action.dividend_e6 / DIVIDEND_SCALE
    return max(0.0, close / base[1][3])


def _jump(values: OHLCV, base: float) -> float:
    """Return the largest |price / base - 1| of the usable prices; 0 where there is nothing to compare."""
    usable = [price for price in values[:4] if math.isfinite(price) and price > 0]
    return max((abs(price / base - 1) for price in usable), default=0.0) if base > 0 else 0.0
