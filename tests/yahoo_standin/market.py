"""The stand-in's market: the sample's bars and events, printed the way Yahoo prints them."""

from __future__ import annotations

import csv
import struct
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tradecore.sessions import calendar

NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One symbol as traded: (date, open, high, low, close, volume) rows, splits and dividends by ex-date."""

    rows: tuple[tuple[date, float, float, float, float, float], ...]
    splits: tuple[tuple[date, int, int], ...]
    dividends: tuple[tuple[date, float], ...]


def single(value: float) -> float:
    """Return the value as Yahoo stores it: rounded to a 32-bit float."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def opening(label: date) -> int:
    """Return the Unix second of the opening in New York, which stamps a daily row."""
    return int(datetime.combine(label, time(9, 30), NEW_YORK).astimezone(UTC).timestamp())


class Market:
    """All shares, by symbol."""

    def __init__(self, shares: dict[str, Share]) -> None:
        self.shares = shares
        self.last_session = max(share.rows[-1][0] for share in shares.values())

    @classmethod
    def load(cls, folder: Path, *, aliases: dict[str, str], end: date | None) -> Market:
        """Read the folder; with `end`, move every session so that the last one becomes `end`."""
        bars = {
            path.stem: list(csv.DictReader(path.open(encoding="utf-8")))
            for path in sorted(folder.glob("*.csv"))
            if path.name != "corporate_actions.csv"
        }
        labels = sorted({date.fromisoformat(row["session_date"]) for rows in bars.values() for row in rows})
        moved = dict(zip(labels, labels, strict=True))
        if end is not None:
            exchange = calendar("XNYS")
            upto = exchange.sessions_in_range(exchange.first_session, end)
            moved = dict(zip(labels, upto[-len(labels) :], strict=True))
        actions = list(csv.DictReader((folder / "corporate_actions.csv").open(encoding="utf-8")))
        shares = {}
        for symbol, rows in bars.items():
            own = [row for row in actions if row["symbol"] == symbol]
            shares[symbol] = Share(
                rows=tuple(
                    (
                        moved[date.fromisoformat(row["session_date"])],
                        *(float(row[key]) for key in ("open", "high", "low", "close", "volume")),
                    )
                    for row in rows
                ),
                splits=tuple(
                    (moved[date.fromisoformat(row["ex_date"])], int(row["ratio_num"]), int(row["ratio_den"]))
                    for row in own
                    if row["kind"] == "split"
                ),
                dividends=tuple(
                    (moved[date.fromisoformat(row["ex_date"])], float(row["dividend_usd"]))
                    for row in own
                    if row["kind"] == "dividend"
                ),
            )
        shares.update({new: shares[old] for new, old in aliases.items()})
        return cls(shares)

    def chart(self, symbol: str, first: int, last: int, now: int) -> dict[str, Any]:
        """Return one chart result: rows and events stamped in [first, last) that exist at `now`."""
        share = self.shares[symbol]
        last = min(last, now)
        splits = [split for split in share.splits if opening(split[0]) <= now]

        def factor(label: date) -> float:
            value = 1.0
            for ex_date, num, den in splits:
                value *= num / den if ex_date > label else 1.0
            return value

        rows = [row for row in share.rows if first <= opening(row[0]) < last]
        stamps = [opening(row[0]) for row in rows]
        prices = {
            name: [single(row[i] / factor(row[0])) for row in rows]
            for i, name in enumerate(("open", "high", "low", "close"), start=1)
        }
        events: dict[str, Any] = {}
        for ex_date, amount in share.dividends:
            if first <= opening(ex_date) < last:
                entry = {"amount": single(amount / factor(ex_date)), "date": opening(ex_date)}
                events.setdefault("dividends", {})[str(opening(ex_date))] = entry
        for ex_date, num, den in splits:
            if first <= opening(ex_date) < last:
                entry = {
                    "date": opening(ex_date),
                    "numerator": float(num),
                    "denominator": float(den),
                    "splitRatio": f"{num}:{den}",
                }
                events.setdefault("splits", {})[str(opening(ex_date))] = entry
        result: dict[str, Any] = {"meta": self._meta(symbol, now)}
        if stamps:
            volume = [round(row[5] * factor(row[0])) for row in rows]
            result["timestamp"] = stamps
            result["indicators"] = {
                "quote": [{**prices, "volume": volume}],
                "adjclose": [{"adjclose": prices["close"]}],
            }
        else:
            result["indicators"] = {"quote": [{}], "adjclose": [{}]}
        if events:
            result["events"] = events
        return result

    def _meta(self, symbol: str, now: int) -> dict[str, Any]:
        """Return the answer's head, with the trading period of the day and the last trade before `now`."""
        exchange = calendar("XNYS")
        today = datetime.fromtimestamp(now, UTC).astimezone(NEW_YORK).date()
        upto = exchange.sessions_in_range(exchange.first_session, min(today, exchange.last_session))
        session = exchange.session(upto[-1])
        opens, closes = int(session.open_at.timestamp()), int(session.close_at.timestamp())
        traded = min(now, closes) if now > opens else int(exchange.session(upto[-2]).close_at.timestamp())
        zone = {"timezone": "EST", "gmtoffset": -18000}
        return {
            "currency": "USD",
            "symbol": symbol,
            "exchangeName": "NMS",
            "instrumentType": "EQUITY",
            "regularMarketTime": traded,
            "gmtoffset": -18000,
            "timezone": "EST",
            "exchangeTimezoneName": "America/New_York",
            "dataGranularity": "1d",
            "range": "",
            "currentTradingPeriod": {"regular": {**zone, "start": opens, "end": closes}},
            "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
        }
