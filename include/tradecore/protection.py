"""Stops that were lifted for a sell, and what takes their place. Rules: docs/EXECUTION.md, Stops of what is kept.

A sell needs shares that a bracket's legs hold at the venue. Which legs end for which sell is written down before they
end; from that, and from what the venue has, follows at any time what is still to be put in their place.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from tradecore import decision, unknowns
from tradecore.context import Context
from tradecore.execution.broker import BrokerOrder
from tradecore.execution.checks import selling_groups
from tradecore.execution.lifecycle import AT_RISK, ENDED, WAITING
from tradecore.guard import Order
from tradecore.storage import books, queries
from tradecore.storage.connection import book_lock
from tradecore.units import PRICE_SCALE, QTY_SCALE, from_quanta, to_quanta

SQL = queries.load("protection")
LEG = 1  # of an intent that takes the place of a bracket's legs: no line of the sheet, and no order of the book
LEG_LINES = 1_000_000_000
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """Legs that ended, or are to end, for one sell: shares, prices (None: there was none), and the bracket's entry.

    free: shares that were held beside those that stops protected; the sell takes these first.
    """

    instrument_id: int
    symbol: str
    sell_id: str
    entry_id: str
    qty: Decimal
    free: Decimal
    stop: Decimal | None
    profit: Decimal | None


def groups_to_lift(legs: Iterable[BrokerOrder], needed: Decimal) -> list[list[BrokerOrder]]:
    """Return the pairs of legs that must end to free so many shares: the lowest stops first, the others stay."""
    pairs: dict[str, list[BrokerOrder]] = defaultdict(list)
    for leg in legs:
        pairs[leg.parent_id or leg.broker_order_id].append(leg)
    lowest = sorted(pairs.values(), key=lambda pair: (max(o.stop_price or ZERO for o in pair), pair[0].broker_order_id))
    found = []
    for pair in lowest:
        if needed <= 0:
            break
        needed -= max(abs(o.qty - o.filled_qty) for o in pair)
        found.append(pair)
    return found


def lift(ctx: Context, order: Order, pairs: Sequence[Sequence[BrokerOrder]], free: Decimal) -> None:
    """Commit, before anything ends, which legs end for a sell and what protected the shares. Said again it is once."""
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        for pair in pairs:
            entry = ctx.conn.execute(SQL["entry"], {"ids": [o.broker_order_id for o in pair]}).fetchone()
            stop = next((o.stop_price for o in pair if o.stop_price is not None), None)
            profit = next((o.limit_price for o in pair if o.stop_price is None), None)
            detail = {
                "for": order.client_order_id,
                "entry": str(entry[0]) if entry else "",
                "free": str(free),
                "stop": str(stop or ""),
                "profit": str(profit or ""),
                "legs": sorted(o.broker_order_id for o in pair),
            }
            qty = max(abs(o.qty - o.filled_qty) for o in pair)
            ctx.conn.execute(
                SQL["add_lift"],
                {
                    "book": ctx.book,
                    "bar_end": ctx.bar_end_at,
                    "instrument": order.instrument_id,
                    "amount": to_quanta(qty, QTY_SCALE),
                    "detail": json.dumps(detail, sort_keys=True),
                },
            )
    ctx.conn.commit()


def lifts(ctx: Context) -> list[Lift]:
    """Return what was lifted of what is still held, the newest first; not across a split: its prices are others."""
    due = ctx.calendar.session_of(ctx.next_bar_end)
    rows = ctx.conn.execute(SQL["lifts"], {"book": ctx.book, "bar_end": ctx.bar_end_at, "due": due}).fetchall()
    found = []
    for instrument, symbol, amount, detail in rows:
        said = json.loads(detail)
        prices = {name: Decimal(said[name]) if said[name] else None for name in ("stop", "profit")}
        found.append(
            Lift(
                instrument_id=instrument,
                symbol=symbol,
                sell_id=said["for"],
                entry_id=said["entry"],
                qty=from_quanta(amount, QTY_SCALE),
                free=Decimal(said["free"]),
                stop=prices["stop"],
                profit=prices["profit"],
            )
        )
    return found


def plan_stops(
    ctx: Context, known: Sequence[Lift], held: dict[str, Decimal], at_venue: Sequence[BrokerOrder], due: Sequence[Order]
) -> list[Order]:
    """Commit the intents of what is missing, and return all that wait to be sent for this bar.

    held: the venue's positions, read after at_venue: what fills in between is in one of them at least. due: the
    sheet's orders that may still be sent. Never more than the venue's position less all that sells there, or is about
    to; what waits and is more than that by now ends, and is planned anew.
    """
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        give_up_earlier(ctx)
        for symbol in dict.fromkeys(lift.symbol for lift in known):
            of_symbol = [lift for lift in known if lift.symbol == symbol]
            instrument = of_symbol[0].instrument_id
            free = held.get(symbol, ZERO) - sum(selling_groups(at_venue, symbol).values(), ZERO)
            if _coming(ctx, instrument, due, at_venue) > free:
                _give_up_waiting(ctx, instrument)
        for one, qty in lacking(ctx, known, held, at_venue, due):
            _add_intent(ctx, one, qty)
    ctx.conn.commit()
    return waiting(ctx)


def lacking(
    ctx: Context,
    known: Sequence[Lift],
    held: dict[str, Decimal],
    at_venue: Sequence[BrokerOrder],
    due: Sequence[Order],
    *,
    refused_too: bool = False,
) -> list[tuple[Lift, Decimal]]:
    """Return what is held and has no stop in the place of its lifted one, and how many shares; as plan_stops.

    refused_too: also what was refused in this bar, and is not asked for again in it.
    """
    found: list[tuple[Lift, Decimal]] = []
    for symbol in dict.fromkeys(lift.symbol for lift in known):
        of_symbol = [lift for lift in known if lift.symbol == symbol]
        room = held.get(symbol, ZERO) - sum(selling_groups(at_venue, symbol).values(), ZERO)
        room -= _coming(ctx, of_symbol[0].instrument_id, due, at_venue)
        for sell_id in dict.fromkeys(lift.sell_id for lift in of_symbol):
            of_sell = _lacking_of(ctx, [one for one in of_symbol if one.sell_id == sell_id], room, refused_too)
            room -= sum((qty for _, qty in of_sell), ZERO)
            found += of_sell
    return found


def _coming(ctx: Context, instrument: int, due: Sequence[Order], at_venue: Sequence[BrokerOrder]) -> Decimal:
    """Return the shares of sells that are not at the venue, and will or may be: of the sheet, and stops."""
    there = {o.client_order_id for o in at_venue}
    rows = ctx.conn.execute(SQL["stops_coming"], {"book": ctx.book, "instrument": instrument}).fetchall()
    found = {str(r[0]): from_quanta(r[1], QTY_SCALE) for r in rows}
    found |= {
        o.client_order_id: abs(o.qty)
        for o in due
        if o.instrument_id == instrument and o.qty < 0 and o.status in (*WAITING, *AT_RISK)
    }
    return sum((qty for order_id, qty in found.items() if order_id not in there), ZERO)


def _lacking_of(ctx: Context, of_sell: Sequence[Lift], room: Decimal, refused_too: bool) -> list[tuple[Lift, Decimal]]:
    """Return what one sell's lifts still lack, the highest stop first."""
    sell = ctx.conn.execute(SQL["sell"], {"id": of_sell[0].sell_id}).fetchone()
    taken = ZERO
    if sell is not None:
        asked, filled = from_quanta(sell[1], QTY_SCALE), Decimal(sell[2])
        taken = max(ZERO, (filled if sell[0] in ENDED else asked) - of_sell[0].free)
    placed: dict[str, Decimal] = defaultdict(Decimal)
    for entry_id, qty in ctx.conn.execute(
        SQL["placed"], {"id": of_sell[0].sell_id, "bar_end": None if refused_too else ctx.bar_end_at}
    ).fetchall():
        placed[entry_id] += from_quanta(qty, QTY_SCALE)
    left = min(room, sum((one.qty for one in of_sell), ZERO) - taken - sum(placed.values(), ZERO))
    found = []
    for one in sorted(of_sell, key=lambda one: (-(one.stop or ZERO), one.entry_id)):
        qty = min(left, one.qty - placed[one.entry_id]).to_integral_value(ROUND_DOWN)
        if qty > 0:
            found.append((one, qty))
            left -= qty
    return found


