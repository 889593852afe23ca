"""Look at a universe before a rule is made for it: how its returns are spread, hang together, and when they are wild.

One page below .local/reports/analysis: distribution, autocorrelation, seasonality, correlation, volatility regimes. It
describes the range that is asked for, with all of it known; it is no signal.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, TaskGroup, task

from tradecore_ui import callbacks, forms, research_tasks

with (
    DAG(
        "research_analyse",
        description="Write a page on a universe's returns",
        doc_md=__doc__,
        schedule=None,
        max_active_runs=1,
        tags=["research"],
        on_failure_callback=callbacks.run_failed,
        default_args={
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "execution_timeout": timedelta(hours=1),
            "priority_weight": 0,
            "weight_rule": "absolute",  # the trading day's tasks come first
            "on_failure_callback": callbacks.task_failed,
            "on_retry_callback": callbacks.task_retried,
        },
        params=forms.analysis(),
    ),
    TaskGroup("analyse"),
):
    quiet = research_tasks.QuietSensor(task_id="quiet", work_s=300, mode="reschedule", timeout=4 * 86_400)
    quiet >> task(task_id="run")(research_tasks.analyse)()
