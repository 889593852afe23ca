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

from tradecore.errors import FeedError, MalformedData, NoDataYet, NoSuchSymbol, NotBuilt
from tradecore.feeds.base import Access, BarBatch, CorporateAction, Reject, RowTuple, SymbolFailure, make_rows
from tradecore.feeds.yahoo_http import YahooHttp
from tradecore.sessions import DAILY, Calendar
from tradecore.units import DIVIDEND_SCALE, to_ns

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
        if not self.name:
            raise ValueError("name is empty")
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {self.base_url!r} does not start with http:// or https://")
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}, must be 1 or more")
        for option in ("timeout_s", "backoff_s", "max_wait_s", "requests_per_minute"):
            if not getattr(self, option) > 0:
                raise ValueError(f"{option} is {getattr(self, option)}, must be above 0")


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


class YahooFeed:
    """Daily bars and corporate actions from Yahoo."""

    def __init__(self, options: YahooOptions, access: Access) -> None:
        self._name = options.name
        self._http = YahooHttp(
            base_url=options.base_url,
            timeout_s=options.timeout_s,
            attempts=options.attempts,
            backoff_s=options.backoff_s,
            max_wait_s=options.max_wait_s,
            requests_per_minute=options.requests_per_minute,
            cache_dir=options.cache_dir,
            pace=access.pace,
        )
        self._charts: dict[str, tuple[date, _Chart]] = {}

    @property
    def name(self) -> str:
        """The source's name in the database."""
        return self._name

    def last_session(self, symbols: Sequence[str]) -> date | None:
        """Return None: the feed is live."""
        return None

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
        if timeframe != DAILY:
            raise NotBuilt(
                f"The {self._name} feed serves daily bars, not {timeframe!r}.",
                next_step="Set book.timeframe to 1d, or use the csv feed.",
                timeframe=timeframe,
            )
        sessions = {
            day: to_ns(calendar.session(day).close_at)
            for day in calendar.sessions_in_range(first_session, last_session)
        }
        records: list[RowTuple] = []
        rejects: list[Reject] = []
        failures: list[SymbolFailure] = []
        for symbol in symbols:
            try:
                chart = self._chart(symbol, first_session)
                newest = max((day for day in chart.labels if day != chart.running), default=None)
                if newest is None or newest < last_session:
                    failures.append(SymbolFailure(symbol=symbol, error=self._late(symbol, newest, last_session)))
                found, bad = _records(symbol, chart, sessions, first_session, last_session)
                records.extend(found)
                rejects.extend(bad)
            except (NoSuchSymbol, NoDataYet) as error:
                failures.append(SymbolFailure(symbol=symbol, error=error))
        if symbols and len(failures) == len(symbols):
            raise next((f.error for f in failures if isinstance(f.error, NoDataYet)), failures[0].error)
        return BarBatch(rows=make_rows(records), rejects=tuple(rejects), failures=tuple(failures))

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
        within = [action for action in found if first_session <= action.ex_date <= last_session]
        return tuple(sorted(within, key=lambda action: (action.symbol, action.ex_date, action.kind)))

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

    def _late(self, symbol: str, newest: date | None, last_session: date) -> NoDataYet:
        return NoDataYet(
            f"Yahoo's newest bar of {symbol} is of {newest}; {last_session} is not there yet.",
            next_step="Wait until it publishes, or raise data.publication_lag_minutes if it happens daily.",
            symbol=symbol,
            vendor="yahoo",
            session_date=last_session,
        )


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
            vendor="yahoo",
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
