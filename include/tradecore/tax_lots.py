"""Tax lots of a book: what is held since when and at what cost, and what was sold of which lot. First in, first out, or
as a tax return may say (lot_matching.py).

Lots of a short have a negative quantity and a negative cost: what they brought.

Open lots are the book's own. Closed ones follow from its fills and splits by the rules of docs/STEP.md, settle 2 and 4;
what is left open in the end is then the book's lots again, which the tests hold it to.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

import psycopg

from tradecore.lot_matching import Lot, Method, Move, TaxLot, match
from tradecore.lot_matching import tax_lots as named
from tradecore.storage import books, queries
from tradecore.units import from_ns, shares, to_ns, usd

SQL = queries.load("lots")


def open_lots(conn: psycopg.Connection, book: str, bar_end: datetime | None = None) -> list[TaxLot]:
    """Return what is held after a bar (default: the last), by symbol, the oldest first."""
    at = bar_end or _last(conn, book)
    rows = conn.execute(SQL["open_lots"], {"book": book, "bar_end": at}).fetchall()
    return [TaxLot(symbol=r[0], qty=shares(r[2]), cost_usd=usd(r[3]), opened_at=from_ns(r[4])) for r in rows]


def closed_lots(
    conn: psycopg.Connection, book: str, bar_end: datetime | None = None, method: Method = "fifo"
) -> list[TaxLot]:
    """Return what was closed up to a bar (default: the last), in the order of the fills, by a method of matching."""
    closed, _ = _replay(conn, book, bar_end, method)
    return closed


def replayed(conn: psycopg.Connection, book: str, bar_end: datetime | None = None) -> list[TaxLot]:
    """Return the open lots as the fills and splits make them: those of `open_lots`, or the ledger is not whole."""
    _, lots = _replay(conn, book, bar_end)
    return lots


def _last(conn: psycopg.Connection, book: str) -> datetime | None:
    row = conn.execute(books.SQL["last_state"], (book,)).fetchone()
    return row[0] if row else None


def _replay(
    conn: psycopg.Connection, book: str, bar_end: datetime | None, method: Method = "fifo"
) -> tuple[list[TaxLot], list[TaxLot]]:
    key = {"book": book, "bar_end": bar_end or _last(conn, book)}
    adopted: dict[int, list[Lot]] = defaultdict(list)
    for instrument, qty, cost, opened_ns in conn.execute(SQL["adopted"], key).fetchall():
        adopted[instrument].append(Lot(qty, cost, opened_ns))
    moves = [
        Move(at_ns=to_ns(at), instrument=i, qty=qty, notional=notional, ratio=None if num is None else (num, den))
        for at, i, qty, notional, num, den in conn.execute(SQL["moves"], key).fetchall()
    ]
    ids = sorted({*adopted, *(move.instrument for move in moves)})
    symbols: dict[int, str] = dict(conn.execute(SQL["symbols"], (ids,)).fetchall())
    found = named(*match(moves, method, adopted), symbols)
    return [lot for lot in found if lot.closed_at], [lot for lot in found if not lot.closed_at]
