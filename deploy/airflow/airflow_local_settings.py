"""Loaded by every Airflow process at its start (it is on PYTHONPATH). Only the scheduler does something.

Its workers fork from it: what it has imported and compiled, each task has at once, and shares the memory of
(2 to 3 s a task otherwise). Serial kernels only: a parallel one starts threads, which do not survive a fork.
Great Expectations stays out: 155 MB for the one stage that uses it.
"""

import importlib
import sys

PRELOADED = (
    "airflow.providers.postgres.hooks.postgres",
    "tradecore.pipeline",
    "tradecore.reports.session_report",
    "tradecore_ui.failure_alerts",
)

if sys.argv[1:2] == ["scheduler"]:
    for name in PRELOADED:
        importlib.import_module(name)

    from tradecore.warm import warm_serial_kernels

    warm_serial_kernels()
