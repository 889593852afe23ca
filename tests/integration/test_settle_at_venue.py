"""Settling and reconciling at a real venue: what it did is booked once, and what does not agree stops everything."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from real_book import ACCOUNT, BOOK, SESSIONS, RealBook

from alpaca_standin.state import State
from table_checksums import table_checksums
from tradecore import interventions, observation, pipeline, reconciliation, tax_lots, unknowns
from tradecore.errors import BookError, Rejected
from tradecore.execution.alpaca import AlpacaBroker
from tradecore.storage import migrate
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
DAY, NEXT, THIRD, FOURTH = date(2005, 2, 2), date(2005, 2, 3), date(2005, 2, 4), date(2005, 2, 7)
BY_HAND = {"symbol": "MSFT", "qty": "5", "side": "sell", "type": "market", "time_in_force": "day"}
LIMIT = {**BY_HAND, "side": "buy", "type": "limit", "limit_price": "1", "time_in_force": "gtc"}
LOOKS = ("reconciliations", "broker_cursors")


@pytest.fixture(scope="module")
def sent(
    make_database: Callable[[], AbstractContextManager[str]],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, State]]:
    """A database with a paper book that has sent DAY's sheet in the evening, and the venue that has it."""
    with make_database() as url:
        with connect(url) as conn:
            migrate.upgrade(conn)
            made = RealBook(tmp_path_factory.mktemp("sent"), url, conn)
            made.open(DAY)
            assert made.decide(DAY)["orders"], "not exercised: nothing to send"
            made.to(DAY, 19, 0)
            assert made.stage("submit", DAY)["sent"]
        yield url, made.venue.state


@pytest.fixture
def book(
    sent: tuple[str, State], copied_database: Callable[[str], AbstractContextManager[str]], tmp_path: Path
) -> Iterator[RealBook]:
    """A copy of both for one test, on the evening of DAY."""
    url, state = sent
    with copied_database(url) as copied, connect(copied) as conn:
        made = RealBook(tmp_path, copied, conn)
        made.venue.take(copy.deepcopy(state))
        made.to(DAY, 20, 0)
        yield made


def settle(book: RealBook, day: date) -> dict[str, object]:
    """Run a session up to settle, half an hour after its close."""
    book.hands.now = max(book.hands.now, SESSIONS.on(day).close_at + timedelta(minutes=30))
    for name in ("ingest", "validate"):
        book.stage(name, day)
    assert pipeline.turn(book.context(day))
    return book.stage("settle", day)


def close(book: RealBook, day: date) -> None:
    """End a session without a decision."""
    pipeline.close(book.context(day), failed=["test"])


def rows(book: RealBook, query: str, *args: object) -> list[tuple[Any, ...]]:
    found = book.conn.execute(query, args).fetchall()  # type: ignore[call-overload]
    book.conn.rollback()
    return list(found)


def positions(book: RealBook, day: date) -> dict[str, Decimal]:
    found = rows(
        book,
        "SELECT s.symbol, p.qty_e6 FROM book_positions p JOIN instrument_symbols s USING (instrument_id)"
        " WHERE book = %s AND bar_end_at = %s AND qty_e6 <> 0",
        BOOK,
        SESSIONS.on(day).close_at,
    )
    return {symbol: Decimal(qty) / 10**6 for symbol, qty in found}


def held(book: RealBook) -> dict[str, Decimal]:
    return {symbol: holding.qty for symbol, holding in book.venue.state.holdings.items() if holding.qty}


def cash(book: RealBook, day: date) -> Decimal:
    query = "SELECT cash_e4 FROM book_states WHERE book = %s AND bar_end_at = %s"
    return Decimal(rows(book, query, BOOK, SESSIONS.on(day).close_at)[0][0]) / 10**4


def kinds(book: RealBook, day: date) -> list[str]:
    query = "SELECT kind FROM book_events WHERE book = %s AND bar_end_at = %s ORDER BY event_no"
    return [r[0] for r in rows(book, query, BOOK, SESSIONS.on(day).close_at)]


def breaks(book: RealBook) -> list[reconciliation.Break]:
    found = reconciliation.open_breaks(book.conn, BOOK)
    book.conn.rollback()
    return found


def statuses(book: RealBook) -> list[str]:
    return [status for _, _, status, _ in book.orders(DAY)]


