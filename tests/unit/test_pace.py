"""Every request to a venue has a token: questions wait for theirs, a cancel and a look-up in doubt do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tradecore.storage import throttle
from tradecore.venue import Pace

pytestmark = pytest.mark.db
START = datetime(2026, 11, 24, 15, tzinfo=UTC)
ALLOWED = 10  # six at once, four a minute: 15 s each


class Hands:
    def __init__(self) -> None:
        self.now = START

    def clock(self) -> datetime:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def pace(conn: psycopg.Connection, hands: Hands) -> Pace:
    return Pace(conn, "paper", allowed=ALLOWED, clock=hands.clock, sleep=hands.sleep)


def test_questions_wait_for_their_token(pace: Pace, hands: Hands):
    for _ in range(6):
        pace("GET", "/v2/positions")
    assert hands.now == START
    pace("GET", "/v2/account")
    assert hands.now - START == pytest.approx(timedelta(seconds=15), abs=timedelta(seconds=0.01))


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/v2/orders/1"), ("PATCH", "/v2/orders/1"), ("GET", "/v2/orders:by_client_order_id")],
    ids=["cancel", "change", "look-up"],
)
def test_what_is_urgent_goes_at_once_and_the_others_pay(pace: Pace, hands: Hands, method: str, path: str):
    for _ in range(8):
        pace(method, path)
    assert hands.now == START
    pace("GET", "/v2/positions")
    assert hands.now - START == pytest.approx(timedelta(seconds=45), abs=timedelta(seconds=0.01))


def test_an_order_has_taken_its_token_before(pace: Pace, conn: psycopg.Connection, hands: Hands):
    for _ in range(20):
        pace("POST", "/v2/orders")
    assert throttle.take_of(conn, "paper", allowed=ALLOWED, now=hands.now) == 0


def test_within_a_transaction_nothing_is_held_and_nothing_is_forgotten(
    pace: Pace, conn: psycopg.Connection, hands: Hands
):
    conn.execute("SELECT 1")
    for _ in range(6):
        pace("GET", "/v2/positions")
    conn.rollback()
    assert conn.execute("SELECT count(*) FROM broker_throttle").fetchone() == (0,)
    conn.rollback()
    pace("GET", "/v2/positions")
    assert hands.now - START == pytest.approx(timedelta(seconds=15), abs=timedelta(seconds=0.01))
