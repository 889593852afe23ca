"""Ledger = broker = accounting, or a break. Rules: docs/EXECUTION.md, Reconciling.

What the book says, what the venue says, and what the book's own entries add up to are put side by side after settle and
again before plan. A difference is a break, with what it is likely due to; while one is open nothing is sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from tradecore import observation, stop_watch, venue_bar
from tradecore.context import Context
from tradecore.errors import BookError
from tradecore.storage import books, queries
from tradecore.storage.connection import book_lock
from tradecore.units import QTY_SCALE, from_quanta, usd
from tradecore.unknowns import desk_of

SQL = queries.load("reconciliation")
Result = dict[str, object]
ZERO = Decimal(0)
CENT = Decimal("0.01")
LOOK_AGAIN_S = 2.0  # an execution between two answers looks like a difference, once
DIVIDEND_DAYS = 7  # by so much a broker may pay earlier or later than the feed says
NOT_MONEY = ("position", "accounting")
ANY_TIME = ("accounting", "fill")  # seen without the venue's positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What the ledger (with all that is known to be on its way) and the broker, or the accounting, say of a subject."""

    kind: str
    subject: str
    ledger: Decimal
    broker: Decimal
    cause: str = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """A difference that nobody has explained. `owner`: who looks after it, '' for nobody yet."""

    break_id: int
    kind: str
    subject: str
    ledger: Decimal
    broker: Decimal
    cause: str
    owner: str
    opened_bar_end_at: datetime
    opened_at: datetime

    def age(self, now: datetime) -> timedelta:
        """Return how long it has been open."""
        return now - self.opened_at


def reconcile(ctx: Context, phase: str) -> Result:
    """Put ledger, broker and accounting side by side, phase settle, plan or submit; keep breaks, and that we looked.

    A bar that is not the venue's last is not comparable with positions of now: then only what the book itself can tell
    is looked at. Breaks that are gone are resolved. A simulated book has nobody to agree with. Raises Unavailable.
    """
    if ctx.record.kind == "simulated":
        return {}
    seen = observation.observe(ctx)
    held, found = _look(ctx, seen)
    if any(d.kind in ("position", "cash") for d in found):
        desk_of(ctx).sleep(LOOK_AGAIN_S)
        seen = observation.observe(ctx)
        held, found = _look(ctx, seen)
    comparable = held is not None
    with ctx.conn.transaction(), book_lock(ctx.conn, ctx.book):
        count = _keep(ctx, found, comparable)
        if held is not None:
            stop_watch.look(ctx, held)
        ctx.conn.execute(
            SQL["add_reconciliation"],
            {
                "book": ctx.book,
                "bar_end": ctx.bar_end_at,
                "phase": phase,
                "comparable": comparable,
                "clean": count == 0,
                "detail": _detail(found, comparable),
                "now": desk_of(ctx).clock(),
            },
        )
    ctx.conn.commit()
    return {"comparable": comparable, "clean": count == 0, "breaks": count}


def clean_this_bar(ctx: Context) -> bool:
    """Tell whether the newest look at this bar compared it and left no break open."""
    row = ctx.conn.execute(SQL["newest"], ctx.key).fetchone()
    return row is not None and bool(row[0]) and bool(row[1])


def open_breaks(conn: psycopg.Connection, book: str) -> list[Break]:
    """Return the open breaks of a book, the oldest first."""
    names = ("break_id", "kind", "subject", "ledger", "broker", "cause", "owner", "opened_bar_end_at", "opened_at")
    return [Break(**dict(zip(names, row, strict=True))) for row in conn.execute(SQL["open_breaks"], (book,)).fetchall()]


def own_break(conn: psycopg.Connection, break_id: int, owner: str) -> None:
    """Name who looks after an open break; in a transaction of its own. Raises BookError for one that is not open."""
    conn.rollback()
    with conn.transaction():
        known = conn.execute(SQL["own_break"], (owner, break_id)).rowcount
    conn.commit()
    if not known:
        raise BookError(f"break {break_id} is not open.", next_step="list them: python -m tradecore breaks")