def any_order(book: RealBook) -> str:
    return str(rows(book, "SELECT client_order_id FROM orders WHERE status = 'ACKED' ORDER BY line_no LIMIT 1")[0][0])


# ------------------------------------------------------------------------------------------------------- booking


def test_the_venues_fills_are_the_books_to_the_share_and_the_cent(book: RealBook):
    done = settle(book, NEXT)
    assert done["comparable"] is True
    assert done["clean"] is True
    assert positions(book, NEXT) == held(book)
    assert positions(book, NEXT), "not exercised: nothing was filled"
    assert abs(cash(book, NEXT) - book.venue.state.cash) < Decimal("0.01")
    assert set(statuses(book)) == {"FILLED"}
    booked = rows(book, "SELECT count(*) FILTER (WHERE booked_bar_end_at IS NULL), count(*) FROM broker_fills")
    assert booked == [(0, len(rows(book, "SELECT 1 FROM fills")))]


def test_run_again_changes_nothing_but_that_we_looked(book: RealBook):
    settle(book, NEXT)
    before = table_checksums(book.conn, leave_out=LOOKS, row_versions=True)
    looks = len(rows(book, "SELECT 1 FROM reconciliations"))
    assert book.stage("settle", NEXT)["already"] is True
    observation.observe(book.context(NEXT))
    reconciliation.reconcile(book.context(NEXT), "plan")
    assert table_checksums(book.conn, leave_out=LOOKS, row_versions=True) == before
    assert len(rows(book, "SELECT 1 FROM reconciliations")) == looks + 2


def test_partial_fills_end_as_the_venue_has_them(book: RealBook):
    book.venue.configure(partial_fill_frac=1)
    settle(book, NEXT)
    assert positions(book, NEXT) == held(book)
    partial = [r for r in rows(book, "SELECT order_qty_e6, filled_e6, status FROM orders") if r[1] and r[0] != r[1]]
    assert partial, "not exercised: every order was filled"
    assert all(status in ("CANCELED", "EXPIRED", "PARTIAL") for _, _, status in partial)


def test_a_fill_that_is_reported_twice_is_booked_once(book: RealBook, monkeypatch: pytest.MonkeyPatch):
    real = AlpacaBroker.fills_since

    def twice(self: AlpacaBroker, cursor: str, behind: datetime | None = None) -> Any:
        fills, after = real(self, cursor, behind)
        return [*fills, *fills], after

    monkeypatch.setattr(AlpacaBroker, "fills_since", twice)
    assert settle(book, NEXT)["clean"] is True
    assert positions(book, NEXT) == held(book)


def test_a_late_fill_is_a_break_until_the_next_settle_books_it(book: RealBook):
    for order in book.venue.state.orders.values():
        order.drop_fills_s = 86_400.0
    first = settle(book, NEXT)
    assert first["clean"] is False
    assert positions(book, NEXT) == {}
    assert {(b.kind, b.cause.split(" that")[-1]) for b in breaks(book) if b.kind == "position"}
    close(book, NEXT)
    settle(book, THIRD)
    assert positions(book, THIRD) == held(book)
    assert "late_fill" in kinds(book, THIRD)
    assert breaks(book) == []
    assert abs(cash(book, THIRD) - book.venue.state.cash) < Decimal("0.01")


def test_a_price_of_many_decimals_leaves_its_rest_explained(book: RealBook, monkeypatch: pytest.MonkeyPatch):
    settle(book, NEXT)
    close(book, NEXT)
    book.conn.execute(
        "INSERT INTO broker_fills VALUES (%s, 'odd', 'by-hand', %s, 'AAPL', 3, 70.1234567, 0.00009, %s, %s, NULL)",
        (ACCOUNT, BOOK, SESSIONS.on(THIRD).open_at, book.hands.now),
    )
    book.conn.commit()
    before = cash(book, NEXT)
    settle(book, THIRD)
    explained = sum(
        (r[0] for r in rows(book, "SELECT amount FROM explained_differences WHERE kind = 'rounding'")), Decimal(0)
    )
    assert explained != 0
    assert cash(book, THIRD) + explained == before - 3 * Decimal("70.1234567") - Decimal("0.00009")


