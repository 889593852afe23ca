"""Load bars and corporate actions of a range into the database, a task per batch of symbols.

One batch after the other: each validates the sessions of the whole universe, as far as they are there by then.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, TaskGroup, task

from tradecore_ui import callbacks, task_env

DATE = {"type": ["null", "string"], "format": "date"}
TEXTS = {"type": "array", "items": {"type": "string"}}

with (
    DAG(
        "load_history",
        description="Load a range of history",
        doc_md=__doc__,
        schedule=None,
        max_active_runs=1,
        tags=["data"],
        on_failure_callback=callbacks.run_failed,
        default_args={
            "retries": 3,
            "retry_delay": timedelta(seconds=30),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=10),
            "execution_timeout": timedelta(hours=2),
            "on_failure_callback": callbacks.task_failed,
            "on_retry_callback": callbacks.task_retried,
        },
        params={
            "first_session": Param(
                None, **DATE, title="First session", description="Empty: five years before the last."
            ),
            "last_session": Param(None, **DATE, title="Last session", description="Empty: the feed's last."),
            "symbols": Param([], **TEXTS, title="Symbols", description="Empty: all"),
            "batch_size": Param(25, type="integer", minimum=1, maximum=500, title="Symbols per task"),
        },
    ),
    TaskGroup("load"),
):
    batches = task(task_id="batches")(task_env.symbol_batches)()
    task(task_id="run", max_active_tis_per_dagrun=1)(task_env.load_history).expand(symbols=batches)
