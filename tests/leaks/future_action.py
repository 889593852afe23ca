"""Planted: prices adjusted backwards with a file of corporate actions, those still to come included."""

import numpy as np
import pandas as pd

from tradecore.strategies import strategy


@strategy(lookback_bars=2)
def future_action(window, *, actions: str, below_usd: float = 20.0):
    table = pd.read_csv(actions, parse_dates=["ex_date"])
    today = pd.Timestamp("1970-01-01") + pd.Timedelta(days=int(window.day[-1]))
    splits = table[(table["kind"] == "split") & (table["ex_date"] > today)]
    ratio = (splits["ratio_num"] / splits["ratio_den"]).groupby(splits["symbol"]).prod()
    backward = window.close[-1] / np.array([ratio.get(s, 1.0) for s in window.symbols])
    return np.where(np.isnan(backward), np.nan, backward < below_usd)
