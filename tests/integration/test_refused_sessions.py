"""A session that no waiting can bring is refused before anything is written, by every stage and the CLI."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from parity_case import NOW, configure

from tradecore import pipeline
from tradecore.errors import NotASession, OutOfOrder, SessionError

pytestmark = pytest.mark.db
FIRST = date(2004, 11, 22)
HALF_DAY = datetime(2004, 11, 26, 18, 0, tzinfo=UTC)


@pytest.fixture
def ask(tmp_path, database_url, conn):
    """Ask for a session of a book that begins at FIRST."""
    found = configure(tmp_path, database_url, {})
    pipeline.open_book(found, conn, book="sim", before=FIRST, now=NOW)

    def contexts(session: date, now: datetime = NOW):
        return pipeline.contexts(found, conn, book="sim", session_date=session, now=now)

    yield contexts
    assert conn.execute("SELECT count(*) FROM bar_runs").fetchone() == (1,), "the opening alone"


@pytest.mark.parametrize("day", [FIRST, date(2013, 3, 1)])
def test_a_session_between_the_opening_and_the_end_of_the_feed(ask, day):
    assert [ctx.session_date for ctx in ask(day)] == [day]


@pytest.mark.parametrize("day", [date(2004, 11, 19), date(2004, 11, 18)])
def test_at_or_before_inception(ask, day):
    with pytest.raises(OutOfOrder, match=f"session {day} lies at or before .* \\(2004-11-19\\)") as caught:
        ask(day)
    assert caught.value.retryable is False


def test_behind_the_end_of_the_feed(ask):
    with pytest.raises(SessionError, match="2013-03-04 lies behind the end of the csv feed, 2013-03-01") as caught:
        ask(date(2013, 3, 4))
    assert caught.value.retryable is False
    assert "up to 2013-03-01" in caught.value.next_step


def test_to_come_until_its_close_even_on_a_half_day(ask):
    with pytest.raises(SessionError, match="its bar ends at 2004-11-26 18:00 UTC") as caught:
        ask(HALF_DAY.date(), now=HALF_DAY - timedelta(seconds=1))
    assert caught.value.retryable is False
    assert ask(HALF_DAY.date(), now=HALF_DAY)


def test_a_holiday(ask):
    with pytest.raises(NotASession, match=r"2004-11-25 \(Thursday\) is not a session of XNYS"):
        ask(date(2004, 11, 25))
