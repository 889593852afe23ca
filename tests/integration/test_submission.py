"""Submit at a real venue: within the window, each order once, whatever the answer was; never late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from real_book import BOOK, SESSIONS, RealBook

from tradecore import cancelling, pipeline, reconciliation
from tradecore.storage import books, migrate
from tradecore.storage.connection import connect

pytestmark = pytest.mark.db
DAY, NEXT = date(2005, 2, 2), date(2005, 2, 3)


@pytest.fixture(scope="module")
def decided(
    make_database: Callable[[], AbstractContextManager[str]],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A database with a paper book that has decided at DAY's close; the evening's window opens at 19:00."""
    changes = getattr(request, "param", {})
    with make_database() as url:
        with connect(url) as conn:
            migrate.upgrade(conn)
            made = RealBook(tmp_path_factory.mktemp("decided"), url, conn, **changes)
            made.open(DAY)
            assert made.decide(DAY)["orders"], "not exercised: nothing to send"
        yield url, changes


@pytest.fixture
def book(
    decided: tuple[str, dict[str, Any]],
    copied_database: Callable[[str], AbstractContextManager[str]],
    tmp_path: Path,
) -> Iterator[RealBook]:
    """A copy of it for one test, with a venue of its own."""
    template, changes = decided
    with copied_database(template) as url, connect(url) as conn:
        made = RealBook(tmp_path, url, conn, **changes)
        made.hands.now = SESSIONS.on(DAY).close_at + timedelta(minutes=30)
        yield made


def test_waits_for_the_window_and_sends_each_order_once(book: RealBook):
    before = book.stage("submit", DAY)
    assert "window opens" in str(before["waiting"])
    assert book.posts == {}
    book.to(DAY, 19, 0)
    done = book.stage("submit", DAY)
    assert done == {"sent": len(book.orders(DAY)), "refused": 0, "done": True}
    assert {s for _, _, s, _ in book.orders(DAY)} == {"ACKED"}
    assert set(book.posts.values()) == {1}
    assert book.stage("submit", DAY) == {"already": True}
    assert set(book.posts.values()) == {1}


def test_every_order_has_its_checks_and_two_commits(book: RealBook):
    book.to(DAY, 19, 0)
    book.stage("submit", DAY)
    for order_id in book.posts:
        assert book.history(order_id) == ["PLANNED", "SUBMITTING", "ACKED"]
        made = book.conn.execute(
            "SELECT count(*), bool_and(passed) FROM check_results WHERE client_order_id = %s", (order_id,)
        ).fetchone()
        assert made == (14, True)
    book.conn.rollback()


@pytest.mark.parametrize(
    "kind", ["timeout_accepted", "500_accepted", "504_accepted", "cut", "malformed", "422_duplicate"]
)
def test_lost_answer_of_an_accepted_order_is_found_and_not_sent_again(book: RealBook, kind: str):
    book.to(DAY, 19, 0)
    book.faults(kind)
    done = book.stage("submit", DAY)
    assert done["done"]
    assert [f["kind"] for f in book.venue.faults.fired] == [kind]
    again = kind == "422_duplicate"  # the network delivered it twice, not we
    assert sum(book.posts.values()) == len(book.orders(DAY)) + again
    assert {s for _, _, s, _ in book.orders(DAY)} == {"ACKED"}
    assert book.accepted == len(book.orders(DAY))


@pytest.mark.parametrize("kind", ["timeout_refused", "500", "504"])
def test_lost_order_is_looked_up_twice_and_sent_again_with_the_same_id(book: RealBook, kind: str):
    book.to(DAY, 19, 0)
    book.faults(kind)
    done = book.stage("submit", DAY)
    assert done["done"]
    assert sorted(book.posts.values()) == [1] * (len(book.posts) - 1) + [2]
    again = next(i for i, n in book.posts.items() if n == 2)
    assert book.history(again) == ["PLANNED", "SUBMITTING", "UNKNOWN", "UNKNOWN", "UNKNOWN", "SUBMITTING", "ACKED"]
    assert book.accepted == len(book.orders(DAY))


def test_throttled_order_waits_and_is_sent(book: RealBook):
    book.to(DAY, 19, 0)
    book.faults("429")
    done = book.stage("submit", DAY)
    assert done["waiting"]
    book.hands.sleep(30)
    assert book.stage("submit", DAY)["done"]
    assert book.accepted == len(book.orders(DAY))


def test_refused_order_ends_and_is_told(book: RealBook):
    book.to(DAY, 19, 0)
    book.faults("403_wash")
    assert book.stage("submit", DAY)["done"]
    assert sorted(s for _, _, s, _ in book.orders(DAY)) == ["ACKED"] * (len(book.orders(DAY)) - 1) + ["REJECTED"]
    alert = book.conn.execute("SELECT count(*) FROM alerts WHERE kind = 'not_sent'").fetchone()
    assert alert == (1,)


