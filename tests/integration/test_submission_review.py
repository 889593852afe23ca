"""What a review of the sending found: halts that must hold each time, stops that must stay, money counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from parity_case import configure
from real_book import ACCOUNT, BOOK, SESSIONS, RealBook

from tradecore import cancelling, execution_views, guard, interventions, observation, pipeline, submission, unknowns
from tradecore.errors import BookError, ConfigError
from tradecore.execution.broker import BrokerOrder, OrderRequest, Permit
from tradecore.storage import migrate
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
DAY, NEXT, THIRD = date(2005, 2, 2), date(2005, 2, 3), date(2005, 2, 4)
CHEAP = {"side": "buy", "type": "limit", "limit_price": "1", "time_in_force": "gtc", "qty": "1"}


@pytest.fixture(scope="module")
def decided(
    make_database: Callable[[], AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database with a paper book that has decided at DAY's close; the evening's window opens at 19:00."""
    with make_database() as url:
        with connect(url) as conn:
            migrate.upgrade(conn)
            made = RealBook(tmp_path_factory.mktemp("decided"), url, conn)
            made.open(DAY)
            assert made.decide(DAY)["orders"], "not exercised: nothing to send"
        yield url


@pytest.fixture
def book(
    decided: str, copied_database: Callable[[str], AbstractContextManager[str]], tmp_path: Path
) -> Iterator[RealBook]:
    with copied_database(decided) as url, connect(url) as conn:
        made = RealBook(tmp_path, url, conn)
        made.to(DAY, 19, 0)
        yield made


def halts(book: RealBook) -> list[str]:
    found = book.conn.execute("SELECT reason FROM state_events WHERE actor = 'execution' AND to_state = 2").fetchall()
    book.conn.rollback()
    return [r[0] for r in found]


def order_ids(book: RealBook) -> dict[str, str]:
    found = book.conn.execute(
        "SELECT s.symbol, o.client_order_id FROM orders o JOIN instrument_symbols s USING (instrument_id)"
    ).fetchall()
    book.conn.rollback()
    return dict(found)


def test_unknown_at_the_sessions_end_halts_each_time(book: RealBook):
    """A halt of an earlier session, in the same words and lifted since, is none of today's."""
    book.conn.execute(
        "INSERT INTO state_events (book, bar_end_at, event_no, from_state, to_state, actor, reason) SELECT %s,"
        " inception_at, 1, 0, 2, 'execution', '1 order(s) are unknown at the session''s end' FROM books",
        (BOOK,),
    )
    book.conn.commit()
    book.to(NEXT, 9, 26)
    book.faults("timeout_refused")
    book.faults("timeout_refused", times=10**6, method="GET", path="/v2/orders:by_client_order_id")
    assert book.stage("submit", DAY)["waiting"]
    book.hands.now = SESSIONS.on(NEXT).close_at - timedelta(seconds=50)
    assert book.stage("submit", DAY)["done"]
    assert len(halts(book)) == 2
    assert guard.state(book.context(DAY)) == "HALTED"


def test_a_refused_order_that_works_at_the_venue_halts(book: RealBook):
    book.faults("403_wash")
    book.stage("submit", DAY)
    refused = next(s for s, _, status, _ in book.orders(DAY) if status == "REJECTED")
    qty = next(q for s, q, _, _ in book.orders(DAY) if s == refused)
    order_id = order_ids(book)[refused]
    book.venue.place_by_hand(
        {"symbol": refused, "qty": str(qty), "side": "buy", "type": "market", "time_in_force": "opg"}
        | {"client_order_id": order_id}
    )
    observation.observe(book.context(DAY))
    assert any("ours says REJECTED" in reason for reason in halts(book))


def test_an_order_accepted_otherwise_than_it_was_sent_halts(book: RealBook, monkeypatch: pytest.MonkeyPatch):
    send = book.desk.broker.submit

    def altered(order: OrderRequest, permit: Permit) -> BrokerOrder:
        return replace(send(order, permit), qty=order.qty + 1)

    monkeypatch.setattr(book.desk.broker, "submit", altered)
    book.stage("submit", DAY)
    assert any("other parameters" in reason for reason in halts(book))
    assert book.accepted == 1