def test_catching_up_settles_each_session_by_its_own_fills_and_sends_nothing(book: RealBook):
    posts = dict(book.posts)
    book.hands.now = SESSIONS.on(FOURTH).close_at + timedelta(minutes=30)
    assert settle(book, NEXT)["comparable"] is False
    assert positions(book, NEXT) == held(book)
    close(book, NEXT)
    assert settle(book, THIRD)["comparable"] is False
    close(book, THIRD)
    done = settle(book, FOURTH)
    assert (done["comparable"], done["clean"]) == (True, True)
    assert book.posts == posts


# ------------------------------------------------------------------------------------------------- not our orders


def test_an_order_by_hand_moves_the_book_under_manual_and_is_told_once(book: RealBook):
    settle(book, NEXT)
    close(book, NEXT)
    book.to(THIRD, 10, 0)
    book.venue.place_by_hand({"symbol": "IBM", "qty": "7", "side": "buy", "type": "market", "time_in_force": "day"})
    assert settle(book, THIRD)["clean"] is True
    assert positions(book, THIRD) == held(book)
    owner = rows(
        book,
        "SELECT a.qty_e6 FROM book_allocations a JOIN instrument_symbols s USING (instrument_id)"
        " WHERE a.strategy = 'manual' AND s.symbol = 'IBM' AND a.bar_end_at = %s",
        SESSIONS.on(THIRD).close_at,
    )
    assert owner == [(7_000_000,)]
    observation.observe(book.context(THIRD))
    assert len(rows(book, "SELECT 1 FROM alerts WHERE kind = 'adopted'")) == 1
    for name in pipeline.strategies(book.context(THIRD)):
        pipeline.signal(book.context(THIRD), name)
    assert "decision" in book.stage("risk", THIRD)
    assert "orders" in book.stage("plan", THIRD)


def test_more_sold_by_hand_than_is_held_is_booked_told_and_bought_back(book: RealBook):
    settle(book, NEXT)
    close(book, NEXT)
    symbol, qty = next(iter(held(book).items()))
    book.to(THIRD, 10, 0)
    for part in (qty, Decimal(5)):
        order = {"symbol": symbol, "qty": str(part), "side": "sell", "type": "market", "time_in_force": "day"}
        book.venue.place_by_hand(order)
    assert held(book)[symbol] == -5, "not exercised: the venue is not short"
    assert settle(book, THIRD)["clean"] is True
    assert positions(book, THIRD)[symbol] == -5
    assert breaks(book) == []
    assert cash(book, THIRD) == book.venue.state.cash.quantize(Decimal("0.0001"))
    assert "short_position" in kinds(book, THIRD)
    told = rows(book, "SELECT severity, title FROM alerts WHERE kind = 'short'")
    assert told == [("critical", f"The book is short: {symbol} -5")]
    lots = [lot for lot in tax_lots.open_lots(book.conn, BOOK) if lot.symbol == symbol]
    assert [(lot.qty, lot.cost_usd < 0) for lot in lots] == [(-5, True)]
    assert tax_lots.replayed(book.conn, BOOK) == tax_lots.open_lots(book.conn, BOOK)
    owner = rows(book, "SELECT strategy FROM book_allocations WHERE book = %s AND qty_e6 < 0", BOOK)
    assert owner == [("manual",)]
    for name in pipeline.strategies(book.context(THIRD)):
        pipeline.signal(book.context(THIRD), name)
    book.stage("risk", THIRD)
    book.stage("plan", THIRD)
    sheet = rows(
        book,
        "SELECT i.order_qty_e6 FROM intents i JOIN instrument_symbols s USING (instrument_id)"
        " WHERE s.symbol = %s AND i.bar_end_at = %s",
        symbol,
        SESSIONS.on(THIRD).close_at,
    )
    assert sheet == [(5_000_000,)], "bought back, and nothing more"


def test_an_order_that_works_at_the_venue_by_hand_is_adopted(book: RealBook):
    book.to(DAY, 21, 0)
    order = {"symbol": "IBM", "qty": "1", "side": "buy", "type": "limit", "limit_price": "1", "time_in_force": "gtc"}
    book.venue.place_by_hand(order)
    settle(book, NEXT)
    assert rows(book, "SELECT symbol, status FROM broker_orders WHERE adopted") == [("IBM", "open")]


# ------------------------------------------------------------------------------------------------------- in doubt