def _add_intent(ctx: Context, one: Lift, qty: Decimal) -> None:
    last = decision.newest(ctx)
    assert last is not None  # a sell was sent, or is to be sent, by a sheet of this bar or of an earlier one
    row = ctx.conn.execute(SQL["epoch"], (*ctx.key, one.instrument_id)).fetchone()
    epoch = int(row[0]) if row else 0
    order_id = decision.client_order_id(ctx, one.instrument_id, epoch, leg=LEG)
    prices = [to_quanta(price, PRICE_SCALE) if price is not None else 0 for price in (one.stop, one.profit)]
    both = all(prices)
    ctx.conn.execute(
        SQL["add_intent"],
        {
            "id": order_id,
            "book": ctx.book,
            "account": ctx.record.account,
            "bar_end": ctx.bar_end_at,
            "version": last[0],
            "instrument": one.instrument_id,
            "leg": LEG,
            "epoch": epoch,
            "line": LEG_LINES + epoch,
            "qty": -to_quanta(qty, QTY_SCALE),
            "type": "limit" if prices[1] else "stop",
            "limit": prices[1],
            "stop": 0 if both else prices[0],
            "stop_loss": prices[0] if both else 0,
            "entry": one.entry_id or None,
            "sell": one.sell_id,
            "ref": prices[0] or prices[1],
            "next": ctx.next_bar_end,
            "reason": "in the place of a bracket's legs",
        },
    )
    _event(ctx, order_id, "PLANNED", f"of what is kept after {one.sell_id}")


