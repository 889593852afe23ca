"""Put a book right after a corporate action that became known, changed or was withdrawn after its bar had settled.

The past is not rewritten: the bars in between stay as they were settled. At the next bar the book gets what it would
hold had the action been known in time, with the trades that it made:

    split, stock dividend   + what was held before the ex-date, times (ratio in force - ratio booked); the lots and what
                            strategies hold are scaled with the position, costs stay
    dividend                + what was held, times (amount in force - amount booked), in cash
    delisting               takes effect at the next bar as if it were its own (settlement.bar_as_of)

A position that has been sold since has no lots to scale: what it lacks or has too much is paid in cash at the last
mark. Books at a real venue are left alone: there the broker's positions decide, and a difference is a break.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from fractions import Fraction

import psycopg

from tradecore.context import Context
from tradecore.model import CASH, DIVIDENDS, REALISED, Book, Instruments, copy_book
from tradecore.portfolio._kernels import split_allocations, split_lots
from tradecore.storage import bars as stored
from tradecore.storage import books, queries
from tradecore.storage.books import Axes
from tradecore.units import DIVIDEND_SCALE, QTY_SCALE, shares, usd

SQL = queries.load("corrections")
E8 = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One action's effect on the book, in e6 and e4. `entitled_e6` was held when it went ex."""

    instrument_id: int
    ex_date: date
    kind: str
    entitled_e6: int
    before_e6: int
    after_e6: int
    cash_e4: int
    terms_before: str
    terms: str


def put_right(ctx: Context, book: Book, axes: Axes, instruments: Instruments) -> tuple[Book, tuple[Correction, ...]]:
    """Return the book of the bar before with what it lacks, and the corrections; the same book where there is none."""
    rows = ctx.conn.execute(
        SQL["changed_terms"],
        {
            "book": ctx.book,
            "source": ctx.record.source,
            "previous": ctx.previous_bar_end,
            "until": ctx.calendar.session_of(ctx.previous_bar_end),
            "as_of": ctx.as_of(),
        },
    ).fetchall()
    found: list[Correction] = []
    held = copy_book(book) if rows else book
    for instrument, ex_date, kind, qty, num, den, cash, new_num, new_den, new_cash, since in rows:
        if (num, den, cash) == (new_num, new_den, new_cash) or instrument not in axes.instruments:
            continue
        i = axes.instruments.index(instrument)
        since += sum(c.after_e6 - c.before_e6 for c in found if c.instrument_id == instrument and c.ex_date < ex_date)
        entitled = _entitled(ctx, instrument, ex_date, kind, qty + since)
        gain = Fraction(new_num, new_den) - Fraction(num, den)
        before, after, paid = int(held.qty[i]), int(held.qty[i]), 0
        if kind == "dividend":
            paid = _rounded(entitled * new_cash, E8) - _rounded(entitled * cash, E8)
        else:
            after, paid = _resized(before, int(entitled * gain), int(instruments.step[i]), int(held.mark[i]))
        correction = Correction(
            instrument_id=instrument,
            ex_date=ex_date,
            kind=kind,
            entitled_e6=entitled,
            before_e6=before,
            after_e6=after,
            cash_e4=paid,
            terms_before=_terms(kind, num, den, cash),
            terms=_terms(kind, new_num, new_den, new_cash),
        )
        if correction.before_e6 != correction.after_e6 or correction.cash_e4:
            found.append(correction)
            _apply(held, i, correction)
    return held, tuple(found)


def _entitled(ctx: Context, instrument: int, ex_date: date, kind: str, qty: int) -> int:
    """Return what a dividend was paid on: what was held before its day, after a split of the same day."""
    if kind != "dividend":
        return qty
    day = ctx.calendar.previous_session(ex_date)
    actions = stored.read_actions(
        ctx.conn, source=ctx.record.source, instruments=[instrument], after=day, until=ex_date, as_of=ctx.as_of()
    )
    for action in actions:
        if action.kind in ("split", "stock_dividend"):
            qty = qty * action.ratio_num // action.ratio_den
    return qty


