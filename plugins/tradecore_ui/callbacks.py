"""Airflow's callbacks: each puts one alert into the outbox and tries to deliver it at once.

Task callbacks run in the task's own process, which a SIGKILL takes with it; DAG callbacks run in the
dag-processor and fire all the same. So every DAG has both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tradecore_ui import failure_alerts


def task_failed(context: Mapping[str, Any]) -> None:
    """A task has failed for good."""
    failure_alerts.send(failure_alerts.of_task(context, final=True))


def task_retried(context: Mapping[str, Any]) -> None:
    """A task has failed and will be tried again."""
    failure_alerts.send(failure_alerts.of_task(context, final=False))


def run_failed(context: Mapping[str, Any]) -> None:
    """A run has failed: names what its tasks could not report themselves."""
    failure_alerts.send(failure_alerts.of_run(context))
