"""Planted: the next day of great volume, joined to the days before it with merge_asof(direction="forward")."""

import numpy as np
import pandas as pd

from tradecore.strategies import strategy


def panel(window, out, lookback, *, times):
    for i in range(window.close.shape[1]):
        daily = pd.DataFrame({"day": window.day, "close": window.close[:, i]})
        volume = pd.Series(window.volume[:, i])
        great = daily[volume > times * volume.rolling(20).median()].rename(columns={"close": "event_close"})
        joined = pd.merge_asof(daily, great, on="day", direction="forward")
        out[lookback - 1 :, i] = (joined["event_close"] > joined["close"])[lookback - 1 :]
    return out


@strategy(lookback_bars=21, panel=panel)
def next_event(window, *, times: float = 2.0):
    return np.where(window.volume[-1] > times * np.median(window.volume[-20:], axis=0), 1.0, 0.0)