def accept_break(conn: psycopg.Connection, break_id: int, by: str, reason: str, *, now: datetime) -> None:
    """Accept a break by name, with a reason: it becomes an explained difference, and stops nothing any more.

    Raises BookError for one that is not open, or without a name or a reason.
    """
    if not by.strip() or not reason.strip():
        raise BookError("a break is accepted by a person, with a reason.", next_step="say who and why")
    conn.rollback()
    known = conn.execute(SQL["break_for_update"], (break_id,)).fetchone()
    conn.rollback()
    with conn.transaction(), book_lock(conn, str(known[0]) if known else ""):
        row = conn.execute(SQL["break_for_update"], (break_id,)).fetchone()
        if row is None or row[5] != "open":
            raise BookError(
                f"break {break_id} is {row[5] if row else 'not known'}, only an open one can be accepted.",
                next_step="list them: python -m tradecore breaks",
            )
        book, kind, subject, ledger, broker, _ = row
        conn.execute(SQL["accept_break"], {"by": by, "reason": reason, "now": now, "id": break_id})
        last = conn.execute(books.SQL["last_state"], (book,)).fetchone()
        if kind in ("position", "cash") and last is not None:
            conn.execute(
                venue_bar.SQL["explain"],
                {
                    "book": book,
                    "bar_end": last[0],
                    "kind": kind,
                    "subject": subject,
                    "amount": broker - ledger,
                    "detail": f"break {break_id} accepted by {by}: {reason}",
                },
            )
    conn.commit()


# ------------------------------------------------------------------------------------------------------- looking


def _look(ctx: Context, seen: Mapping[str, Any]) -> tuple[dict[str, Decimal] | None, list[Difference]]:
    """Ask the venue, read the book, and return its positions (None: they cannot be compared), and what differs."""
    broker = desk_of(ctx).broker
    now = broker.clock().now_at
    positions = {p.symbol: p.qty for p in broker.positions()} if ctx.bar_end_at <= now < ctx.next_bar_end else None
    found = [
        Difference(
            kind="order",
            subject=order_id,
            ledger=Decimal(1),
            broker=ZERO,
            cause="it worked at the venue, which does not know it any more",
        )
        for order_id in seen["missing"]
    ]
    if positions is not None:
        cash = broker.account().cash
        found += _positions(ctx, positions) + _cash(ctx, cash)
    found += _unbookable(ctx) + _accounting(ctx)
    ctx.conn.rollback()
    return positions, found


def _account(ctx: Context) -> tuple[str, str]:
    return ctx.book, ctx.record.account


def _explained(ctx: Context) -> dict[tuple[str, str], Decimal]:
    rows = ctx.conn.execute(SQL["explained"], ctx.key).fetchall()
    return {(r[0], r[1]): r[2] for r in rows}


def _ledger(ctx: Context) -> dict[str, Decimal]:
    rows = ctx.conn.execute(SQL["ledger_positions"], ctx.key).fetchall()
    return {r[1]: from_quanta(r[2], QTY_SCALE) for r in rows}


def _positions(ctx: Context, there: Mapping[str, Decimal]) -> list[Difference]:
    """Compare each symbol: ledger + explained + executions that no bar has booked yet = the venue's position."""
    here: dict[str, Decimal] = defaultdict(Decimal, _ledger(ctx))
    for (kind, subject), amount in _explained(ctx).items():
        if kind == "position":
            here[subject] += amount
    for _, symbol, qty, _price, _fee, _at in ctx.conn.execute(SQL["unbooked_fills"], _account(ctx)).fetchall():
        here[symbol] += qty
    symbols = sorted({s for s, q in here.items() if q} | {s for s, q in there.items() if q})
    causes = _Causes(ctx, empty=not there)
    found = []
    for symbol in symbols:
        ours, theirs = here[symbol], there.get(symbol, ZERO)
        if ours != theirs and not causes.split_ahead(symbol, ours, theirs):
            cause = causes.of(symbol, ours, theirs)
            found.append(Difference(kind="position", subject=symbol, ledger=ours, broker=theirs, cause=cause))
    return found


