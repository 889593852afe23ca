"""Row *metrics*: Sharpe ratio, Sortino ratio and maximum drawdown of 10,000 curves of ten years."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import compiled
import numpy as np
from ratios import Row

from tradecore.reports.metrics.many import curve_figures

CURVES, DAYS, SEED = 10_000, 2_520, 3


def in_c(returns: np.ndarray) -> Callable[[], Any]:
    """Return the plain loop in C as a contestant."""
    run = compiled.function("metrics", "metrics", "piidppp")
    out = np.empty((3, returns.shape[0]))

    def contestant() -> Any:
        run(compiled.pointer(returns), *returns.shape, 252.0, *map(compiled.pointer, out))
        return tuple(out.copy())

    return contestant


def agree(results: dict[str, Any]) -> None:
    """Raise AssertionError unless the figures are C's; its variance is a difference of sums."""
    for what, a, b in zip(("Sharpe", "Sortino", "drawdown"), *results.values(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12, err_msg=what)


def rows() -> list[Row]:
    """Return metrics."""
    returns = np.random.default_rng(SEED).normal(0.0004, 0.012, (CURVES, DAYS))
    return [
        Row(
            name="metrics",
            unit="curve",
            units=CURVES,
            contestants={"C": in_c(returns), "tradecore": lambda: curve_figures(returns)},
            agree=agree,
            goals={"tradecore": 1.3},
            note=f"{DAYS:,} daily returns",
        )
    ]
