"""What a tear sheet shows, as plain records of one row a session: research fills them, reports/tearsheet.py renders.

Money is USD as float: a tear sheet is for looking at; the exact integers are the fold's and the ledger's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from tradecore.reports.metrics import Floats
from tradecore.reports.metrics.tables import Days


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """What the book is compared with: returns [T] of the same sessions, 0 at the first (the book holds cash then)."""

    label: str
    returns: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    """A position from its first share until it is flat again; `closed_on` None: still held, valued at the last mark.

    bought and sold are notionals; gain is net of fees and with the dividends between. sessions: how long it was held.
    """

    symbol: str
    long: bool
    opened_on: date
    closed_on: date | None
    sessions: int
    fills: int
    bought_usd: float
    sold_usd: float
    fees_usd: float
    gain_usd: float

    @property
    def return_frac(self) -> float:
        """Gain over what the position cost to enter (for a short one: over what it was sold for)."""
        entered = self.bought_usd if self.long else self.sold_usd
        return self.gain_usd / entered if entered > 0.0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Who brought how much: gain_usd [T] of a strategy or a name, net of its fees. weight_frac: its mean weight."""

    name: str
    gain_usd: Floats
    weight_frac: float
    fees_usd: float
    traded_usd: float

    @property
    def total_usd(self) -> float:
        return float(self.gain_usd.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class TearSheet:
    """A backtest, a row a session [T]; equity_usd [T + 1] begins with what the book opened with."""

    title: str
    lead: str
    day: Days
    equity_usd: Floats
    returns: Floats
    benchmark: Benchmark | None
    gross_frac: Floats
    net_frac: Floats
    names_held: Floats
    traded_usd: Floats
    fees_usd: Floats
    slippage_usd: Floats
    state: Floats  # 0 active, 1 reduce-only, 2 halted, after the session
    strategies: tuple[Part, ...]
    names: tuple[Part, ...]
    trips: tuple[RoundTrip, ...]
    orders: int
    fills: int
    participation_frac: Floats  # [fills] of the bar's volume
    participation_limit_frac: float
    settings: tuple[tuple[str, str], ...]  # what it was run with, in words
    hashes: tuple[tuple[str, str], ...]
