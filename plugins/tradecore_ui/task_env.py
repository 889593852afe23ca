"""From an Airflow task to one call of the pipeline: which book and session, which connection, whose clock.

The heavy imports (numpy by way of the pipeline, the PostgreSQL driver) stay inside the functions: every
process that reads a DAG file imports this module.
"""

from __future__ import annotations

import dataclasses
import logging
import time as clock
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseSensorOperator, get_current_context
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    import psycopg
    from airflow.sdk import Context

    from tradecore import pipeline
    from tradecore.settings import Settings

CONNECTION_ID = "tradecore_db"
BROKER_CONNECTION_ID = "alpaca_default"
VANTAGE_CONNECTION_ID = "alpha_vantage_default"
SETTLED_BY = "settle.run"
LOOK_AGAIN_S = 4
DEFAULT_HISTORY = timedelta(days=5 * 365)
# Errors in a program or its data: the next try would fail in the same way, only later.
MISTAKES = (ImportError, NameError, AttributeError, TypeError, LookupError, ValueError, ArithmeticError, AssertionError)

log = logging.getLogger(__name__)


def book_of(context: Mapping[str, Any]) -> str:
    """Return the book that a run is for: its form field, which each DAG fills by default."""
    return str((context.get("params") or {}).get("book", ""))


def session_label(context: Mapping[str, Any]) -> date | None:
    """Return the session that a run was given: its form field, else the start of its data interval.

    None for a run that has neither, or that a person started 'now': the book decides which session it means.
    """
    given = (context.get("params") or {}).get("session")
    if given:
        return date.fromisoformat(given)
    run = context.get("dag_run")
    if run is None or run.data_interval_start is None:
        return None
    started_now = run.run_type == "manual" and run.logical_date.astimezone(UTC).time() != time()
    return None if started_now else run.data_interval_start.astimezone(UTC).date()


def is_dag_test(context: Mapping[str, Any]) -> bool:
    """Tell whether `airflow dags test` (DAG.test) runs this: nobody waits there, and no answer would reach it.

    Airflow names the user of such a run 'dag_test'; its type is 'manual', as of a run by hand.
    """
    run = context.get("dag_run")
    return run is not None and run.triggering_user_name == "dag_test"


def stage_of(task_id: str) -> str:
    """Return the stage that a task belongs to: the name of its task group."""
    return task_id.partition(".")[0]


def task_page(ti: Any, try_number: int | None = None) -> str:
    """Return the path of the page in Airflow's UI that shows this try of a task, with its log."""
    mapped = f"/mapped/{ti.map_index}" if ti.map_index is not None and ti.map_index >= 0 else ""
    where = f"dags/{ti.dag_id}/runs/{quote(ti.run_id)}/tasks/{ti.task_id}{mapped}"
    return f"{where}?try_number={try_number or ti.try_number}"


@contextmanager
def connection() -> Iterator[psycopg.Connection[Any]]:
    """Open Airflow's connection `tradecore_db`; the transactions are the caller's. Raises NoDatabase."""
    import psycopg
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    from tradecore.errors import NoDatabase
    from tradecore.storage.connection import prepare

    try:
        opened = prepare(PostgresHook(postgres_conn_id=CONNECTION_ID).get_conn())
    except psycopg.OperationalError as error:
        raise NoDatabase(
            f"No connection to the database of Airflow's connection {CONNECTION_ID}: {error}",
            next_step="Start the database (make up), or correct DATABASE_URL in .env.",
        ) from error
    with closing(opened) as conn:
        yield conn


@contextmanager
def task_shell() -> Iterator[tuple[Context, Settings, psycopg.Connection[Any], datetime]]:
    """Yield a task's context, settings, connection and clock; deliver alerts and translate errors afterwards.

    Raises AirflowFailException for an error that waiting cannot cure, so that Airflow does not retry it.
    """
    import psycopg

    from tradecore import logs
    from tradecore.errors import TradecoreError
    from tradecore.settings import load
    from tradecore_ui import failure_alerts

    context = get_current_context()
    now = datetime.now(UTC)
    try:
        settings = load()
        logs.configure(settings.log_level, settings.secrets(), own_handler=False)
        settings = _with_data_keys(settings)
        with connection() as conn:
            try:
                failure_alerts.report_killed_try(context, settings, conn, now)
                yield context, settings, conn, now
            finally:
                failure_alerts.deliver(settings, conn)
    except TradecoreError as error:
        log.error("%s", error.message)  # lines of their own: Airflow's page cuts the long one above the traceback
        log.error("Next: %s", error.next_step or "see the traceback")
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error
    except (*MISTAKES, psycopg.ProgrammingError, psycopg.DataError) as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


