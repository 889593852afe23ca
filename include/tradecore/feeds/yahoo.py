"""The yahoo feed: live daily bars without a key, through yfinance.

Yahoo prints its history in today's shares: prices, volumes and dividends before a split are divided by it.
We keep prices as traded, so the feed multiplies back by every split between a bar and now. It asks from
the first session until now for that reason. Yahoo names ex-dates when they come, not before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from tradecore.errors import FeedError, MalformedData, NoDataYet, NoSuchSymbol
from tradecore.feeds.base import Access, Answered, BarBatch, CorporateAction, LiveFeed, Reject, RowTuple, in_order
from tradecore.feeds.http import Limits, check_limits
from tradecore.feeds.yahoo_http import VENDOR, YahooHttp
from tradecore.sessions import Calendar
from tradecore.units import DIVIDEND_SCALE

FIELDS = ("open", "high", "low", "close", "volume")
# Yahoo's prices are single precision: at most 2**-23 off. Closer to a cent than
# this is that cent, else the price is kept to 1e-4 USD; so a later split changes no bar that we already have.
FLOAT32_NOISE = 1.2e-7
# The last trade of a session may come before its close; one this much earlier means that the session still
# runs.
LAST_TRADE_SLACK_S = 15 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class YahooOptions:
    """Options of the yahoo feed: an address for trials, seconds, a folder for yfinance's cookies."""

    name: str = "yahoo"
    base_url: str | None = None
    timeout_s: float = 15.0
    attempts: int = 4
    backoff_s: float = 1.0
    max_wait_s: float = 60.0
    requests_per_minute: float = 60.0
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        check_limits(self)
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {self.base_url!r} does not start with http:// or https://")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    ex_date: date
    ratio: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chart:
    """One symbol's answer, as traded. values: (n, 5) open, high, low, close, volume; NaN for Yahoo's null."""

    labels: tuple[date, ...]
    values: npt.NDArray[np.float64]
    splits: tuple[_Split, ...]
    dividends: tuple[tuple[date, float], ...]
    running: date | None  # the session that has not ended at Yahoo's last trade


class YahooFeed(LiveFeed):
    """Daily bars and corporate actions from Yahoo."""

    def __init__(self, options: YahooOptions, access: Access) -> None:
        super().__init__(options.name, VENDOR)
        self._http = YahooHttp(
            base_url=options.base_url,
            limits=Limits.of(options),
            requests_per_minute=options.requests_per_minute,
            cache_dir=options.cache_dir,
            pace=access.pace,
        )
        self._charts: dict[str, tuple[date, _Chart]] = {}

    def bars(
        self,
        symbols: Sequence[str],
        timeframe: str,
        first_session: date,
        last_session: date,
        calendar: Calendar,
    ) -> BarBatch:
        """Return the daily bars of the sessions from first to last, both included.

        Symbols that Yahoo does not know, or whose last session is not there yet, are `failures` while another
        symbol is served. Raises NoSuchSymbol or NoDataYet if none is; Throttled, AuthFailed, VendorDown,
        MalformedData; NotBuilt for another timeframe than '1d'; NotASession.
        """
        sessions = self._closes(timeframe, first_session, last_session, calendar)

        def ask(symbol: str) -> Answered:
            chart = self._chart(symbol, first_session)
            newest = max((day for day in chart.labels if day != chart.running), default=None)
            return *_records(symbol, chart, sessions, first_session, last_session), newest

        return self._one_by_one(symbols, last_session, ask)

    def actions(self, symbols: Sequence[str], first_session: date, last_session: date) -> tuple[CorporateAction, ...]:
        """Return splits and dividends with an ex-date from first to last, both included, by symbol and date.

        Uses the answers of a `bars` call that reached as far back; asks Yahoo otherwise. Symbols that
        Yahoo does not know have none, unless it knows none of them. Raises as `bars` does.
        """
        found: list[CorporateAction] = []
        missing: list[FeedError] = []
        for symbol in symbols:
            try:
                since, chart = self._charts.get(symbol, (None, None))
                if chart is None or since is None or since > first_session:
                    chart = self._chart(symbol, first_session)
                found.extend(self._actions_of(symbol, chart))
            except (NoSuchSymbol, NoDataYet) as error:
                missing.append(error)
        if symbols and len(missing) == len(symbols):
            raise missing[0]
        return in_order(found, first_session, last_session)

    def _chart(self, symbol: str, first_session: date) -> _Chart:
        since = int(datetime.combine(first_session, time(), UTC).timestamp())
        chart = _parse(symbol, self._http.chart(symbol, since))
        self._charts[symbol] = (first_session, chart)
        return chart

    def _actions_of(self, symbol: str, chart: _Chart) -> list[CorporateAction]:
        actions = [
            CorporateAction(
                symbol=symbol,
                ex_date=split.ex_date,
                kind="split",
                ratio_num=split.ratio.numerator,
                ratio_den=split.ratio.denominator,
                source=self._name,
            )
            for split in chart.splits
        ]
        for ex_date, amount in chart.dividends:
            actions.append(
                CorporateAction(
                    symbol=symbol,
                    ex_date=ex_date,
                    kind="dividend",
                    dividend_e6=round(amount * DIVIDEND_SCALE),
                    source=self._name,
                )
            )
        return actions


