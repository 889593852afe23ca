"""Try a strategy with many parameters, in shards that any executor may spread; the best go through the fold.

    plan > run (one task a shard) > collect

With a walk-forward, each training is a sweep of its own, and `collect` joins the tests to one out-of-sample curve.
Chunks that are done stay done, whatever happens to a task. No chunk begins while the trading day needs the machine:
the shard waits without a worker, and goes on afterwards. The log of `collect` shows the best, its answer the files;
`python -m tradecore sweeps list` lists all sweeps.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, TaskGroup, task

from tradecore_ui import callbacks, sweeping

with (
    DAG(
        "research_sweep",
        description="Try a strategy with many parameters",
        doc_md=__doc__,
        schedule=None,
        max_active_runs=1,
        tags=["research"],
        on_failure_callback=callbacks.run_failed,
        default_args={
            "retries": 3,
            "retry_delay": timedelta(seconds=30),
            "execution_timeout": timedelta(hours=12),
            "priority_weight": 0,
            "weight_rule": "absolute",  # the trading day's tasks come first
            "on_failure_callback": callbacks.task_failed,
            "on_retry_callback": callbacks.task_retried,
        },
        params=sweeping.sweep_fields(),
    ),
    TaskGroup("sweep"),
):
    shards = task(task_id="plan")(sweeping.plan_sweep)()
    computed = sweeping.ShardSensor.partial(task_id="run", mode="reschedule", timeout=14 * 86_400).expand(shard=shards)
    computed >> task(task_id="collect")(sweeping.collect)()
