"""Run a backtest and keep it: figures and equity in the database, a tear sheet below .local/reports/backtests.

    quiet > run

`quiet` waits, without a worker, while the trading day needs the machine. The fields are what to ask for instead of what
is configured; empty ones leave trading.yaml as it is. The same fields on the same bars and code are the same backtest:
nothing is kept twice. `python -m tradecore backtests list` has them all.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, TaskGroup, task

from tradecore_ui import callbacks, forms, research_tasks

with (
    DAG(
        "research_backtest",
        description="Run a backtest, keep its result and its tear sheet",
        doc_md=__doc__,
        schedule=None,
        max_active_runs=1,
        tags=["research"],
        on_failure_callback=callbacks.run_failed,
        default_args={
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "execution_timeout": timedelta(hours=2),
            "priority_weight": 0,
            "weight_rule": "absolute",  # the trading day's tasks come first
            "on_failure_callback": callbacks.task_failed,
            "on_retry_callback": callbacks.task_retried,
        },
        params=forms.backtest(),
    ),
    TaskGroup("backtest"),
):
    quiet = research_tasks.QuietSensor(task_id="quiet", work_s=300, mode="reschedule", timeout=4 * 86_400)
    quiet >> task(task_id="run")(research_tasks.backtest)()
