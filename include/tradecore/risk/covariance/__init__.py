"""Covariance estimates of a window of returns, checked; the formulas are in the kernels."""

from __future__ import annotations

import numpy as np

from tradecore.model import Floats, Ints
from tradecore.risk.covariance import _kernels as kernels

ESTIMATORS = ("ledoit_wolf", "ewma", "sample")


def window_of(returns: Floats, least: int = 2) -> Floats:
    """Return returns as a C-ordered float64 array [T, n]. Raises ValueError for fewer rows, or a value that is no
    number: a covariance has no rule for holes, who calls decides what they mean."""
    found = np.ascontiguousarray(returns, np.float64)
    if found.ndim != 2 or found.shape[0] < least:
        raise ValueError(f"returns must be [T, n] with T >= {least}, not {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError("returns must be finite: leave out names with holes")
    return found


def estimate(returns: Floats, estimator: str = "ledoit_wolf", decay: float = 0.94) -> Floats:
    """Return the covariance [n, n] of returns [T, n] in their own units, by one of ESTIMATORS.

    decay: of `ewma` alone, above 0 and up to 1. Raises ValueError as window_of, and for an unknown estimator.
    """
    x = window_of(returns)
    room, out = np.empty_like(x), np.empty((x.shape[1], x.shape[1]))
    if estimator == "ledoit_wolf":
        kernels.ledoit_wolf(x, room, out)
    elif estimator == "ewma":
        if not 0.0 < decay <= 1.0:
            raise ValueError(f"decay must be above 0 and up to 1, not {decay}")
        kernels.ewma_covariance(x, decay, room, out)
    elif estimator == "sample":
        kernels.sample_covariance(x, room, out)
    else:
        raise ValueError(f"estimator must be one of {', '.join(ESTIMATORS)}, not {estimator!r}")
    return out


def shrinkage(returns: Floats) -> float:
    """Return the part (0..1) that Ledoit and Wolf take of the target instead of the sample's covariance."""
    x = window_of(returns)
    return float(kernels.ledoit_wolf(x, np.empty_like(x), np.empty((x.shape[1], x.shape[1]))))


def beta(returns: Floats, index: Floats) -> Floats:
    """Return the beta [n] of returns [T, n] to those of an index [T]; NaN where the index stood still."""
    x = window_of(returns)
    against = np.ascontiguousarray(index, np.float64)
    if against.shape != (x.shape[0],) or not np.isfinite(against).all():
        raise ValueError(f"index must be [{x.shape[0]}] and finite")
    out = np.empty(x.shape[1])
    kernels.betas(x, against, out)
    return out


def cluster(covariance: Floats, least: float) -> Ints:
    """Return the lowest member [n] of each name's cluster: joined by correlations of `least` or more."""
    out = np.empty(covariance.shape[0], np.int64)
    kernels.clusters(np.ascontiguousarray(covariance, np.float64), least, out)
    return out
