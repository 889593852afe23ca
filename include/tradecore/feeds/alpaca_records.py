"""Alpaca's market data documents as rows and corporate actions.

Source: Alpaca's OpenAPI description of its Market Data API (version 1.1): stock_bar, stock_trade, corporate_actions.
"""

from __future__ import annotations

import json
import logging
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from tradecore.errors import MalformedData
from tradecore.feeds.base import TRADE_DTYPE, ActionKind, CorporateAction, Reject, RowTuple
from tradecore.sessions import Calendar
from tradecore.units import DIVIDEND_SCALE, to_ns, to_quanta

NEW_YORK = ZoneInfo("America/New_York")
FIELDS = ("o", "h", "l", "c", "v")
LONGEST_RATIO_DEN = 10_000
ENDS = ("worthless_removals", "cash_mergers")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where the bars of some sessions lie. opens, closes: ns; ends[k]: the bar ends of session k in ns."""

    days: tuple[date, ...]
    opens: tuple[int, ...]
    closes: tuple[int, ...]
    ends: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, calendar: Calendar, timeframe: str, first: date, last: date) -> Grid:
        """Return the grid of the sessions from first to last, both included. Raises NotASession."""
        days = calendar.sessions_in_range(first, last)
        sessions = [calendar.session(day) for day in days]
        return cls(
            days=days,
            opens=tuple(to_ns(s.open_at) for s in sessions),
            closes=tuple(to_ns(s.close_at) for s in sessions),
            ends=tuple(tuple(to_ns(end) for end in calendar.bar_ends(day, timeframe)) for day in days),
        )


Parsed = tuple[list[RowTuple], list[Reject]]


def daily_rows(symbol: str, bars: Sequence[Any], grid: Grid, now_ns: int) -> Parsed:
    """Return a symbol's daily bars within the grid; the one of a session that still runs at now_ns is left out."""
    where = {day: k for k, day in enumerate(grid.days)}
    records, rejects = list[RowTuple](), list[Reject]()
    day = grid.days[0]
    for number, bar in enumerate(bars):
        try:
            day = datetime.fromisoformat(bar["t"]).astimezone(NEW_YORK).date()
            if not grid.days[0] <= day <= grid.days[-1]:
                continue
            if day not in where:
                raise ValueError(f"{day} ({day:%A}) is not a session")
            k = where[day]
            if grid.closes[k] <= now_ns:
                records.append((symbol, day, grid.ends[k][-1], *_numbers(bar)))
        except (KeyError, TypeError, ValueError) as error:
            rejects.append(_reject(symbol, number, bar, error, day))
    return records, rejects


def intraday_rows(symbol: str, bars: Sequence[Any], grid: Grid, now_ns: int) -> Parsed:
    """Return bars of the grid made of a symbol's shorter ones, which begin on it; not those outside the sessions.

    Open of the first, highest high, lowest low, close of the last, sum of the volumes; one that still runs at now_ns is
    left out, one without any shorter bar is not there.
    """
    records, rejects = list[RowTuple](), list[Reject]()
    groups: dict[tuple[int, int], list[tuple[int, tuple[float, ...]]]] = {}
    day = grid.days[0]
    for number, bar in enumerate(bars):
        try:
            ns = to_ns(datetime.fromisoformat(bar["t"]))
            k = bisect_right(grid.opens, ns) - 1
            if k < 0 or ns >= grid.closes[k]:
                continue
            day = grid.days[k]
            end = grid.ends[k][bisect_right(grid.ends[k], ns)]
            if end <= now_ns:
                groups.setdefault((k, end), []).append((ns, _numbers(bar)))
        except (KeyError, TypeError, ValueError) as error:
            rejects.append(_reject(symbol, number, bar, error, day))
    for (k, end), parts in groups.items():
        parts.sort(key=lambda part: part[0])
        opens, highs, lows, closes, volumes = zip(*(values for _, values in parts), strict=True)
        whole = (opens[0], max(highs), min(lows), closes[-1], math.fsum(volumes))
        records.append((symbol, grid.days[k], end, *whole))
    return records, rejects


