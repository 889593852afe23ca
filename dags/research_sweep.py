"""Try a strategy with many parameters, in shards that any executor may spread; the best go through the fold.

    plan > run (one task a shard) > collect

With a walk-forward, each training is a sweep of its own, and `collect` joins the tests to one out-of-sample curve.
Chunks that are done stay done, whatever happens to a task. No chunk begins while the trading day needs the machine:
the shard waits without a worker, and goes on afterwards. The log of `collect` shows the best, its answer the files;
`python -m tradecore sweeps list` lists all sweeps.
"""

from __future__ import annotations

from airflow.sdk import TaskGroup, task

from tradecore_ui import research_tasks, sweeping

with (
    research_tasks.research_dag(
        "research_sweep",
        "Try a strategy with many parameters",
        __doc__,
        params=sweeping.sweep_fields(),
        hours=12,
        retries=3,
    ),
    TaskGroup("sweep"),
):
    shards = task(task_id="plan")(sweeping.plan_sweep)()
    computed = sweeping.ShardSensor.partial(task_id="run", mode="reschedule", timeout=14 * 86_400).expand(shard=shards)
    computed >> task(task_id="collect")(sweeping.collect)()
