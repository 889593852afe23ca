"""An array that grows at its end and is read through views: what is appended is written once, in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tradecore.model import Ints

FIRST_ROWS = 1_024


class Growing:
    """Columns of int64 with room behind their last row.

    Appending copies the new rows into that room and touches no other; when it is used up the block is replaced by one
    twice as long, so that a row is moved less than twice in all, however many come. A view is never changed under its
    holder: rows are append-only, and `forget` makes a new block as well. So the rule for views is:

    * A view shows the rows that were there when it was taken, for good.
    * While `generation` stays the same, it shares the buffer's memory. After that (growth, `forget`) it is a picture of
      its own, and keeps the old block alive: who holds views for long takes new ones when `generation` has changed.
    * A view from `room` is for writing beyond the last row, and is void with the next call of anything but `commit`.
    """

    def __init__(self, columns: Sequence[str], first_rows: int = FIRST_ROWS) -> None:
        """Make an empty buffer; first_rows, its room at the beginning. Raises ValueError without columns or room."""
        if not columns or len(set(columns)) != len(columns) or first_rows < 1:
            raise ValueError(f"needs distinct columns and room for 1 row or more, got {list(columns)}, {first_rows}")
        self.columns = tuple(columns)
        self.generation = 0
        self._block: Ints = np.empty((len(self.columns), first_rows), np.int64)
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, column: str) -> Ints:
        """Return a column [rows] as a read-only view. Raises KeyError."""
        if column not in self.columns:
            raise KeyError(f"no column {column!r}; there are {', '.join(self.columns)}")
        return _read_only(self._block[self.columns.index(column), : self._rows])

    def rows(self, first: int = 0) -> Ints:
        """Return all columns [columns, rows - first] from row `first` on, as a read-only view."""
        return _read_only(self._block[:, first : self._rows])

    def append(self, values: npt.ArrayLike) -> None:
        """Append rows [columns, n]. Raises ValueError for another number of columns or another type than int64."""
        new: npt.NDArray[Any] = np.asarray(values)
        if new.ndim != 2 or new.shape[0] != len(self.columns) or not np.can_cast(new.dtype, np.int64, "safe"):
            raise ValueError(f"needs int64 [{len(self.columns)}, n], got {new.dtype} {new.shape}")
        self.room(new.shape[1])[:, self._rows : self._rows + new.shape[1]] = new
        self.commit(self._rows + new.shape[1])

    def room(self, rows: int) -> Ints:
        """Return the whole block, with room for that many rows beyond the last: write there, then `commit`."""
        needed = self._rows + rows
        if needed > self._block.shape[1]:
            self._move(0, max(needed, 2 * self._block.shape[1]))
        return self._block

    def commit(self, rows: int) -> None:
        """Count what was written to the block up to that row as appended. Raises ValueError where it is not in it."""
        if not self._rows <= rows <= self._block.shape[1]:
            raise ValueError(f"{rows} is not between {self._rows} rows and the room for {self._block.shape[1]}")
        self._rows = rows

    def forget(self, rows: int) -> None:
        """Drop the first rows, so that a buffer that runs for months stays small. Views keep what they show."""
        if not 0 <= rows <= self._rows:
            raise ValueError(f"{rows} is not between 0 and {self._rows} rows")
        self._move(rows, max(FIRST_ROWS, 2 * (self._rows - rows)))

    def _move(self, first: int, room: int) -> None:
        block: Ints = np.empty((len(self.columns), room), np.int64)
        block[:, : self._rows - first] = self._block[:, first : self._rows]
        self._block, self._rows = block, self._rows - first
        self.generation += 1


def _read_only(view: Ints) -> Ints:
    view.flags.writeable = False
    return view