def test_an_order_by_hand_after_planning_keeps_its_symbol_ours_free(book: RealBook):
    """What the last reconciliation could not know is seen at the venue when it matters."""
    symbol = next(s for s, q, _, _ in book.orders(DAY) if q > 0)
    book.venue.place_by_hand({**CHEAP, "symbol": symbol})
    assert "placed by hand" in str(book.stage("submit", DAY)["waiting"])
    assert order_ids(book)[symbol] not in book.posts
    assert {s: status for s, _, status, _ in book.orders(DAY)}[symbol] == "PLANNED"


def test_a_name_that_changes_overnight_is_sent_as_it_is_called_then(book: RealBook):
    symbol = book.orders(DAY)[0][0]
    book.conn.execute(
        "INSERT INTO instrument_symbols (instrument_id, symbol, valid_from) SELECT instrument_id, 'NEWNAME', %s"
        " FROM instrument_symbols WHERE symbol = %s",
        (NEXT, symbol),
    )
    book.conn.commit()
    assert "NEWNAME" in {o.symbol for o in guard.sheet(book.context(DAY))}


def resting(book: RealBook) -> tuple[str, str]:
    """Let an order of ours work at the venue that DAY's sheet replaces; return its id and the symbol."""
    symbol = next(s for s, q, _, _ in book.orders(DAY) if q > 0)
    new = order_ids(book)[symbol]
    placed = book.venue.place_by_hand({**CHEAP, "symbol": symbol, "client_order_id": "tc-old"})
    book.conn.execute(
        "INSERT INTO intents SELECT (jsonb_populate_record(i, jsonb_build_object('client_order_id', 'tc-old', 'epoch',"
        " 9, 'line_no', 900, 'order_qty_e6', 1000000))).* FROM intents i WHERE client_order_id = %s",
        (new,),
    )
    book.conn.execute(
        "INSERT INTO order_events (client_order_id, event_no, status, bar_end_at, happened_at, detail) SELECT 'tc-old',"
        " n, s, b.inception_at, b.inception_at, '' FROM books b,"
        " (VALUES (1, 'PLANNED'), (2, 'SUBMITTING'), (3, 'ACKED')) v (n, s)"
    )
    book.conn.execute(
        "INSERT INTO broker_orders (account, broker_order_id, client_order_id, book, symbol, qty, order_type,"
        " time_in_force, adopted, status, filled_qty, first_seen_at, changed_at)"
        " VALUES (%s, %s, 'tc-old', %s, %s, 1, 'limit', 'gtc', false, 'open', 0, now(), now())",
        (ACCOUNT, placed["id"], BOOK, symbol),
    )
    book.conn.execute(
        "INSERT INTO sheet_cancels SELECT book, bar_end_at, version, 'tc-old' FROM intents WHERE client_order_id = %s",
        (new,),
    )
    book.conn.commit()
    return new, symbol


def test_what_a_sheet_replaces_ends_first_and_its_end_is_known(book: RealBook):
    new, _ = resting(book)
    assert book.stage("submit", DAY)["done"]
    assert book.history("tc-old")[-1] == "CANCELED"
    assert book.history(new) == ["PLANNED", "SUBMITTING", "ACKED"]


def test_what_filled_while_it_was_cancelled_is_not_bought_again(book: RealBook):
    new, _ = resting(book)
    book.faults("late_fill", seconds=1, shows="pending_cancel")
    assert "which did not know of it" in str(book.stage("submit", DAY)["waiting"])
    assert book.venue.faults.fired, "not exercised"
    assert book.history("tc-old")[-1] == "FILLED"
    assert new not in book.posts


def test_a_sheet_that_is_too_late_leaves_what_it_would_have_replaced(book: RealBook):
    resting(book)
    book.to(NEXT, 12, 0)
    book.stage("submit", DAY)
    assert book.history("tc-old")[-1] == "ACKED"