def submitting(book: RealBook, order_id: str) -> None:
    """Leave an order as a killed process does: SUBMITTING is the last that we know."""
    book.conn.execute(
        "INSERT INTO order_events SELECT client_order_id, event_no + 1, 'SUBMITTING', bar_end_at, %s, ''"
        " FROM order_events WHERE client_order_id = %s ORDER BY event_no DESC LIMIT 1",
        (book.hands.now, order_id),
    )
    book.conn.commit()


def test_an_order_in_doubt_that_is_there_is_found(book: RealBook):
    order_id = any_order(book)
    submitting(book, order_id)
    assert unknowns.resolve(book.context(DAY), order_id) == "found"
    assert book.history(order_id)[-1] == "ACKED"


def test_not_found_counts_twice_some_time_apart_and_after_a_restart(book: RealBook):
    order_id = any_order(book)
    book.venue.state.by_client_id.pop(order_id)
    submitting(book, order_id)
    ctx = book.context(DAY)
    assert unknowns.resolve(ctx, order_id) == "later"
    assert book.history(order_id)[-1] == "SUBMITTING", "a look before the request's time-out proves nothing"
    book.hands.sleep(11)
    assert unknowns.resolve(ctx, order_id) == "later"
    assert unknowns.resolve(ctx, order_id) == "later"
    assert book.history(order_id)[-2:] == ["SUBMITTING", "UNKNOWN"]
    book.hands.sleep(20)
    book.desk = book.open_desk()
    assert unknowns.resolve(book.context(DAY), order_id) == "absent"
    assert unknowns.absent(book.context(DAY), order_id)
    assert book.history(order_id)[-3:] == ["SUBMITTING", "UNKNOWN", "UNKNOWN"]


def test_a_venue_that_does_not_answer_proves_nothing(book: RealBook):
    order_id = any_order(book)
    submitting(book, order_id)
    book.faults("500", method="GET", path="/v2/orders:by_client_order_id", times=2)
    book.hands.sleep(60)
    assert [unknowns.resolve(book.context(DAY), order_id) for _ in range(3)] == ["later", "later", "found"]


def test_settle_ends_an_order_that_never_got_there_as_not_sent(book: RealBook):
    order_id = any_order(book)
    gone = book.venue.state.by_client_id.pop(order_id)
    book.venue.state.close(book.venue.state.orders.pop(gone))
    book.conn.execute("DELETE FROM broker_orders WHERE client_order_id = %s", (order_id,))
    submitting(book, order_id)
    assert settle(book, NEXT)["clean"] is True
    assert book.history(order_id)[-1] == "NOT_SENT"
    assert positions(book, NEXT) == held(book)


def test_an_order_found_with_other_parameters_halts_the_book(book: RealBook):
    order_id = any_order(book)
    book.conn.execute("DELETE FROM broker_orders WHERE client_order_id = %s", (order_id,))
    submitting(book, order_id)
    order = book.venue.state.orders[book.venue.state.by_client_id[order_id]]
    order.qty = order.qty + 1
    assert unknowns.resolve(book.context(DAY), order_id) == "found"
    changes = rows(book, "SELECT to_state, actor FROM state_events WHERE actor <> 'breaker'")
    assert changes == [(2, "execution")]
    assert rows(book, "SELECT severity FROM alerts WHERE kind = 'halted'") == [("critical",)]
    settle(book, NEXT)
    assert rows(book, "SELECT trading_state FROM book_states ORDER BY bar_end_at DESC LIMIT 1") == [(2,)]


def test_a_second_cancel_by_hand_says_what_follows(book: RealBook):
    order_id = any_order(book)
    book.desk.broker.cancel(book.venue.state.by_client_id[order_id])  # by another process: not known here yet
    with pytest.raises(Rejected) as caught:
        interventions.cancel(book.context(DAY), order_id, "ann")
    assert caught.value.next_step.startswith("it has ended there, or ends already")
    observation.observe(book.context(DAY))
    with pytest.raises(BookError, match="is CANCELED: it has ended"):
        interventions.cancel(book.context(DAY), order_id, "ann")


