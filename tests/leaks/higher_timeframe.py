"""Planted: weekly bars dated at their opening, joined with merge_asof (freqtrade#12507)."""

import numpy as np
import pandas as pd

from tradecore.strategies import strategy


def panel(window, out, lookback):
    dates = pd.to_datetime(window.day, unit="D")
    for i in range(window.close.shape[1]):
        daily = pd.DataFrame({"date": dates, "open": window.open[:, i], "close": window.close[:, i]})
        weekly = daily.groupby(daily["date"].dt.to_period("W")).agg({"date": "first", "open": "first", "close": "last"})
        weekly = weekly.rename(columns={"open": "week_open", "close": "week_close"}).reset_index(drop=True)
        joined = pd.merge_asof(daily, weekly, on="date", direction="backward")
        inside = joined["close"].between(joined["week_open"], joined["week_close"])
        out[lookback - 1 :, i] = inside[lookback - 1 :]
    return out


@strategy(lookback_bars=10, panel=panel)
def higher_timeframe(window):
    return np.where(window.close[-1] > window.open[-5], 1.0, 0.0)
