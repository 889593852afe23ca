"""What the vendors know: the sample's bars and actions, what of them is published by now, and what was restated.

The truth is what is published: a test compares a database with it. Days run by number, as the driver lets them: a bar
of session k is there from day k on, a late one from a day more. Crypto has the same prices, a day after the other.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from tradecore.sessions import calendar

XNYS = calendar("XNYS")
MINUTES = 390
CRYPTO_FIRST = date(2021, 1, 1)
COINS = {"BTC-USD": "IBM", "ETH-USD": "MSFT"}
Ohlcv = tuple[float, float, float, float, int]


@dataclass(slots=True, kw_only=True)
class Market:
    """Bars by symbol and session. end: the newest session that is published; late: not yet, all the same."""

    bars: dict[str, dict[date, Ohlcv]]
    actions: list[dict[str, str]]
    end: date
    late: set[tuple[str, date]] = field(default_factory=set)
    running: bool = False  # the session `end` has not closed yet

    @classmethod
    def load(cls, folder: Path, first: date, last: date) -> Market:
        """Read the sample's sessions from first to last; all are published."""
        bars: dict[str, dict[date, Ohlcv]] = {}
        for path in sorted(folder.glob("*.csv")):
            if path.name == "corporate_actions.csv":
                continue
            with path.open(encoding="utf-8") as lines:
                rows = {date.fromisoformat(row["session_date"]): row for row in csv.DictReader(lines)}
            mine = {
                day: (float(r["open"]), float(r["high"]), float(r["low"]), float(r["close"]), int(float(r["volume"])))
                for day, r in rows.items()
                if first <= day <= last
            }
            if mine:
                bars[path.stem] = mine
        with (folder / "corporate_actions.csv").open(encoding="utf-8") as lines:
            actions = list(csv.DictReader(lines))
        return cls(bars=bars, actions=actions, end=last)

    def published(self, symbol: str) -> dict[date, Ohlcv]:
        """Return a symbol's bars that are there by now."""
        return {
            day: row
            for day, row in self.bars.get(symbol, {}).items()
            if day <= self.end and (symbol, day) not in self.late
        }

    def truth(self) -> list[list[Any]]:
        """Return all published bars: symbol, date, open, high, low, close, volume; a session that runs has none yet."""
        return [
            [symbol, str(day), *row]
            for symbol in sorted(self.bars)
            for day, row in sorted(self.published(symbol).items())
            if not (self.running and day == self.end)
        ]

    def restate(self, symbol: str, day: date, factor: float) -> None:
        """Replace a bar: prices by so much, in whole cents."""
        opened, high, low, close, volume = self.bars[symbol][day]
        moved = [round(price * factor, 2) for price in (opened, high, low, close)]
        self.bars[symbol][day] = (moved[0], max(moved), min(moved), moved[3], volume + 100)

    def minutes(self, symbol: str, day: date) -> Iterator[tuple[datetime, Ohlcv]]:
        """Yield minute bars of a session that make up its daily one: up to the high, down to the low, to the close."""
        if day > self.end or (symbol, day) in self.late or day not in self.bars.get(symbol, {}):
            return
        row = self.bars[symbol][day]
        opened, high, low, close, volume = row
        session = XNYS.session(day)
        count = int((session.close_at - session.open_at).total_seconds()) // 60
        turns = [(0, opened), (count // 3, high), (2 * count // 3, low), (count, close)]
        path = [_between(turns, k) for k in range(count + 1)]
        for k in range(count):
            a, b = path[k], path[k + 1]
            share = volume * (k + 1) // count - volume * k // count
            yield session.open_at + timedelta(minutes=k), (a, max(a, b), min(a, b), b, share)

    def candles(self, coin: str) -> list[tuple[datetime, Ohlcv]]:
        """Return a coin's days from CRYPTO_FIRST on: one for each bar of the share that lends its prices."""
        rows = [row for _, row in sorted(self.bars.get(COINS.get(coin, ""), {}).items())]
        start = datetime.combine(CRYPTO_FIRST, datetime.min.time(), UTC)
        return [(start + timedelta(days=k), row) for k, row in enumerate(rows)]


def _between(turns: list[tuple[int, float]], k: int) -> float:
    for (a, left), (b, right) in itertools.pairwise(turns):
        if k <= b:
            return round(left + (right - left) * (k - a) / (b - a), 4)
    return turns[-1][1]
