"""Planted: a rolling mean with center=True."""

import numpy as np
import pandas as pd

from tradecore.strategies import strategy


def panel(window, out, lookback, *, period):
    close = pd.DataFrame(window.close)
    smooth = close.rolling(period, center=True).mean()
    out[lookback - 1 :] = (close > smooth)[lookback - 1 :]
    return out


@strategy(lookback_bars=lambda p: p.period, panel=panel)
def centred_window(window, *, period: int = 21):
    return np.where(window.close[-1] > window.close[-period:].mean(axis=0), 1.0, 0.0)