def test_a_halt_that_cannot_cancel_yet_does_not_close_the_bar(book: RealBook):
    """The broker is down when the book is halted: what works there is still to end."""
    resting(book)
    pipeline.change_state(
        book.settings, book.conn, book=BOOK, state="HALTED", actor="test", reason="now", now=book.hands.now
    )
    book.faults("timeout_refused", times=10**6, method="DELETE")
    assert "could not be cancelled" in str(book.stage("submit", DAY)["waiting"])
    assert {status for _, _, status, _ in book.orders(DAY)} == {"ACKED", "NOT_SENT"}
    book.venue.faults.faults.clear()
    assert book.stage("submit", DAY)["done"]
    assert book.history("tc-old")[-1] == "CANCELED"


@pytest.fixture
def protected(database_url: str, tmp_path: Path) -> Iterator[RealBook]:
    """A book whose holdings have stops at the venue, a session later."""
    with connect(database_url) as conn:
        made = RealBook(tmp_path, database_url, conn, execution={"stop_loss_frac": 0.2, "order_style": "market"})
        made.open(DAY)
        made.decide(DAY)
        made.to(NEXT, 9, 40)
        assert made.stage("submit", DAY)["sent"]
        made.decide(NEXT)
        made.to(THIRD, 9, 40)
        yield made


def test_a_stop_ends_for_an_order_that_may_leave_and_for_no_other(protected: RealBook):
    """Legs of a bracket come without their parent after its session: it is known from when they were placed."""
    order = guard.sheet(protected.context(DAY))[0]
    ctx = protected.context(NEXT)
    sell = replace(order, client_order_id="tc-sell", qty=-order.qty, parent_id=None, status="PLANNED")
    scene = guard.survey(ctx, protected.desk, [sell])
    legs = [o for o in scene.at_venue if o.symbol == sell.symbol]
    assert [o.qty for o in legs] == [sell.qty], "not exercised: no stop works"
    assert all(o.parent_id for o in legs)
    assert scene.by_hand == frozenset()
    sending = submission._Sending(ctx, protected.desk)
    ruling = guard.examine(ctx, protected.desk, scene, sell, 1)
    assert {v.name for v in ruling.verdicts if not v.passed} >= {"opposite"}
    assert sending._make_way(replace(scene, hours="the hours differ"), sell, 1).at_venue == scene.at_venue
    assert unknowns.with_parents(ctx, protected.desk.broker.orders_since(protected.hands.now)) == scene.at_venue
    assert guard.approval(ctx) == "not_required"
    ended = {o.broker_order_id for o in legs}
    assert not ended & {o.broker_order_id for o in sending._make_way(scene, sell, 1).at_venue}


def test_slices_that_were_paid_are_counted_once(database_url: str, tmp_path: Path):
    """Cash knows of what was executed; what is still to come is what may be taken from it."""
    execution: dict[str, Any] = {"order_style": "market", "algorithm": "twap", "twap_slices": 3, "twap_minutes": 20}
    with connect(database_url) as conn:
        made = RealBook(tmp_path, database_url, conn, execution={**execution, "checks": {"min_cash_frac": 0.85}})
        made.open(DAY)
        made.decide(DAY)
        made.to(NEXT, 9, 30)
        for _ in range(6):
            done = made.stage("submit", DAY)
            if done.get("done"):
                break
            made.hands.sleep(float(str(done["again_s"])))
        assert made.desk.broker.account().cash < Decimal(90_000), "not exercised: too little was bought"
        assert {s for _, _, s, _ in made.orders(DAY)} <= {"ACKED", "FILLED"}


