"""Which book, session and range a run means."""

from __future__ import annotations

from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tradecore.errors import AuthFailed, NoDataYet, SessionError
from tradecore_ui import task_env

MIDNIGHT = datetime(2004, 11, 3, tzinfo=UTC)
EVENING = datetime(2004, 11, 3, 22, 10, tzinfo=UTC)


def context(*, session: str | None = None, run_type: str = "scheduled", logical_date=MIDNIGHT, start=MIDNIGHT, **form):
    run = SimpleNamespace(run_type=run_type, logical_date=logical_date, data_interval_start=start, run_after=EVENING)
    return {"params": {"session": session, "book": "sim", **form}, "dag_run": run}


@pytest.mark.parametrize("run_type", ["scheduled", "backfill", "manual"])
def test_the_form_decides_the_session(run_type):
    assert task_env.session_label(context(session="2005-02-28", run_type=run_type)) == date(2005, 2, 28)


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_else_the_data_interval_does(run_type):
    assert task_env.session_label(context(run_type=run_type)) == date(2004, 11, 3)


def test_a_run_by_hand_for_a_date_means_that_date():
    assert task_env.session_label(context(run_type="manual")) == date(2004, 11, 3)


@pytest.mark.parametrize("logical_date, start", [(EVENING, MIDNIGHT), (None, None)])
def test_a_run_by_hand_now_leaves_it_to_the_feed(logical_date, start):
    assert task_env.session_label(context(run_type="manual", logical_date=logical_date, start=start)) is None


def test_a_callback_without_a_run_has_no_session_and_no_book():
    assert (task_env.session_label({}), task_env.book_of({})) == (None, "")


@pytest.mark.parametrize("task_id, stage", [("signal.run", "signal"), ("close.outcome", "close")])
def test_the_stage_is_the_task_group(task_id, stage):
    assert task_env.stage_of(task_id) == stage


def test_a_backfill_takes_its_sessions_from_its_dates_alone():
    form = context(session="2005-02-28", run_type="backfill")
    with pytest.raises(SessionError, match="its form says session 2005-02-28 for all of them") as caught:
        task_env._session(form, None, None)
    assert caught.value.retryable is False
    assert task_env._session(context(run_type="backfill"), None, None) == date(2004, 11, 3)
    assert task_env._session(context(session="2005-02-28", run_type="manual"), None, None) == date(2005, 2, 28)


@pytest.mark.parametrize(
    "first, last, expected",
    [
        ("2004-09-01", "2005-09-01", (date(2004, 9, 1), date(2005, 9, 1))),
        (None, "2005-09-01", (date(2000, 9, 2), date(2005, 9, 1))),
        ("2004-09-01", None, (date(2004, 9, 1), date(2004, 11, 3))),
    ],
)
def test_the_range_of_history(first, last, expected):
    asked = []

    def last_available(at: datetime) -> date:
        asked.append(at)
        return at.date()

    form = context(first_session=first, last_session=last)
    assert task_env.history_range(form, last_available) == expected
    assert asked == ([] if last else [EVENING])


@pytest.mark.db
class TestShell:
    """The connection, and which errors Airflow may retry."""

    @pytest.fixture
    def shell(self, database_url, monkeypatch):
        ti = SimpleNamespace(task=SimpleNamespace(retries=2), max_tries=2, try_number=1)
        monkeypatch.setenv("AIRFLOW_CONN_TRADECORE_DB", database_url.replace("postgresql", "postgres", 1))
        monkeypatch.setattr(task_env, "get_current_context", lambda: {"ti": ti})
        return task_env.task_shell

    def test_the_connection_is_psycopg_3_without_autocommit_in_our_schema(self, shell):
        with shell() as (_, _, conn, now):
            assert type(conn).__module__.partition(".")[0] == "psycopg"
            assert conn.autocommit is False
            assert conn.execute("SELECT current_schema()").fetchone() == ("tradecore",)
            assert now.tzinfo is UTC
        assert conn.closed

    @pytest.mark.parametrize("error", [NoDataYet("later"), ConnectionResetError("network")])
    def test_what_may_pass_is_left_to_the_retries(self, shell, error):
        with pytest.raises(type(error)), shell():
            raise error

    @pytest.mark.parametrize("error", [AuthFailed("wrong key"), TypeError("a mistake")])
    def test_what_cannot_pass_is_not_tried_again(self, shell, error):
        with pytest.raises(AirflowFailException) as caught, shell():
            raise error
        assert caught.value.__cause__ is error

    def test_a_statement_that_the_database_refuses_is_a_mistake(self, shell):
        with pytest.raises(AirflowFailException, match="UndefinedTable"), shell() as (_, _, conn, _):
            conn.execute("SELECT * FROM nothing_of_that_name")

    def test_no_database_says_so_and_is_tried_again(self, shell, monkeypatch):
        from tradecore.errors import NoDatabase

        monkeypatch.setenv("AIRFLOW_CONN_TRADECORE_DB", "postgres://nobody:x@127.0.0.1:9/none")
        with pytest.raises(NoDatabase, match="tradecore_db"), shell():
            pass
