"""A person's signature under the order sheet, through the pipeline and the command line: given, refused, late, void."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from project_home import FIRST, NOW, Project, make, open_for_trading, rows

from tradecore import pipeline
from tradecore.context import turn
from tradecore.errors import ApprovalRefused, OutOfOrder

pytestmark = pytest.mark.db
MARGIN = timedelta(seconds=60)
PERSON = {"verdict": "approved", "actor": "airflow:ann"}


def bar(project: Project, conn: psycopg.Connection, session: date, now: datetime) -> pipeline.Context:
    return pipeline.context(project.settings(), conn, book="sim", session_date=session, now=now)


def evening(project: Project, conn: psycopg.Connection, session: date, after: timedelta = timedelta(hours=1)):
    """Return a context of a session some time after its close."""
    close_at = bar(project, conn, session, NOW).bar_end_at
    return bar(project, conn, session, close_at + after)


@pytest.fixture
def project(tmp_path: Path, database_url: str, conn: psycopg.Connection) -> Project:
    """A book whose first session has a sheet that a person is to sign."""
    found = make(tmp_path, database_url)
    found.configure({"execution": {"approval_required": True}})
    open_for_trading(found, conn)
    ctx = evening(found, conn, FIRST)
    done = pipeline.run_bar(ctx)
    assert done["approve"]["approval"] == "pending"
    assert done["submit"]["sent"] == 0
    assert "a person's answer" in str(done["submit"]["waiting"])
    assert statuses(conn) == {"PLANNED"}, "not exercised"
    return found


def statuses(conn: psycopg.Connection) -> set[str]:
    return {row[0] for row in rows(conn, "SELECT status FROM orders WHERE status <> 'VOIDED'")}


def run_status(conn: psycopg.Connection, session: date) -> str:
    return str(rows(conn, "SELECT status FROM bar_runs WHERE session_date = %s", session)[0][0])


def verdicts(conn: psycopg.Connection) -> list[tuple[int, str, str, str]]:
    return rows(conn, "SELECT version, verdict, actor, note FROM approvals ORDER BY version")


def sheet_of(ctx: pipeline.Context) -> str:
    return pipeline.sheets(ctx)[-1]


def test_the_question_shows_the_sheet_and_what_it_does_to_the_limits(project, conn):
    ctx = evening(project, conn, FIRST)
    asked = pipeline.question(ctx, sheet_of(ctx))
    text = str(asked["text"])
    assert sheet_of(ctx) in text
    for symbol, qty in rows(
        conn, "SELECT symbol, order_qty_e6 FROM orders JOIN instrument_symbols USING (instrument_id)"
    ):
        assert f"| {symbol} | Buy | {qty // 1_000_000:,} |" in text
    assert "| Gross exposure | 0.00 % |" in text
    assert "| 90.00 % |" in text
    deadline = ctx.next_bar_end - MARGIN
    assert f"{deadline:%Y-%m-%d %H:%M:%S} UTC" in text
    assert asked["seconds_left"] == (deadline - ctx.now).total_seconds()


def test_approved_sheet_is_sent_and_fills_at_the_next_open(project, conn):
    ctx = evening(project, conn, FIRST)
    pipeline.approve(ctx, sheet_hash=sheet_of(ctx), note="looked right", **PERSON)
    assert statuses(conn) == {"APPROVED"}
    assert verdicts(conn) == [(1, "approved", "airflow:ann", "looked right")]
    assert pipeline.submit(ctx)["sent"] > 0
    assert (statuses(conn), run_status(conn, FIRST)) == ({"ACKED"}, "closed")
    pipeline.run_bar(evening(project, conn, project.sessions(2)[1]))
    assert rows(conn, "SELECT count(*) FROM fills")[0][0] > 0


def test_rejected_sheet_is_not_sent(project, conn):
    ctx = evening(project, conn, FIRST)
    pipeline.approve(ctx, verdict="rejected", actor="airflow:ann", sheet_hash=sheet_of(ctx), note="too much")
    assert pipeline.submit(ctx) == {"sent": 0, "reason": "not_approved"}
    assert (statuses(conn), run_status(conn, FIRST)) == ({"NOT_SENT"}, "closed")
    with pytest.raises(ApprovalRefused, match="is rejected already, by airflow:ann"):
        pipeline.approve(ctx, sheet_hash=sheet_of(ctx), **PERSON)


def test_the_same_answer_twice_changes_nothing(project, conn):
    ctx = evening(project, conn, FIRST)
    pipeline.approve(ctx, sheet_hash=sheet_of(ctx), **PERSON)
    before = rows(conn, "SELECT *, xmin FROM approvals"), rows(conn, "SELECT *, xmin FROM order_events ORDER BY 1, 2")
    assert pipeline.approve(ctx, sheet_hash=sheet_of(ctx)[:12], **PERSON)["approval"] == "approved"
    assert (
        rows(conn, "SELECT *, xmin FROM approvals"),
        rows(conn, "SELECT *, xmin FROM order_events ORDER BY 1, 2"),
    ) == (before)


@pytest.mark.parametrize("late, verdict", [(timedelta(0), "expired"), (-timedelta(seconds=1), "approved")])
def test_the_deadline_is_the_next_close_less_the_margin(project, conn, late, verdict):
    at = evening(project, conn, FIRST)
    ctx = bar(project, conn, FIRST, at.next_bar_end - MARGIN + late)
    if verdict == "approved":
        pipeline.approve(ctx, sheet_hash=sheet_of(ctx), **PERSON)
    else:
        with pytest.raises(ApprovalRefused, match="too late"):
            pipeline.approve(ctx, sheet_hash=sheet_of(ctx), **PERSON)
        assert [row[0] for row in rows(conn, "SELECT title FROM alerts WHERE kind = 'approval_expired'")] == [
            "Nobody signed the order sheet in time"
        ]
    assert verdicts(conn)[0][1] == verdict
    assert pipeline.submit(ctx)["sent"] == (0 if verdict == "expired" else len(rows(conn, "SELECT 1 FROM intents")))


def test_nobody_answers_and_the_next_session_runs_on_time(project, conn):
    second = project.sessions(2)[1]
    early = bar(project, conn, second, evening(project, conn, second, timedelta(0)).now)
    assert turn(early) is False, "the first session still waits, and is not given up"
    assert run_status(conn, FIRST) == "decided"
    with pytest.raises(OutOfOrder, match="is decided and not closed"):
        pipeline.run_bar(early)
    # what the parked task does at its deadline, before the next session's close
    at = evening(project, conn, FIRST)
    deadline = bar(project, conn, FIRST, at.next_bar_end - MARGIN)
    assert pipeline.approve(deadline)["approval"] == "expired"
    assert pipeline.submit(deadline) == {"sent": 0, "reason": "not_approved"}
    assert turn(early) is True
    pipeline.run_bar(early)
    assert (statuses(conn), rows(conn, "SELECT count(*) FROM fills")) == ({"NOT_SENT", "PLANNED"}, [(0,)])


def test_a_bar_that_nobody_ends_is_given_up_after_its_deadline_and_not_before(project, conn):
    second = project.sessions(2)[1]
    at = evening(project, conn, FIRST)
    patience = timedelta(seconds=4 * project.settings().trading.book.decision_timeout_s)
    deadline = at.next_bar_end - MARGIN
    assert at.now + 2 * patience < deadline, "not exercised"
    assert turn(bar(project, conn, second, deadline + patience)) is False
    assert turn(bar(project, conn, second, deadline + patience + timedelta(seconds=1))) is True
    assert run_status(conn, FIRST) == "closed"


def test_a_changed_sheet_voids_the_signature(project, conn):
    ctx = evening(project, conn, FIRST)
    first = sheet_of(ctx)
    pipeline.approve(ctx, sheet_hash=first, **PERSON)
    project.configure({"risk": {"max_position_size": 0.05}})
    ctx = evening(project, conn, FIRST)
    pipeline.risk(ctx)
    pipeline.plan(ctx)
    second = sheet_of(ctx)
    assert second != first
    assert verdicts(conn) == [(1, "voided", "airflow:ann", "")]
    assert pipeline.question(ctx, first) == {"approval": "voided", "sheet": first}
    with pytest.raises(
        ApprovalRefused, match=f"answer is to sheet {first[:12]}; the newest, version 2, is {second[:12]}"
    ):
        pipeline.approve(ctx, sheet_hash=first, **PERSON)
    assert pipeline.submit(ctx)["sent"] == 0
    assert statuses(conn) == {"PLANNED"}
    pipeline.approve(ctx, sheet_hash=second, **PERSON)
    assert pipeline.submit(ctx)["sent"] == len(rows(conn, "SELECT 1 FROM orders WHERE version = 2")) > 0


def test_a_session_of_the_past_is_not_asked_for(tmp_path, database_url, conn):
    project = make(tmp_path, database_url)
    project.configure({"execution": {"approval_required": True}})
    open_for_trading(project, conn)
    (done,) = project.trade(conn, FIRST)
    assert done["approve"]["approval"] == "expired"
    assert done["close"]["status"] == "closed"
    assert statuses(conn) == {"NOT_SENT"}


def test_halt_of_a_signed_sheet_sends_nothing(project, conn):
    ctx = evening(project, conn, FIRST)
    pipeline.approve(ctx, sheet_hash=sheet_of(ctx), **PERSON)
    assert project.run("halt", "--reason", "a doubt").code == 0
    assert pipeline.submit(ctx) == {"sent": 0, "reason": "halted"}


def test_a_signature_that_is_asked_for_later_is_asked_for_what_has_not_left(project, conn):
    project.configure({"execution": {"approval_required": False}})
    assert pipeline.approve(evening(project, conn, FIRST))["approval"] == "not_required"
    project.configure({"execution": {"approval_required": True}})
    ctx = evening(project, conn, FIRST)
    assert "a person's answer" in str(pipeline.submit(ctx)["waiting"])
    assert statuses(conn) == {"PLANNED"}
    assert pipeline.approve(ctx)["approval"] == "pending"
    pipeline.approve(ctx, sheet_hash=sheet_of(ctx), **PERSON)
    assert verdicts(conn) == [(1, "approved", "airflow:ann", "")]
    assert pipeline.submit(ctx)["sent"] > 0
