"""Run a backtest and keep it: figures and equity in the database, a tear sheet below .local/reports/backtests.

    quiet > run

`quiet` waits, without a worker, while the trading day needs the machine. The fields are what to ask for instead of what
is configured; empty ones leave trading.yaml as it is. The same fields on the same bars and code are the same backtest:
nothing is kept twice. `python -m tradecore backtests list` has them all.
"""

from __future__ import annotations

from airflow.sdk import TaskGroup, task

from tradecore_ui import forms, research_tasks

with (
    research_tasks.research_dag(
        "research_backtest",
        "Run a backtest, keep its result and its tear sheet",
        __doc__,
        params=forms.backtest(),
        hours=2,
    ),
    TaskGroup("backtest"),
):
    quiet = research_tasks.QuietSensor(task_id="quiet", work_s=300, mode="reschedule", timeout=4 * 86_400)
    quiet >> task(task_id="run")(research_tasks.backtest)()