class _Causes:
    """What a difference of a position is likely due to."""

    def __init__(self, ctx: Context, *, empty: bool) -> None:
        self.empty = empty
        rows = ctx.conn.execute(SQL["working_symbols"], {"book": ctx.book, "since": ctx.previous_bar_end}).fetchall()
        self.ours = {r[0]: r[1] for r in rows if not r[2]}
        self.by_hand = {r[0]: r[1] for r in rows if r[2]}
        self.today = ctx.session_date
        days = [ctx.session_date, ctx.calendar.next_session(ctx.session_date)]
        self.splits: dict[tuple[str, date], Decimal] = {}
        for symbol, day, num, den in ctx.conn.execute(SQL["splits"], (ctx.record.source, days)).fetchall():
            self.splits[symbol, day] = self.splits.get((symbol, day), Decimal(1)) * num / den

    def split_ahead(self, symbol: str, ours: Decimal, theirs: Decimal) -> bool:
        """Tell whether the venue has split already what goes ex at the next session: explained, no break."""
        ahead = [ratio for (name, day), ratio in self.splits.items() if name == symbol and day > self.today]
        sign = 1 if ours > 0 else -1
        return any(ZERO <= sign * (ours * ratio - theirs) < 1 for ratio in ahead)

    def of(self, symbol: str, ours: Decimal, theirs: Decimal) -> str:
        """Return the likeliest cause in words."""
        if self.empty:
            return "the venue lists no positions at all: an answer that is not believed, nothing is flattened for it"
        late = [r for (name, day), r in self.splits.items() if name == symbol and day == self.today]
        if any(ours == theirs * ratio for ratio in late):
            return "split in flight: the venue has not split it yet"
        if symbol in self.by_hand:
            return f"an order that is not ours: {self.by_hand[symbol]}"
        if symbol in self.ours:
            return f"a fill of {self.ours[symbol]} that is not reported yet"
        if theirs < 0:
            return "the venue is short: sold by hand, or a fill that is not reported yet"
        return "bought or sold by nobody that is known here, or a corporate action" if theirs else "not at the venue"


def _cash(ctx: Context, there: Decimal) -> list[Difference]:
    """Compare cash to the cent, with all that is explained or not booked yet, and dividends that are early or late."""
    row = ctx.conn.execute(books.SQL["state"], ctx.key).fetchone()
    if row is None:
        return []
    here = usd(row[0])
    here += sum((a for (kind, _), a in _explained(ctx).items() if kind not in NOT_MONEY), ZERO)
    for _, _symbol, qty, price, fee, _at in ctx.conn.execute(SQL["unbooked_fills"], _account(ctx)).fetchall():
        here -= qty * price + fee
    paper = ctx.record.kind == "alpaca-paper"
    values = {"book": ctx.book, "account": ctx.record.account, "paper": paper}
    waiting = ctx.conn.execute(SQL["unbooked_cash"], values).fetchone()
    here += waiting[0] if waiting else ZERO
    on_the_way, words = (ZERO, "") if paper else _dividends(ctx)
    if abs(there - here) < CENT or abs(there - here - on_the_way) < CENT:
        return []
    causes = [words] if words else []
    causes += ["fees or interest that are not reported yet, or money moved by hand"]
    return [Difference(kind="cash", subject="USD", ledger=here, broker=there, cause="; ".join(causes))]


def _dividends(ctx: Context) -> tuple[Decimal, str]:
    """Return what the broker has more (early) or less (not paid yet) by dividends of the last days, and which."""
    since = ctx.session_date - timedelta(days=DIVIDEND_DAYS)
    booked = ctx.conn.execute(
        SQL["dividends_booked"], {"book": ctx.book, "since": since, "bar_end": ctx.bar_end_at}
    ).fetchall()
    received = ctx.conn.execute(SQL["dividends_received"], (*_account(ctx), since)).fetchall()
    due = ctx.conn.execute(SQL["receivables_due"], ctx.key).fetchall()
    total, words = ZERO, []
    for symbol, _day, amount in booked:
        if not any(r[0] == symbol for r in received):
            total -= usd(amount)
            words.append(f"dividend of {symbol} not paid yet ({usd(amount)} USD)")
    for symbol, _day, amount in received:
        ours = sum((usd(b[2]) for b in booked if b[0] == symbol), ZERO)
        if not ours and any(d[0] == symbol for d in due):
            total += amount
            words.append(f"dividend of {symbol} paid before its pay date ({amount} USD)")
        elif ours != amount:
            words.append(f"dividend of {symbol}: {ours} USD here, {amount} USD at the broker")
    return total, ", ".join(words)


