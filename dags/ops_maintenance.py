"""What the database and the disk need, once a day, while the trading day is at rest.

    quiet > aggregates > retention > compression > vacuum > logs

*aggregates* refreshes coarser bars over changed windows; *retention* writes raw minute bars and trades that are older
than `maintenance` in trading.yaml allows to Parquet files, reads them back, and only then drops them; *compression*
and dropping whole chunks are done where the server can (`python -m tradecore doctor` says what it is); *vacuum* and
*logs* keep tables and the disk small. `quiet` waits, without a worker, while a session needs the machine. Each step
may run again at any time; one that fails does not stop the next. By hand: `python -m tradecore maintain`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup, TriggerRule, task

from tradecore.settings import load
from tradecore_ui import callbacks, research_tasks, upkeep_tasks

STEPS = ("aggregates", "retention", "compression", "vacuum", "logs")

with (
    DAG(
        "ops_maintenance",
        description="Coarser bars, retention, compression, vacuum, logs",
        doc_md=__doc__,
        schedule=f"30 {load().trading.maintenance.hour_utc} * * *",
        catchup=False,
        max_active_runs=1,
        tags=["ops"],
        on_failure_callback=callbacks.run_failed,
        default_args={
            "retries": 2,
            "retry_delay": timedelta(minutes=5),
            "execution_timeout": timedelta(hours=2),
            "priority_weight": 0,
            "weight_rule": "absolute",
            "on_failure_callback": callbacks.task_failed,
            "on_retry_callback": callbacks.task_retried,
        },
    ),
    TaskGroup("maintain"),
):
    outcome = EmptyOperator(task_id="outcome", trigger_rule=TriggerRule.NONE_FAILED)
    before = research_tasks.QuietSensor(task_id="quiet", work_s=1800, mode="reschedule", timeout=86_400)
    for step in STEPS:
        after = task(task_id=step, trigger_rule=TriggerRule.ALL_DONE)(upkeep_tasks.maintain)(step)
        before >> after >> outcome
        before = after
