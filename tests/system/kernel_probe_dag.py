"""A DAG for the stack of test_running_stack.py: how long a stage's first call of each kernel takes, in its own task."""

import json
import time

from airflow.sdk import DAG, get_current_context, task

from tradecore_ui import task_env

SESSION = "2005-02-24"
PLACES = {
    "settle_bar": "tradecore.backtest.step.kernels",
    "decide_bar": "tradecore.backtest.step",
    "plan_orders": "tradecore.backtest.step",
    "volatility_panel": "tradecore.backtest.step",
    "ma_crossover_panel": "tradecore.strategies.ma_crossover",
}


def timed(calls):
    """Put a clock around every kernel that a stage calls; calls[name] is the first call's seconds."""
    import importlib

    import tradecore.backtest.step
    import tradecore.strategies.ma_crossover  # noqa: F401

    def wrapped(name, kernel):
        def call(*arguments):
            started = time.perf_counter()
            result = kernel(*arguments)
            calls.setdefault(name, time.perf_counter() - started)
            return result

        return call

    for name, place in PLACES.items():
        folder, _, last = place.rpartition(".")
        module = importlib.import_module(place) if last != "kernels" else importlib.import_module(folder).kernels
        setattr(module, name, wrapped(name, getattr(module, name)))


def stage(function, *arguments):
    """Run one stage of the run's own book in this task's process; print what its kernels' first calls took."""
    from datetime import UTC, date, datetime

    from tradecore import pipeline
    from tradecore.settings import load

    calls = {}
    timed(calls)
    settings, now, day = load(), datetime.now(UTC), date.fromisoformat(SESSION)
    book = f"replay:probe-{get_current_context()['dag_run'].run_after.timestamp():.0f}"
    with task_env.connection() as conn:
        pipeline.open_book(settings, conn, book=book, before=day, now=now)
        bar = pipeline.context(settings, conn, book=book, session_date=day, now=now)
        getattr(pipeline, function)(bar, *arguments)
    print("FIRST CALLS " + json.dumps(calls))


with DAG("kernel_probe", schedule=None, is_paused_upon_creation=False):

    @task
    def settle():
        stage("settle")

    @task
    def signal():
        stage("signal", "ma_crossover")

    @task
    def risk():
        stage("risk")

    @task
    def plan():
        stage("plan")

    settle() >> signal() >> risk() >> plan()
