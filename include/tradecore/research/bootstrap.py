"""Block bootstrap of returns: other histories made of pieces of the one that was, their serial correlation kept.

Sources: Politis & Romano, "A Circular Block-Resampling Procedure for Stationary Data", 1992, and "The Stationary
Bootstrap", Journal of the American Statistical Association 89, 1994, pp. 1303-1313; Politis & White, "Automatic
Block-Length Selection for the Dependent Bootstrap", Econometric Reviews 23(1), 2004, pp. 53-70, with the correction of
Patton, Politis & White, Econometric Reviews 28(4), 2009, pp. 372-375.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tradecore.model import Floats, Ints
from tradecore.reports.metrics import curve_figures


def stationary_indices(rng: np.random.Generator, n: int, draws: int, mean_block: float) -> Ints:
    """Return [draws, n] rows: blocks of geometric length with that mean, from uniform starts, around the end (1994).

    Raises ValueError for a mean block below 1.
    """
    if mean_block < 1.0:
        raise ValueError(f"a block has 1 row or more on average, not {mean_block:g}")
    new = rng.random((draws, n)) < 1.0 / mean_block
    new[:, 0] = True
    return _joined(rng, n, new)


def circular_indices(rng: np.random.Generator, n: int, draws: int, block: int) -> Ints:
    """Return [draws, n] rows: blocks of `block` rows from uniform starts, around the end (1992).

    Raises ValueError for a block below 1.
    """
    if block < 1:
        raise ValueError(f"a block has 1 row or more, not {block}")
    new = np.zeros((draws, n), np.bool_)
    new[:, ::block] = True
    return _joined(rng, n, new)


def _joined(rng: np.random.Generator, n: int, new: np.ndarray) -> Ints:
    """Return rows that run on from a uniform start wherever `new` begins a block."""
    start = rng.integers(0, n, new.shape)
    at = np.arange(n)
    begun = np.maximum.accumulate(np.where(new, at, 0), axis=1)
    return np.asarray((np.take_along_axis(start, begun, axis=1) + at - begun) % n)


def block_length(x: Floats) -> tuple[float, float]:
    """Return the optimal mean block of the stationary and the block of the circular bootstrap for the mean of x [T].

    At least 1, at most min(3 sqrt(T), T / 3) rounded up. Flat-top window of twice the lag after which max(5, log10 T)
    correlations in a row are within 2 sqrt(log10(T) / T), as arch 8 has it. NaN for a constant series.
    Raises ValueError below 8 values.
    """
    n = x.size
    if n < 8:
        raise ValueError(f"{n} values; 8 or more are needed")
    d = x - x.mean()
    if not d @ d > 0.0:
        return math.nan, math.nan
    run, most = max(5, int(math.log10(n))), math.ceil(min(3.0 * math.sqrt(n), n / 3.0))
    last = math.ceil(math.sqrt(n)) + run
    limit = 2.0 * math.sqrt(math.log10(n) / n)
    cross = np.array([d[k:] @ d[: n - k] for k in range(last + 1)])
    scale = np.array(
        [math.sqrt((d[k + 1 :] @ d[k + 1 :]) * (d[: n - k - 1] @ d[: n - k - 1])) for k in range(last + 1)]
    )
    small = np.abs(cross) < limit * scale
    quiet = next((k for k in range(last - run + 1) if small[k : k + run].all()), None)
    m = last if quiet is None else min(2 * max(quiet, 1), last)
    lag = np.arange(1, m + 1)
    weight = np.where(lag / m <= 0.5, 1.0, 2.0 * (1.0 - lag / m)) * cross[1 : m + 1] / n
    g, spectrum = 2.0 * float(weight @ lag), cross[0] / n + 2.0 * float(weight.sum())
    length = [(2.0 * g**2 / (c * spectrum**2)) ** (1 / 3) * n ** (1 / 3) for c in (2.0, 4.0 / 3.0)]
    return min(max(length[0], 1.0), most), min(max(length[1], 1.0), most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """Figures of resampled histories, [draws] each, and the mean block that they were made with."""

    mean_block: float
    sharpe: Floats
    total_return: Floats
    max_drawdown: Floats


def bootstrap(
    returns: Floats, rng: np.random.Generator, *, draws: int, periods_per_year: float, mean_block: float | None = None
) -> Bootstrap:
    """Resample returns [T] by the stationary bootstrap; the block is Politis & White's unless given.

    Raises ValueError as `block_length` and `stationary_indices`.
    """
    block = block_length(returns)[0] if mean_block is None else mean_block
    block = 1.0 if math.isnan(block) else block
    curves = returns[stationary_indices(rng, returns.size, draws, block)]
    figures = curve_figures(curves, periods_per_year)
    return Bootstrap(
        mean_block=block,
        sharpe=figures.sharpe,
        total_return=np.prod(1.0 + curves, axis=1) - 1.0,
        max_drawdown=figures.max_drawdown,
    )


def interval(values: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of values, those that are NaN left out; NaN where nothing is left."""
    known = values[~np.isnan(values)]
    if not known.size:
        return math.nan, math.nan
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return float(low), float(high)
