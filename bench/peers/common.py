"""What several peers need: the rows' rules in pandas, which all of them have."""

from __future__ import annotations

import numpy as np
import pandas as pd

FAST, SLOW, VOLATILITY_BARS = 20, 50, 20
COST = 0.001  # sweep and single
NAME_CAP, GROSS_CAP, TARGET_VOLATILITY = 0.15, 0.90, 0.20
COMMISSION, SLIPPAGE = 0.0005, 0.0002
CASH = 10_000_000.0


def averages(close: pd.Series | pd.DataFrame) -> tuple[pd.Series | pd.DataFrame, pd.Series | pd.DataFrame]:
    """Return the fast and the slow average."""
    return close.rolling(FAST).mean(), close.rolling(SLOW).mean()


def weights(close: pd.DataFrame) -> pd.DataFrame:
    """Return the target weights that each close decides: 0 where flat and before the averages are whole."""
    fast, slow = averages(close)
    volatility = close.pct_change().rolling(VOLATILITY_BARS).std() * np.sqrt(252.0)
    base = NAME_CAP * np.minimum(1.0, TARGET_VOLATILITY / volatility)
    wanted = base.where(fast > slow, 0.0).fillna(0.0)
    gross = wanted.sum(axis=1)
    return wanted.mul((GROSS_CAP / gross).clip(upper=1.0).fillna(1.0), axis=0)


def frame(values: np.ndarray, freq: str = "B") -> pd.DataFrame:
    """Return a table of symbols S000, S001, ... by date."""
    index = pd.date_range("2001-01-01", periods=values.shape[0], freq=freq)
    return pd.DataFrame(values, index=index, columns=[f"S{i:03d}" for i in range(values.shape[1])])


def bars(open_: np.ndarray, close: np.ndarray, freq: str) -> pd.DataFrame:
    """Return bars of one symbol."""
    index = pd.date_range("2001-01-01", periods=close.size, freq=freq)
    high, low = np.maximum(open_, close), np.minimum(open_, close)
    return pd.DataFrame({"Open": open_, "High": high, "Low": low, "Close": close, "Volume": 1e6}, index=index)