def _rounded(amount: int, scale: int) -> int:
    """Return amount / scale, half away from zero."""
    whole = (2 * abs(amount) + scale) // (2 * scale)
    return whole if amount >= 0 else -whole


def _resized(qty: int, more: int, step: int, mark: int) -> tuple[int, int]:
    """Return the position after `more` shares, in whole steps and on its own side, and what the rest is worth."""
    wanted = qty + more
    same_side = qty != 0 and (wanted > 0) == (qty > 0)
    after = (1 if wanted > 0 else -1) * (abs(wanted) // step * step) if same_side else 0
    return after, _rounded((wanted - after) * mark, QTY_SCALE)


def _terms(kind: str, num: int, den: int, dividend_e6: int) -> str:
    if kind == "dividend":
        return f"{dividend_e6 / DIVIDEND_SCALE:g} USD" if dividend_e6 else "none"
    return f"{num}:{den}" if num != den else "none"


def _apply(book: Book, i: int, correction: Correction) -> None:
    """Change a book in place."""
    before, after = correction.before_e6, correction.after_e6
    if after != before:
        book.acct[REALISED] -= split_lots(book, i, after, abs(after), abs(before))
        split_allocations(book.alloc, i, after, abs(after), abs(before))
        book.qty[i] = after
    book.acct[CASH] += correction.cash_e4
    book.acct[DIVIDENDS if correction.kind == "dividend" else REALISED] += correction.cash_e4


def apply_stored(conn: psycopg.Connection, name: str, bar_end: datetime, book: Book, axes: Axes) -> Book:
    """Return the book with which a settled bar began: that of the bar before, with the corrections that it made."""
    rows = conn.execute(SQL["corrections"], (name, bar_end)).fetchall()
    found = [Correction(**dict(zip(Correction.__dataclass_fields__, row, strict=True))) for row in rows]
    book = copy_book(book) if found else book
    for correction in found:
        _apply(book, axes.instruments.index(correction.instrument_id), correction)
    return book


def store(ctx: Context, found: Sequence[Correction], first_event: int) -> None:
    """Write corrections down: in the ledger, as events of the bar, and to a person."""
    symbols = stored.instruments_by_id(ctx.conn, [c.instrument_id for c in found])
    for number, c in enumerate(found, start=1):
        key = {"book": ctx.book, "bar_end": ctx.bar_end_at, "number": number}
        ctx.conn.execute(SQL["add_correction"], {**key, **asdict(c)})
        what = f"{c.kind.replace('_', ' ')} of {c.ex_date}: {c.terms_before} booked, {c.terms} in force"
        amount = c.cash_e4 if c.kind == "dividend" else c.after_e6
        ctx.conn.execute(
            books.SQL["add_event"],
            (*ctx.key, first_event + number, f"corrected_{c.kind}", c.instrument_id, amount, what),
        )
        _alert(ctx, symbols[c.instrument_id].symbol, c, what)


def _alert(ctx: Context, symbol: str, c: Correction, what: str) -> None:
    if c.terms == "none":
        title = f"A {c.kind.replace('_', ' ')} of {symbol} was withdrawn"
    elif c.terms_before == "none":
        title = f"A {c.kind.replace('_', ' ')} of {symbol} became known too late"
    else:
        title = f"A {c.kind.replace('_', ' ')} of {symbol} was corrected"
    ctx.alert(
        kind="missed_action",
        severity="warning",
        stage="settle",
        key=f"{symbol}:{c.ex_date}:{c.kind}",
        title=title,
        body=f"It went ex on {c.ex_date} ({what}); book {ctx.book} held {shares(c.entitled_e6)} then, and had settled "
        f"that session otherwise. From now on: {shares(c.before_e6)} -> {shares(c.after_e6)} shares, "
        f"{usd(c.cash_e4)} USD in cash. What was settled in between stays as it is.",
        next_step="look at the positions in the report; breakers may have acted on the wrong values of these sessions",
    )
