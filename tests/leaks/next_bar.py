"""Planted: tomorrow's close, by shift(-1)."""

import numpy as np
import pandas as pd

from tradecore.strategies import strategy


def panel(window, out, lookback, *, period):
    close = pd.DataFrame(window.close)
    rises = close.shift(-1) > close.rolling(period).mean()
    out[lookback - 1 :] = rises[lookback - 1 :]
    return out


@strategy(lookback_bars=lambda p: p.period, panel=panel)
def next_bar(window, *, period: int = 20):
    return np.where(window.close[-1] > window.close[-period:].mean(axis=0), 1.0, 0.0)
