"""backtesting.py: one symbol, every bar in Python."""

from __future__ import annotations

from collections.abc import Callable

import common
import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy


class Cross(Strategy):
    """All the cash at the next open while the fast average is above the slow one."""

    def init(self) -> None:
        close = pd.Series(self.data.Close)
        self.fast, self.slow = (self.I(lambda x=x: x, name="average") for x in common.averages(close))

    def next(self) -> None:
        above = self.fast[-1] > self.slow[-1]
        if above and not self.position:
            self.buy()
        elif not above and self.position:
            self.position.close()


def single(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return one symbol's run."""
    bars = common.bars(data["open"], data["close"], "min")

    def call() -> np.ndarray:
        found = Backtest(bars, Cross, cash=1e12, commission=common.COST).run()
        return np.array([found["Equity Final [$]"] / 1e12 - 1.0])

    return call


WORK = {"single": single}
