"""zipline-reloaded: daily events in Python over a bundle, which is made before the clock starts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ["ZIPLINE_ROOT"] = tempfile.mkdtemp(dir=".")

import common
import numpy as np
import pandas as pd
from zipline import run_algorithm
from zipline.api import order_target_percent, set_commission, set_slippage, symbol
from zipline.data.bundles import ingest, register
from zipline.data.bundles.csvdir import csvdir_equities
from zipline.finance.commission import PerDollar
from zipline.finance.slippage import FixedBasisPointsSlippage
from zipline.utils.calendar_utils import get_calendar


def portfolio(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return a run of all symbols on one cash account."""
    calendar = get_calendar("XNYS")
    days = calendar.sessions[calendar.sessions >= "2001-01-02"][: data["close"].shape[0]]
    table = pd.DataFrame(data["close"], index=days, columns=[f"S{i:03d}" for i in range(data["close"].shape[1])])
    folder = Path(tempfile.mkdtemp(dir=".")).resolve()
    (folder / "daily").mkdir()
    for i, name in enumerate(table.columns):
        bars = common.bars(data["open"][:, i], data["close"][:, i], "B").set_axis(days)
        bars = bars.rename(columns=str.lower).assign(volume=10**7, dividend=0.0, split=1.0).rename_axis("date")
        bars.to_csv(folder / "daily" / f"{name}.csv")
    register(
        "made",
        csvdir_equities(["daily"], str(folder)),
        calendar_name="XNYS",
        start_session=days[0],
        end_session=days[-1],
    )
    ingest("made")

    def call() -> np.ndarray:
        rows = common.weights(table).to_numpy()
        state = {"t": 0}

        def initialize(context: object) -> None:
            state["symbols"] = [symbol(name) for name in table.columns]
            set_commission(PerDollar(common.COMMISSION))
            set_slippage(FixedBasisPointsSlippage(basis_points=common.SLIPPAGE * 1e4, volume_limit=1.0))

        def handle_data(context: object, bar: object) -> None:
            for asset, weight in zip(state["symbols"], rows[state["t"]], strict=True):
                order_target_percent(asset, weight)
            state["t"] += 1

        found = run_algorithm(
            start=days[0],
            end=days[-1],
            initialize=initialize,
            handle_data=handle_data,
            capital_base=common.CASH,
            bundle="made",
            data_frequency="daily",
            trading_calendar=calendar,
            benchmark_returns=pd.Series(0.0, index=days),
        )
        return found["portfolio_value"].to_numpy()[-1:]

    return call


WORK = {"portfolio": portfolio}
