"""Airflow's own pages in a real browser: log in, trigger with the form, backfill with its form, read a failure.

One stack for all, in this order; what the pages say is compared with what our tables hold.
"""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from airflow_pages import Airflow
from playwright.sync_api import expect

from native_stack import Stack

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]

DAGS = ("load_history", "replay_day", "research_analyse", "research_backtest", "research_sweep", "trading_day")
BOOK = "replay:thanksgiving"
SESSIONS = ("2004-11-22", "2004-11-23", "2004-11-24", "2004-11-26", "2004-11-29", "2004-11-30", "2004-12-01")
FIRST, LAST, HOLIDAY = SESSIONS[0], SESSIONS[-1], "2004-11-25"
EXTRA = "2004-12-02"
AFTER_THE_GATE = ("risk.run", "plan.run", "approve.run", "submit.run")


def summary(stack: Stack, session: str, book: str = "sim") -> dict[str, Any]:
    """Return what `summary --json` says about a session: 'error' where our tables have none."""
    done = stack.run("python", "-m", "tradecore", "summary", session, "--book", book, "--json")
    return dict(json.loads(done.stdout))


def rows(stack: Stack, sql: str, *values: str) -> list[tuple[Any, ...]]:
    """Return rows of the stack's database; our tables and Airflow's."""
    with psycopg.connect(stack.env["DATABASE_URL"], options="-c search_path=tradecore,public") as conn:
        return conn.execute(sql, values).fetchall()


def settled(stack: Stack, book: str) -> list[str]:
    """Return a book's closed sessions in the order in which they were closed, without the opening."""
    return [row[0] for row in rows(
        stack, "SELECT session_date::text FROM bar_runs WHERE book = %s AND status = 'closed' AND outcome <> 'opened'"
        " ORDER BY changed_at", book,
    )]  # fmt: skip


def test_login_with_the_generated_password(visitor: Airflow, stack: Stack) -> None:
    visitor.log_in("admin", "not-" + stack.passwords["admin"])
    expect(visitor.page.get_by_text("Invalid credentials")).to_be_visible()
    visitor.log_in("admin", stack.passwords["admin"])
    visitor.arrives()
    for dag_id in DAGS:
        expect(visitor.page.get_by_role("link", name=dag_id, exact=True)).to_be_visible()
    expect(visitor.page.get_by_text("XNYS sessions, 30 min after the close")).to_be_visible()
    visitor.shot("dags")


def test_a_viewer_sees_and_cannot_trigger(visitor: Airflow, stack: Stack) -> None:
    visitor.log_in("viewer", stack.passwords["viewer"])
    visitor.arrives()
    visitor.page.goto(f"{visitor.url}/dags/trading_day")
    visitor.page.get_by_test_id("trigger-dag-button").click()
    visitor.page.get_by_test_id("trigger-dag-submit").click()
    expect(visitor.page.get_by_text("Forbidden").first).to_be_visible()
    assert rows(stack, "SELECT count(*) FROM dag_run") == [(0,)]


def test_a_session_triggered_with_the_form_is_settled(airflow: Airflow, stack: Stack) -> None:
    airflow.open_dag("trading_day")
    docs = airflow.docs()
    assert "A book moves by its next session only" in docs
    for stage in ("ingest", "validate", "settle", "signal", "risk", "plan", "report", "approve", "submit", "close"):
        assert f"{stage} - " in docs
    airflow.unpause()
    dialog = airflow.form()
    expect(dialog.get_by_text("Empty: the book's next one.")).to_be_visible()
    expect(dialog.locator("input[name=element_book]")).to_have_value("sim")

    run_id = airflow.trigger("trading_day", session=FIRST)
    airflow.run_ends("trading_day", run_id, "success")
    states = airflow.task_states()
    assert states.pop("approve.person") == "Skipped", "nobody is asked to sign in this profile"
    assert set(states.values()) == {"Success"}, states
    airflow.shot("trading_day_run")
    airflow.page.get_by_role("link", name="signal.run").first.click()
    expect(airflow.page.get_by_text("ma_crossover").first).to_be_visible()

    done = summary(stack, FIRST)
    assert (done["session"], done["state"]) == (FIRST, "ACTIVE")
    assert done["quality"]["gate_open"] is True
    assert done["orders"], "not exercised: a session without orders"
    assert {order["status"] for order in done["orders"]} == {"ACKED"}
    assert (stack.root / ".local" / done["report"]).is_file()
    assert settled(stack, "sim") == [FIRST]