def test_a_cancel_and_a_fill_that_cross_are_both_kept(book: RealBook):
    order_id = any_order(book)
    broker_id = book.venue.state.by_client_id[order_id]
    book.faults("late_fill", seconds=17 * 3600.0, shows="canceled")
    book.desk.broker.cancel(broker_id)
    observation.observe(book.context(DAY))
    assert book.history(order_id)[-1] == "CANCELED"
    assert settle(book, NEXT)["clean"] is True
    assert book.history(order_id)[-1] == "FILLED"
    assert positions(book, NEXT) == held(book)


# ---------------------------------------------------------------------------------------------------- reconciling


def test_an_empty_list_of_positions_is_a_break_and_nothing_is_flattened(
    book: RealBook, monkeypatch: pytest.MonkeyPatch
):
    settle(book, NEXT)
    before = positions(book, NEXT)
    with monkeypatch.context() as patch:
        patch.setattr(AlpacaBroker, "positions", lambda self: [])
        assert reconciliation.reconcile(book.context(NEXT), "plan")["clean"] is False
    assert {b.subject for b in breaks(book)} == set(before)
    assert all("no positions at all" in b.cause for b in breaks(book))
    assert positions(book, NEXT) == before
    assert not reconciliation.clean_this_bar(book.context(NEXT))
    assert reconciliation.reconcile(book.context(NEXT), "plan")["clean"] is True
    assert {r[0] for r in rows(book, "SELECT status FROM breaks")} == {"resolved"}
    assert reconciliation.clean_this_bar(book.context(NEXT))


def test_a_break_is_accepted_by_name_and_becomes_an_explained_difference(book: RealBook):
    settle(book, NEXT)
    book.venue.state.cash -= Decimal("1.23")
    assert reconciliation.reconcile(book.context(NEXT), "plan")["clean"] is False
    (found,) = breaks(book)
    assert (found.kind, found.broker - found.ledger) == ("cash", Decimal("-1.23"))
    with pytest.raises(BookError, match="with a reason"):
        reconciliation.accept_break(book.conn, found.break_id, "Ann", " ", now=book.hands.now)
    reconciliation.accept_break(book.conn, found.break_id, "Ann", "a fee of the past", now=book.hands.now)
    with pytest.raises(BookError, match="accepted"):
        reconciliation.accept_break(book.conn, found.break_id, "Ann", "again", now=book.hands.now)
    assert reconciliation.reconcile(book.context(NEXT), "plan")["clean"] is True


def test_a_ledger_that_is_not_the_sum_of_its_entries_is_a_break(book: RealBook):
    settle(book, NEXT)
    book.conn.execute("UPDATE fills SET fee_e4 = fee_e4 + 1 WHERE fill_no = 1")
    book.conn.commit()
    assert reconciliation.reconcile(book.context(NEXT), "plan")["clean"] is False
    assert {(b.kind, b.subject) for b in breaks(book)} == {("accounting", "cash"), ("accounting", "fees")}


def test_fees_interest_and_transfers_are_booked_as_the_broker_reports_them(book: RealBook):
    settle(book, NEXT)
    close(book, NEXT)
    before = cash(book, NEXT)
    book.to(THIRD, 10, 0)
    for kind, amount in (("FEE", "-2.50"), ("INT", "0.75"), ("CSD", "1000"), ("CSW", "-300")):
        book.venue.add_activity(kind, net_amount=amount)
    assert settle(book, THIRD)["clean"] is True
    assert cash(book, THIRD) == before + Decimal("698.25")
    assert sorted(r[0] for r in rows(book, "SELECT kind FROM cash_events")) == ["deposit", "opening", "withdrawal"]
    assert {"charge", "deposit"} <= set(kinds(book, THIRD))
    previous = "SELECT prev_session_equity_e4 FROM book_states ORDER BY bar_end_at DESC LIMIT 1"
    equity = "SELECT equity_e4 FROM book_states WHERE bar_end_at = %s"
    assert rows(book, previous)[0][0] == rows(book, equity, SESSIONS.on(NEXT).close_at)[0][0] + 700 * 10**4


PLANTED = (  # as the second vendor's: the first does not tell of it, and what it once told it would take back
    "INSERT INTO corporate_actions (instrument_id, ex_date, kind, source, known_at, known_at_assumed, ratio_num,"
    " ratio_den, dividend_e6, given_by, withdrawn) SELECT instrument_id, %(day)s, %(kind)s, 'csv', %(now)s, false,"
    " %(num)s, 1, %(e6)s, 'second', %(withdrawn)s FROM instrument_symbols WHERE symbol = %(symbol)s"
)


