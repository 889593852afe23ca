"""Cross-validation for overlapping, serially correlated observations: purged k-fold, and combinatorial purged (CPCV).

Source: Lopez de Prado, Advances in Financial Machine Learning, Wiley 2018: chapter 7 (purging and embargo), chapter 12
(combinatorial purged cross-validation and its paths).

An observation i is made at bar i and its outcome is known at bar label_end[i] >= i. It is *purged* from the training
set of a test block when the two intervals share a bar, and *embargoed* when it begins within `embargo` bars after the
last outcome of that block. (The book's snippet 7.3 keeps an observation whose outcome falls on the first bar of the
test block; its text, and snippet 7.1, count that as an overlap, and so does this.)
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from tradecore.model import Floats, Ints
from tradecore.reports.metrics import curve_figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Rows to train on and rows to test on; `groups` says which blocks are tested."""

    train: Ints
    test: Ints
    groups: tuple[int, ...]


def labels_after(n: int, horizon_bars: int) -> Ints:
    """Return label_end [n] of observations whose outcome is known horizon_bars later, at most at the last bar."""
    return np.minimum(np.arange(n) + horizon_bars, n - 1)


def purged_kfold(label_end: Ints, n_splits: int, *, embargo_bars: int = 0) -> list[Fold]:
    """Return n_splits folds, each testing one block of consecutive rows.

    Parameters: label_end [T], for each row the row at which its outcome is known; embargo_bars after each block.
    Raises ValueError for fewer than 2 splits, more than rows, or a label that ends before it begins.
    """
    return combinatorial(label_end, n_splits, 1, embargo_bars=embargo_bars)


def combinatorial(label_end: Ints, n_groups: int, n_test: int, *, embargo_bars: int = 0) -> list[Fold]:
    """Return the folds of all choices of n_test out of n_groups blocks, in lexical order.

    Raises ValueError as `purged_kfold`, and unless 1 <= n_test < n_groups.
    """
    n = label_end.size
    if not 2 <= n_groups <= n or not 1 <= n_test < n_groups:
        raise ValueError(
            f"{n_test} of {n_groups} blocks of {n} rows; 1 <= test < blocks <= rows, and 2 blocks at least"
        )
    if embargo_bars < 0 or (label_end < np.arange(n)).any() or (label_end >= n).any():
        raise ValueError("a label ends at its own row or later, within the rows; the embargo is 0 or more")
    blocks = np.array_split(np.arange(n), n_groups)
    folds = []
    for chosen in itertools.combinations(range(n_groups), n_test):
        keep = np.ones(n, np.bool_)
        for g in chosen:
            first, last = int(blocks[g][0]), int(label_end[blocks[g]].max())
            keep &= (label_end < first) | (np.arange(n) > last + (embargo_bars if blocks[g][-1] < n - 1 else 0))
        test = np.concatenate([blocks[g] for g in chosen])
        folds.append(Fold(train=np.flatnonzero(keep), test=test, groups=chosen))
    return folds


def path_count(n_groups: int, n_test: int) -> int:
    """Return how many whole paths through history the folds of `combinatorial` make: C(N, k) k / N."""
    return math.comb(n_groups, n_test) * n_test // n_groups


def paths(n_groups: int, n_test: int) -> Ints:
    """Return [paths, groups]: the fold whose test result stands for a block in a path (the book's figure 12.1)."""
    out = np.zeros((path_count(n_groups, n_test), n_groups), np.int64)
    used = np.zeros(n_groups, np.int64)
    for k, chosen in enumerate(itertools.combinations(range(n_groups), n_test)):
        for g in chosen:
            out[used[g], g] = k
            used[g] += 1
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Selected:
    """What choosing the best column in training was worth in testing: [paths] Sharpe ratios, and the choice [folds]."""

    sharpe: Floats
    chosen: Ints


def select_and_test(
    returns: Floats, folds: list[Fold], path: Ints, *, periods_per_year: float, blocks: int
) -> Selected:
    """Choose, in each fold, the column with the best Sharpe ratio on its training rows; join the test results to paths.

    Parameters: returns [T, N], simple, one column a variant; folds and path of the same `blocks` blocks. A column
    without variance counts as 0. Returns annualised Sharpe ratios, NaN for a path without variance.
    """
    rows = np.array_split(np.arange(returns.shape[0]), blocks)
    chosen = np.array([best_column(returns[fold.train]) for fold in folds], np.int64)
    curves = np.stack(
        [np.concatenate([returns[rows[g], chosen[fold]] for g, fold in enumerate(line)]) for line in path.tolist()]
    )
    return Selected(sharpe=curve_figures(curves, periods_per_year).sharpe, chosen=chosen)


def best_column(returns: Floats) -> int:
    """Return the column of returns [T, N] with the best Sharpe ratio; one without variance counts as 0."""
    return int(np.argmax(np.nan_to_num(curve_figures(returns.T.copy(), 1.0).sharpe)))
