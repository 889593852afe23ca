"""A split between plan and open changes the units of an order, not the money: within a tick and a lot.

The law: what an order is worth (its quantity in the units of the next bar, at a price that only the split changed) is
what the decision meant to move, in the old units, up to one lot and up to one tick on each share. Whether the split was
known when the sheet was made (the order is planned in new units) or came overnight (settle scales the order).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from parity_case import NOW, REPO, configure
from random_market import capital, fill_quanta, instruments, market, row, step_params

from reference import RefBar, RefParams, RefQuote
from tradecore import pipeline
from tradecore.backtest.step import decide, plan, settle
from tradecore.context import book_calendar
from tradecore.model import EQUITY, new_book
from tradecore.storage import bars as stored

RATIOS = ((2, 1), (3, 1), (3, 2), (7, 5), (5, 4), (11, 10), (20, 1), (1, 2), (1, 3), (2, 3), (1, 10), (1, 30))
CASH = Decimal(1_000_000)
SPLIT_EVE, SPLIT_DAY = date(2005, 2, 25), date(2005, 2, 28)


@dataclass(frozen=True, slots=True)
class Crossing:
    """One order across a split: what was meant in e4 of old units; what was planned and filled, in e6 and e4."""

    meant: Fraction
    planned: int
    ref: int
    filled: int
    open: int
    held: int


def cross(
    price: Decimal, ratio: tuple[int, int], known: bool, scores: tuple[float, float], tick: Decimal, lot: Decimal
) -> Crossing:
    """Decide twice at one price, the second time before a split; the market then opens unchanged but for the split."""
    after = (price * ratio[1] / ratio[0] / tick).to_integral_value(ROUND_HALF_UP) * tick
    bars = []
    for t, (p, split) in enumerate(((price, (1, 1)), (price, (1, 1)), (after, ratio))):
        quote = RefQuote(open=p, high=p, low=p, close=p, volume=10**9, tick=tick, qty_step=lot, split=split)
        bars.append(RefBar(day=15_000 + t, bar_end_ns=(t + 1) * 10**12, quotes=[quote]))
    params = step_params(
        RefParams(
            capital_shares=[1.0],
            slippage_bps=Decimal(0),
            commission_bps=Decimal(0),
            participation_frac=Decimal(1),
            max_position=Decimal("0.9"),
            max_exposure=Decimal("0.9"),
            max_turnover=Decimal(1),
            min_order_notional=Decimal(0),
            rebalance_band=Decimal(0),
            max_daily_loss=Decimal("0.9"),
            max_drawdown=Decimal("0.9"),
            sizing="equal_weight",
        )
    )
    rows, fixed = market(bars), instruments(bars[0])
    told = market(bars[1:], [[(1, 1)], [ratio if known else (1, 1)]])
    share = capital(RefParams(capital_shares=[1.0]), 1)
    book = new_book(cash_e4=int(CASH * 10**4), n_instruments=1, n_strategies=1, n_lots=1, n_orders=1)
    for t, score in enumerate(scores):
        book, _ = settle(book, row(rows, t), fixed, params)
        decision, _ = decide(
            book, np.array([[score]]), share, np.array([0.2]), row(rows, t), row(told, t), fixed, params
        )
        held, equity = int(book.qty[0]), int(book.acct[EQUITY])
        book, journal = plan(book, decision, row(rows, t), row(told, t), fixed, params)
    meant = Fraction(equity * int(decision.weight[0, 0]), 10**6) - Fraction(held * int(price * 10**4), 10**6)
    planned = sum(int(o[1]) for o in journal.orders)
    book, settled = settle(book, row(rows, 2), fixed, params)
    filled = sum(f[1] for f in fill_quanta(settled.fills))
    return Crossing(meant, planned, int(decision.ref[0]), filled, int(after * 10**4), int(book.qty[0]))


def allowed(quantity: int, held: int, at: int, tick: Decimal, lot: Decimal) -> Fraction:
    """Return a lot, and a tick on each share that was moved or is held, in e4; a quantum for rounding."""
    shares = Fraction(max(abs(quantity), held), 10**6)
    return int(lot * 10**6) * Fraction(at, 10**6) + int(tick * 10**4) * shares + 1


def check(
    price: Decimal, ratio: tuple[int, int], known: bool, scores: tuple[float, float], tick: Decimal, lot: Decimal
):
    """Assert the law for the order as planned and as it met the open."""
    found = cross(price, ratio, known, scores, tick, lot)
    gap = abs(Fraction(found.planned * found.ref, 10**6) - found.meant)
    assert gap <= allowed(found.planned, found.held, found.ref, tick, lot), f"planned {found}"
    most = allowed(found.filled, found.held, found.open, tick, lot)
    if not known:  # it was cut to a lot twice: in the old units, and again in the new ones
        most += int(lot * 10**6) * Fraction(int(price * 10**4), 10**6)
    gap = abs(Fraction(found.filled * found.open, 10**6) - found.meant)
    assert gap <= most, f"at the open {found}"
    return found


@settings(max_examples=400, deadline=None)
@given(
    cents=st.integers(100, 100_000),
    ratio=st.sampled_from(RATIOS) | st.tuples(st.integers(1, 40), st.integers(1, 40)),
    known=st.booleans(),
    scores=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    tick=st.sampled_from((Decimal("0.01"), Decimal("0.0001"), Decimal("0.05"))),
    lot=st.sampled_from((Decimal(1), Decimal("0.001"), Decimal("0.000001"), Decimal(10))),
)
def test_order_keeps_its_worth_across_any_split(
    cents: int,
    ratio: tuple[int, int],
    known: bool,
    scores: tuple[float, float],
    tick: Decimal,
    lot: Decimal,
):
    price = (Decimal(cents) / 100 / tick).to_integral_value() * tick
    assume(price * ratio[1] / ratio[0] >= 1)
    check(price, ratio, known, scores, tick, lot)


@pytest.mark.parametrize("known", [True, False], ids=["known at plan", "came overnight"])
@pytest.mark.parametrize(
    "scores", [(0.0, 0.7), (0.3, 0.7), (0.7, 0.3), (0.7, 0.0)], ids=["open", "add", "reduce", "close"]
)
def test_every_kind_of_order_crosses_every_ratio(known: bool, scores: tuple[float, float]):
    """The property above with something at stake: each has an order, of the size that the ratio asks for."""
    for ratio in RATIOS:
        found = check(Decimal("88.99"), ratio, known, scores, Decimal("0.01"), Decimal(1))
        assert found.filled * (scores[1] - scores[0]) > 0
        plain = cross(Decimal("88.99"), (1, 1), known, scores, Decimal("0.01"), Decimal(1))
        assert found.filled / plain.filled == pytest.approx(ratio[0] / ratio[1], rel=0.01)
        assert found.planned / plain.planned == pytest.approx(ratio[0] / ratio[1] if known else 1, rel=0.01)


# ------------------------------------------------------------------------------------------- the real one


OPENS = {"strategies": {"ma_crossover": {"params": {"confidence_threshold": 0.3}}}}
IN_PARTS: dict[str, Any] = {"execution": {"participation_frac": 0.000001}, "risk": {"rebalance_band_frac": 0.0001}}


@pytest.mark.db
@pytest.mark.parametrize(
    ("opened_before", "changes", "what"),
    [
        pytest.param(SPLIT_EVE, {}, "filled whole", id="opens the position"),
        pytest.param(date(2005, 2, 24), IN_PARTS, "planned anew", id="adds to a position"),
        pytest.param(
            date(2005, 2, 24), {**IN_PARTS, "execution": {**IN_PARTS["execution"], "remainder": "carry"}}, "carried",
            id="rest of a carried order",
        ),
    ],
)  # fmt: skip
def test_order_of_aapl_keeps_its_worth_across_its_split(
    tmp_path: Path,
    database_url: str,
    conn: psycopg.Connection,
    opened_before: date,
    changes: dict[str, dict[str, Any]],
    what: str,
):
    """AAPL 2:1 on 2005-02-28, planned on 2005-02-25: one book hears of it overnight, another knew when it planned."""
    folder = tmp_path / "data"
    shutil.copytree(REPO / "include/sample_data", folder)
    known_actions = (folder / "corporate_actions.csv").read_text()
    secret = "".join(line for line in known_actions.splitlines(True) if "2005-02-28" not in line)
    assert secret != known_actions
    (folder / "corporate_actions.csv").write_text(secret)
    sections = {**changes, **OPENS, "data": {"options": {"folder": str(folder)}, "restate_sessions": 1}}
    found = configure(tmp_path, database_url, sections)
    known = book_calendar(found)
    pipeline.load_history(found, conn, first=date(2004, 11, 15), last=known.previous_session(opened_before), now=NOW)
    until_eve = known.sessions_in_range(opened_before, SPLIT_EVE)

    run(found, conn, "sim", (*until_eve,))
    (folder / "corporate_actions.csv").write_text(known_actions)
    run(found, conn, "sim", (SPLIT_DAY,))
    run(found, conn, "replay:knew", (*until_eve, SPLIT_DAY))

    tick, lot = Decimal("0.01"), Decimal(1)
    overnight, knew = (Order.of(conn, book) for book in ("sim", "replay:knew"))
    assert overnight.split == (1, 1), "not exercised: the split was known"
    if what == "carried":
        assert knew.split == (1, 1), "not exercised: planned before the eve"
        assert overnight.carried == knew.carried, "not exercised: a rest across the split"
        (before, now), (rest_before, rest_now, filled) = knew.carried[0], knew.carried[1]
        assert now == 2 * before
        assert rest_now == 2 * rest_before - filled
    else:
        assert knew.split == (2, 1), "not exercised: the order was not planned across the split"
        gap = abs(overnight.qty * overnight.ref - knew.qty * knew.ref)
        assert gap <= 10**6 * allowed(knew.qty, knew.held, knew.ref, tick, lot), f"{overnight} and {knew}"
        assert abs(knew.qty - 2 * overnight.qty) <= 2 * 10**6
    assert overnight.fills
    assert len(overnight.fills) == len(knew.fills)
    for (qty, price), (other_qty, other_price) in zip(overnight.fills, knew.fills, strict=True):
        assert price == other_price
        assert abs(qty - other_qty) <= 2 * 10**6
    if what == "filled whole":
        assert sum(q for q, _ in knew.fills) == knew.qty
        assert sum(q for q, _ in overnight.fills) == 2 * overnight.qty
    print(f"proof: AAPL across its split, {what}: overnight {overnight}; knew {knew}")


def run(found: Any, conn: psycopg.Connection, book: str, days: tuple[date, ...]) -> None:
    """Run every stage of the sessions with a book."""
    pipeline.open_book(found, conn, book=book, before=days[0], now=NOW)
    for day in days:
        pipeline.run_session(found, conn, book=book, session_date=day, now=NOW)


@dataclass(frozen=True, slots=True)
class Order:
    """AAPL's order that crosses the split: e6 and e4; carried = (order before, after), (rest before, after, filled)."""

    qty: int
    ref: int
    split: tuple[int, int]
    held: int
    fills: tuple[tuple[int, int], ...]
    carried: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, conn: psycopg.Connection, book: str) -> Order:
        """Read it: decided on the eve, or working then and carried past the split."""
        aapl = next(
            m.instrument.instrument_id for m in stored.read_universe(conn, "sample") if m.instrument.symbol == "AAPL"
        )
        key = {"book": book, "aapl": aapl, "eve": SPLIT_EVE, "day": SPLIT_DAY}
        order = conn.execute(
            "SELECT i.order_qty_e6, i.ref_price_e4, i.split_num, i.split_den, i.client_order_id FROM intents i"
            " JOIN book_states s USING (book, bar_end_at) WHERE i.book = %(book)s AND i.instrument_id = %(aapl)s"
            " AND s.session_date <= %(eve)s ORDER BY i.bar_end_at DESC LIMIT 1",
            key,
        ).fetchone()
        assert order is not None, "not exercised: no order of AAPL"
        fills = conn.execute(
            "SELECT f.qty_e6, f.price_e4 FROM fills f JOIN book_states s USING (book, bar_end_at)"
            " WHERE f.client_order_id = %(id)s AND s.session_date = %(day)s ORDER BY f.fill_no",
            {**key, "id": order[4]},
        ).fetchall()
        working = conn.execute(
            "SELECT w.order_qty_e6, w.remaining_e6 FROM book_working_orders w JOIN book_states s"
            " USING (book, bar_end_at) WHERE w.client_order_id = %(id)s"
            " AND s.session_date IN (%(eve)s, %(day)s) ORDER BY w.bar_end_at",
            {**key, "id": order[4]},
        ).fetchall()
        held = conn.execute(
            "SELECT p.qty_e6 FROM book_positions p JOIN book_states s USING (book, bar_end_at)"
            " WHERE p.book = %(book)s AND p.instrument_id = %(aapl)s AND s.session_date = %(day)s",
            key,
        ).fetchone()
        carried: tuple[tuple[int, ...], ...] = ()
        if len(working) == 2:
            (before, rest), (now, left) = working
            carried = ((before, now), (rest, left, sum(q for q, _ in fills)))
        conn.rollback()
        return cls(order[0], order[1], (order[2], order[3]), held[0] if held else 0, tuple(fills), carried)
