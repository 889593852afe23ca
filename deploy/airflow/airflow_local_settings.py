"""Loaded by every Airflow process at its start (it is on PYTHONPATH). Only the scheduler does something.

Its workers fork from it: what it has imported and compiled, each task has at once (2 to 3 s a task
otherwise). Serial kernels only: a parallel one starts threads, which do not survive a fork.
"""

import sys

if sys.argv[1:2] == ["scheduler"]:
    import numba  # noqa: F401
    import numpy  # noqa: F401
    import pandas  # noqa: F401

    from tradecore.warm import warm_serial_kernels

    warm_serial_kernels()
