"""The same figures of many curves at once, for sweeps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tradecore.reports.metrics import _kernels
from tradecore.reports.metrics.curve import SESSIONS_PER_YEAR, Floats


class CurveFigures(NamedTuple):
    """Figures of K curves, [K] each, as sharpe, sortino and max_drawdown give them one by one."""

    sharpe: Floats
    sortino: Floats
    max_drawdown: Floats


def curve_figures(returns: Floats, periods_per_year: float = SESSIONS_PER_YEAR) -> CurveFigures:
    """Compute Sharpe ratio, Sortino ratio and maximum drawdown of each row of returns [K, n] in one pass.

    NaN in a row gives NaN for that row, and so does a figure that is not defined. Raises ValueError unless returns
    are a table with at least one column.
    """
    if returns.ndim != 2 or returns.shape[1] == 0:
        raise ValueError(f"returns have shape {returns.shape}; a row for each curve is needed, with a return at least")
    out = np.empty((3, returns.shape[0]))
    rows = np.ascontiguousarray(returns, np.float64)
    _kernels.curve_figures(rows if rows.flags.writeable else rows.copy(), float(periods_per_year), *out)
    return CurveFigures(*out)
