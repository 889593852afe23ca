"""Which rows to learn from and which to test on: the windows of a walk-forward, as ranges of rows. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Rows to optimise on and the rows after them to test on: half-open ranges (first row, row after the last)."""

    train: tuple[int, int]
    test: tuple[int, int]


def walk_forward(
    n_bars: int, *, train_bars: int, test_bars: int, gap_bars: int = 0, anchored: bool = False
) -> tuple[Split, ...]:
    """Return the windows of a walk-forward over n_bars rows, in order.

    The tests follow each other without a hole, so that they join to one curve; the last one takes what is left, however
    short. gap_bars rows before each test are neither learned from nor tested on (purged: what was decided on them was
    decided on prices that the training saw). Rolling: each training has train_bars rows; anchored: all begin at row 0,
    the first has train_bars rows.

    Raises ValueError for windows without a row, and for rows too few for one training, its gap and one tested row.
    Source: Pardo, The Evaluation and Optimization of Trading Strategies, 2nd edition, Wiley 2008, chapter 11.
    """
    if train_bars < 1 or test_bars < 1 or gap_bars < 0:
        raise ValueError(f"train {train_bars}, test {test_bars}, gap {gap_bars} bars; 1, 1 and 0 are the least")
    begin = train_bars + gap_bars
    if begin >= n_bars:
        raise ValueError(f"{n_bars} bars; {train_bars} to train on, {gap_bars} between and 1 to test on are the least")
    splits = []
    for start in range(begin, n_bars, test_bars):
        learned = start - gap_bars
        splits.append(
            Split(
                train=(0 if anchored else learned - train_bars, learned), test=(start, min(start + test_bars, n_bars))
            )
        )
    return tuple(splits)
