"""Round trips out of fills: a position from its first share until it is flat again, whatever was added in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from tradecore.reports.tearsheet_model import RoundTrip


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What happens to a position at a session t: a fill (signed qty e6, price, fee) or the factor of a split, or cash
    that it pays (a dividend, cash in lieu)."""

    t: int
    symbol: str
    qty_e6: int = 0
    price_usd: float = 0.0
    fee_usd: float = 0.0
    qty_after_e6: int | None = None  # after a split
    cash_usd: float = 0.0


@dataclass(slots=True)
class _Open:
    t: int
    long: bool
    qty: int = 0
    bought: float = 0.0
    sold: float = 0.0
    fees: float = 0.0
    cash: float = 0.0
    fills: int = 0

    def closed(self, symbol: str, t: int | None, days: Sequence[date], value: float) -> RoundTrip:
        return RoundTrip(
            symbol=symbol,
            long=self.long,
            opened_on=days[self.t],
            closed_on=None if t is None else days[t],
            sessions=(len(days) - 1 if t is None else t) - self.t,
            fills=self.fills,
            bought_usd=self.bought,
            sold_usd=self.sold,
            fees_usd=self.fees,
            gain_usd=self.sold - self.bought + self.cash - self.fees + value,
        )


def round_trips(moves: Sequence[Move], days: Sequence[date], marks_usd: Mapping[str, float]) -> tuple[RoundTrip, ...]:
    """Return the round trips of moves in their order, the open ones valued at `marks_usd`; by the day they began.

    A fill that turns a position over closes one trip and opens the next, its fee shared by quantity. The gains of all
    trips sum to what the fills, dividends and the last marks brought.
    """
    held: dict[str, _Open] = {}
    done: list[RoundTrip] = []
    for move in moves:
        trip = held.get(move.symbol)
        if trip is not None:
            trip.cash += move.cash_usd
        if move.qty_after_e6 is not None and trip is not None:
            trip.qty = move.qty_after_e6
            if trip.qty == 0:
                done.append(held.pop(move.symbol).closed(move.symbol, move.t, days, 0.0))
        rest = move.qty_e6
        while rest:
            trip = held.setdefault(move.symbol, _Open(t=move.t, long=rest > 0))
            closing = trip.qty != 0 and (trip.qty > 0) != (rest > 0)
            part = max(-abs(trip.qty), min(abs(trip.qty), rest)) if closing else rest
            _book(trip, move, part)
            rest -= part
            if trip.qty == 0:
                done.append(held.pop(move.symbol).closed(move.symbol, move.t, days, 0.0))
    for symbol, trip in held.items():
        done.append(trip.closed(symbol, None, days, trip.qty / 1e6 * marks_usd[symbol]))
    return tuple(sorted(done, key=lambda trip: (trip.opened_on, trip.symbol)))


def _book(trip: _Open, move: Move, part: int) -> None:
    notional = abs(part) / 1e6 * move.price_usd
    trip.qty += part
    trip.fills += 1
    trip.fees += move.fee_usd * (part / move.qty_e6)
    if part > 0:
        trip.bought += notional
    else:
        trip.sold += notional
