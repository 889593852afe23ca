"""Books in the database: save then load is the identity. Written once per bar, read by the next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import psycopg

from tradecore.errors import BookError
from tradecore.model import (
    MARKET,
    N_ORDERS,
    O_AGE,
    O_COLUMNS,
    O_DECIDED_NS,
    O_INSTR,
    O_LIMIT,
    O_LINE,
    O_QTY,
    O_REF,
    O_REM,
    O_REMAINDER,
    O_SPLIT_DEN,
    O_SPLIT_NUM,
    O_STOP,
    O_TYPE,
    ON_CLOSE,
    ORDER_TYPES,
    REMAINDERS,
    Book,
    Ints,
    new_book,
)
from tradecore.storage import queries
from tradecore.units import to_ns

SQL = queries.load("books")
ORDER_SLOTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class BookRecord:
    """A book's identity: what it trades, where, and since when."""

    book: str
    kind: str
    account: str
    calendar: str
    currency: str
    timeframe: str
    source: str
    universe: str
    inception_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """The fixed order of a book's arrays: instrument ids and strategy names."""

    instruments: tuple[int, ...]
    strategies: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedBook:
    """A book after a bar. order_ids: {(decided ns, line): client order id} of its working orders."""

    book: Book
    order_ids: dict[tuple[int, int], str]
    state_hash: str


def find(conn: psycopg.Connection, book: str) -> BookRecord | None:
    """Return a book's record, or None."""
    row = conn.execute(SQL["book"], (book,)).fetchone()
    return BookRecord(**dict(zip(BookRecord.__dataclass_fields__, row, strict=True))) if row else None


def get(conn: psycopg.Connection, book: str) -> BookRecord:
    """Return a book's record. Raises BookError when it was never opened."""
    record = find(conn, book)
    if record is None:
        raise BookError(
            f"book {book!r} is not open.",
            next_step=f"open it: python -m tradecore init --book {book} --before SESSION",
            book=book,
        )
    return record


def held_axes(
    conn: psycopg.Connection, book: str, *bar_ends: datetime, instruments: Sequence[int], strategies: Sequence[str]
) -> Axes:
    """Return the universe and the configured strategies, and behind them whatever else the book held at these bars.

    Holding is a position, a dividend to come, or an order: a name may leave the universe with any of them.
    """
    ids, owners = set(instruments), set[str]()
    for bar_end in bar_ends:
        owners |= {r[0] for r in conn.execute(SQL["allocations"], (book, bar_end)).fetchall()}
        ids |= {r[0] for r in conn.execute(SQL["held"], {"book": book, "bar_end": bar_end}).fetchall()}
    others = sorted(owners - set(strategies))
    return Axes(instruments=tuple(sorted(ids)), strategies=(*strategies, *others))