def run(stage: Callable[..., Any], *arguments: Any) -> Any:
    """Call one stage of the pipeline for this run's book and session, and return what it returns."""
    from tradecore import logs, pipeline

    with task_shell() as (context, settings, conn, now):
        session_date, stage_name = _session(context, settings, conn), stage_of(context["ti"].task_id)
        link = f"{settings.airflow_base_url}/{task_page(context['ti'])}"
        with logs.bind(run=context["run_id"], session=session_date, stage=stage_name):
            started = clock.perf_counter()
            bar = pipeline.context(settings, conn, book=book_of(context), session_date=session_date, now=now, link=link)
            if bar.record.kind != "simulated":
                bar = pipeline.at_venue(dataclasses.replace(bar, settings=_with_keys(settings)), _now, clock.sleep)
            result = stage(bar, *arguments)
            log.info("Stage %s of %s took %.3f s", stage_name, session_date, clock.perf_counter() - started)
            return result


def _with_keys(settings: Settings) -> Settings:
    """Return the settings with the keys of Airflow's connection `alpaca_default` (login, password), if there is one.

    Without it they are the environment's. Airflow hides a connection's password in the logs, we hide both.
    """
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    from tradecore import logs

    try:
        found = Connection.get(BROKER_CONNECTION_ID)
    except AirflowNotFoundException:
        return settings
    if not found.login or not found.password:
        return settings
    settings = settings.with_broker_keys(found.login, found.password)
    logs.configure(settings.log_level, settings.secrets(), own_handler=False)
    return settings


def _with_data_keys(settings: Settings) -> Settings:
    """Return the settings with the keys of the market data vendors that are configured, where Airflow has them."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    from tradecore import logs

    data = settings.trading.data
    vendors = {data.feed, data.second.feed if data.second else ""}
    if "alpaca" in vendors:
        settings = _with_keys(settings)
    if "alpha_vantage" in vendors:
        try:
            found = Connection.get(VANTAGE_CONNECTION_ID)
        except AirflowNotFoundException:
            return settings
        if found.password:
            settings = settings.with_vantage_key(found.password)
            logs.configure(settings.log_level, settings.secrets(), own_handler=False)
    return settings


def _now() -> datetime:
    return datetime.now(UTC)


def _session(context: Context, settings: Settings, conn: psycopg.Connection[Any]) -> date:
    from tradecore import pipeline
    from tradecore.errors import SessionError

    # Not the task's own clock: all tasks of a run must mean the same session, past midnight too.
    run, given = context["dag_run"], context["params"].get("session")
    if given and run.run_type == "backfill":
        raise SessionError(
            f"A backfill takes its sessions from its range of dates; its form says session {given} for all of them.",
            next_step="Start it again with that field empty, 'All Runs' and 'Override parameters on existing runs'.",
            session_date=given,
        )
    return session_label(context) or pipeline.session_by_hand(settings, conn, book_of(context), run.run_after)


def open_book() -> None:
    """Open the run's book before its first session, if there is no such book yet.

    A run by hand may leave the first session out: then its own session is the first. A backfill may not: its
    runs start together, and whichever came first would decide where the book begins.
    """
    from tradecore import pipeline
    from tradecore.errors import BookError
    from tradecore.storage import books

    with task_shell() as (context, settings, conn, now):
        book, given, run = book_of(context), context["params"]["first_session"], context["dag_run"]
        session_date = _session(context, settings, conn)
        if run.run_type == "backfill" and not run.conf:  # its book would be the form's default, not the one meant
            raise BookError(
                "This backfill came without the fields of its form: nothing says which book it is for.",
                next_step="Start it again, 'All Runs', with 'Override parameters on existing runs' ticked: without it "
                'Airflow sends no field. In a shell: --dag-run-conf \'{"book": "replay:name"}\'.',
                book=book,
            )
        if books.find(conn, book) is not None:
            return
        if given is None and run.run_type != "manual":
            raise BookError(
                f"Book {book} does not exist, and nothing says with which session it begins.",
                next_step="Fill in First session: the first one of the range (--dag-run-conf in a shell).",
                book=book,
            )
        before = date.fromisoformat(given) if given else session_date
        if book == settings.trading.book.name and settings.trading.book.broker != "simulated":
            settings = _with_keys(settings)
        pipeline.open_book(settings, conn, book=book, before=before, now=now)


def gate_open(quality: Mapping[str, Any]) -> bool:
    """Tell from what validate returned whether there may be a decision."""
    return bool(quality["gate_open"])


def signal(strategy: str) -> Any:
    """Compute one strategy's scores."""
    from tradecore import pipeline

    return run(pipeline.signal, strategy)