def test_an_order_cancelled_by_hand_shows_so_at_once(book: RealBook):
    assert book.stage("submit", DAY)["done"]
    first, second = list(order_ids(book).values())[:2]
    ctx = replace(book.context(DAY), desk=book.desk)
    assert interventions.cancel(ctx, first, "test")["now"] == "CANCELED"
    assert book.history(first)[-1] == "CANCELED"
    book.faults("late_fill", seconds=60, shows="pending_cancel")
    assert interventions.cancel(ctx, second, "test")["now"] == "CANCEL_PENDING"
    shown = {o["id"]: o["status"] for o in execution_views.orders(book.conn, BOOK, DAY)}
    assert (shown[first], shown[second]) == ("CANCELED", "CANCEL_PENDING")
    book.hands.sleep(120)
    observation.observe(ctx)
    assert book.history(second)[-1] == "FILLED"


def test_a_cancel_by_hand_that_the_venue_cannot_be_asked_about_says_so(book: RealBook):
    assert book.stage("submit", DAY)["done"]
    ctx = replace(book.context(DAY), desk=book.desk)
    book.faults("timeout_refused", times=10**6, method="GET", path="/v2/orders:by_client_order_id")
    said = interventions.cancel(ctx, next(iter(order_ids(book).values())), "test")["now"]
    assert "asked for, and the venue does not answer" in str(said)


# ------------------------------------------------------------------------------- halts, accounts, configuration


def test_a_halt_ends_what_was_sent_long_ago(book: RealBook):
    """The bar is closed, its orders rest for the next open: a halt is for them too."""
    assert book.stage("submit", DAY)["done"]
    pipeline.change_state(
        book.settings, book.conn, book=BOOK, state="HALTED", actor="test", reason="now", now=book.hands.now
    )
    ctx = replace(interventions.newest_bar(book.settings, book.conn, BOOK, book.hands.now), desk=book.desk)
    book.faults("timeout_refused", method="DELETE")
    assert "not cancelled" in str(cancelling.end_forbidden(ctx)["venue"])
    assert "ended" in str(cancelling.end_forbidden(ctx)["venue"])
    assert {status for _, _, status, _ in book.orders(DAY)} == {"CANCELED"}
    assert [o for o in book.desk.broker.orders_since(book.hands.now) if not o.ended] == []


def test_a_halt_while_an_order_is_on_its_way_ends_that_order_too(book: RealBook, monkeypatch: pytest.MonkeyPatch):
    """A person halts between SUBMITTING and the venue's answer: nobody sees the order as working at that moment."""
    send = book.desk.broker.submit

    def halted_meanwhile(order: OrderRequest, permit: Permit) -> BrokerOrder:
        with connect(book.settings.database_url) as conn:
            if not halts_of(conn):
                pipeline.change_state(
                    book.settings, conn, book=BOOK, state="HALTED", actor="test", reason="now", now=book.hands.now
                )
        return send(order, permit)

    monkeypatch.setattr(book.desk.broker, "submit", halted_meanwhile)
    assert book.stage("submit", DAY)["done"]
    assert book.accepted == 1, "not exercised: an order reached the venue, the others did not leave"
    assert {status for _, _, status, _ in book.orders(DAY)} == {"CANCELED", "NOT_SENT"}
    assert [o for o in book.desk.broker.orders_since(book.hands.now) if not o.ended] == []


def halts_of(conn: psycopg.Connection) -> list[tuple[Any, ...]]:
    return conn.execute("SELECT 1 FROM state_events WHERE to_state = 2").fetchall()


def test_a_book_whose_account_another_one_has_taken_over_is_refused(book: RealBook):
    ctx = replace(book.context(DAY), desk=None)
    book.conn.execute(
        "INSERT INTO books SELECT (jsonb_populate_record(b, jsonb_build_object('book', 'newer', 'opened_at',"
        " b.opened_at + interval '1 day'))).* FROM books b WHERE book = %s",
        (BOOK,),
    )
    book.conn.commit()
    with pytest.raises(BookError, match="belongs to book 'newer'"):
        pipeline.at_venue(ctx, book.hands.clock, book.hands.sleep)
    newer = replace(ctx, record=replace(ctx.record, book="newer"))
    assert pipeline.at_venue(newer, book.hands.clock, book.hands.sleep).desk is not None


