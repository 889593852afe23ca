"""What an alert about a failed task or run says, and how it gets out: by the outbox, at once.

One failure, one alert: the task's own callback, the next try and the DAG's callback use the same key for it,
and the outbox keeps the first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tradecore_ui.task_env import book_of, connection, session_label, stage_of, task_page

if TYPE_CHECKING:
    import psycopg

    from tradecore.alert import Alert
    from tradecore.settings import Settings

KILLED = "The task's process ended without a report: killed by a signal, most often for lack of memory."
KILLED_STEP = "Look at the log and the machine's memory (dmesg), then clear the task: it can be run again."
ANY_STEP = "Open the log, repair the cause, then clear the task: every stage can be run again."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureAlert:
    """An alert about Airflow's work; `path` is the page of the Airflow UI that shows more."""

    dedup_key: str
    severity: str
    kind: str
    book: str
    session_date: date | None
    stage: str
    title: str
    body: str
    next_step: str
    path: str


def of_task(context: Mapping[str, Any], *, final: bool) -> FailureAlert:
    """Describe a task's failure from its callback's context: for good, or to be tried again."""
    ti, error = context["ti"], _cause(context.get("exception"))
    what = "failed" if final else f"failed at try {ti.try_number} and is tried again"
    return _alert(
        context,
        ti,
        key=_task_key(context, ti, final=final),
        severity="error" if final else "warning",
        kind="task_failed" if final else "task_retried",
        what=what,
        body=str(getattr(error, "message", "") or error or KILLED),
        next_step=getattr(error, "next_step", "") or (ANY_STEP if error else KILLED_STEP),
    )


def of_run(context: Mapping[str, Any]) -> FailureAlert:
    """Describe a run's failure from the DAG callback's context.

    With one failed task it has that task's key: the outbox drops it when the task could speak for itself.
    """
    ti, run = context.get("ti"), context.get("dag_run")
    failed = _failed_tasks(ti) if ti else []
    names = ", ".join(failed) or context.get("reason") or "for a reason that Airflow does not name"
    if ti is not None and len(failed) <= 1:
        return of_task({**context, "exception": None}, final=True)
    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    return FailureAlert(
        dedup_key=f"run_failed:{dag_id}:{run_id}:{run.clear_number if run else 0}",
        severity="error",
        kind="run_failed",
        book=book_of(context),
        session_date=session_label(context),
        stage="run",
        title=f"{dag_id}{_of_session(context)} failed",
        body=f"Failed: {names}.",
        next_step=ANY_STEP,
        path=f"dags/{dag_id}/runs/{quote(run_id)}",
    )


def report_killed_try(
    context: Mapping[str, Any], settings: Settings, conn: psycopg.Connection[Any], now: datetime
) -> None:
    """Put an alert into the outbox if the previous try of this task died without a word.

    A try that failed by itself put its alert there under the same key. Clearing a task starts a new count.
    """
    ti = context["ti"]
    first_try = ti.max_tries - ti.task.retries + 1
    if ti.try_number <= first_try:
        return
    previous = ti.try_number - 1
    _put(
        _alert(
            context,
            ti,
            key=_task_key(context, ti, final=False, try_number=previous),
            severity="warning",
            kind="task_killed",
            what=f"was killed at try {previous} and is tried again",
            body=KILLED,
            next_step=KILLED_STEP,
            try_number=previous,
        ),
        settings,
        conn,
        now,
    )


def send(alert: FailureAlert) -> None:
    """Put an alert into the outbox and deliver what is due; without a database, send it directly."""
    import psycopg

    from tradecore import operations
    from tradecore.errors import TradecoreError
    from tradecore.settings import load

    settings, now = load(), datetime.now(UTC)
    try:
        with connection() as conn:
            _put(alert, settings, conn, now)
            deliver(settings, conn)
    except (TradecoreError, psycopg.Error):
        log.exception("This alert did not reach the outbox and is sent directly: %s", alert.title)
        operations.send_directly(settings, _message(alert, settings, now))


def deliver(settings: Settings, conn: psycopg.Connection[Any]) -> None:
    """Deliver the alerts that are due; what fails stays in the outbox for the next time."""
    import psycopg

    from tradecore import operations
    from tradecore.errors import TradecoreError

    try:
        conn.rollback()
        operations.deliver(settings, conn, datetime.now(UTC))
    except (TradecoreError, psycopg.Error):
        log.exception("Alerts wait in the outbox: they could not be delivered now")


def _put(alert: FailureAlert, settings: Settings, conn: psycopg.Connection[Any], now: datetime) -> None:
    from tradecore import operations

    said = _message(alert, settings, now)
    operations.raise_alert(
        settings,
        conn,
        dedup_key=alert.dedup_key,
        severity=said.severity,
        kind=said.kind,
        book=said.book,
        session_date=said.session_date,
        stage=said.stage,
        title=said.title,
        body=said.body,
        next_step=said.next_step,
        link=said.link,
        now=now,
    )
    conn.commit()


def _message(alert: FailureAlert, settings: Settings, now: datetime) -> Alert:
    from tradecore.alert import Alert

    return Alert(
        alert_id=0,
        severity=alert.severity,
        kind=alert.kind,
        book=alert.book,
        session_date=alert.session_date,
        stage=alert.stage,
        title=alert.title,
        body=alert.body,
        next_step=alert.next_step,
        link=f"{settings.airflow_base_url}/{alert.path}",
        raised_at=now,
    )


def _alert(
    context: Mapping[str, Any],
    ti: Any,
    *,
    key: str,
    severity: str,
    kind: str,
    what: str,
    body: str,
    next_step: str,
    try_number: int | None = None,
) -> FailureAlert:
    stage = stage_of(ti.task_id)
    return FailureAlert(
        dedup_key=key,
        severity=severity,
        kind=kind,
        book=book_of(context),
        stage=stage,
        session_date=session_label(context),
        title=f"{ti.dag_id}{_of_session(context)}: {stage} {what}",
        body=body,
        next_step=next_step,
        path=task_page(ti, try_number),
    )


def _task_key(context: Mapping[str, Any], ti: Any, *, final: bool, try_number: int | None = None) -> str:
    run = context.get("dag_run")
    where = f"{ti.dag_id}:{ti.run_id}:{run.clear_number if run else 0}:{ti.task_id}:{ti.map_index}"
    return f"task_failed:{where}" if final else f"task_retried:{where}:{try_number or ti.try_number}"


def _failed_tasks(ti: Any) -> list[str]:
    from airflow.sdk.execution_time import task_runner

    if not hasattr(task_runner, "SUPERVISOR_COMMS"):  # `airflow dags test` runs this without a supervisor to ask
        return [ti.task_id]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
    return sorted(task_id for task_id, state in states.items() if state == "failed")


def _of_session(context: Mapping[str, Any]) -> str:
    session_date = session_label(context)
    return f" of session {session_date}" if session_date else ""


def _cause(error: BaseException | str | None) -> BaseException | str | None:
    """Return the error itself, not Airflow's wrapper that only says 'do not retry'."""
    cause = getattr(error, "__cause__", None)
    return cause if cause is not None else error