def plant(book: RealBook, symbol: str, kind: str, *, num: int = 1, e6: int = 0, withdrawn: bool = False) -> None:
    """Let an action of THIRD be known from now on."""
    terms = {"day": THIRD, "kind": kind, "num": num, "e6": e6, "withdrawn": withdrawn}
    book.conn.execute(PLANTED, {**terms, "now": book.hands.now, "symbol": symbol})
    book.conn.commit()


def test_a_dividend_that_a_paper_account_does_not_pay_is_explained(book: RealBook):
    settle(book, NEXT)
    close(book, NEXT)
    symbol, qty = next(iter(held(book).items()))
    plant(book, symbol, "dividend", e6=250_000)
    assert settle(book, THIRD)["clean"] is True
    found = rows(book, "SELECT subject, amount FROM explained_differences WHERE kind = 'dividend'")
    assert found == [(symbol, -qty / 4)]
    close(book, THIRD)
    book.venue.add_activity("DIV", symbol=symbol, net_amount=str(qty / 4))
    assert settle(book, FOURTH)["clean"] is True, "paid after all: explained, too"
    assert sum(r[0] for r in rows(book, "SELECT amount FROM explained_differences WHERE kind LIKE 'dividend%%'")) == 0


@pytest.mark.parametrize("kind", ["split", "stock_dividend"])
def test_a_split_ahead_at_the_venue_is_explained_and_one_that_is_late_is_a_break(book: RealBook, kind: str):
    settle(book, NEXT)
    symbol = next(iter(held(book)))
    plant(book, symbol, kind, num=2)
    before = copy.deepcopy(book.venue.state)
    book.venue.split(symbol, 2, 1)
    assert reconciliation.reconcile(book.context(NEXT), "plan")["clean"] is True
    close(book, NEXT)
    book.venue.take(before)
    assert settle(book, THIRD)["clean"] is False
    assert ["split in flight" in b.cause for b in breaks(book)] == [True]
    book.venue.split(symbol, 2, 1)
    assert reconciliation.reconcile(book.context(THIRD), "plan")["clean"] is True


def test_a_split_that_was_withdrawn_explains_nothing(book: RealBook):
    settle(book, NEXT)
    symbol = next(iter(held(book)))
    plant(book, symbol, "split", num=2)
    book.hands.sleep(1)
    plant(book, symbol, "split", num=2, withdrawn=True)
    book.venue.split(symbol, 2, 1)
    assert reconciliation.reconcile(book.context(NEXT), "plan")["clean"] is False
    assert [(b.kind, b.subject) for b in breaks(book)] == [("position", symbol)]


def test_a_delisting_is_among_the_entries_that_the_ledger_is_the_sum_of(book: RealBook):
    settle(book, NEXT)
    close(book, NEXT)
    symbol, qty = next(iter(held(book).items()))
    plant(book, symbol, "delisting", e6=20_000_000)
    before = cash(book, NEXT)
    settle(book, THIRD)
    assert cash(book, THIRD) == before + 20 * qty, "not exercised"
    found = {(b.kind, b.subject) for b in breaks(book)}
    assert found == {("cash", "USD"), ("position", symbol)}, "what the venue has not done yet, and nothing else"


def test_the_lots_that_are_left_are_the_books_and_what_was_sold_has_its_cost(book: RealBook):
    settle(book, NEXT)
    close(book, NEXT)
    symbol, qty = next(iter(held(book).items()))
    book.to(THIRD, 10, 0)
    for part, side in ((3, "buy"), (qty - 1, "sell"), (2, "sell")):
        order = {"symbol": symbol, "qty": str(part), "side": side, "type": "market", "time_in_force": "day"}
        book.venue.place_by_hand(order)
        book.hands.sleep(60)
    settle(book, THIRD)
    assert tax_lots.replayed(book.conn, BOOK) == tax_lots.open_lots(book.conn, BOOK)
    closed = tax_lots.closed_lots(book.conn, BOOK)
    assert [lot.qty for lot in closed] == [qty - 1, 1, 1], "the oldest first; the last sale takes from two lots"
    realised = rows(book, "SELECT realised_e4 FROM book_states ORDER BY bar_end_at DESC LIMIT 1")[0][0]
    assert sum(lot.gain_usd for lot in closed) == Decimal(realised) / 10**4


