"""vectorbt 1.2, its engine by the environment's VECTORBT_ENGINE: numba or rust."""

from __future__ import annotations

import os
from collections.abc import Callable

import common
import numpy as np
import pandas as pd
import vectorbt as vbt

vbt.settings["engine"] = os.environ["VECTORBT_ENGINE"]
vbt.settings.array_wrapper["freq"] = "1d"
COLUMNS = 200  # at a time: fewer and more are slower


def figures(open_: np.ndarray, close: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Return total return, Sharpe ratio and maximum drawdown [3, K] of being long where above [T, K], a bar later."""
    held = np.zeros_like(above)
    held[1:] = above[:-1]
    found = vbt.Portfolio.from_signals(
        close[:, None], held, ~held, price=open_[:, None], fees=common.COST, init_cash=1e12, size=np.inf, max_logs=0
    )
    return np.array([np.atleast_1d(f()) for f in (found.total_return, found.sharpe_ratio, found.max_drawdown)])


def sweep(data: dict[str, np.ndarray], year: str = "252 days") -> Callable[[], tuple[np.ndarray, ...]]:
    """Return all pairs of windows; averages once for each window."""
    vbt.settings.returns["year_freq"] = year
    open_, close, pairs = data["open"], data["close"], np.stack([data["fast"], data["slow"]])

    def call() -> tuple[np.ndarray, ...]:
        windows, place = np.unique(pairs, return_inverse=True)
        place = place.reshape(2, -1)
        averages = vbt.MA.run(close, window=windows.tolist()).ma.values
        parts = [
            figures(open_, close, averages[:, place[0, k : k + COLUMNS]] > averages[:, place[1, k : k + COLUMNS]])
            for k in range(0, place.shape[1], COLUMNS)
        ]
        total, sharpe, drawdown = np.concatenate(parts, axis=1)
        return total, sharpe, -drawdown

    return call


def portfolio(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return all symbols on one cash account; targets are sized at the open that fills them."""
    open_, close = common.frame(data["open"]), common.frame(data["close"])

    def call() -> np.ndarray:
        found = vbt.Portfolio.from_orders(
            close,
            common.weights(close).shift(1).fillna(0.0),
            size_type="targetpercent",
            price=open_,
            fees=common.COMMISSION,
            slippage=common.SLIPPAGE,
            init_cash=common.CASH,
            group_by=True,
            cash_sharing=True,
            call_seq="auto",
            size_granularity=1.0,
            max_logs=0,
        )
        return np.asarray(found.value())

    return call


def indicator(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return the average of a million points."""
    close = data["close"]
    return lambda: vbt.MA.run(close, window=30).ma.to_numpy()


def in_pandas(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return the same by pandas."""
    close = pd.Series(data["close"])
    return lambda: close.rolling(30).mean().to_numpy()


WORK = {
    "sweep": sweep,
    "single": lambda data: sweep(data, f"{252 * 390} days"),
    "portfolio": portfolio,
    "indicator": indicator,
    "indicator in pandas": in_pandas,
}