def test_broker_is_down_for_an_hour_in_the_window(book: RealBook):
    """Sent once it is back; nothing is sent while it is down."""
    book.to(DAY, 19, 0)
    book.faults("timeout_refused", times=10**6, method="GET")
    down = book.stage("submit", DAY)
    assert "cannot be asked" in str(down["waiting"])
    for _ in range(12):
        book.hands.sleep(300)
        assert book.stage("submit", DAY)["waiting"]
    assert book.posts == {}
    book.venue.faults.faults.clear()
    assert book.stage("submit", DAY)["done"]
    assert set(book.posts.values()) == {1}


def test_broker_is_down_until_the_window_has_passed(book: RealBook):
    """Expired with an alert, never late."""
    book.to(NEXT, 9, 0)
    book.faults("timeout_refused", times=10**6, method="GET")
    assert book.stage("submit", DAY)["waiting"]
    book.to(NEXT, 9, 27)
    book.venue.faults.faults.clear()
    assert book.stage("submit", DAY)["done"]
    assert book.posts == {}
    assert {(s, d.split(":")[0]) for _, _, s, d in book.orders(DAY)} == {("NOT_SENT", "window_passed")}
    assert book.conn.execute("SELECT count(*) FROM alerts WHERE title LIKE '%%window has passed'").fetchone() == (1,)


def test_unknown_at_the_sessions_end_halts(book: RealBook):
    book.to(NEXT, 9, 26)
    book.faults("timeout_refused")
    book.faults("timeout_refused", times=10**6, method="GET", path="/v2/orders:by_client_order_id")
    assert book.stage("submit", DAY)["waiting"]
    book.hands.now = SESSIONS.on(NEXT).close_at - timedelta(seconds=50)
    assert book.stage("submit", DAY)["done"]
    assert "UNKNOWN" in {s for _, _, s, _ in book.orders(DAY)}
    assert book.conn.execute("SELECT count(*) FROM alerts WHERE severity = 'critical'").fetchone() == (1,)
    ordered = book.conn.execute("SELECT actor, to_state FROM state_events ORDER BY bar_end_at DESC LIMIT 1").fetchone()
    assert ordered == ("execution", 2)


def test_halt_between_two_orders_stops_the_second(book: RealBook):
    """The state is read again before each order, not once at the start."""
    book.to(DAY, 19, 0)
    transport = book.desk.broker._line._session.get_adapter("http://127.0.0.1:1/v2/orders")
    sent = []

    def halt_after_first(step: str) -> None:
        if step == "answer" and book.accepted == 1 and not sent:
            sent.append(step)
            pipeline.change_state(
                book.settings, other, book="alpaca", state="HALTED", actor="test", reason="now", now=book.hands.now
            )

    with connect(str(book.settings.database_url)) as other:
        transport.around = halt_after_first
        assert book.stage("submit", DAY)["done"]
    assert book.accepted == 1
    assert {s for _, _, s, _ in book.orders(DAY)} == {"CANCELED", "NOT_SENT"}, "what had left before ends at the venue"


@pytest.mark.parametrize("killed_at", ["send", "answer"])
def test_killed_between_commit_and_answer(book: RealBook, killed_at: str):
    """SUBMITTING that is found is looked up before anything else, and never sent blindly."""
    book.to(DAY, 19, 0)

    class Killed(BaseException):
        pass

    def die(step: str) -> None:
        posting = book.conn.info.transaction_status == 0 and any(s == "SUBMITTING" for _, _, s, _ in book.orders(DAY))
        if posting and step == killed_at:
            raise Killed

    adapter = book.desk.broker._line._session.get_adapter("http://127.0.0.1:1/v2/orders")
    adapter.around = die
    with pytest.raises(Killed):
        book.stage("submit", DAY)
    book.conn.rollback()
    assert book.accepted == (0 if killed_at == "send" else 1)
    book.desk = book.open_desk()
    assert book.stage("submit", DAY)["done"]
    assert set(book.posts.values()) == {1}
    assert book.accepted == len(book.orders(DAY))


def test_past_session_sends_nothing(book: RealBook):
    """Days later: the window has passed, whatever starts the run."""
    book.to(date(2005, 2, 8), 12, 0)
    assert book.stage("submit", DAY)["done"]
    assert book.posts == {}
    assert {s for _, _, s, _ in book.orders(DAY)} == {"NOT_SENT"}


@pytest.mark.parametrize("decided", [{"execution": {"order_style": "market"}}], indirect=True)
def test_market_orders_are_sent_after_the_open(book: RealBook):
    book.to(DAY, 19, 0)
    assert "2005-02-03 14:30" in str(book.stage("submit", DAY)["waiting"])
    book.to(NEXT, 9, 30)
    assert book.stage("submit", DAY)["done"]
    assert set(book.posts.values()) == {1}


