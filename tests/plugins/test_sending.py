"""What waits before orders leave: how long until the next look, whose answer counts; a test waits for nobody."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

from tradecore_ui import sending, task_env

SHEET = "5" * 64
PENDING = {"approval": "pending", "sheet": SHEET, "subject": "2 orders", "text": "| AAPL |", "seconds_left": 100.0,
           "until": "2026-01-05"}  # fmt: skip


def context(*, user: str = "admin", try_number: int = 1) -> Any:
    run = SimpleNamespace(run_type="manual", triggering_user_name=user)
    return {
        "dag_run": run,
        "ti": SimpleNamespace(try_number=try_number, id="x"),
        "task_instance": SimpleNamespace(id="x"),
    }


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch):
    """Let the pipeline answer these one after the other; return what it was called with."""

    def give(*results: dict[str, Any]) -> list[tuple[Any, ...]]:
        queue, calls = list(results), []

        def run(stage: Any, *arguments: Any) -> Any:
            calls.append((stage.__name__, *arguments))
            return queue.pop(0)

        monkeypatch.setattr(task_env, "run", run)
        return calls

    return give


def signature() -> sending.SheetSignature:
    return sending.SheetSignature(task_id="person", sheet=SHEET)


@pytest.mark.parametrize("again_s, interval_s", [(0.2, 5), (42, 42), (90_000, 300)])
def test_the_next_look_is_at_least_5_s_and_at_most_5_minutes_away(answers, again_s, interval_s):
    answers({"sent": 0, "waiting": "the window", "again_s": again_s})
    sensor = sending.SubmitSensor(task_id="run", mode="reschedule")
    assert sensor.poke(context()).is_done is False
    assert sensor.poke_interval == interval_s


def test_what_was_sent_ends_the_wait(answers):
    answers({"sent": 3})
    done = sending.SubmitSensor(task_id="run", mode="reschedule").poke(context())
    assert (done.is_done, done.xcom_value) == (True, {"sent": 3})


def test_a_test_of_the_dag_waits_for_nobody(answers):
    waiting = {"sent": 0, "waiting": "the window", "again_s": 7200}
    answers(waiting, PENDING)
    test = context(user="dag_test")
    assert sending.SubmitSensor(task_id="run", mode="reschedule").poke(test).is_done is True
    assert signature().execute(test) == "pending"


def test_another_try_looks_for_the_answer_before_it_asks_again(answers, monkeypatch):
    answers(PENDING, PENDING)
    asked: list[str] = []
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **d: asked.append(d["body"])
    )
    with pytest.raises(TaskAwaitingInput) as parked:
        signature().execute(context(try_number=2))
    assert (parked.value.kwargs, parked.value.timeout.total_seconds(), asked) == ({"look_back": True}, 5, [])
    late = {"error": "no response", "error_type": "timeout"}
    with pytest.raises(TaskAwaitingInput) as parked:
        signature().execute_complete(context(try_number=2), late, look_back=True)
    assert (parked.value.timeout.total_seconds(), asked) == (100, ["| AAPL |"])


def test_no_answer_yet_waits_on_and_leaves_the_question_as_it_is(answers, monkeypatch):
    answers(PENDING | {"seconds_left": 9_000.0}, {"approval": "expired", "actor": "deadline"})
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **_: pytest.fail("asked again")
    )
    late = {"error": "no response", "error_type": "timeout"}
    with pytest.raises(TaskAwaitingInput) as parked:
        signature().execute_complete(context(), late)
    assert parked.value.timeout.total_seconds() == 300
    assert signature().execute_complete(context(), late) == "expired"


@pytest.mark.parametrize("option, verdict", [("Approve", "approved"), ("Reject", "rejected")])
def test_the_actor_is_the_airflow_user(answers, option, verdict):
    calls = answers({"approval": verdict})
    event = {"chosen_options": [option], "params_input": {"reason": "so"}, "responded_at": datetime.now(UTC),
             "responded_by_user": {"id": "7", "name": "ann"}}  # fmt: skip
    assert signature().execute_complete(context(), event) == verdict
    assert calls == [("_record", SHEET, {"verdict": verdict, "actor": "airflow:ann", "note": "so"})]


@pytest.mark.parametrize("stands", ["voided", "refused", "nothing to approve"])
def test_a_sheet_without_a_verdict_is_skipped(answers, stands):
    answers({"approval": stands})
    with pytest.raises(AirflowSkipException):
        signature().execute(context())
