"""Purged and combinatorial cross-validation: mlfinpy's purging, the book's paths, and the law that nothing overlaps."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tradecore.research import cross_validation as cv

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "validity_peers.json").read_text("utf-8"))
ROWS, GROUPS, CHOSEN, HORIZON = (GOLDEN["splits"][k] for k in ("rows", "groups", "chosen", "horizon"))


def test_purged_folds_are_mlfinpys():
    folds = cv.purged_kfold(cv.labels_after(ROWS, HORIZON), GROUPS)
    assert [f.train.tolist() for f in folds] == GOLDEN["purged"]
    assert np.concatenate([f.test for f in folds]).tolist() == list(range(ROWS))


def test_combinatorial_folds_are_purged_as_mlfinpy_purges():
    folds = cv.combinatorial(cv.labels_after(ROWS, HORIZON), GROUPS, CHOSEN)
    assert [f.train.tolist() for f in folds] == GOLDEN["combinatorial"]
    assert len(folds) == math.comb(GROUPS, CHOSEN) == 15


def test_paths_are_the_books():
    """Figure 12.1, N = 6, k = 2: 15 folds, 5 paths; block 1 is tested in S1 to S5, block 2 in S1, S6 to S9."""
    found = cv.paths(6, 2)
    assert cv.path_count(6, 2) == 5
    assert found[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert found[:, 1].tolist() == [0, 5, 6, 7, 8]
    assert found[:, 5].tolist() == [4, 8, 11, 13, 14]
    assert cv.path_count(10, 3) == 36


@pytest.mark.parametrize(("groups", "chosen"), [(4, 1), (6, 2), (7, 3)])
def test_paths_take_each_test_block_of_each_fold_once(groups: int, chosen: int):
    folds, found = cv.combinatorial(cv.labels_after(70, 0), groups, chosen), cv.paths(groups, chosen)
    taken = sorted((k, g) for line in found.tolist() for g, k in enumerate(line))
    assert taken == sorted((k, g) for k, fold in enumerate(folds) for g in fold.groups)


@pytest.mark.parametrize("embargo", [0, 4])
def test_no_training_row_shares_a_bar_with_a_test_row_or_its_embargo(embargo: int):
    rng = np.random.default_rng(2)
    label_end = np.minimum(np.arange(100) + rng.integers(0, 9, 100), 99)  # labels of uneven length
    removed = 0
    for fold in cv.combinatorial(label_end, 5, 2, embargo_bars=embargo):
        used = {int(b) for i in fold.test for b in range(i, label_end[i] + 1)}
        last = [max(label_end[i] for i in block) for block in _runs(fold.test)]
        for i in fold.train:
            assert not used & set(range(int(i), int(label_end[i]) + 1))
            assert not any(end < i <= end + embargo for end in last if end < 99)
        removed += 100 - fold.train.size - fold.test.size
    assert removed > 0, "not exercised: nothing was purged"


def _runs(test: np.ndarray) -> list[np.ndarray]:
    """The blocks of 20 rows that a test set is made of."""
    return [test[k : k + 20] for k in range(0, test.size, 20)]


def test_choosing_in_training_and_testing_outside():
    """One column gains a thousandth a day, the others lose: it is chosen everywhere, every path shows its ratio."""
    rng = np.random.default_rng(4)
    returns = rng.normal(-0.001, 0.01, (600, 5))
    returns[:, 3] = 0.001 + np.tile([0.004, -0.004], 300)
    folds = cv.combinatorial(cv.labels_after(600, 1), 6, 2, embargo_bars=6)
    found = cv.select_and_test(returns, folds, cv.paths(6, 2), periods_per_year=252.0, blocks=6)
    assert set(found.chosen.tolist()) == {3}
    alone = returns[:, 3].mean() / returns[:, 3].std(ddof=1) * math.sqrt(252)
    np.testing.assert_allclose(found.sharpe, [alone] * 5, rtol=1e-12)


def test_what_cannot_be_split_is_refused():
    for label_end, groups, chosen in ((cv.labels_after(10, 1), 1, 1), (cv.labels_after(3, 1), 5, 1),
                                      (cv.labels_after(10, 1), 4, 4), (np.arange(10) - 1, 4, 1)):  # fmt: skip
        with pytest.raises(ValueError, match=r"blocks of|label ends"):
            cv.combinatorial(label_end, groups, chosen)