def _unbookable(ctx: Context) -> list[Difference]:
    """Return the executions up to this bar that the book cannot take: they are in no known symbol."""
    waiting = ctx.conn.execute(SQL["unbooked_fills"], _account(ctx)).fetchall()
    return [
        Difference(kind="fill", subject=fill_id, ledger=ZERO, broker=qty, cause=f"no instrument is called {symbol}")
        for fill_id, symbol, qty, _price, _fee, filled_at in waiting
        if filled_at <= ctx.bar_end_at and venue_bar.instrument_of(ctx, symbol) is None
    ]


def _accounting(ctx: Context) -> list[Difference]:
    """Add up the ledger's own entries anew; return where the ledger is not their sum."""
    key = {"book": ctx.book, "bar_end": ctx.bar_end_at}
    sums = ctx.conn.execute(SQL["accounting"], key).fetchone()
    state = ctx.conn.execute(books.SQL["state"], ctx.key).fetchone()
    if sums is None or state is None:
        return []
    names = {"cash": (state[0], sums[0]), "fees": (state[5], sums[1]), "dividends": (state[6], sums[2])}
    values = [(name, usd(int(ledger)), usd(int(added))) for name, (ledger, added) in names.items()]
    for symbol, added, qty, lots, allocated in ctx.conn.execute(SQL["accounted_positions"], key).fetchall():
        for what, value in (("", added), (" lots", lots), (" allocations", allocated)):
            values.append((f"{symbol}{what}", from_quanta(int(qty), QTY_SCALE), from_quanta(int(value), QTY_SCALE)))
    cause = "the ledger is not the sum of its own entries: a defect, or a hand in the database"
    return [
        Difference(kind="accounting", subject=name, ledger=ledger, broker=added, cause=cause)
        for name, ledger, added in values
        if ledger != added
    ]


# -------------------------------------------------------------------------------------------------------- keeping


def _keep(ctx: Context, found: Sequence[Difference], comparable: bool) -> int:
    """Open, update and resolve breaks; return how many are open."""
    accepted = {tuple(r) for r in ctx.conn.execute(SQL["accepted"], (ctx.book,)).fetchall()}
    left = [d for d in found if (d.kind, d.subject, d.ledger, d.broker) not in accepted]
    now = desk_of(ctx).clock()
    for difference in left:
        row = ctx.conn.execute(
            SQL["open_break"],
            {
                "book": ctx.book,
                "kind": difference.kind,
                "subject": difference.subject,
                "ledger": difference.ledger,
                "broker": difference.broker,
                "cause": difference.cause,
                "bar_end": ctx.bar_end_at,
                "now": now,
            },
        ).fetchone()
        if row is not None and row[1]:
            _tell(ctx, int(row[0]), difference)
    there = {(d.kind, d.subject) for d in left}
    stay = 0
    for known in open_breaks(ctx.conn, ctx.book):
        judged = comparable or known.kind in ANY_TIME
        if judged and (known.kind, known.subject) not in there:
            ctx.conn.execute(SQL["resolve_break"], (now, known.break_id))
        else:
            stay += 1
    return stay


def _tell(ctx: Context, break_id: int, d: Difference) -> None:
    ctx.alert(
        kind="break",
        severity="error",
        stage="reconcile",
        key=f"{d.kind}:{d.subject}:{break_id}",
        title=f"Break: {d.kind} {d.subject}",
        body=f"ledger {d.ledger.normalize():f}, broker {d.broker.normalize():f}; likely: {d.cause}. "
        "While it is open, nothing is sent.",
        next_step=f"it resolves itself when both agree; or: python -m tradecore accept-break {break_id} --reason ...",
    )


def _detail(found: Sequence[Difference], comparable: bool) -> str:
    if found:
        return "; ".join(f"{d.kind} {d.subject}: {d.ledger.normalize():f} and {d.broker.normalize():f}" for d in found)
    return "all agree" if comparable else "not the venue's last session: the book's own entries agree"
