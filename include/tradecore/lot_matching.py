"""Which shares a fill closes: lots opened by fills, scaled by splits, closed by a stated method. Pure.

`fifo` is the book's own rule (docs/STEP.md, settle 2 and 4). `lifo` closes the newest first, `hifo` the dearest first
(of a short the one that brought least), the oldest of equals. A short's lot has a negative quantity and cost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from tradecore.units import from_ns, shares, usd

Method = Literal["fifo", "lifo", "hifo"]
METHODS: tuple[Method, ...] = ("fifo", "lifo", "hifo")


@dataclass(slots=True)
class Lot:
    """Shares e6 that are held, their total cost e4, and when they were opened."""

    qty: int
    cost: int
    opened_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A fill (signed shares e6, unsigned notional e4), or a split num:den that left `qty` shares."""

    at_ns: int
    instrument: int
    qty: int
    notional: int = 0
    ratio: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A part of a lot that one fill closed, e6 and e4. qty < 0: a short, whose proceeds came first."""

    instrument: int
    qty: int
    cost: int
    proceeds: int
    opened_ns: int
    closed_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxLot:
    """A part of a lot, without fees; closed_at and proceeds None while it is open. A short has a negative quantity; of
    one that is open, cost is what it brought, negative."""

    symbol: str
    qty: Decimal
    cost_usd: Decimal
    opened_at: datetime
    closed_at: datetime | None = None
    proceeds_usd: Decimal | None = None

    @property
    def gain_usd(self) -> Decimal | None:
        return None if self.proceeds_usd is None else self.proceeds_usd - self.cost_usd


def match(
    moves: Iterable[Move], method: Method = "fifo", adopted: Mapping[int, Sequence[Lot]] | None = None
) -> tuple[list[Closed], dict[int, list[Lot]]]:
    """Return what was closed, in the order of the fills, and the lots that are left of each instrument.

    adopted: lots that were there before the first move; they are not changed.
    """
    lots: dict[int, list[Lot]] = defaultdict(list)
    for instrument, held in (adopted or {}).items():
        lots[instrument] = [Lot(lot.qty, lot.cost, lot.opened_ns) for lot in held]
    closed: list[Closed] = []
    for move in moves:
        mine = lots[move.instrument]
        if move.ratio is not None:
            lots[move.instrument] = _split(mine, move.qty, *move.ratio)
            continue
        side = 1 if move.qty > 0 else -1
        closing = min(abs(move.qty), max(-side * sum(lot.qty for lot in mine), 0))
        closed_for = _share(move.notional, closing, abs(move.qty))
        if closing:
            closed += _close(mine, closing, closed_for, move, method)
        if closing < abs(move.qty):
            _open(mine, move.qty - side * closing, side * (move.notional - closed_for), move.at_ns)
    return closed, lots


def tax_lots(closed: Iterable[Closed], left: Mapping[int, Sequence[Lot]], symbols: Mapping[int, str]) -> list[TaxLot]:
    """Return what `match` found as records: closed lots in the order of their sale, then the open ones by symbol."""
    found = [
        TaxLot(
            symbol=symbols[c.instrument],
            qty=shares(c.qty),
            cost_usd=usd(c.cost),
            proceeds_usd=usd(c.proceeds),
            opened_at=from_ns(c.opened_ns),
            closed_at=from_ns(c.closed_ns),
        )
        for c in closed
    ]
    for i in sorted(left, key=lambda i: symbols[i]):
        found += [
            TaxLot(symbol=symbols[i], qty=shares(lot.qty), cost_usd=usd(lot.cost), opened_at=from_ns(lot.opened_ns))
            for lot in left[i]
        ]
    return found


def _open(lots: list[Lot], qty: int, cost: int, ns: int) -> None:
    """Open a lot, or add to the one that this bar opened."""
    if lots and lots[-1].opened_ns == ns:
        lots[-1].qty += qty
        lots[-1].cost += cost
    else:
        lots.append(Lot(qty, cost, ns))


def _next(lots: Sequence[Lot], method: Method) -> int:
    """Return the position of the lot that is closed next."""
    if method == "fifo":
        return 0
    if method == "lifo":
        return len(lots) - 1
    return max(range(len(lots)), key=lambda k: (lots[k].cost * 1_000_000 // abs(lots[k].qty), -k))


def _close(lots: list[Lot], qty: int, notional: int, move: Move, method: Method) -> list[Closed]:
    """Take qty (unsigned) out of the lots; the money goes with the shares, the rest to the last part."""
    parts, whole, paid = [], qty, 0
    while qty > 0 and lots:
        k = _next(lots, method)
        lot = lots[k]
        sign, held = (1, lot.qty) if lot.qty > 0 else (-1, -lot.qty)
        part = min(qty, held)
        cost = lot.cost if part == held else sign * _share(abs(lot.cost), part, held)
        money = notional - paid if part == qty else _share(notional, part, whole)
        parts.append(
            Closed(
                instrument=move.instrument,
                qty=sign * part,
                cost=cost if sign > 0 else money,
                proceeds=money if sign > 0 else -cost,
                opened_ns=lot.opened_ns,
                closed_ns=move.at_ns,
            )
        )
        lot.qty, lot.cost, qty, paid = lot.qty - sign * part, lot.cost - cost, qty - part, paid + money
        if lot.qty == 0:
            lots.pop(k)
    return parts


def _split(lots: list[Lot], new_total: int, num: int, den: int) -> list[Lot]:
    """Scale lots so that they sum to the quantity after a split: the difference goes to the newest, costs stay."""
    sign = -1 if lots and lots[0].qty < 0 else 1
    for lot in lots:
        lot.qty = sign * (abs(lot.qty) * num // den)
    rest = abs(new_total) - sum(abs(lot.qty) for lot in lots)
    for lot in reversed(lots):
        move = rest if rest > 0 else max(rest, -abs(lot.qty))
        lot.qty += sign * move
        rest -= move
    return [lot for lot in lots if lot.qty]


def _share(amount: int, part: int, whole: int) -> int:
    """Return amount * part / whole, rounded half up; all of them are not negative."""
    return (2 * amount * part + whole) // (2 * whole)
