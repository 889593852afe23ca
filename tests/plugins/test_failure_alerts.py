"""What an alert about a failure says, and that one failure gives one alert."""

from __future__ import annotations

from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tradecore.errors import NoDataYet, StrategyError
from tradecore.settings import load
from tradecore_ui import failure_alerts

NOW = datetime(2004, 11, 3, 22, tzinfo=UTC)
RUN_ID = "scheduled__2004-11-03T21:30:00+00:00"


def context_of(task_id: str = "ingest.run", *, error: BaseException | None = None, **ti_changes) -> dict:
    """Build the context that Airflow hands to a callback, with the fields that ours read."""
    ti = {
        "dag_id": "trading_day", "run_id": RUN_ID, "task_id": task_id, "map_index": -1, "try_number": 1,
        "max_tries": 2, "task": SimpleNamespace(retries=2),
    }  # fmt: skip
    run = SimpleNamespace(
        run_type="scheduled", logical_date=datetime(2004, 11, 3, tzinfo=UTC), clear_number=0,
        data_interval_start=datetime(2004, 11, 3, tzinfo=UTC),
    )  # fmt: skip
    context = {
        "ti": SimpleNamespace(**(ti | ti_changes)), "dag_run": run, "run_id": RUN_ID,
        "dag": SimpleNamespace(dag_id="trading_day"), "params": {"book": "sim", "session": None},
    }  # fmt: skip
    return context if error is None else context | {"exception": error}


def final(error: Exception) -> AirflowFailException:
    """Wrap an error as a task does when waiting cannot cure it."""
    wrapped = AirflowFailException(str(error))
    wrapped.__cause__ = error
    return wrapped


def test_a_failed_task_is_named_with_session_stage_next_step_and_log():
    error = final(StrategyError("rsi returned a string for AAPL.", next_step="return one number"))
    alert = failure_alerts.of_task(context_of("signal.run", error=error, map_index=1), final=True)
    assert (alert.severity, alert.kind, alert.stage) == ("error", "task_failed", "signal")
    assert (alert.book, alert.session_date) == ("sim", date(2004, 11, 3))
    assert alert.title == "trading_day of session 2004-11-03: signal failed"
    assert alert.body == "rsi returned a string for AAPL."
    assert alert.next_step == "return one number"
    assert alert.path == (
        "dags/trading_day/runs/scheduled__2004-11-03T21%3A30%3A00%2B00%3A00/tasks/signal.run/mapped/1?try_number=1"
    )


def test_a_try_that_failed_is_a_warning_of_its_own():
    error = NoDataYet("IBM has no bar of 2004-11-03 yet.", next_step="wait")
    tries = [failure_alerts.of_task(context_of(error=error, try_number=n), final=False) for n in (1, 2)]
    assert [alert.severity for alert in tries] == ["warning", "warning"]
    assert tries[0].title.endswith("ingest failed at try 1 and is tried again")
    assert tries[0].dedup_key != tries[1].dedup_key


def test_an_error_without_advice_gets_the_general_one():
    alert = failure_alerts.of_task(context_of(error=ValueError("boom")), final=True)
    assert (alert.body, alert.next_step) == ("boom", failure_alerts.ANY_STEP)


def test_a_task_without_an_error_was_killed():
    alert = failure_alerts.of_task(context_of(), final=True)
    assert (alert.body, alert.next_step) == (failure_alerts.KILLED, failure_alerts.KILLED_STEP)


def test_the_run_of_one_failed_task_repeats_its_key_so_the_outbox_drops_it():
    own = failure_alerts.of_task(context_of(error=ValueError("boom")), final=True)
    assert failure_alerts.of_run(context_of()).dedup_key == own.dedup_key


def test_a_run_with_several_failed_tasks_lists_them(monkeypatch):
    monkeypatch.setattr(failure_alerts, "_failed_tasks", lambda _ti: ["close.run", "report.run"])
    alert = failure_alerts.of_run(context_of("close.run"))
    assert alert.kind == "run_failed"
    assert alert.title == "trading_day of session 2004-11-03 failed"
    assert alert.body == "Failed: close.run, report.run."


def test_a_run_without_a_task_still_gives_an_alert():
    context = {"dag": SimpleNamespace(dag_id="trading_day"), "run_id": RUN_ID, "reason": "all_tasks_deadlocked"}
    alert = failure_alerts.of_run(context)
    assert (alert.title, alert.body) == ("trading_day failed", "Failed: all_tasks_deadlocked.")


def test_a_run_cleared_and_failed_again_is_a_new_alert():
    first, second = context_of(error=ValueError("boom")), context_of(error=ValueError("boom"))
    second["dag_run"].clear_number = 1
    keys = {failure_alerts.of_task(context, final=True).dedup_key for context in (first, second)}
    assert len(keys) == 2


@pytest.mark.db
class TestOutbox:
    """The outbox in a real database."""

    @pytest.fixture
    def settings(self):
        return load({"AIRFLOW_BASE_URL": "http://127.0.0.1:8080"})

    def alerts(self, conn) -> list[tuple]:
        return conn.execute("SELECT kind, title, link FROM alerts ORDER BY alert_id").fetchall()

    @pytest.mark.parametrize(
        "try_number, max_tries, killed",
        [
            (1, 2, False),  # the first try of a run
            (2, 2, True),
            (2, 3, False),  # cleared after one try: a first try again
            (3, 3, True),
        ],
    )
    def test_the_next_try_reports_one_that_died(self, conn, settings, try_number, max_tries, killed):
        context = context_of("settle.run", try_number=try_number, max_tries=max_tries)
        for _ in range(2):
            failure_alerts.report_killed_try(context, settings, conn, NOW)
        rows = self.alerts(conn)
        assert [row[0] for row in rows] == (["task_killed"] if killed else [])
        if killed:
            assert rows[0][1].endswith(f"settle was killed at try {try_number - 1} and is tried again")
            assert rows[0][2].startswith("http://127.0.0.1:8080/dags/trading_day/runs/")
            assert rows[0][2].endswith(f"/tasks/settle.run?try_number={try_number - 1}")

    def test_a_try_that_spoke_for_itself_is_not_called_killed(self, conn, settings, database_url, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_TRADECORE_DB", database_url.replace("postgresql", "postgres", 1))
        failure_alerts.send(failure_alerts.of_task(context_of(error=NoDataYet("not yet")), final=False))
        failure_alerts.report_killed_try(context_of(try_number=2), settings, conn, NOW)
        assert [row[0] for row in self.alerts(conn)] == ["task_retried"]
        sent = conn.execute("SELECT DISTINCT status FROM alert_deliveries").fetchall()
        assert sent == [("sent",)]

    def test_without_a_database_the_alert_is_sent_directly(self, monkeypatch, capfd):
        monkeypatch.setenv("AIRFLOW_CONN_TRADECORE_DB", "postgres://nobody:x@127.0.0.1:9/none")
        failure_alerts.send(failure_alerts.of_task(context_of(error=ValueError("boom")), final=True))
        written = capfd.readouterr()
        assert "trading_day of session 2004-11-03: ingest failed | boom" in written.out + written.err