def state_hash(book: Book, axes: Axes) -> str:
    """Return the sha256 of a canonical book with its axes: integers only, names in order."""
    digest = hashlib.sha256(json.dumps([axes.instruments, axes.strategies]).encode())
    for name, array in zip(Book._fields, book, strict=True):
        digest.update(f"{name}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()


def save(
    conn: psycopg.Connection,
    *,
    name: str,
    bar_end: datetime,
    session: date,
    book: Book,
    axes: Axes,
    order_ids: dict[tuple[int, int], str],
    as_of: datetime | None = None,
    config_hash: str = "",
    manifest_hash: str = "",
) -> str:
    """Store a canonical book after a bar; return its hash. Once per bar: the ledger is never rewritten.

    as_of, config_hash, manifest_hash: as of when the bar was read, with which configuration it was settled, and which
    data that were, for a replay.
    """
    key = (name, bar_end)
    digest = state_hash(book, axes)
    with conn.cursor() as cur:
        cur.execute(
            SQL["add_state"],
            (*key, session, *(int(x) for x in book.acct[:N_ORDERS]), digest, as_of, config_hash, manifest_hash),
        )
        cur.executemany(
            SQL["add_position"],
            [
                (*key, axes.instruments[i], int(book.qty[i]), int(book.mark[i]), int(book.stale[i]))
                for i in range(book.qty.size)
                if book.qty[i] or book.mark[i] or book.stale[i]
            ],
        )
        cur.executemany(
            SQL["add_lot"],
            [
                (
                    *key,
                    axes.instruments[i],
                    k,
                    int(book.lot_qty[i, k]),
                    int(book.lot_cost[i, k]),
                    int(book.lot_opened[i, k]),
                )
                for i in range(book.qty.size)
                for k in range(int(book.lot_count[i]))
            ],
        )
        cur.executemany(
            SQL["add_allocation"],
            [
                (*key, axes.strategies[s], axes.instruments[i], int(book.alloc[s, i]))
                for s, i in np.argwhere(book.alloc != 0).tolist()
            ],
        )
        cur.executemany(
            SQL["add_receivable"],
            [
                (*key, axes.instruments[i], int(book.recv_day[i, r]), int(book.recv_amount[i, r]))
                for i, r in np.argwhere(book.recv_day != 0).tolist()
            ],
        )
        cur.executemany(
            SQL["add_carried"],
            [
                (
                    *key,
                    order_ids[int(o[O_DECIDED_NS]), int(o[O_LINE])],
                    axes.instruments[int(o[O_INSTR])],
                    int(o[O_QTY]),
                    int(o[O_REM]),
                    int(o[O_LIMIT]),
                    int(o[O_STOP]),
                    int(o[O_AGE]),
                    json.dumps({axes.strategies[s]: int(w) for s, w in enumerate(want) if w}),
                )
                for o, want in zip(book.order, book.want, strict=True)
            ],
        )
    return digest


def load(
    conn: psycopg.Connection,
    name: str,
    bar_end: datetime,
    axes: Axes,
    *,
    with_planned: bool,
    at_venue: Sequence[str] | None = None,
    back_then: bool = False,
) -> LoadedBook:
    """Load a book as it was after a bar; with_planned adds the orders of that bar's decision that were acknowledged.

    at_venue: client ids of the orders that a real venue has, in the place of those that the book carried. back_then:
    orders as they stood when that bar was decided on, or (with_planned) before the next one, whatever became of them.
    Raises BookError when there is no state of that bar.
    """
    key = (name, bar_end)
    row = conn.execute(SQL["state"], key).fetchone()
    if row is None:
        raise BookError(
            f"book {name!r} has no state at {bar_end:%Y-%m-%d %H:%M}Z.",
            next_step="run the sessions in order: python -m tradecore status",
            book=name,
        )
    where = {instrument: i for i, instrument in enumerate(axes.instruments)}
    if at_venue is None:
        decided = back_then and not with_planned
        carried = conn.execute(SQL["carried_when_decided" if decided else "carried"], key).fetchall()
    else:
        carried = conn.execute(SQL["working"], {"book": name, "before": bar_end, "ids": list(at_venue)}).fetchall()
    planned = conn.execute(SQL["planned_back_then" if back_then else "planned"], key).fetchall() if with_planned else []
    planned = [p for p in planned if p[11] == "ACKED"]
    lots = conn.execute(SQL["lots"], key).fetchall()
    n_lots = 1 + max((r[1] for r in lots), default=0)
    book = new_book(
        cash_e4=0,
        n_instruments=len(where),
        n_strategies=len(axes.strategies),
        n_lots=n_lots + 1,
        n_orders=len(carried) + len(planned) + ORDER_SLOTS,
    )
    book.acct[:N_ORDERS] = row[:N_ORDERS]
    for instrument, qty, mark, stale in conn.execute(SQL["positions"], key).fetchall():
        if instrument in where:
            i = where[instrument]
            book.qty[i], book.mark[i], book.stale[i] = qty, mark, stale
    for instrument, lot_no, qty, cost, opened in lots:
        i = where[instrument]
        book.lot_qty[i, lot_no], book.lot_cost[i, lot_no], book.lot_opened[i, lot_no] = qty, cost, opened
        book.lot_count[i] = lot_no + 1
    for strategy, instrument, qty in conn.execute(SQL["allocations"], key).fetchall():
        book.alloc[axes.strategies.index(strategy), where[instrument]] = qty
    slot: dict[int, int] = {}
    for instrument, pay_day, amount in conn.execute(SQL["receivables"], key).fetchall():
        i = where[instrument]
        book.recv_day[i, slot.get(i, 0)], book.recv_amount[i, slot.get(i, 0)] = pay_day, amount
        slot[i] = slot.get(i, 0) + 1
    ids = _load_orders(conn, key, book, axes, where, carried, planned)
    return LoadedBook(book=book, order_ids=ids, state_hash=str(row[N_ORDERS]))


def _load_orders(
    conn: psycopg.Connection,
    key: tuple[str, datetime],
    book: Book,
    axes: Axes,
    where: dict[int, int],
    carried: Sequence[tuple[Any, ...]],
    planned: Sequence[tuple[Any, ...]],
) -> dict[tuple[int, int], str]:
    """Fill the working-order rows of a loaded book; return their client order ids."""
    ids: dict[tuple[int, int], str] = {}
    version = planned[0][10] if planned else 0
    wants = np.zeros((len(axes.strategies), len(where)), np.int64)
    for strategy, instrument, qty in conn.execute(SQL["contributions"], (*key, version)).fetchall():
        if strategy in axes.strategies and instrument in where:
            wants[axes.strategies.index(strategy), where[instrument]] = qty

    def put(order_id: str, decided: datetime, line: int, fields: dict[int, int], want: Iterable[int]) -> None:
        m = int(book.acct[N_ORDERS])
        row: Ints = np.zeros(O_COLUMNS, np.int64)
        row[O_SPLIT_NUM] = row[O_SPLIT_DEN] = 1
        for column, value in fields.items():
            row[column] = value
        row[O_DECIDED_NS], row[O_LINE] = to_ns(decided), line
        book.order[m], book.want[m] = row, list(want)
        book.acct[N_ORDERS] = m + 1
        ids[to_ns(decided), line] = order_id

    for (
        order_id,
        instrument,
        qty,
        rest,
        limit,
        stop,
        age,
        want,
        decided,
        line,
        ref,
        remainder,
        num,
        den,
        *kind,
    ) in carried:
        put(
            order_id,
            decided,
            line,
            {
                O_INSTR: where[instrument],
                O_TYPE: _type_of(*kind),
                O_QTY: qty,
                O_REM: rest,
                O_LIMIT: limit,
                O_STOP: stop,
                O_AGE: age,
                O_REF: ref,
                O_REMAINDER: REMAINDERS.index(remainder),
                O_SPLIT_NUM: num,
                O_SPLIT_DEN: den,
            },
            [want.get(s, 0) for s in axes.strategies],
        )
    for order_id, instrument, qty, limit, stop, line, ref, remainder, num, den, _version, _status, *kind in planned:
        put(
            order_id,
            key[1],
            line,
            {
                O_INSTR: where[instrument],
                O_TYPE: _type_of(*kind),
                O_QTY: qty,
                O_REM: qty,
                O_LIMIT: limit,
                O_STOP: stop,
                O_REF: ref,
                O_REMAINDER: REMAINDERS.index(remainder),
                O_SPLIT_NUM: num,
                O_SPLIT_DEN: den,
            },
            wants[:, where[instrument]],
        )
    return ids


def _type_of(order_type: str, time_in_force: str) -> int:
    """Return the kernel's type of an order; what only a real venue knows is a market order to it."""
    if time_in_force == "cls":
        return ON_CLOSE
    return ORDER_TYPES.index(order_type) if order_type in ORDER_TYPES else MARKET


def add_order_events(
    conn: psycopg.Connection, ids: Iterable[str], status: str, *, bar_end: datetime, now: datetime, detail: str = ""
) -> None:
    """Append one event to each order."""
    with conn.cursor() as cur:
        cur.executemany(
            SQL["add_order_event"],
            [{"id": order_id, "status": status, "bar_end": bar_end, "now": now, "detail": detail} for order_id in ids],
        )
