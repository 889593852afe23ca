"""backtrader: events in Python."""

from __future__ import annotations

from collections.abc import Callable

import backtrader as bt
import common
import numpy as np
import pandas as pd


class Cross(bt.Strategy):
    """Nearly all the cash at the next open (more would be refused) while the fast average is above the slow one."""

    def __init__(self) -> None:
        self.fast, self.slow = bt.ind.SMA(period=common.FAST), bt.ind.SMA(period=common.SLOW)

    def next(self) -> None:
        above = self.fast[0] > self.slow[0]
        if above and not self.position:
            self.buy(size=0.99 * self.broker.getcash() / self.data.close[0])
        elif not above and self.position:
            self.close()


class Rebalance(bt.Strategy):
    """Target weights at every open."""

    params = (("weights", None),)

    def next(self) -> None:
        row = self.p.weights[len(self) - 1]
        orders = [(row[i] - self.broker.get_value([d]) / self.broker.getvalue(), i) for i, d in enumerate(self.datas)]
        for _, i in sorted(orders):
            self.order_target_percent(self.datas[i], row[i])


def _feed(frame: pd.DataFrame) -> bt.feeds.PandasData:
    return bt.feeds.PandasData(dataname=frame)


def single(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return one symbol's run."""
    bars = common.bars(data["open"], data["close"], "min")

    def call() -> np.ndarray:
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(_feed(bars))
        cerebro.addstrategy(Cross)
        cerebro.broker.setcash(1e9)
        cerebro.broker.setcommission(commission=common.COST)
        cerebro.run()
        return np.array([cerebro.broker.getvalue() / 1e9 - 1.0])

    return call


def portfolio(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return a run of all symbols on one cash account."""
    open_, close = data["open"], data["close"]
    frames = [common.bars(open_[:, i], close[:, i], "B") for i in range(close.shape[1])]

    def call() -> np.ndarray:
        cerebro = bt.Cerebro(stdstats=False)
        for frame in frames:
            cerebro.adddata(_feed(frame))
        cerebro.addstrategy(Rebalance, weights=common.weights(common.frame(close)).to_numpy())
        cerebro.broker.setcash(common.CASH)
        cerebro.broker.setcommission(commission=common.COMMISSION)
        cerebro.broker.set_slippage_perc(common.SLIPPAGE)
        cerebro.run()
        return np.array([cerebro.broker.getvalue()])

    return call


WORK = {"single": single, "portfolio": portfolio}