# --------------------------------------------------------------------------------------------- brackets, opening


def test_a_brackets_leg_sells_what_its_parent_bought(database_url: str, tmp_path: Path):
    with connect(database_url) as conn:
        made = RealBook(tmp_path, database_url, conn, execution={"stop_loss_frac": 0.0005, "order_style": "market"})
        made.open(DAY)
        made.decide(DAY)
        made.to(NEXT, 9, 40)
        assert made.stage("submit", DAY)["sent"]
        done = settle(made, NEXT)
        legs = rows(made, "SELECT qty_e6 FROM fills WHERE client_order_id IS NULL")
        assert legs, "not exercised: no stop was triggered"
        assert all(qty < 0 for (qty,) in legs)
        assert positions(made, NEXT) == held(made)
        assert done["clean"] is True
        assert rows(made, "SELECT 1 FROM broker_orders WHERE adopted") == []
        assert rows(made, "SELECT 1 FROM book_allocations WHERE strategy = 'manual'") == []
        close(made, NEXT)
        assert settle(made, THIRD)["clean"] is True
        assert positions(made, THIRD) == held(made)


@pytest.fixture
def account(database_url: str, tmp_path: Path) -> Iterator[RealBook]:
    """An account with a history, and no book yet."""
    with connect(database_url) as conn:
        made = RealBook(tmp_path, database_url, conn)
        made.to(date(2005, 1, 31), 11, 0)
        made.venue.place_by_hand(
            {"symbol": "IBM", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
        )
        yield made


def test_a_book_opens_with_what_the_account_holds(account: RealBook):
    account.open(DAY)
    opened = SESSIONS.previous_close(SESSIONS.on(DAY).open_at).label
    assert positions(account, opened) == {"IBM": Decimal(10)}
    assert abs(cash(account, opened) - account.venue.state.cash) < Decimal("0.01")
    cost = rows(account, "SELECT cost_e4 FROM book_lots")
    assert Decimal(cost[0][0]) / 10**4 == round(10 * account.venue.state.holdings["IBM"].avg_price, 4)
    assert rows(account, "SELECT account_number, live_enabled FROM broker_accounts") == [("PA0STANDIN00", False)]
    assert settle(account, DAY)["clean"] is True
    assert positions(account, DAY) == {"IBM": Decimal(10)}, "what was before the opening is not booked again"
    assert rows(account, "SELECT 1 FROM alerts WHERE kind = 'adopted'") == []


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (
            {**BY_HAND, "side": "buy", "type": "limit", "limit_price": "1", "time_in_force": "gtc"},
            "working orders in MSFT",
        ),
        (BY_HAND, "is short MSFT"),
    ],
    ids=["working order", "short"],
)
def test_an_account_that_the_book_could_not_keep_is_refused(account: RealBook, order: dict[str, Any], said: str):
    account.to(date(2005, 2, 1), 11, 0)
    account.venue.place_by_hand(order)
    with pytest.raises(BookError, match=said):
        account.open(DAY)
    assert rows(account, "SELECT 1 FROM books") == []


def test_a_holding_outside_the_universe_is_refused_by_name(account: RealBook):
    holding = account.venue.state.holdings["IBM"]
    account.venue.state.holdings["ZZZZ"] = copy.deepcopy(holding)
    with pytest.raises(BookError, match="ZZZZ, which universe"):
        account.open(DAY)


def test_a_fill_that_appears_days_late_is_read_although_younger_ones_were(book: RealBook):
    """The cursor of executions stands at the youngest known; the venue's own order says that something is missing."""
    late = next(iter(book.venue.state.orders.values()))
    late.drop_fills_s = 40 * 3600.0
    assert settle(book, NEXT)["clean"] is False, "not exercised: nothing was missing"
    close(book, NEXT)
    for day in (THIRD, FOURTH):
        book.to(day, 10, 0)
        by_hand = {"symbol": "IBM", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
        book.venue.place_by_hand(by_hand)
        book.hands.now += timedelta(minutes=10)
        book.venue.advance(book.hands.now)
        settle(book, day)
        close(book, day)
    assert positions(book, FOURTH) == held(book)
    assert not rows(book, "SELECT 1 FROM breaks WHERE status = 'open'")