@pytest.mark.parametrize(
    "session, task, message",
    [
        (HOLIDAY, "ingest.run", "2004-11-25 (Thursday) is not a session of XNYS; nearest sessions: 2004-11-24 and"),
        ("2030-01-02", "ingest.run", "session 2030-01-02 is still to come: its bar ends at 2030-01-02 21:00 UTC."),
        ("2013-03-04", "ingest.run", "session 2013-03-04 lies behind the end of the csv feed, 2013-03-01."),
        ("2004-11-19", "ingest.run", "session 2004-11-19 lies at or before the inception of book 'sim' (2004-11-19)"),
        ("2004-11-24", "turn.run", "session 2004-11-24 is not the next one of book 'sim'"),
        ("", "turn.run", "session 2013-03-01 is not the next one of book 'sim'"),
    ],
    ids=["holiday", "future", "past the feed", "before inception", "not its turn", "empty"],
)
def test_a_session_that_cannot_be_run_is_red_at_once_and_its_log_says_why(
    airflow: Airflow, stack: Stack, session: str, task: str, message: str
) -> None:
    run_id = airflow.trigger("trading_day", **({"session": session} if session else {}))
    airflow.run_ends("trading_day", run_id, "failed")
    states = airflow.task_states()
    assert [name for name, state in states.items() if state == "Failed"] == [task]
    assert {states[name] for name in AFTER_THE_GATE} == {"Upstream Failed"}
    said = airflow.failure(task)
    assert message in said
    assert "Next: " in said
    tries = rows(stack, "SELECT DISTINCT try_number FROM task_instance WHERE task_id = %s AND state = 'failed'", task)
    assert tries == [(1,)], "waiting could not help, so nothing was tried again"
    assert settled(stack, "sim") == [FIRST]


def test_a_backfill_whose_fields_airflow_did_not_send_is_red_and_touches_no_book(
    airflow: Airflow, stack: Stack
) -> None:
    airflow.backfill("replay_day", FIRST, FIRST, runs="1 run will be triggered", send_fields=False, book=BOOK)
    run_id = backfilled(stack, 1)[0]
    airflow.run_ends("replay_day", run_id, "failed")
    assert "'Override parameters on existing runs' ticked" in airflow.failure("ingest.open_book")
    assert rows(stack, "SELECT book FROM books") == [("sim",)]


def test_a_range_backfilled_with_the_form_is_settled_in_order_without_the_holiday(
    airflow: Airflow, stack: Stack
) -> None:
    own = settled(stack, "sim")
    airflow.open_dag("replay_day")
    assert "Override parameters on existing runs" in airflow.docs()
    airflow.backfill(
        "replay_day", FIRST, LAST, runs="7 runs will be triggered", reprocess="All Runs", at_once=4,
        book=BOOK, first_session=FIRST,
    )  # fmt: skip
    expect(airflow.page.get_by_text("Backfill in progress")).to_be_visible()
    for run_id in backfilled(stack, len(SESSIONS)):
        airflow.run_ends("replay_day", run_id, "success")
    airflow.open_dag("replay_day")
    airflow.shot("replay_day")
    airflow.page.goto(f"{airflow.url}/dags/replay_day/runs")
    expect(airflow.page.get_by_test_id("table-list").get_by_text("Success")).to_have_count(len(SESSIONS))
    airflow.shot("replay_day_runs")

    assert settled(stack, BOOK) == list(SESSIONS)
    found = {session: summary(stack, session, BOOK) for session in (*SESSIONS, HOLIDAY)}
    assert "has no state of session 2004-11-25" in found[HOLIDAY]["message"]
    assert [found[session]["session"] for session in SESSIONS] == list(SESSIONS)
    assert any(found[session]["fills"] for session in SESSIONS), "not exercised: no fill"
    assert all(found[session]["quality"]["gate_open"] for session in SESSIONS)
    assert settled(stack, "sim") == own, "no other book is touched"


def test_the_same_session_is_the_same_decision_in_both_books(stack: Stack) -> None:
    own, replayed = summary(stack, FIRST), summary(stack, FIRST, BOOK)
    for same in ("equity_usd", "signals", "targets"):
        assert own[same] == replayed[same]


def test_a_backfill_with_one_session_for_all_its_days_is_red_and_runs_as_its_message_says(
    airflow: Airflow, stack: Stack
) -> None:
    airflow.backfill("replay_day", EXTRA, EXTRA, runs="1 run will be triggered", book=BOOK, session=FIRST)
    run_id = backfilled(stack, len(SESSIONS) + 1)[-1]
    airflow.run_ends("replay_day", run_id, "failed")
    assert "its form says session 2004-11-22 for all of them" in airflow.failure("ingest.open_book")
    airflow.backfill("replay_day", EXTRA, EXTRA, runs="1 run will be triggered", reprocess="All Runs", book=BOOK)
    airflow.run_ends("replay_day", run_id, "success")
    assert settled(stack, BOOK) == [*SESSIONS, EXTRA]


def backfilled(stack: Stack, count: int) -> list[str]:
    """Return the ids of the backfill's runs by session; the form has created them when it closes."""
    found = rows(stack, "SELECT run_id FROM dag_run WHERE run_type = 'backfill' ORDER BY logical_date")
    assert len(found) == count
    return [row[0] for row in found]
