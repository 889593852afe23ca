"""Look at a universe before a rule is made for it: how its returns are spread, hang together, and when they are wild.

One page below .local/reports/analysis: distribution, autocorrelation, seasonality, correlation, volatility regimes. It
describes the range that is asked for, with all of it known; it is no signal.
"""

from __future__ import annotations

from airflow.sdk import TaskGroup, task

from tradecore_ui import forms, research_tasks

with (
    research_tasks.research_dag(
        "research_analyse",
        "Write a page on a universe's returns",
        __doc__,
        params=forms.analysis(),
        hours=1,
    ),
    TaskGroup("analyse"),
):
    quiet = research_tasks.QuietSensor(task_id="quiet", work_s=300, mode="reschedule", timeout=4 * 86_400)
    quiet >> task(task_id="run")(research_tasks.analyse)()
