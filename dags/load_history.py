"""Load bars and corporate actions of a range into the database, a task per batch of symbols and stretch of sessions.

    parts > run (one task a part, in the pool `vendor`) > validate > repair (if the form says so)

A part that is done is not asked for again: clear what failed, and the load goes on. Each task's log says how far the
whole is; `python -m tradecore data progress` too. Whatever runs at once, the vendor's limit is kept in the database.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, TaskGroup, task

from tradecore_ui import callbacks, task_env

DATE = {"type": ["null", "string"], "format": "date"}
TEXTS = {"type": "array", "items": {"type": "string"}}
POOL = "vendor"  # made by `make up`: how many tasks ask a vendor at once

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
            "repair": Param(False, type="boolean", title="Ask again for bars that are missing or were rejected"),
        },
    ),
    TaskGroup("load"),
):
    parts = task(task_id="parts")(task_env.load_parts)()
    by_label = task(task_id="run", pool=POOL, map_index_template="{{ task.op_kwargs['part']['label'] }}")
    loaded = by_label(task_env.load_part).expand(part=parts)
    validated = task(task_id="validate")(task_env.finish_load)(parts)
    loaded >> validated >> task(task_id="repair")(task_env.repair_range)()
