"""TA-Lib through its Python wrapper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import talib


def indicator(data: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """Return the average of a million points."""
    close = data["close"]
    return lambda: talib.SMA(close, 30)


WORK = {"indicator": indicator}
