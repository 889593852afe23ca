"""Tables over the calendar and of drawdowns. `day` [n] holds the session label of each return, days since 1970."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tradecore.reports.metrics.curve import Floats, drawdowns

Days = npt.NDArray[np.int64]
Span = Literal["week", "month", "quarter", "year"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawdown:
    """From the first return below a peak to the last one before the peak is reached again."""

    start_day: int  # first return below the peak
    valley_day: int  # the deepest
    end_day: int  # the last one below the peak; the last of all while it lasts
    periods: int
    depth: float  # positive fraction of the peak
    recovered: bool


class Comparison(NamedTuple):
    """Spans [S] side by side: both returns, theirs as a multiple of the benchmark's (NaN where that is 0), and whether
    the benchmark was reached."""

    span: Days
    returns: Floats
    benchmark: Floats
    multiple: Floats
    won: npt.NDArray[np.bool_]


def span_of(day: Days, span: Span) -> Days:
    """Return a number for the week (from Monday), month, quarter or year of each day, rising with time."""
    months = day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)  # since 1970-01
    spans = {"week": (day + 3) // 7, "month": months, "quarter": months // 3, "year": months // 12}
    return spans[span]


def by_span(returns: Floats, day: Days, span: Span) -> tuple[Days, Floats]:
    """Compound returns [n] within each week, month, quarter or year; return the spans' numbers and their returns.

    A span without a return is left out. NaN in a span makes that span NaN.
    Source: empyrical aggregate_returns; quantstats aggregate_returns with "eow", "eom", "eoq" and "eoy".
    """
    if day.shape != returns.shape:
        raise ValueError(f"returns have shape {returns.shape}, their days {day.shape}")
    if returns.size == 0:
        return np.zeros(0, np.int64), np.zeros(0)
    number = span_of(day, span)
    first = np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]]))
    return number[first], np.multiply.reduceat(1.0 + returns, first) - 1.0


def compare(returns: Floats, benchmark: Floats, day: Days, span: Span) -> Comparison:
    """Return what each week, month, quarter or year brought, beside the benchmark's.

    Source: quantstats compare, in fractions instead of percent. A span with a NaN has not won.
    """
    number, mine = by_span(returns, day, span)
    _, theirs = by_span(benchmark, day, span)
    multiple = np.divide(mine, theirs, out=np.full(mine.shape, np.nan), where=theirs != 0.0)
    return Comparison(number, mine, theirs, multiple, mine >= theirs)


def monthly_table(returns: Floats, day: Days) -> tuple[Days, Floats]:
    """Return the years [Y] and a table [Y, 13]: twelve months and the whole year, compounded.

    A month without a return is NaN: nothing is known of it, where quantstats monthly_returns says 0.
    """
    years, totals = by_span(returns, day, "year")
    months, values = by_span(returns, day, "month")
    table = np.full((years.size, 13), np.nan)
    table[np.searchsorted(years, months // 12), months % 12] = values
    table[:, 12] = totals
    return years + 1970, table


def worst_drawdowns(returns: Floats, day: Days, most: int = 10) -> tuple[Drawdown, ...]:
    """Return the deepest drawdowns, the deepest first; of equal ones the earlier first.

    Source: quantstats drawdown_details (start, valley and depth; its end is the day of recovery where there is one, and
    it does not see a drawdown that lasts from the first return to the last).
    """
    if day.shape != returns.shape:
        raise ValueError(f"returns have shape {returns.shape}, their days {day.shape}")
    depth = drawdowns(returns)[1:]
    below = np.concatenate([[False], depth > 0.0, [False]])
    starts, stops = np.flatnonzero(below[1:] & ~below[:-1]), np.flatnonzero(~below[1:] & below[:-1])
    found = [
        Drawdown(
            start_day=int(day[a]),
            valley_day=int(day[a + int(np.argmax(depth[a:b]))]),
            end_day=int(day[b - 1]),
            periods=int(b - a),
            depth=float(np.max(depth[a:b])),
            recovered=bool(b < depth.size),
        )
        for a, b in zip(starts, stops, strict=True)
    ]
    return tuple(sorted(found, key=lambda d: -d.depth)[:most])
