"""What a real venue did at a bar, in the kernel's integers, and how it is booked: once, with what rounding leaves.

A fill belongs to the first bar whose end is at or after it; one that came too late for its own bar is in this one. What
integers of 1e-4 USD and 1e-6 share cannot hold becomes an explained difference, so that cash agrees to the cent.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, Decimal

import numpy as np

from tradecore import provenance
from tradecore.context import Context
from tradecore.model import (
    CANCELED,
    END_NAMES,
    EV_DIVIDEND,
    EV_DIVIDEND_ASSUMED_PAID,
    EV_RECEIVABLE_PAID,
    F_OPEN,
    G_COLUMNS,
    H_DAY,
    Given,
    Journal,
    Market,
)
from tradecore.storage import bars as stored
from tradecore.storage import books, queries
from tradecore.storage.books import Axes, LoadedBook
from tradecore.units import MONEY_SCALE, PRICE_SCALE, QTY_SCALE, from_quanta, to_ns, to_quanta, usd

SQL = queries.load("venue_bar")
MANUAL = "manual"  # whose shares are, that a person bought at the broker
ZERO = Decimal(0)
SESSION_ONLY = ("day", "opg", "cls", "ioc", "fok")
NOBODY = (-1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueFill:
    """One execution that is due. order_id, key (decided ns, line): of our order, or of ours whose bracket it closes
    (own False); None and NOBODY: by hand."""

    fill_id: str
    broker_order_id: str
    order_id: str | None
    instrument_id: int
    symbol: str
    qty: Decimal
    price: Decimal
    fee: Decimal
    filled_at: datetime
    key: tuple[int, int]
    own: bool

    @property
    def qty_e6(self) -> int:
        """Signed quantity, cut toward zero to what the book can hold."""
        return int((self.qty * QTY_SCALE).to_integral_value(ROUND_DOWN))

    @property
    def price_e4(self) -> int:
        return max(1, to_quanta(self.price, PRICE_SCALE))

    @property
    def notional_e4(self) -> int:
        """Unsigned: exact quantity times exact price, rounded once."""
        return to_quanta(abs(self.qty) * self.price, MONEY_SCALE)

    @property
    def fee_e4(self) -> int:
        return to_quanta(self.fee, MONEY_SCALE)

    @property
    def cash_rest(self) -> Decimal:
        """What the broker's cash has more than ours after this fill."""
        sign = 1 if self.qty > 0 else -1
        return sign * (usd(self.notional_e4) - abs(self.qty) * self.price) + usd(self.fee_e4) - self.fee


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueOrder:
    """An order of ours that works, or that a due fill belongs to. status: the newest of its events."""

    client_order_id: str
    key: tuple[int, int]
    status: str
    over: bool
    instrument_id: int
    qty_e6: int

    @property
    def ended(self) -> bool:
        return self.status not in ("SUBMITTING", "UNKNOWN", "ACKED", "PARTIAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueActivity:
    activity_id: str
    kind: str
    symbol: str | None
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueBar:
    """All that is due at a bar of a book at a real venue."""

    fills: tuple[VenueFill, ...]
    orders: tuple[VenueOrder, ...]
    activities: tuple[VenueActivity, ...]

    @property
    def instruments(self) -> list[int]:
        return [*(f.instrument_id for f in self.fills), *(o.instrument_id for o in self.orders)]

    @property
    def client_order_ids(self) -> list[str]:
        return [o.client_order_id for o in self.orders]

    @property
    def by_hand(self) -> bool:
        return any(f.key == NOBODY for f in self.fills)

    def amounts(self, *kinds: str) -> list[Decimal]:
        return [a.amount for a in self.activities if a.kind in kinds]

    def given(self, axes: Axes, loaded: LoadedBook) -> Given:
        """Return it as the kernel takes it."""
        where = {instrument: i for i, instrument in enumerate(axes.instruments)}
        fills = [
            [*f.key, where[f.instrument_id], f.qty_e6, f.price_e4, f.notional_e4, f.fee_e4, f.own] for f in self.fills
        ]
        ends = [
            [*o.key, END_NAMES.index(o.status) if o.status in END_NAMES else CANCELED]
            for o in self.orders
            if o.ended and o.key in loaded.order_ids
        ]
        return Given(
            fills=np.array(fills, np.int64).reshape(len(fills), G_COLUMNS),
            ends=np.array(ends, np.int64).reshape(len(ends), 3),
            charges=sum(to_quanta(a, MONEY_SCALE) for a in self.amounts("fee", "interest")),
            manual=axes.strategies.index(MANUAL) if MANUAL in axes.strategies else -1,
        )


def gather(ctx: Context) -> VenueBar:
    """Return what is due at this bar, in the venue's order. A fill in a symbol that nobody knows stays unbooked."""
    account = {"book": ctx.book, "account": ctx.record.account}
    fills = []
    for row in ctx.conn.execute(SQL["due_fills"], {**account, "bar_end": ctx.bar_end_at}).fetchall():
        own, leg = row[7:11], row[11:15]
        client_id, instrument, decided_at, line = own if own[0] is not None else leg
        if instrument is None:
            instrument = instrument_of(ctx, row[2])
        if instrument is None:
            continue
        fills.append(
            VenueFill(
                fill_id=row[0],
                broker_order_id=row[1],
                order_id=client_id,
                instrument_id=instrument,
                symbol=row[2],
                qty=row[3],
                price=row[4],
                fee=row[5],
                filled_at=row[6],
                key=NOBODY if client_id is None else (to_ns(decided_at), line),
                own=own[0] is not None,
            )
        )
    ids = [f.order_id for f in fills if f.order_id is not None]
    rows = ctx.conn.execute(SQL["orders"], {"book": ctx.book, "bar_end": ctx.bar_end_at, "ids": ids}).fetchall()
    orders = [
        VenueOrder(
            client_order_id=r[0],
            key=(to_ns(r[1]), r[2]),
            status=r[3],
            over=r[4] in SESSION_ONLY and r[5] <= ctx.bar_end_at,
            instrument_id=r[6],
            qty_e6=r[7],
        )
        for r in rows
    ]
    activities = [
        VenueActivity(activity_id=r[0], kind=r[1], symbol=r[2], amount=r[3])
        for r in ctx.conn.execute(SQL["due_activities"], {**account, "session": ctx.session_date}).fetchall()
    ]
    return VenueBar(fills=tuple(fills), orders=tuple(orders), activities=tuple(activities))


def instrument_of(ctx: Context, symbol: str) -> int | None:
    """Return the instrument that a symbol names on this session, or None."""
    row = ctx.conn.execute(SQL["instrument_of"], (symbol, ctx.session_date, ctx.session_date)).fetchone()
    return int(row[0]) if row else None


def book_transfers(ctx: Context, done: VenueBar) -> None:
    """Write what came to the account, or left it, as deposits and withdrawals: they are no gain and no loss."""
    amounts = [to_quanta(a, MONEY_SCALE) for a in done.amounts("transfer")]
    for kind, total in (
        ("deposit", sum(a for a in amounts if a > 0)),
        ("withdrawal", sum(a for a in amounts if a < 0)),
    ):
        if total:
            ctx.conn.execute(SQL["add_cash"], (*ctx.key, kind, total, "as the broker reports it"))


def store(ctx: Context, done: VenueBar, journal: Journal, axes: Axes, bar: Market) -> None:
    """Write the fills, mark them and the activities as booked, and explain what stays different."""
    explained: dict[tuple[str, str], list[tuple[Decimal, str]]] = defaultdict(list)
    for number, (fill, row) in enumerate(zip(done.fills, journal.fills.tolist(), strict=True), start=1):
        _store_fill(ctx, fill, number, row[F_OPEN])
        if fill.filled_at <= ctx.previous_bar_end:
            _event(ctx, "late_fill", fill.instrument_id, fill.qty_e6, f"executed {fill.filled_at:%Y-%m-%d %H:%M} UTC")
        explained["rounding", "USD"].append((fill.cash_rest, f"fill {fill.fill_id}"))
        rest = fill.qty - from_quanta(fill.qty_e6, QTY_SCALE)
        explained["position", fill.symbol].append((rest, "less than a millionth of a share"))
    for order in done.orders:
        if order.over and not order.ended:
            _event(ctx, "still_working", order.instrument_id, order.qty_e6, f"{order.status} {order.client_order_id}")
    for activity in done.activities:
        ctx.conn.execute(SQL["book_activity"], (ctx.bar_end_at, ctx.record.account, activity.activity_id))
        if activity.kind in ("fee", "interest", "transfer"):
            rest = activity.amount - usd(to_quanta(activity.amount, MONEY_SCALE))
            explained["rounding", "USD"].append((rest, f"activity {activity.activity_id}"))
        if activity.kind == "dividend" and ctx.record.kind == "alpaca-paper":
            explained["dividend_paid", activity.symbol or ""].append((activity.amount, "paid by the broker after all"))
    if ctx.record.kind == "alpaca-paper":
        for instrument, amount_e4 in dividend_cash(journal, axes, bar).items():
            symbol = stored.instruments_by_id(ctx.conn, [instrument])[instrument].symbol
            explained["dividend", symbol].append((-usd(amount_e4), "a paper account pays no dividends"))
    for (kind, subject), parts in explained.items():
        amount = sum((a for a, _ in parts), ZERO)
        if amount:
            detail = "; ".join(dict.fromkeys(text for a, text in parts if a))
            explain(ctx, kind, subject, amount, detail)


def dividend_cash(journal: Journal, axes: Axes, bar: Market) -> dict[int, int]:
    """Return {instrument: e4} of the dividends that became cash at this bar: paid on the ex-date, or come due."""
    found: dict[int, int] = defaultdict(int)
    for kind, i, _old, amount, _ns in journal.events.tolist():
        now = kind in (EV_DIVIDEND_ASSUMED_PAID, EV_RECEIVABLE_PAID)
        if now or (kind == EV_DIVIDEND and bar.pay_day[i] <= bar.head[H_DAY]):
            found[axes.instruments[i]] += amount
    return found


def explain(ctx: Context, kind: str, subject: str, amount: Decimal, detail: str) -> None:
    """Write that the broker has `amount` (USD, or shares where kind is position) more than the ledger, and why."""
    ctx.conn.execute(
        SQL["explain"],
        {
            "book": ctx.book,
            "bar_end": ctx.bar_end_at,
            "kind": kind,
            "subject": subject,
            "amount": amount,
            "detail": detail,
        },
    )


def _store_fill(ctx: Context, fill: VenueFill, number: int, open_e4: int) -> None:
    if fill.qty_e6:
        ctx.conn.execute(
            books.SQL["add_venue_fill"],
            {
                "id": provenance.hash_of(ctx.record.account, fill.fill_id)[:32],
                "client_id": fill.order_id if fill.own else None,
                "book": ctx.book,
                "bar_end": ctx.bar_end_at,
                "number": number,
                "instrument": fill.instrument_id,
                "qty": fill.qty_e6,
                "price": fill.price_e4,
                "open": open_e4,
                "fee": fill.fee_e4,
                "order": fill.broker_order_id,
                "notional": fill.notional_e4,
            },
        )
    ctx.conn.execute(SQL["book_fill"], (ctx.bar_end_at, ctx.record.account, fill.fill_id))


def _event(ctx: Context, kind: str, instrument: int, amount: int, detail: str) -> None:
    ctx.conn.execute(
        SQL["add_event"],
        {
            "book": ctx.book,
            "bar_end": ctx.bar_end_at,
            "kind": kind,
            "instrument": instrument,
            "amount": amount,
            "detail": detail,
        },
    )