def _numbers(bar: Mapping[str, Any]) -> tuple[float, float, float, float, float]:
    values = [bar[name] for name in FIELDS]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        raise ValueError(f"its numbers are {values}")
    return tuple(float(value) for value in values)  # type: ignore[return-value]


def _reject(symbol: str, number: int, bar: Any, error: Exception, day: date) -> Reject:
    reason = f"no {error}" if isinstance(error, KeyError) else str(error)
    return Reject(symbol=symbol, line_no=number, raw=json.dumps(bar, default=str), reason=reason, session_date=day)


def trade_rows(trades: Sequence[Any]) -> npt.NDArray[np.void]:
    """Return trades as an array of TRADE_DTYPE, in the vendor's order. Raises MalformedData for one that is none."""
    try:
        rows = [
            (
                np.datetime64(t["t"].removesuffix("Z"), "ns").astype(np.int64),
                t["i"],
                t["p"],
                t["s"],
                t["x"],
                " ".join(t.get("c") or ()),
                t.get("u") or "",
            )
            for t in trades
        ]
        return np.array(rows, dtype=TRADE_DTYPE)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise MalformedData(
            f"Alpaca's trades cannot be read: {type(error).__name__}: {error}.",
            next_step="Ask again later; if it stays so, Alpaca has changed its answers.",
            vendor="Alpaca",
        ) from error


def actions_of(documents: Iterable[Mapping[str, Any]], source: str) -> list[CorporateAction]:
    """Return the corporate actions of Alpaca's pages that a book can follow; others are named in the log.

    Splits, cash and stock dividends, new names, removals as worthless, mergers for cash. Raises MalformedData for one
    that cannot be read: a book that misses a split is wrong by half.
    """
    found: list[CorporateAction] = []
    for document in documents:
        for group, records in document.items():
            for record in records or ():
                try:
                    found += _actions(group, record, source)
                except (KeyError, TypeError, ValueError, ArithmeticError, MalformedData) as error:
                    raise MalformedData(
                        f"Alpaca's {group} {json.dumps(record, default=str)} is no corporate action: {error}.",
                        next_step="Ask again later; if it stays so, settle it by hand and tell Alpaca.",
                        vendor="Alpaca",
                    ) from error
    return found


def _actions(group: str, record: Mapping[str, Any], source: str) -> list[CorporateAction]:
    kind: ActionKind = "split"
    if group in ENDS:  # what a share is paid with, 0 for nothing; the day on which it takes effect
        symbol = record.get("acquiree_symbol") or record["symbol"]
        paid = to_quanta(Decimal(record.get("rate") or 0), DIVIDEND_SCALE)
        day = date.fromisoformat(record.get("effective_date") or record["process_date"])
        return [CorporateAction(symbol=symbol, ex_date=day, kind="delisting", dividend_e6=paid, source=source)]
    if group == "name_changes":
        return [
            CorporateAction(
                symbol=record["old_symbol"],
                ex_date=date.fromisoformat(record["process_date"]),
                kind="symbol_change",
                new_symbol=record["new_symbol"],
                source=source,
            )
        ]
    if group in ("forward_splits", "reverse_splits"):
        ratio = _fraction(record["new_rate"]) / _fraction(record["old_rate"])
    elif group == "stock_dividends":
        ratio, kind = 1 + _fraction(record["rate"]), "stock_dividend"
    elif group == "cash_dividends":
        return [
            CorporateAction(
                symbol=record["symbol"],
                ex_date=date.fromisoformat(record["ex_date"]),
                kind="dividend",
                dividend_e6=to_quanta(Decimal(record["rate"]), DIVIDEND_SCALE),
                pay_date=date.fromisoformat(record["payable_date"]) if record.get("payable_date") else None,
                source=source,
            )
        ]
    else:
        _log.warning("Alpaca tells of %s that nothing here follows: %s", group, json.dumps(record, default=str))
        return []
    return [
        CorporateAction(
            symbol=record["symbol"],
            ex_date=date.fromisoformat(record["ex_date"]),
            kind=kind,
            ratio_num=ratio.numerator,
            ratio_den=ratio.denominator,
            source=source,
        )
    ]


def _fraction(rate: Decimal | int) -> Fraction:
    return Fraction(rate).limit_denominator(LONGEST_RATIO_DEN)
