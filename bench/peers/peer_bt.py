"""bt: a tree of strategies over pandas. It fills at a close: weights are a day late."""

from __future__ import annotations

from collections.abc import Callable

import bt
import common
import numpy as np


def portfolio(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return a run of all symbols on one cash account."""
    close = common.frame(data["close"])

    def call() -> np.ndarray:
        target = common.weights(close).shift(1).fillna(0.0)
        strategy = bt.Strategy("cross", [bt.algos.RunDaily(), bt.algos.WeighTarget(target), bt.algos.Rebalance()])
        run = bt.Backtest(
            strategy,
            close,
            initial_capital=common.CASH,
            commissions=lambda q, p: abs(q) * p * (common.COMMISSION + common.SLIPPAGE),
            progress_bar=False,
        )
        found = bt.run(run)
        return found.backtests["cross"].strategy.values.to_numpy()[-1:]

    return call


WORK = {"portfolio": portfolio}
