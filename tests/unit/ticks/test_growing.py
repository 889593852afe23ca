"""The growing buffer: appending moves no row but at growth, and a view never changes under its holder."""

from __future__ import annotations

import numpy as np
import pytest

from tradecore.ticks import Growing


def test_a_view_shares_the_buffers_memory_until_the_generation_changes():
    buffer = Growing(("at", "price"), first_rows=4)
    buffer.append(np.array([[1, 2], [10, 20]]))
    view, generation = buffer["price"], buffer.generation
    buffer.append(np.array([[3, 4], [30, 40]]))
    assert buffer.generation == generation
    assert np.shares_memory(view, buffer["price"])
    buffer.append(np.array([[5], [50]]))
    assert buffer.generation == generation + 1
    assert not np.shares_memory(view, buffer["price"])
    assert view.tolist() == [10, 20], "a view shows its rows for good"
    assert buffer["price"].tolist() == [10, 20, 30, 40, 50]
    assert buffer.rows(3).tolist() == [[4, 5], [40, 50]]


def test_a_million_appends_of_one_row_copy_each_row_less_than_twice():
    buffer, moved, generation = Growing(("at",), first_rows=1), 0, 0
    row = np.zeros((1, 1), np.int64)
    for count in range(100_000):
        buffer.append(row)
        if buffer.generation != generation:
            generation, moved = buffer.generation, moved + count
    assert moved < 2 * len(buffer)
    assert buffer.generation < 20


def test_forgetting_leaves_old_views_as_they_were():
    buffer = Growing(("at",), first_rows=8)
    buffer.append(np.arange(6, dtype=np.int64)[None])
    view = buffer["at"]
    buffer.forget(4)
    buffer.append(np.array([[100, 101]]))
    assert buffer["at"].tolist() == [4, 5, 100, 101]
    assert view.tolist() == [0, 1, 2, 3, 4, 5]


def test_what_is_read_cannot_be_written():
    buffer = Growing(("at",))
    buffer.append(np.array([[1]]))
    with pytest.raises(ValueError, match="read-only"):
        buffer["at"][0] = 2
    with pytest.raises(ValueError, match="read-only"):
        buffer.rows()[0, 0] = 2


@pytest.mark.parametrize("wrong", [np.zeros((2, 1), np.int64), np.zeros((1, 1)), np.zeros(1, np.int64)])
def test_other_rows_are_refused(wrong: np.ndarray):
    with pytest.raises(ValueError, match="needs int64"):
        Growing(("at",)).append(wrong)


def test_bounds_and_names_are_checked():
    buffer = Growing(("at",), first_rows=2)
    with pytest.raises(KeyError, match="no column"):
        buffer["price"]
    with pytest.raises(ValueError, match="is not between"):
        buffer.commit(3)
    with pytest.raises(ValueError, match="is not between"):
        buffer.forget(1)
    with pytest.raises(ValueError, match="distinct columns"):
        Growing(("at", "at"))
