"""Tax lots of a book: what is held since when and at what cost, and what was sold of which lot. First in, first out.

Lots of a short have a negative quantity and a negative cost: what they brought.

Open lots are the book's own. Closed ones follow from its fills and splits by the rules of docs/STEP.md, settle 2 and 4;
what is left open in the end is then the book's lots again, which the tests hold it to.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import psycopg

from tradecore.storage import books, queries
from tradecore.units import from_ns, shares, to_ns, usd

SQL = queries.load("lots")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLot:
    """Shares that are held, and what they cost without fees. opened_at: the bar that bought (or adopted) them."""

    symbol: str
    qty: Decimal
    cost_usd: Decimal
    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLot:
    """Shares of one lot that one fill closed; gain is proceeds less cost, both without fees. qty < 0: a short."""

    symbol: str
    qty: Decimal
    cost_usd: Decimal
    proceeds_usd: Decimal
    opened_at: datetime
    closed_at: datetime

    @property
    def gain_usd(self) -> Decimal:
        return self.proceeds_usd - self.cost_usd


@dataclass(slots=True)
class _Lot:
    qty: int
    cost: int
    opened_ns: int


def open_lots(conn: psycopg.Connection, book: str, bar_end: datetime | None = None) -> list[OpenLot]:
    """Return what is held after a bar (default: the last), by symbol, the oldest first."""
    at = bar_end or _last(conn, book)
    rows = conn.execute(SQL["open_lots"], {"book": book, "bar_end": at}).fetchall()
    return [OpenLot(symbol=r[0], qty=shares(r[2]), cost_usd=usd(r[3]), opened_at=from_ns(r[4])) for r in rows]


def closed_lots(conn: psycopg.Connection, book: str, bar_end: datetime | None = None) -> list[ClosedLot]:
    """Return what was sold up to a bar (default: the last), in the order of the sales."""
    closed, _ = _replay(conn, book, bar_end)
    return closed


def replayed(conn: psycopg.Connection, book: str, bar_end: datetime | None = None) -> list[OpenLot]:
    """Return the open lots as the fills and splits make them: those of `open_lots`, or the ledger is not whole."""
    _, lots = _replay(conn, book, bar_end)
    return lots


def _last(conn: psycopg.Connection, book: str) -> datetime | None:
    row = conn.execute(books.SQL["last_state"], (book,)).fetchone()
    return row[0] if row else None


def _replay(conn: psycopg.Connection, book: str, bar_end: datetime | None) -> tuple[list[ClosedLot], list[OpenLot]]:
    key = {"book": book, "bar_end": bar_end or _last(conn, book)}
    lots: dict[int, list[_Lot]] = defaultdict(list)
    for instrument, qty, cost, opened_ns in conn.execute(SQL["adopted"], key).fetchall():
        lots[instrument].append(_Lot(qty, cost, opened_ns))
    moves = conn.execute(SQL["moves"], key).fetchall()
    ids = sorted({*lots, *(move[1] for move in moves)})
    symbols: dict[int, str] = dict(conn.execute(SQL["symbols"], (ids,)).fetchall())
    closed: list[ClosedLot] = []
    for at, instrument, qty, notional, num, den in moves:
        mine, ns = lots[instrument], to_ns(at)
        if num is not None:
            lots[instrument] = _split(mine, qty, num, den)
        else:
            side = 1 if qty > 0 else -1
            closing = min(abs(qty), max(-side * sum(lot.qty for lot in mine), 0))
            closed_for = _share(notional, closing, abs(qty))
            if closing:
                closed += _close(mine, closing, closed_for, symbols[instrument], at)
            if closing < abs(qty):
                _open(mine, qty - side * closing, side * (notional - closed_for), ns)
    left = [
        OpenLot(symbol=symbols[i], qty=shares(lot.qty), cost_usd=usd(lot.cost), opened_at=from_ns(lot.opened_ns))
        for i in sorted(lots, key=lambda i: symbols[i])
        for lot in lots[i]
    ]
    return closed, left


def _open(lots: list[_Lot], qty: int, cost: int, ns: int) -> None:
    """Open a lot, or add to the one that this bar opened."""
    if lots and lots[-1].opened_ns == ns:
        lots[-1].qty += qty
        lots[-1].cost += cost
    else:
        lots.append(_Lot(qty, cost, ns))


def _close(lots: list[_Lot], qty: int, notional: int, symbol: str, at: datetime) -> list[ClosedLot]:
    """Take qty (unsigned) out of the lots, first in first out; the money goes with the shares, the rest to the last
    part. A short's lot was sold when it opened, and is bought now."""
    parts, whole, paid = [], qty, 0
    while qty > 0 and lots:
        lot = lots[0]
        sign, held = (1, lot.qty) if lot.qty > 0 else (-1, -lot.qty)
        part = min(qty, held)
        cost = lot.cost if part == held else sign * _share(abs(lot.cost), part, held)
        money = notional - paid if part == qty else _share(notional, part, whole)
        parts.append(
            ClosedLot(
                symbol=symbol,
                qty=shares(sign * part),
                cost_usd=usd(cost if sign > 0 else money),
                proceeds_usd=usd(money if sign > 0 else -cost),
                opened_at=from_ns(lot.opened_ns),
                closed_at=at,
            )
        )
        lot.qty, lot.cost, qty, paid = lot.qty - sign * part, lot.cost - cost, qty - part, paid + money
        if lot.qty == 0:
            lots.pop(0)
    return parts


def _split(lots: list[_Lot], new_total: int, num: int, den: int) -> list[_Lot]:
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
