"""Planted: monthly bars with right-closed bins and labels at the start, carried forward over the month."""

import numpy as np
import pandas as pd

from tradecore.strategies import strategy


def panel(window, out, lookback):
    close = pd.DataFrame(window.close, index=pd.to_datetime(window.day, unit="D"))
    monthly = close.resample("ME", closed="right", label="left").last()
    known = monthly.reindex(close.index, method="ffill")
    out[lookback - 1 :] = (known > close)[lookback - 1 :]
    return out


@strategy(lookback_bars=22, panel=panel)
def resampled(window):
    return np.where(window.close[0] > window.close[-1], 1.0, 0.0)