@pytest.mark.parametrize(
    "decided",
    [{"execution": {"order_style": "market", "algorithm": "twap", "twap_slices": 3, "twap_minutes": 20}}],
    indirect=True,
)
def test_slices_are_sent_in_their_time_and_sum_to_the_parent(book: RealBook):
    parents = book.conn.execute(
        "SELECT instrument_id, order_qty_e6 FROM intents WHERE order_type = 'twap' ORDER BY 1"
    ).fetchall()
    assert parents, "not exercised"
    book.to(NEXT, 9, 30)
    counts = []
    while not (done := book.stage("submit", DAY)).get("done"):
        counts.append(book.accepted)
        book.hands.sleep(float(str(done["again_s"])))
    assert sorted(set(counts)) == counts == [len(parents), 2 * len(parents)]
    children = book.conn.execute(
        "SELECT instrument_id, sum(order_qty_e6)::bigint, count(*) FROM orders WHERE child > 0 AND status IN"
        " ('ACKED', 'FILLED', 'PARTIAL') GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert [(i, q) for i, q, _ in children] == parents
    assert {n for _, _, n in children} == {3}


@pytest.mark.parametrize("decided", [{"broker": "alpaca-live"}], indirect=True)
def test_live_book_without_its_keys_sends_nothing(book: RealBook):
    book.to(DAY, 19, 0)
    book.desk = book.open_desk(live=True)
    assert book.stage("submit", DAY)["done"]
    assert book.posts == {}
    assert all("live trading stays off" in d for _, _, _, d in book.orders(DAY))


def test_another_account_at_the_broker_sends_nothing(book: RealBook):
    book.to(DAY, 19, 0)
    book.conn.execute("UPDATE broker_accounts SET account_number = 'PA0OTHER'")
    book.conn.commit()
    assert book.stage("submit", DAY)["done"]
    assert book.posts == {}
    assert all("the book belongs to PA0OTHER" in d for _, _, _, d in book.orders(DAY))


def test_clock_that_differs_from_the_venues_sends_nothing(book: RealBook):
    book.to(DAY, 19, 0)
    book.venue.clock = lambda: book.hands.now + timedelta(seconds=40)
    assert "clock" in str(book.stage("submit", DAY)["waiting"])
    assert book.posts == {}


def test_open_break_waits_for_a_person(book: RealBook):
    """Seven dollars that nobody explains, since the plan: seen before anything is sent."""
    book.to(DAY, 19, 0)
    book.venue.state.cash += 7
    assert "open break" in str(book.stage("submit", DAY)["waiting"])
    assert book.posts == {}
    (found,) = reconciliation.open_breaks(book.conn, BOOK)
    assert (found.kind, found.broker - found.ledger) == ("cash", 7)
    reconciliation.accept_break(book.conn, found.break_id, "a person", "a gift", now=book.hands.now)
    assert book.stage("submit", DAY)["done"]
    assert book.accepted == len(book.orders(DAY))


def test_rejected_sheet_ends_at_once(book: RealBook):
    """No window and no broker is needed for that."""
    book.conn.execute("UPDATE approvals SET verdict = 'rejected'")
    book.conn.commit()
    book.faults("timeout_refused", times=10**6, method="GET")
    assert book.stage("submit", DAY)["done"]
    assert {(s, d) for _, _, s, d in book.orders(DAY)} == {("NOT_SENT", "the sheet is rejected")}
    assert book.posts == {}


def test_wrong_keys_for_a_moment_burn_no_order(book: RealBook):
    book.to(DAY, 19, 0)
    right, line = "STANDIN-KEY", book.desk.broker._line
    session = line._session
    send = session.request

    def wrong_once(method: str, url: str, **more: Any) -> Any:
        book.venue.state.config.key_id = "OTHER" if method == "POST" else right
        return send(method, url, **more)

    session.request = wrong_once
    assert "refuses our keys" in str(book.stage("submit", DAY)["waiting"])
    assert book.accepted == 0
    session.request = send
    book.venue.state.config.key_id = right
    book.hands.sleep(120)
    assert book.stage("submit", DAY)["done"]
    assert book.accepted == len(book.orders(DAY))


def test_two_senders_at_once_send_once(book: RealBook):
    """The second finds the first at work and leaves; it says so."""
    book.to(DAY, 19, 0)
    name = f"tradecore:send:{book.context(DAY).record.account}"
    with psycopg.connect(str(book.settings.database_url)) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended(%s, 8))", (name,))
        waiting = book.stage("submit", DAY)
        assert "another process" in str(waiting["waiting"])
        assert book.posts == {}
        other.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 8))", (name,))
    assert book.stage("submit", DAY)["done"]
    assert book.conn.execute(books.SQL["run"], book.context(DAY).key).fetchone()[0] == "closed"


def test_halt_ends_what_works_at_the_venue_and_a_hand_order_stays(book: RealBook):
    book.to(DAY, 19, 0)
    book.stage("submit", DAY)
    by_hand = book.venue.place_by_hand(
        {"symbol": "IBM", "qty": "1", "side": "buy", "type": "limit", "limit_price": "1", "time_in_force": "gtc"}
    )
    assert cancelling.unwanted(book.context(DAY)) == []
    pipeline.change_state(
        book.settings, book.conn, book=BOOK, state="HALTED", actor="test", reason="now", now=book.hands.now
    )
    ids = cancelling.unwanted(book.context(DAY))
    assert len(ids) == len(book.orders(DAY))
    working = cancelling.cancel_and_wait(book.desk, ids)
    assert [o.broker_order_id for o in working or ()] == [by_hand["id"]]
