"""One run takes one book over one session: trading_day for the configured book, replay_day for named ones.

    ingest > validate > turn > settle > gate > signal (one task a strategy) > risk > plan > approve > submit
                                  └──────────────────────────────────── report ─────┴──────────────> close > prove

What each stage does and when a run is red: trading_day.md, shown by Airflow as 'Dag Docs'. Orders wait for the
report: nothing is sent that nobody could read. `turn` keeps a book's sessions in order, whatever started them:
`max_active_runs` does not bind a backfill.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup, TriggerRule, task

from tradecore.settings import load
from tradecore_ui import callbacks, forms, sending, task_env
from tradecore_ui.session_timetable import SessionTimetable

SETTINGS = load()
BOOK = SETTINGS.trading.book
EVERY_TASK: dict[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(seconds=BOOK.decision_timeout_s),
    "weight_rule": "upstream",  # later stages first: a backfill ends a session before it begins the next
    "on_failure_callback": callbacks.task_failed,
    "on_retry_callback": callbacks.task_retried,
}
EVERY_DAG: dict[str, Any] = {
    "default_args": EVERY_TASK,
    "catchup": False,
    "max_active_runs": 16,  # what Airflow's form lets a backfill ask for
    "on_failure_callback": callbacks.run_failed,
}


def calling(function: str, *, task_id: str = "run", **options):
    """Make a task that calls the pipeline's function of that name."""

    @task(task_id=task_id, **options)
    def call():
        from tradecore import pipeline

        return task_env.run(getattr(pipeline, function))

    return call()


def stage(name: str, **options):
    """Make a stage that is one call: a task group of its own."""
    with TaskGroup(name):
        return calling(name, **options)


def session_dag(dag_id: str, description: str, *, named_books: bool) -> None:
    """Wire the stages. Named books are opened by their first run, and never start by themselves."""
    params = forms.named_book() if named_books else forms.own_book(BOOK.name)
    timetable = SessionTimetable.of(SETTINGS.trading, automatic=not named_books)
    texts = {"description": description, "doc_md": str(Path(__file__).with_name(f"{dag_id}.md"))}
    with DAG(dag_id, schedule=timetable, params=params, tags=["trading"], **texts, **EVERY_DAG):
        with TaskGroup("ingest"):
            ingested = calling("ingest", retries=5)
            if named_books:
                task(task_id="open_book")(task_env.open_book)() >> ingested
        validated = stage("validate")
        with TaskGroup("turn"):
            turn = task_env.TurnSensor(task_id="run", mode="reschedule", timeout=12 * 3600)
        settled = stage("settle", retries=12)  # as submit: a broker that is down for half an hour costs no session
        with TaskGroup("gate"):
            guard = task.short_circuit(task_id="run", ignore_downstream_trigger_rules=False)
            gate = guard(task_env.gate_open)(validated)
        with TaskGroup("signal"):
            strategies = calling("strategies", task_id="strategies")
            named_after = task(task_id="run", map_index_template="{{ task.op_kwargs['strategy'] }}")
            signals = named_after(task_env.signal).expand(strategy=strategies)
        risk = stage("risk", trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
        plan = stage("plan", retries=12)
        report = stage("report", trigger_rule=TriggerRule.NONE_FAILED)
        with TaskGroup("approve"):
            asked = task(task_id="run")(sending.sheets_to_sign)()
            signed = sending.SheetSignature.partial(task_id="person").expand(sheet=asked)
        with TaskGroup("submit"):
            once = {"trigger_rule": TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS, "retries": 12}
            submit = sending.SubmitSensor(task_id="run", mode="reschedule", timeout=7 * 86_400, **once)
        with TaskGroup("close"):
            close = task(task_id="run", trigger_rule=TriggerRule.ALL_DONE)(task_env.close)()
            outcome = EmptyOperator(task_id="outcome", trigger_rule=TriggerRule.NONE_FAILED)

        ingested >> validated >> turn >> settled >> gate >> strategies
        [strategies, signals] >> risk >> plan  # past a failed signal, not past the gate
        [settled, plan] >> report
        [plan, report] >> asked >> signed
        [asked, signed] >> submit  # nobody was asked: signed is skipped
        [report, submit] >> close >> stage("prove")  # undoes nothing: the session is closed
        [report, submit] >> outcome  # an empty task: what failed before it makes the run red


session_dag("trading_day", "Trade a session with the configured book", named_books=False)
session_dag("replay_day", "Take a named book over past sessions: start it by backfill", named_books=True)
