"""qstrader: daily events in Python. It scales weights to what is to be invested, and fills when it decides."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import common
import numpy as np
import pandas as pd
from qstrader import settings
from qstrader.alpha_model.alpha_model import AlphaModel
from qstrader.asset.equity import Equity
from qstrader.asset.universe.static import StaticUniverse
from qstrader.broker.fee_model.percent_fee_model import PercentFeeModel
from qstrader.data.backtest_data_handler import BacktestDataHandler
from qstrader.data.daily_bar_csv import CSVDailyBarDataSource
from qstrader.trading.backtest import BacktestTradingSession

settings.PRINT_EVENTS = False


class Cross(AlphaModel):
    """Target weights by date."""

    def __init__(self, weights: pd.DataFrame) -> None:
        self._rows = {date.date(): dict(row) for date, row in weights.add_prefix("EQ:").iterrows()}

    def __call__(self, dt: pd.Timestamp) -> dict[str, float]:
        return self._rows[dt.date()]


def portfolio(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return a run of all symbols on one cash account; its files are read before."""
    open_, close = data["open"], data["close"]
    table = common.frame(close)
    folder = Path(tempfile.mkdtemp(dir="."))
    for i, symbol in enumerate(table.columns):
        bars = common.bars(open_[:, i], close[:, i], "B").rename_axis("Date")
        bars.assign(**{"Adj Close": bars["Close"]}).to_csv(folder / f"{symbol}.csv")
    source = CSVDailyBarDataSource(str(folder), Equity, csv_symbols=list(table.columns))
    universe = StaticUniverse([f"EQ:{symbol}" for symbol in table.columns])

    def call() -> np.ndarray:
        session = BacktestTradingSession(
            table.index[0].tz_localize("UTC") + pd.Timedelta(hours=14, minutes=30),
            table.index[-1].tz_localize("UTC") + pd.Timedelta(hours=23, minutes=59),
            universe,
            Cross(common.weights(table)),
            initial_cash=common.CASH,
            rebalance="daily",
            long_only=True,
            cash_buffer_percentage=1.0 - common.GROSS_CAP,
            fee_model=PercentFeeModel(commission_pct=common.COMMISSION),
            data_handler=BacktestDataHandler(universe, data_sources=[source]),
        )
        session.run(results=False)
        return session.get_equity_curve()["Equity"].to_numpy()[-1:]

    return call


WORK = {"portfolio": portfolio}
