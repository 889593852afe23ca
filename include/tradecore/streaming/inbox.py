"""Messages become rows: what has arrived and is not written yet."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from tradecore.storage.streams import PG_EPOCH, PG_EPOCH_US, Amendment, BarRow, TradeRow, at_of

MINUTE_US = 60_000_000
MOST_CHARS = 64
LOGGED_REJECTS = 10
NEW_YORK = ZoneInfo("America/New_York")
log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Batch:
    """Rows to be written in one transaction; messages: how many they came in."""

    trades: list[TradeRow] = field(default_factory=list)
    bars: list[BarRow] = field(default_factory=list)
    amendments: list[Amendment] = field(default_factory=list)
    messages: int = 0

    def __len__(self) -> int:
        return len(self.trades) + len(self.bars) + len(self.amendments)


class Inbox:
    """Takes messages of the stream and of REST apart; what cannot be read, or nobody asked for, is counted."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        """ids: the instruments by symbol."""
        self._ids = ids
        self.rejects = 0
        self.batch = Batch()

    def take(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Add messages of the stream."""
        for message in messages:
            kind = message.get("T")
            if kind == "t":
                self._add(message, message.get("S"), self._trade)
            elif kind in ("b", "u"):
                self._add(message, message.get("S"), self._bar)
            elif kind in ("c", "x"):
                self._add(message, message.get("S"), self._amendment)

    def take_page(self, page: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Add a page of REST: trades have a price "p", bars have not."""
        for symbol, document in page:
            self._add(document, symbol, self._past)

    def emptied(self) -> Batch:
        """Return what has come since the last call."""
        batch, self.batch = self.batch, Batch()
        return batch

    def _add(self, message: Mapping[str, Any], symbol: object, add: Any) -> None:
        self.batch.messages += 1
        try:
            add(self._ids[symbol], message)  # type: ignore[index]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            self.rejects += 1
            if self.rejects <= LOGGED_REJECTS:
                text = json.dumps(message, default=str)[:200]
                log.warning("message %s cannot be read (%s: %s); it is left out", text, type(error).__name__, error)

    def _trade(self, instrument_id: int, m: Mapping[str, Any]) -> None:
        c = m.get("c")
        self.batch.trades.append(
            (
                instrument_id,
                _us(m["t"]),
                _text(m.get("x") or ""),
                _number(m["i"]),
                float(m["p"]),
                float(m["s"]),
                _text(tuple(c) if isinstance(c, list) else c or ""),
            )
        )

    def _past(self, instrument_id: int, m: Mapping[str, Any]) -> None:
        """Add a bar or a trade of REST, whose "u" tells what became of it."""
        if "p" not in m:
            return self._bar(instrument_id, m)
        self._trade(instrument_id, m)
        if m.get("u") in ("canceled", "incorrect"):
            exchange, number, at = _text(m.get("x") or ""), _number(m["i"]), at_of(_us(m["t"]))
            self.batch.amendments.append(
                Amendment(
                    instrument_id=instrument_id, exchange=exchange, trade_id=number, amended_at=at, kind="cancelled"
                )
            )

    def _bar(self, instrument_id: int, m: Mapping[str, Any]) -> None:
        start_us = _us(m["t"])
        prices = float(m["o"]), float(m["h"]), float(m["l"]), float(m["c"])
        rest = float(m["v"]), int(m.get("n") or 0), float(m.get("vw") or math.nan)
        self.batch.bars.append((instrument_id, start_us + MINUTE_US, _new_york_day(start_us), *prices, *rest))

    def _amendment(self, instrument_id: int, m: Mapping[str, Any]) -> None:
        corrected = m["T"] == "c"
        self.batch.amendments.append(
            Amendment(
                instrument_id=instrument_id,
                exchange=_text(m.get("x") or ""),
                trade_id=_number(m["oi"] if corrected else m["i"]),
                amended_at=at_of(_us(m["t"])),
                kind="corrected" if corrected else "cancelled",
                new_trade_id=_number(m["ci"]) if corrected else None,
                price=float(m["cp"]) if corrected else None,
                size=float(m["cs"]) if corrected else None,
            )
        )


def _us(t: int | str) -> int:
    """Return a time of MessagePack (int ns since 1970) or JSON (RFC 3339) as µs since 2000, cut to the microsecond."""
    if isinstance(t, int):
        return t // 1000 - PG_EPOCH_US
    return (datetime.fromisoformat(t) - PG_EPOCH) // timedelta(microseconds=1)


def _number(i: int) -> int:
    """Return a trade's id as PostgreSQL's bigint: the upper half of the vendor's 64 bits becomes negative."""
    return i if -(2**63) <= i < 2**63 else _upper_half(i)


def _upper_half(i: int) -> int:
    if not 2**63 <= i < 2**64:
        raise ValueError(f"{i} is no id of 64 bits")
    return i - 2**64


@lru_cache(maxsize=4_096)
def _text(value: str | tuple[str, ...]) -> str:
    """Return conditions joined by blanks, or a short text as it is; there are few different ones."""
    text = value if isinstance(value, str) else " ".join(value)
    if "\0" in text or len(text) > MOST_CHARS:
        raise ValueError(f"{text[:20]!r} is no code")
    return text


@lru_cache(maxsize=64)
def _day_of_hour(hour: int) -> date:
    return (PG_EPOCH + timedelta(hours=hour)).astimezone(NEW_YORK).date()


def _new_york_day(us: int) -> date:
    """Return the exchange's day, to which a bar belongs before, in and after its session."""
    return _day_of_hour(us // (60 * MINUTE_US))
