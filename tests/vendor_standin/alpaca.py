"""Alpaca's market data documents, by its OpenAPI description of the Market Data API (1.1, read 2026-11; hand-written).

Paths, parameters, defaults and required fields are those of StockBars, StockLatestBars, StockTrades and
CorporateActions: limits of 10,000 and 1,000 a page over all symbols together, sorted by symbol and time, a token for
the next page, null for no more.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from vendor_standin.market import Market

BARS, LATEST, TRADES, ACTIONS = (
    "/v2/stocks/bars",
    "/v2/stocks/bars/latest",
    "/v2/stocks/trades",
    "/v1/corporate-actions",
)
PATHS = (BARS, LATEST, TRADES, ACTIONS)
KEY, SECRET = "STANDIN-DATA-KEY", "standin-data-secret"
NEW_YORK = ZoneInfo("America/New_York")
Rows = list[tuple[str, dict[str, Any]]]


class Refusal(Exception):
    """A 4xx with Alpaca's message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def answer(market: Market, path: str, query: dict[str, str], *, empty: bool = False) -> dict[str, Any]:
    """Return the document of a question; empty: the page that it is, without what should be in it."""
    symbols = [name for name in query.get("symbols", "").split(",") if name]
    for name in symbols:
        if not name.replace(".", "").replace("-", "").isalnum() or len(name) > 8:
            raise Refusal(400, f"invalid symbol: {name}")
    if query.get("feed", "sip") not in ("sip", "iex"):
        raise Refusal(400, "invalid feed")
    if path != ACTIONS and not symbols:
        raise Refusal(400, "symbols is required")
    if path == LATEST:
        return {"bars": {} if empty else dict(_latest(market, symbols))}
    if path == ACTIONS:
        return _paged(list(_actions(market, query, symbols)), query, "corporate_actions", 100, 1_000, empty)
    if path == TRADES:
        return _paged(list(_trades(market, query, symbols)), query, "trades", 1_000, 10_000, empty)
    return _paged(list(_bars(market, query, symbols)), query, "bars", 1_000, 10_000, empty)


def _paged(rows: Rows, query: dict[str, str], key: str, default: int, most: int, empty: bool) -> dict[str, Any]:
    limit = int(query.get("limit") or default)
    if not 1 <= limit <= most:
        raise Refusal(400, f"invalid limit: must be between 1 and {most}")
    token = query.get("page_token")
    try:
        first = int(base64.b64decode(token).decode().split("|")[-1]) if token else 0
    except ValueError:
        raise Refusal(400, "invalid page_token") from None
    page, after = rows[first : first + limit], first + limit
    following = base64.b64encode(f"{key}|{after}".encode()).decode() if after < len(rows) else None
    groups: dict[str, list[dict[str, Any]]] = {}
    for owner, row in [] if empty else page:
        groups.setdefault(owner, []).append(row)
    return {key: groups, "next_page_token": following}


def _bars(market: Market, query: dict[str, str], symbols: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    start, end = _bound(query["start"]), _bound(query["end"])
    timeframe = query["timeframe"]
    for name in sorted(symbols):
        known = market.published(name)
        for day in sorted(known):
            midnight = datetime.combine(day, datetime.min.time(), NEW_YORK).astimezone(UTC)
            if timeframe in ("1Day", "1D"):
                if start <= midnight <= end:
                    yield name, _bar(midnight, known[day])
                continue
            step = int(timeframe.removesuffix("Min").removesuffix("T"))
            if not start.date() <= day <= end.date():
                continue
            for at, parts in _grouped(market, name, day, step):
                if start <= at <= end:
                    yield name, _bar(at, parts)


def _grouped(market: Market, name: str, day: date, step: int) -> Iterator[tuple[datetime, Any]]:
    """Yield bars of `step` minutes, counted from midnight, as Alpaca counts them."""
    groups: dict[datetime, list[Any]] = {}
    midnight = datetime.combine(day, datetime.min.time(), NEW_YORK)
    for at, row in market.minutes(name, day):
        begin = midnight + (at.astimezone(NEW_YORK) - midnight) // timedelta(minutes=step) * timedelta(minutes=step)
        groups.setdefault(begin.astimezone(UTC), []).append(row)
    for at, rows in groups.items():
        opens, highs, lows, closes, volumes = zip(*rows, strict=True)
        yield at, (opens[0], max(highs), min(lows), closes[-1], sum(volumes))


def _bar(at: datetime, row: Any) -> dict[str, Any]:
    opened, high, low, close, volume = row
    vwap = round((high + low + close) / 3, 6)
    numbers = {"o": _plain(opened), "h": _plain(high), "l": _plain(low), "c": _plain(close), "v": volume}
    return {"t": _stamp(at), **numbers, "n": max(1, volume // 100), "vw": vwap}


def _latest(market: Market, symbols: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in symbols:
        days = sorted(market.published(name))
        if days:
            *_, (at, row) = market.minutes(name, days[-1])
            yield name, _bar(at, row)


def _trades(market: Market, query: dict[str, str], symbols: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    start, end = _bound(query["start"]), _bound(query["end"])
    for name in sorted(symbols):
        number = 0
        days = [day for day in sorted(market.published(name)) if start.date() <= day <= end.date()]
        for day in days:
            for at, (opened, high, low, close, volume) in market.minutes(name, day):
                for k, price in enumerate((opened, high, low, close)):
                    number += 1
                    when = at + timedelta(seconds=15 * k, microseconds=k)
                    if start <= when <= end:
                        stamp = _stamp(when).removesuffix("Z") + ("123Z" if when.microsecond else "Z")
                        size = max(1, volume // 4)
                        row = {"t": stamp, "x": "V", "p": _plain(price), "s": size, "c": ["@"], "i": number, "z": "C"}
                        yield name, row | ({"u": "canceled"} if number % 97 == 0 else {})


def _actions(market: Market, query: dict[str, str], symbols: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield actions by their process date: of a dividend the day it is paid, here three weeks after its ex-date."""
    start, end = date.fromisoformat(query["start"]), date.fromisoformat(query["end"])
    types = query.get("types", "").split(",")
    found = []
    for row in market.actions:
        ex = date.fromisoformat(row["ex_date"])
        split = row["kind"] == "split"
        process = ex if split else ex + timedelta(days=21)
        if (
            (symbols and row["symbol"] not in symbols)
            or not start <= process <= end
            or ex > market.end + timedelta(days=4)
        ):
            continue
        common = {
            "symbol": row["symbol"],
            "ex_date": str(ex),
            "process_date": str(process),
            "id": f"{row['symbol']}{ex}",
        }
        if split:
            forward = int(row["ratio_num"]) > int(row["ratio_den"])
            kind = "forward_split" if forward else "reverse_split"
            more: dict[str, Any] = {"new_rate": int(row["ratio_num"]), "old_rate": int(row["ratio_den"]), "cusip": "0"}
        else:
            kind = "cash_dividend"
            more = {"rate": float(row["dividend_usd"]), "special": False, "foreign": False, "cusip": "0"}
            more["payable_date"] = str(process)
        if kind in types:
            found.append((process, f"{kind}s", {**common, **more}))
    for _, group, record in sorted(found, key=lambda item: (item[0], item[1], item[2]["symbol"])):
        yield group, record


def _bound(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(400, f"invalid time: {text}") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