def _records(
    symbol: str, chart: _Chart, sessions: dict[date, int], first_session: date, last_session: date
) -> tuple[list[RowTuple], list[Reject]]:
    """Return the bars within the sessions, and the rows that are none."""
    records: list[RowTuple] = []
    rejects: list[Reject] = []
    last_row_of = {day: index for index, day in enumerate(chart.labels)}
    for index, day in enumerate(chart.labels):
        if not first_session <= day <= last_session or day == chart.running:
            continue
        values = [float(value) for value in chart.values[index]]
        reason = ""
        if day not in sessions:
            reason = f"{day} ({day:%A}) is not a session"
        elif last_row_of[day] != index:
            reason = f"a later row of the same answer is also of {day}"
        if reason:
            raw = json.dumps([day.isoformat(), *values])
            rejects.append(Reject(symbol=symbol, line_no=index, raw=raw, reason=reason, session_date=day))
        else:
            records.append((symbol, day, sessions[day], values[0], values[1], values[2], values[3], values[4]))
    return records, rejects


def _parse(symbol: str, result: dict[str, Any]) -> _Chart:
    """Read a chart document. Raises MalformedData where it is not one, or not in USD."""
    try:
        meta = result["meta"]
        zone = ZoneInfo(meta["exchangeTimezoneName"])
        if meta.get("currency") != "USD":
            raise ValueError(f"its currency is {meta.get('currency')!r}, only USD is supported")
        stamps = result.get("timestamp") or []
        quote = result["indicators"]["quote"][0] if stamps else {}
        columns = [[math.nan if v is None else float(v) for v in quote.get(f) or []] for f in FIELDS]
        if any(len(column) != len(stamps) for column in columns):
            raise ValueError(f"{len(stamps)} timestamps, but {[len(c) for c in columns]} values")
        labels = tuple(_label(stamp, zone) for stamp in stamps)
        events = result.get("events") or {}
        splits = tuple(sorted((_split(event, zone) for event in (events.get("splits") or {}).values()), key=_ex_date))
        values = np.array(columns, dtype=np.float64).T.reshape(len(stamps), len(FIELDS))
        dividends = tuple(
            (day, float(event["amount"]) * float(_factor_after(day, splits)))
            for event in (events.get("dividends") or {}).values()
            for day in (_label(event["date"], zone),)
            if float(event["amount"]) > 0
        )
        return _Chart(
            labels=labels,
            values=_as_traded(values, labels, splits),
            splits=splits,
            dividends=dividends,
            running=_running_session(meta, zone),
        )
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise MalformedData(
            f"Yahoo's chart of {symbol} cannot be read: {type(error).__name__}: {error}.",
            next_step="Update the feed if Yahoo has changed its document, or use another one.",
            symbol=symbol,
            vendor=VENDOR,
        ) from error


def _label(stamp: float, zone: ZoneInfo) -> date:
    return datetime.fromtimestamp(int(stamp), UTC).astimezone(zone).date()


def _ex_date(split: _Split) -> date:
    return split.ex_date


def _split(event: dict[str, Any], zone: ZoneInfo) -> _Split:
    ratio = Fraction(event["numerator"]).limit_denominator(10_000)
    ratio /= Fraction(event["denominator"]).limit_denominator(10_000)
    return _Split(ex_date=_label(event["date"], zone), ratio=ratio)


def _factor_after(day: date, splits: Sequence[_Split]) -> Fraction:
    """Return today's shares per share of that day."""
    return math.prod((split.ratio for split in splits if split.ex_date > day), start=Fraction(1))


def _as_traded(
    values: npt.NDArray[np.float64], labels: Sequence[date], splits: Sequence[_Split]
) -> npt.NDArray[np.float64]:
    """Undo the split adjustment: (n, 5) in today's shares -> as traded. NaN stays NaN."""
    factor = np.array([float(_factor_after(day, splits)) for day in labels], dtype=np.float64)
    prices = values[:, :4] * factor[:, None]
    cents = np.round(prices, 2)
    with np.errstate(invalid="ignore"):
        prices = np.where(np.abs(prices - cents) <= np.abs(prices) * FLOAT32_NOISE, cents, np.round(prices, 4))
    return np.column_stack([prices, np.rint(values[:, 4] / factor)])


def _running_session(meta: dict[str, Any], zone: ZoneInfo) -> date | None:
    """Return the session that was not over at the vendor's last trade, if there is one."""
    regular = (meta.get("currentTradingPeriod") or {}).get("regular")
    traded = meta.get("regularMarketTime")
    if not regular or traded is None or traded >= regular["end"] - LAST_TRADE_SLACK_S:
        return None
    return _label(regular["start"], zone)
