"""The truth of the stand-in: trades that happen whether or not anybody listens, and the minute bars of them."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MINUTE_NS = 60_000_000_000
EXCHANGES = ("V", "Q", "N")


@dataclass(slots=True)
class Tape:
    """The trades of a symbol in order of time: (exchange, id, price in cents, size)."""

    symbol: str
    price_cents: int
    at_ns: list[int] = field(default_factory=list)
    trades: list[tuple[str, int, int, int]] = field(default_factory=list)

    def document(self, row: int) -> dict[str, Any]:
        """Return a trade as both the stream and REST give it; t is int ns, to be written as its codec has it."""
        exchange, number, cents, size = self.trades[row]
        return {
            "t": self.at_ns[row],
            "x": exchange,
            "p": cents / 100,
            "s": size,
            "c": ["@", "I"] if size < 100 else ["@"],
            "i": number,
            "z": "C",
        }

    def minute(self, start_ns: int) -> dict[str, Any] | None:
        """Return the bar of a minute, None without trades."""
        first, until = bisect_left(self.at_ns, start_ns), bisect_left(self.at_ns, start_ns + MINUTE_NS)
        rows = self.trades[first:until]
        if not rows:
            return None
        cents, volume = [row[2] for row in rows], sum(row[3] for row in rows)
        prices = {"o": cents[0] / 100, "h": max(cents) / 100, "l": min(cents) / 100, "c": cents[-1] / 100}
        mean = round(sum(row[2] * row[3] for row in rows) / volume / 100, 6)
        return {"t": start_ns, **prices, "v": volume, "n": len(rows), "vw": mean}


class Market:
    """All symbols. `rate` trades a second happen from `open` to `shut`."""

    def __init__(self, symbols: Sequence[str], seed: int, disorder_s: float = 0.0) -> None:
        """disorder_s: one trade in ten is told up to so much after it happened."""
        self._disorder_ns = int(disorder_s * 1e9)
        self.tapes = {symbol: Tape(symbol, 10_000 + 100 * k) for k, symbol in enumerate(symbols)}
        self._random = random.Random(seed)
        self._number = 0
        self._next_bar_ns = 0

    def trade(self, at_ns: int, count: int) -> list[tuple[Tape, dict[str, Any]]]:
        """Let trades happen; return each with its tape."""
        happened, chance = [], self._random
        tapes = chance.choices(list(self.tapes.values()), k=count)
        for tape in tapes:
            self._number += 1
            tape.price_cents = max(100, tape.price_cents + chance.randint(-3, 3))
            late_ns = chance.randint(0, self._disorder_ns) if self._disorder_ns and chance.random() < 0.1 else 0
            row = bisect_right(tape.at_ns, at_ns - late_ns)
            tape.at_ns.insert(row, at_ns - late_ns)
            trade = (EXCHANGES[self._number % 3], self._number, tape.price_cents, chance.randint(1, 500))
            tape.trades.insert(row, trade)
            happened.append((tape, tape.document(row)))
        return happened

    def bars_due(self, now_ns: int) -> list[tuple[Tape, dict[str, Any]]]:
        """Return the bars of minutes that have ended since the last call."""
        if not self._next_bar_ns:
            self._next_bar_ns = now_ns // MINUTE_NS * MINUTE_NS
        found = []
        while self._next_bar_ns + MINUTE_NS <= now_ns:
            bars = [(tape, tape.minute(self._next_bar_ns)) for tape in self.tapes.values()]
            found += [(tape, bar) for tape, bar in bars if bar is not None]
            self._next_bar_ns += MINUTE_NS
        return found

    def page(
        self, what: str, symbols: Sequence[str], first_ns: int, until_ns: int, limit: int, token: str
    ) -> tuple[dict[str, list[dict[str, Any]]], str | None]:
        """Return a page of past trades or minute bars, by symbol and time, and the token of the next."""
        skipped, row = (int(part) for part in token.split(":")) if token else (0, 0)
        found: dict[str, list[dict[str, Any]]] = {}
        names = sorted(set(symbols) & set(self.tapes))
        left = limit
        for place, name in enumerate(names[skipped:], skipped):
            rows = self._past(what, self.tapes[name], first_ns, until_ns)
            start = row if place == skipped else 0
            taken = rows[start : start + left]
            if taken:
                found[name] = taken
                left -= len(taken)
            if start + len(taken) < len(rows):
                return found, f"{place}:{start + len(taken)}"
        return found, None

    def _past(self, what: str, tape: Tape, first_ns: int, until_ns: int) -> list[dict[str, Any]]:
        if what == "trades":
            rows = range(bisect_left(tape.at_ns, first_ns), bisect_right(tape.at_ns, until_ns))
            return [tape.document(row) for row in rows]
        start = -(-first_ns // MINUTE_NS) * MINUTE_NS
        bars = [tape.minute(at) for at in range(start, until_ns + 1, MINUTE_NS) if at < self._next_bar_ns]
        return [bar for bar in bars if bar is not None]

    def sums(self) -> dict[str, list[int]]:
        """Return by symbol: trades, and the sums of their ids, cents, sizes and times."""
        return {
            name: [
                len(tape.trades),
                *(sum(row[k] for row in tape.trades) for k in (1, 2, 3)),
                sum(at // 1000 for at in tape.at_ns),
            ]
            for name, tape in self.tapes.items()
        }


def rfc3339(ns: int) -> str:
    """Return a time as Alpaca's JSON has it, to the nanosecond."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