def test_what_is_held_now_does_not_open_a_book_in_the_past(database_url: str, tmp_path: Path):
    with connect(database_url) as conn:
        made = RealBook(tmp_path, database_url, conn)
        made.to(date(2005, 1, 31), 11, 0)
        made.venue.place_by_hand(
            {"symbol": "IBM", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
        )
        made.to(date(2005, 2, 9), 12, 0)
        with pytest.raises(BookError, match="would begin with them at 2005-02-01"):
            pipeline.open_book(
                made.settings, conn, book=BOOK, before=DAY, now=made.hands.now, desk=lambda record: made.desk
            )


@pytest.mark.parametrize("opened", ["after the close", "during the session"])
def test_a_split_on_the_session_after_the_opening_is_no_break(database_url: str, tmp_path: Path, opened: str):
    """A book begins one session before what it adopts: AAPL splits 2 for 1 on that very session."""
    split, before, after = date(2005, 2, 28), date(2005, 2, 25), date(2005, 3, 1)
    with connect(database_url) as conn:
        made = RealBook(tmp_path, database_url, conn)
        made.to(before, 11, 0)
        for symbol in ("AAPL", "IBM"):
            made.venue.place_by_hand(
                {"symbol": symbol, "qty": "11", "side": "buy", "type": "market", "time_in_force": "day"}
            )
        made.hands.now = SESSIONS.on(split).open_at
        made.venue.split("AAPL", 2, 1)
        assert {p.symbol: p.qty for p in made.desk.broker.positions()} == {"AAPL": 22, "IBM": 11}
        made.hands.now += timedelta(hours=2 if opened == "during the session" else 8)
        pipeline.load_history(made.settings, conn, first=date(2004, 9, 1), last=before, now=made.hands.now)
        pipeline.open_book(
            made.settings, conn, book=BOOK, before=split, now=made.hands.now, desk=lambda record: made.desk
        )
        for day in (split, after):
            made.hands.now = SESSIONS.on(day).close_at + timedelta(minutes=30)
            for name in ("ingest", "validate", "settle"):
                made.stage(name, day)
            rows = conn.execute(
                "SELECT s.symbol, p.qty_e6 / 1000000 FROM book_positions p JOIN instrument_symbols s"
                " USING (instrument_id) WHERE p.bar_end_at = %s AND p.qty_e6 <> 0",
                (SESSIONS.on(day).close_at,),
            ).fetchall()
            assert {str(r[0]): int(r[1]) for r in rows} == {"AAPL": 22, "IBM": 11}
            looks = conn.execute("SELECT count(*) FILTER (WHERE comparable AND clean) FROM reconciliations").fetchone()
            assert looks is not None
            assert looks[0] > 0, "not exercised: ledger and venue were not compared"
            assert conn.execute("SELECT count(*) FROM breaks").fetchone() == (0,)
            conn.rollback()
            pipeline.close(made.context(day), [])


def test_an_account_has_one_name(database_url: str, tmp_path: Path):
    with connect(database_url) as conn:
        made = RealBook(tmp_path, database_url, conn)
        number = made.desk.broker.account().account_number
        conn.execute(
            "INSERT INTO broker_accounts (account, account_number, changed_by, reason, changed_at)"
            " VALUES ('first', %s, 'test', '', now())",
            (number,),
        )
        conn.commit()
        with pytest.raises(BookError, match="known here as 'first'"):
            made.open(DAY)


@pytest.mark.parametrize(
    "execution",
    [
        {"stop_loss_frac": 0.1, "order_style": "market", "algorithm": "twap"},
        {"take_profit_frac": 0.1, "order_style": "market_on_close"},
    ],
)
def test_a_stop_that_would_not_be_attached_is_refused(tmp_path: Path, execution: dict[str, Any]):
    changes = {"book": {"name": BOOK, "account": ACCOUNT, "broker": "alpaca-paper"}, "execution": execution}
    with pytest.raises(ConfigError, match=r"stop_loss_frac or take_profit_frac"):
        configure(tmp_path, "postgresql://u:p@127.0.0.1:1/none", changes)
