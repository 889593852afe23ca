"""Whom a run by hand waits for: the book's next session, and nothing else."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from tradecore import pipeline, settings
from tradecore.errors import OutOfOrder, SessionError
from tradecore_ui import task_env

pytestmark = pytest.mark.db
PROFILE = Path(__file__).resolve().parents[2] / "include" / "config" / "trading.yaml"
NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
FIRST, SECOND, THIRD, FOURTH = (date(2004, 11, day) for day in (22, 23, 24, 26))


@pytest.fixture
def poke(tmp_path, database_url, conn, monkeypatch):
    """Ask once for the turn of a session, with the bars of `started` at work since `ago`."""
    found = settings.load({"DATABASE_URL": database_url, "LOG_LEVEL": "WARNING"}, PROFILE)
    found = found.model_copy(update={"local_dir": tmp_path})
    pipeline.open_book(found, conn, book="sim", before=FIRST, now=NOW)

    def context(session: date, now=NOW):
        return pipeline.context(found, conn, book="sim", session_date=session, now=now)

    def ask(session: date, started: list[date], *, run_type: str = "manual", ago: timedelta = timedelta(0)) -> bool:
        for day in started:
            pipeline.ingest(context(day, NOW - ago))
        monkeypatch.setattr(task_env, "run", lambda stage: stage(context(session)))
        sensor = task_env.TurnSensor(task_id="run")
        return sensor.poke({"dag_run": SimpleNamespace(run_type=run_type)})

    return ask


def test_the_next_session_has_its_turn(poke):
    assert poke(FIRST, [FIRST]) is True


def test_nobody_at_work_on_the_next_one(poke):
    with pytest.raises(OutOfOrder, match="session 2004-11-24 is not the next one") as caught:
        poke(THIRD, [THIRD])
    assert caught.value.retryable is False
    assert "2004-11-22" in caught.value.next_step


def test_a_session_in_between_that_failed_is_not_waited_for(poke):
    with pytest.raises(OutOfOrder, match="session 2004-11-26 is not the next one"):
        poke(FOURTH, [THIRD, FOURTH])


def test_the_next_one_is_at_work(poke):
    assert poke(THIRD, [FIRST, THIRD]) is False


def test_the_next_one_stopped_long_ago(poke):
    with pytest.raises(OutOfOrder, match="session 2004-11-24 is not the next one"):
        poke(THIRD, [FIRST, THIRD], ago=timedelta(days=2))


def test_a_backfill_waits_for_its_earlier_days(poke):
    assert poke(THIRD, [THIRD], run_type="backfill") is False


def test_a_run_without_a_session_means_the_books_next_one_and_goes_on_meaning_it(tmp_path, database_url, conn):
    found = settings.load({"DATABASE_URL": database_url, "LOG_LEVEL": "WARNING"}, PROFILE)
    found = found.model_copy(update={"local_dir": tmp_path})
    last = pipeline.last_available_session(found, conn, NOW)
    assert pipeline.session_by_hand(found, conn, "sim", NOW) == last > FIRST
    pipeline.open_book(found, conn, book="sim", before=FIRST, now=NOW - timedelta(hours=2))
    assert pipeline.session_by_hand(found, conn, "sim", NOW) == FIRST
    conn.execute(
        "INSERT INTO bar_runs (book, bar_end_at, session_date, status, started_at, changed_at)"
        " SELECT 'sim', '2004-11-22 21:00Z', '2004-11-22', 'closed', %s, %s",
        (NOW, NOW + timedelta(seconds=30)),
    )
    conn.commit()
    assert pipeline.session_by_hand(found, conn, "sim", NOW) == FIRST
    assert pipeline.session_by_hand(found, conn, "sim", NOW + timedelta(minutes=1)) == SECOND


def test_a_run_without_a_session_says_when_there_is_none(tmp_path, database_url, conn):
    found = settings.load({"DATABASE_URL": database_url, "LOG_LEVEL": "WARNING"}, PROFILE)
    found = found.model_copy(update={"local_dir": tmp_path})
    last = pipeline.last_available_session(found, conn, NOW)
    pipeline.open_book(found, conn, book="sim", before=date.fromordinal(last.toordinal() + 4), now=NOW)
    with pytest.raises(SessionError, match=rf"its next is .*, and the feed ends at {last}"):
        pipeline.session_by_hand(found, conn, "sim", NOW)