def close() -> Any:
    """Close the bar whatever happened before, naming the stages that failed.

    A bar that was not settled stays open: nothing moved the book, and running the session again carries on.
    """
    from tradecore import pipeline

    ti = get_current_context()["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
    if states.get(SETTLED_BY) != "success":
        log.warning("Not settled, so there is nothing to close; the session can be run again")
        return None
    failed = sorted({stage_of(task_id) for task_id, state in states.items() if state == "failed"})
    return run(pipeline.close, failed)


class TurnSensor(BaseSensorOperator):
    """Wait until the book's previous bar is closed; between two looks it holds no worker.

    The more bars are in front, the longer until the next look: ten waiting sessions of a backfill must not keep
    the workers busy with asking. A run by hand fails at once when nobody is at work on the book's next session,
    naming it: what else lies in front, a run that failed say, will not bring this one's turn.
    """

    def poke(self, context: Context) -> bool:
        """Ask once."""
        from tradecore import pipeline
        from tradecore.context import require_turn
        from tradecore.errors import OutOfOrder

        def ask(bar: pipeline.Context) -> bool:
            if pipeline.turn(bar):
                return True
            in_front = _bars_at_work_before(bar)
            if context["dag_run"].run_type == "manual" and not _next_one_at_work(bar):
                try:
                    require_turn(bar)
                except OutOfOrder as error:
                    error.retryable = False  # waiting helps elsewhere, not here
                    raise
            log.info("Not yet: the session before %s is not closed; %s in front at work", bar.session_date, in_front)
            self.poke_interval = LOOK_AGAIN_S * min(max(in_front, 1), 10)
            return False

        return bool(run(ask))


def _next_one_at_work(bar: pipeline.Context) -> bool:
    closed = bar.conn.execute(
        "SELECT max(bar_end_at) FROM bar_runs WHERE book = %s AND status = 'closed'", (bar.book,)
    ).fetchone()
    upcoming = bar.calendar.next_bar_end(closed[0], bar.record.timeframe) if closed and closed[0] else bar.bar_end_at
    found = bar.conn.execute(
        "SELECT count(*) FROM bar_runs WHERE book = %s AND bar_end_at = %s AND changed_at > %s",
        (bar.book, upcoming, _moved_after(bar)),
    ).fetchone()
    bar.conn.rollback()
    return bool(found and found[0])


def _moved_after(bar: pipeline.Context) -> datetime:
    return bar.now - timedelta(seconds=bar.settings.trading.book.decision_timeout_s)


def _bars_at_work_before(bar: pipeline.Context) -> int:
    found = bar.conn.execute(
        "SELECT count(*) FROM bar_runs WHERE book = %s AND bar_end_at < %s AND status <> 'closed' AND changed_at > %s",
        (*bar.key, _moved_after(bar)),
    ).fetchone()
    bar.conn.rollback()
    return int(found[0]) if found else 0


def load_parts() -> list[dict[str, Any]]:
    """Plan the run's load, a part for each task to come; cleared or tried again, it is the same load."""
    from tradecore import loading, pipeline

    with task_shell() as (context, settings, conn, now):
        first, last = history_range(context, lambda at: pipeline.last_available_session(settings, conn, at))
        params = context["params"]
        parts = loading.begin(
            settings,
            conn,
            first=first,
            last=last,
            batch=params["batch_size"],
            symbols=params["symbols"] or None,
            now=now,
            name=f"{context['dag_run'].dag_id} {context['run_id']}",
        )
        log.info("Load %s: %d parts, %d of them done", parts[0].load_id, len(parts), sum(p.done for p in parts))
        return [{"load": p.load_id, "part": p.part_no, "label": _label(p.symbols, p.first, p.last)} for p in parts]


def _label(symbols: Sequence[str], first: date, last: date) -> str:
    names = symbols[0] if len(symbols) == 1 else f"{symbols[0]} to {symbols[-1]} ({len(symbols)})"
    return f"{names}, {first} to {last}"


def load_part(part: Mapping[str, Any]) -> Any:
    """Fetch one part of a load; its log says how far the whole is."""
    from tradecore import loading

    with task_shell() as (_, settings, conn, now):
        (mine,) = (p for p in loading.parts_of(conn, part["load"]) if p.part_no == part["part"])
        result = loading.run(settings, conn, mine, now)
        log.info("Part %s: %s", part["label"], result)
        return result


def finish_load(parts: Sequence[Mapping[str, Any]]) -> Any:
    """Validate what the run's load brought, and end it."""
    from tradecore import loading

    with task_shell() as (_, settings, conn, now):
        return loading.finish(settings, conn, parts[0]["load"], now, lambda text: log.info("%s", text))


def repair_range() -> Any:
    """Ask again for what the run's range lacks, if its form says so."""
    from tradecore import pipeline, repair

    with task_shell() as (context, settings, conn, now):
        params = context["params"]
        if not params["repair"]:
            return {"repair": "not asked for"}
        first, last = history_range(context, lambda at: pipeline.last_available_session(settings, conn, at))
        symbols = params["symbols"] or None
        return repair.repair(settings, conn, first=first, last=last, now=now, symbols=symbols)


def history_range(context: Mapping[str, Any], last_available: Callable[[datetime], date]) -> tuple[date, date]:
    """Return the first and last date that a run's form asks for, with its defaults filled in."""
    first, last = (context["params"][name] for name in ("first_session", "last_session"))
    until = date.fromisoformat(last) if last else last_available(context["dag_run"].run_after)
    return (date.fromisoformat(first) if first else until - DEFAULT_HISTORY), until
