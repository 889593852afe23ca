"""The data endpoints: stock bars, trades and their latest, as Alpaca prints them (numbers, not strings)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from alpaca_standin.market import Bar, Market, Print, new_york
from alpaca_standin.state import ApiError

MAX_ROWS, DEFAULT_ROWS = 10_000, 1_000
TIMEFRAME = re.compile(r"^(\d+)(Min|T|Hour|H|Day|D)$")


def answer(market: Market, path: str, query: dict[str, str], at: datetime) -> dict[str, Any]:
    """Answer GET /v2/stocks/...: nothing after `at` is known yet. Raises ApiError."""
    parts = path.removeprefix("/v2/stocks/").split("/")
    single = parts[0] if parts[0] not in ("bars", "trades", "quotes") else None
    kind, latest = (parts if single is None else parts[1:])[0], parts[-1] == "latest"
    symbols = [single] if single else [name for name in query.get("symbols", "").split(",") if name]
    if not symbols:
        raise ApiError(400, None, "symbols is required")
    if latest:
        found = {name: row for name in symbols if (row := _latest(market, kind, name, at)) is not None}
        if single:
            if single not in found:
                raise ApiError(404, None, f"no {kind[:-1]} found for {single}")
            return {"symbol": single, kind[:-1]: found[single]}
        return {kind: found}
    if kind not in ("bars", "trades"):
        raise ApiError(404, None, "endpoint not found.")
    return _page(market, kind, symbols, single, query, at)


def _page(
    market: Market, kind: str, symbols: Sequence[str], single: str | None, query: dict[str, str], at: datetime
) -> dict[str, Any]:
    start, end = _bound(query, "start", at, at - timedelta(days=1)), min(_bound(query, "end", at, at), at)
    limit = int(query.get("limit") or DEFAULT_ROWS)
    if not 1 <= limit <= MAX_ROWS:
        raise ApiError(400, None, f"limit must be between 1 and {MAX_ROWS}")
    rows: list[tuple[str, dict[str, Any]]] = []
    for name in sorted(symbols):
        if kind == "trades":
            rows += [(name, trade(row)) for row in market.prints(name) if start <= row.at <= end]
        else:
            rows += [(name, row) for row in bars(market, name, query.get("timeframe", "1Min"), start, end, at)]
    if query.get("sort") == "desc":
        rows.reverse()
    first = int(query.get("page_token") or 0)
    token = str(first + limit) if first + limit < len(rows) else None
    rows = rows[first : first + limit]
    if single:
        return {kind: [row for _, row in rows], "symbol": single, "next_page_token": token}
    return {
        kind: {name: [row for owner, row in rows if owner == name] for name in dict.fromkeys(n for n, _ in rows)},
        "next_page_token": token,
    }


def bars(
    market: Market, symbol: str, timeframe: str, start: datetime, end: datetime, at: datetime
) -> list[dict[str, Any]]:
    """Return the bars that start in [start, end]; a bar in progress holds the prints until `at`."""
    parsed = TIMEFRAME.match(timeframe)
    if parsed is None:
        raise ApiError(400, None, f"invalid timeframe: {timeframe}")
    count, unit = int(parsed[1]), parsed[2][0]
    groups: dict[datetime, list[tuple[Bar, list[Print]]]] = {}
    for bar in market.bars.get(symbol, ()):
        if bar.start_at > at:
            break
        day = new_york(bar.start_at).replace(hour=0, minute=0, second=0, microsecond=0)
        if unit == "D":
            key = day.astimezone(UTC)
        else:
            step = timedelta(minutes=count if unit in "MT" else 60 * count)
            key = (day + (new_york(bar.start_at) - day) // step * step).astimezone(UTC)
        if start <= key <= end or (unit == "D" and start.date() <= key.date() and key <= end):
            groups.setdefault(key, []).append((bar, []))
    return [_bar(key, [bar for bar, _ in members], market, symbol, at) for key, members in sorted(groups.items())]


def _bar(key: datetime, members: list[Bar], market: Market, symbol: str, at: datetime) -> dict[str, Any]:
    done = [bar for bar in members if bar.end_at <= at]
    open_bars = [bar for bar in members if bar.end_at > at]
    partial = [row for bar in open_bars for row in market.prints(symbol) if bar.start_at <= row.at <= at]
    highs = [bar.high for bar in done] + [row.price for row in partial]
    lows = [bar.low for bar in done] + [row.price for row in partial]
    volume = sum((bar.volume for bar in done), Decimal(0)) + sum((row.volume for row in partial), Decimal(0))
    close = partial[-1].price if partial else done[-1].close
    mean = (max(highs) + min(lows) + close) / 3  # of what is known at `at`, as everything here
    return {
        "t": _stamp(key),
        "o": _plain(members[0].open),
        "h": _plain(max(highs)),
        "l": _plain(min(lows)),
        "c": _plain(close),
        "v": int(volume),
        "n": len(members) * 4,
        "vw": _plain(round(mean, 6)),
    }


def trade(row: Print) -> dict[str, Any]:
    """Return a print as a trade."""
    conditions = {"open": ["@", "O"], "close": ["@", "6"]}.get(row.auction, ["@"])
    what = {"p": _plain(row.price), "s": int(row.volume)}
    return {"t": _stamp(row.at), "x": "V", **what, "c": conditions, "i": 1, "z": "C"}


def _latest(market: Market, kind: str, symbol: str, at: datetime) -> dict[str, Any] | None:
    last = market.last(symbol, at)
    if last is None:
        return None
    if kind == "trades":
        return trade(last)
    if kind == "quotes":
        price, size = _plain(last.price), int(last.volume)
        sides = {"ax": "V", "ap": price, "as": size, "bx": "V", "bp": price, "bs": size}
        return {"t": _stamp(last.at), **sides, "c": ["R"], "z": "C"}
    bar = [bar for bar in market.bars[symbol] if bar.start_at <= at][-1]
    return _bar(bar.start_at, [bar], market, symbol, at)


def _bound(query: dict[str, str], key: str, at: datetime, default: datetime) -> datetime:
    given = query.get(key)
    if not given:
        return default
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise ApiError(400, None, f"invalid {key}: {given}") from None
    if len(given) == 10 and key == "end":
        found += timedelta(days=1)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _plain(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