def waiting(ctx: Context) -> list[Order]:
    """Return this bar's stops that are to be sent: planned, or proven never to have reached the venue."""
    rows = ctx.conn.execute(SQL["stops"], ctx.key).fetchall()
    found = [
        Order(
            client_order_id=row[0],
            symbol=row[1],
            instrument_id=row[2],
            qty=from_quanta(row[3], QTY_SCALE),
            order_type=row[4],
            time_in_force=row[5],
            limit_price=from_quanta(row[6], PRICE_SCALE),
            stop_price=from_quanta(row[7], PRICE_SCALE),
            take_profit=from_quanta(row[6] if row[8] else 0, PRICE_SCALE),
            stop_loss=from_quanta(row[8], PRICE_SCALE),
            parent_id=None,
            child=0,
            not_before_at=None,
            ref_price=from_quanta(row[9], PRICE_SCALE),
            split=Decimal(1),
            status=row[10],
            protects=True,
        )
        for row in rows
    ]
    return [o for o in found if o.status in WAITING or unknowns.absent(ctx, o.client_order_id)]


def give_up(ctx: Context, why: str) -> list[Order]:
    """End this bar's stops that were not sent, in the caller's transaction; return them."""
    left = waiting(ctx)
    for order in left:
        _event(ctx, order.client_order_id, "NOT_SENT", why)
    return left


def give_up_earlier(ctx: Context) -> None:
    """End what an earlier bar planned and did not send: it is planned anew, by what is held now."""
    for order_id, status in ctx.conn.execute(SQL["left_behind"], ctx.key).fetchall():
        if status in WAITING or unknowns.absent(ctx, order_id):
            _event(ctx, str(order_id), "NOT_SENT", "planned anew at the next session")


def _give_up_waiting(ctx: Context, instrument: int) -> None:
    """End what this bar planned for a name and did not send: meanwhile there is less to protect."""
    for order in waiting(ctx):
        if order.instrument_id == instrument:
            _event(ctx, order.client_order_id, "NOT_SENT", "planned anew: less is held, or more is sold, by now")


def _event(ctx: Context, order_id: str, status: str, detail: str) -> None:
    now = unknowns.desk_of(ctx).clock()
    books.add_order_events(ctx.conn, [order_id], status, bar_end=ctx.bar_end_at, now=now, detail=detail)
