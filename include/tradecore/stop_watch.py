"""Tells when shares that had a stop are held without one, and when they have one again. Rules: docs/EXECUTION.md, Stops
of what is kept.

What the venue ended by itself (or a person there) is seen from what was kept of its orders, what was lifted for a sell
of ours from the lifts. Nothing is ordered here, and nothing is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal

from tradecore import protection
from tradecore.context import Context
from tradecore.execution.broker import BrokerOrder
from tradecore.execution.checks import selling_groups
from tradecore.protection import SQL, ZERO
from tradecore.units import QTY_SCALE, from_quanta

STOPS = ("stop", "stop_limit", "trailing_stop")
ENDED_THERE = "a stop of ours ended at the venue before it was executed: cancelled, expired or refused there"
BY_HAND = "place a stop at the broker, or sell; what was cancelled there is not placed again by us"


def look(ctx: Context, held: Mapping[str, Decimal]) -> None:
    """Alert names that have lost their stop at the venue, and those that were told of and want none any more.

    held: the venue's positions, read after its orders were kept; in the caller's transaction, under the book's lock.
    """
    lost, split, told = _found(ctx)
    if not lost and not told:
        return
    working, alone = known_working(ctx)
    covered = _covering(working, alone)
    for symbol in sorted(told | set(lost)):
        bare = held.get(symbol, ZERO) - sum(selling_groups(covered, symbol).values(), ZERO)
        if bare > 0 and symbol in lost:
            tell(ctx, symbol, bare if symbol in split else min(bare, lost[symbol]), ENDED_THERE, BY_HAND)
        elif bare <= 0 and symbol in told:
            _tell_protected(ctx, symbol, held.get(symbol, ZERO))


def tell_unseen(ctx: Context, why: str) -> None:
    """Alert what lacks a stop by all that is known here, for a venue that cannot be asked; as `look`."""
    rows = ctx.conn.execute(SQL["held_symbols"], ctx.key).fetchall()
    held = {str(symbol): from_quanta(qty, QTY_SCALE) for symbol, qty in rows}
    working, _ = known_working(ctx)
    missing: dict[str, Decimal] = defaultdict(Decimal)
    for one, qty in protection.lacking(ctx, protection.lifts(ctx), held, working, (), refused_too=True):
        missing[one.symbol] += qty
    for symbol, qty in missing.items():
        tell(ctx, symbol, qty, f"as far as is known: {why}", "look at the broker, and " + BY_HAND.partition(";")[0])


def tell(ctx: Context, symbol: str, qty: Decimal, why: str, next_step: str) -> None:
    """Alert once a name and bar: a later look says nothing new."""
    ctx.alert(
        kind="unprotected",
        severity="critical",
        stage="submit",
        key=symbol,
        title=f"{qty.normalize():f} {symbol} are held without a stop",
        body=why,
        next_step=next_step,
    )


def known_working(ctx: Context) -> tuple[tuple[BrokerOrder, ...], frozenset[str]]:
    """Return what worked at the last look at the venue, and the ids of take-profits beside which a stop has ended."""
    rows = ctx.conn.execute(SQL["working"], (ctx.book, ctx.record.account)).fetchall()
    names = ("broker_order_id", "client_order_id", "symbol", "qty", "filled_qty", "status", "order_type",
             "time_in_force", "parent_id")  # fmt: skip
    orders = tuple(BrokerOrder(**dict(zip(names, row[:9], strict=True))) for row in rows)
    return orders, frozenset(str(row[0]) for row in rows if row[9])


def _found(ctx: Context) -> tuple[dict[str, Decimal], set[str], set[str]]:
    """Return the shares by name whose stop ended at the venue, which of them have split since, and who was told of."""
    lost: dict[str, Decimal] = defaultdict(Decimal)
    split, told = set(), set()
    for what, symbol, qty, has_split in ctx.conn.execute(
        SQL["lost"], {"book": ctx.book, "account": ctx.record.account}
    ).fetchall():
        if what == "told":
            told.add(str(symbol))
        elif qty > 0:
            lost[str(symbol)] += qty
            split |= {str(symbol)} if has_split else set()
    return dict(lost), split, told


def _covering(working: Sequence[BrokerOrder], alone: frozenset[str]) -> list[BrokerOrder]:
    """Return the sells that leave no share without a stop: all but a take-profit that works alone."""
    with_stop = {o.parent_id or o.broker_order_id for o in working if o.order_type in STOPS}
    return [o for o in working if o.broker_order_id not in alone or (o.parent_id or o.broker_order_id) in with_stop]


def _tell_protected(ctx: Context, symbol: str, held: Decimal) -> None:
    ctx.alert(
        kind="protected",
        severity="info",
        stage="submit",
        key=symbol,
        title=f"{symbol} has its stop again" if held > 0 else f"{symbol} is not held any more",
        body="It was told of as held without a stop.",
        next_step="none",
    )
