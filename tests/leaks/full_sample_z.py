"""Planted: a z-score with mean and deviation of the whole sample."""

import numpy as np
import pandas as pd

from tradecore.strategies import strategy


def panel(window, out, lookback, *, period):
    returns = pd.DataFrame(window.close).pct_change(period, fill_method=None)
    z = (returns - returns.mean()) / returns.std()
    out[lookback - 1 :] = np.where(z.isna(), np.nan, z > 0.5)[lookback - 1 :]
    return out


@strategy(lookback_bars=lambda p: p.period + 1, panel=panel)
def full_sample_z(window, *, period: int = 10):
    return np.where(window.close[-1] > window.close[-1 - period], 1.0, 0.0)
