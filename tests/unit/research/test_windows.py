"""The windows of a walk-forward: tests join, nothing is learned from what is tested, the gap is kept."""

from __future__ import annotations

import pytest

from tradecore.research.windows import walk_forward


@pytest.mark.parametrize("anchored", [True, False])
@pytest.mark.parametrize(
    "n, train, test, gap", [(100, 30, 10, 5), (101, 30, 10, 0), (64, 50, 13, 13), (500, 252, 63, 21)]
)
def test_tests_join_and_every_training_ends_the_gap_before_its_test(n, train, test, gap, anchored):
    splits = walk_forward(n, train_bars=train, test_bars=test, gap_bars=gap, anchored=anchored)
    assert splits[0].test[0] == train + gap
    assert splits[-1].test[1] == n
    assert [a.test[1] for a in splits[:-1]] == [b.test[0] for b in splits[1:]]
    for split in splits:
        assert split.test[0] - split.train[1] == gap
        assert split.train[0] == 0 if anchored else split.train[1] - split.train[0] == train
    assert all(s.test[1] - s.test[0] == test for s in splits[:-1])
    assert 1 <= splits[-1].test[1] - splits[-1].test[0] <= test


@pytest.mark.parametrize("n, train, test, gap", [(10, 8, 1, 2), (10, 0, 1, 0), (10, 5, 0, 0), (10, 5, 1, -1)])
def test_windows_that_cannot_be_are_refused(n, train, test, gap):
    with pytest.raises(ValueError, match="least"):
        walk_forward(n, train_bars=train, test_bars=test, gap_bars=gap)
